"""The earlier vocabulary that a run extends (--vocab), so that a model of new text can start from an old one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pipeline.config import Config
from pipeline.dataset.manifest import VOCAB
from pipeline.dataset.phrases import load_phrases, phrase_files
from pipeline.dataset.publish import file_entries
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.dataset.schema import FormatError, sha256_hex
from pipeline.dataset.vocabulary import parse_vocab
from pipeline.errors import ConfigError
from pipeline.results import PhraseFile
from pipeline.storage import storage
from pipeline.text.tokenize import TOKENIZERS, describe_tokenizer


@dataclass(frozen=True)
class Base:
    """An earlier vocabulary, and the phrases that its tokens were joined by.

    Attributes:
        uri: of its vocab.parquet.
        sha256: of that file.
        digest: Vocabulary.digest, what the new manifest names.
        rows: how many there are.
        phrases: URI, name and SHA-256 of its phrase files, in order.
        tokenizer: what --tokenizer calls the rule that cut its tokens; "" for a file alone, which does not say.
    """

    uri: str
    sha256: str
    digest: str
    rows: int
    phrases: tuple[tuple[str, str, str], ...] = ()
    tokenizer: str = ""


def find_base(config: Config) -> Base | None:
    """Look up what --vocab names: a dataset's folder, of which the published run counts, a run's, or a vocab.parquet.

    Raises:
        ConfigError: its tokens were made by other rules, or --phrases asks for more than its own.
        FormatError: it is no dataset or vocabulary.
    """
    if not config.vocab:
        return None
    if config.phrases:
        raise ConfigError(f"--phrases: found {config.phrases}, expected 0 with --vocab, whose own phrases are joined")
    if config.vocab.endswith(".parquet"):
        return _from_file(config.vocab)
    dataset = _open_base(config.vocab)
    tokenizer = _tokenizer_of(dataset, config)
    _require_same_rules(dataset, dataclasses.replace(config, tokenizer=tokenizer))
    totals = dataset.manifest.vocabulary
    prefix = len(storage.join(dataset.uri, "runs", dataset.run_id, ""))
    phrases = tuple((uri, uri[prefix:], sha256) for uri, sha256 in phrase_files(dataset))
    entry = dataset.manifest.files[VOCAB]
    return Base(dataset.path_of(VOCAB), entry.sha256, totals.digest, totals.rows, phrases, tokenizer)


def copy_phrases(base: Base, folder: str) -> tuple[PhraseFile, ...]:
    """Copy the base's phrase files into a run's folder, which must be whole without it.

    Raises:
        FormatError: a file is missing or not the one of its digest.
    """
    copied = []
    for source, name, sha256 in base.phrases:
        rows, data, target = len(load_phrases(source, sha256)), storage.read_bytes(source), storage.join(folder, name)
        storage.write_bytes(target, data)
        copied.append(PhraseFile(name, target, file_entries({name: data})[name], rows))
    return tuple(copied)


def _open_base(uri: str) -> Dataset:
    """Open a dataset's published run, or the run whose own folder is named: DATASET/runs/RUN_ID."""
    folder, _, run = uri.rstrip("/").rpartition("/")
    above, _, name = folder.rpartition("/")
    return open_dataset(above, run) if above and name == "runs" else open_dataset(uri)


def _from_file(uri: str) -> Base:
    try:
        data = storage.read_bytes(uri)
    except FileNotFoundError:
        raise FormatError(f"--vocab {storage.redact(uri)}: found no file, expected a vocabulary") from None
    vocabulary = parse_vocab(data, storage.redact(uri))
    return Base(uri, sha256_hex(data), vocabulary.digest, len(vocabulary))


def _tokenizer_of(dataset: Dataset, config: Config) -> str:
    """Return what cuts this run's text: where --tokenizer names no version, the base's."""
    theirs = dataset.manifest.tokenizer
    if theirs.get("name") != config.tokenizer:
        return config.tokenizer
    same = (name for name, ours in TOKENIZERS.items() if ours[:2] == (config.tokenizer, theirs.get("version")))
    return next(same, config.tokenizer)


def _require_same_rules(dataset: Dataset, config: Config) -> None:
    """Refuse a vocabulary whose tokens this run would not find in equal text."""
    manifest = dataset.manifest
    options = {"elisions": "", **manifest.options}  # which names it only where there are some
    theirs = {**manifest.tokenizer, **{name: options.get(name) for name in ("lowercase", "normalize", "elisions")}}
    ours = {
        **describe_tokenizer(config.tokenizer),
        **{name: config.shaping_options().get(name) for name in ("lowercase", "normalize")},
        "elisions": config.elisions,
    }
    for name, value in ours.items():
        # Newer Unicode data changes next to no word; refusing it would end every lineage at each new Python.
        if theirs.get(name) != value and name not in ("unicode", "classes_digest"):
            raise ConfigError(
                f"--vocab {storage.redact(config.vocab)}: found a vocabulary of {name} {theirs.get(name)!r}, "
                f"expected {value!r}, as this run has it"
            )
