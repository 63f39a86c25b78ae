"""The command line: our flags become one frozen Config, all others must be Beam's."""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.checks import NO_FIELD, faults, in_one_form
from pipeline.common.flags import (
    OneLineParser,
    add_flags,
    add_version,
    command_name,
    expand_paths,
    flag_of,
    hint,
    parse_size,
    with_dashes,
)
from pipeline.dataset.shards import COMPRESSIONS
from pipeline.errors import ConfigError
from pipeline.storage import storage
from pipeline.storage.globs import matches_any
from pipeline.text.encodings import UTF_8
from pipeline.text.tokenize import ITEMS, TOKENIZERS

INPUT_FORMATS = ("text", "jsonl", "parquet")


def _parse_thresholds(text: str) -> tuple[float, ...]:
    """Read one number or several, with commas between them."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (-1.0,)
    if not all(0 <= value < math.inf for value in values):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected numbers from 0 on, such as 100 or 200,100")
    return values


@dataclass(frozen=True)
class Config:
    """What to build, and from what.

    Fields that shape the dataset's bytes carry ``shapes`` in their metadata; they go into the manifest.
    """

    input: tuple[str, ...] = dataclasses.field(metadata={"metavar": "GLOB", "many": True})
    """Globs of the input files, in the order that numbers them. Quote them, or the shell expands them. A value that
    matches no file as it is may be a list with commas."""
    output: str = dataclasses.field(metadata={"metavar": "URI"})
    """The dataset's folder: a path or a URI."""
    input_list: str = dataclasses.field(default="", metadata={"metavar": "URI"})
    """A list that `pairstream pipeline list` wrote of these files, or of some of them: just those are read, and the
    globs are not matched again."""
    input_format: str = dataclasses.field(default="text", metadata={"shapes": True, "choices": INPUT_FORMATS})
    """text: lines; jsonl: a JSON object a line, whose --text-field is the text; parquet: that column is the text. A
    list of tokens in place of text is read with --tokenizer items."""
    text_field: str = dataclasses.field(default="text", metadata={"shapes": True, "metavar": "NAME"})
    """Field of the records that holds the text, for jsonl and parquet."""
    encoding: str = dataclasses.field(default=UTF_8, metadata={"shapes": True, "metavar": "NAME"})
    """Encoding of text and JSON lines, by Python's name for it: utf-16, cp1252, shift_jis, gb18030 … Offsets are those
    of the text in UTF-8. Files in other encodings than utf-8 are each read by one worker."""
    min_count: int = dataclasses.field(default=5, metadata={"shapes": True})
    """Tokens that occur fewer times in the corpus are left out of the vocabulary."""
    max_vocab: int = dataclasses.field(default=0, metadata={"shapes": True})
    """Rows of the vocabulary at most, the most frequent ones; 0 for no limit."""
    vocab: str = dataclasses.field(default="", metadata={"metavar": "URI"})
    """An earlier dataset, one of its runs (DATASET/runs/RUN_ID) or a vocab.parquet, to extend: its tokens keep their
    ids, their counts are added up, and new tokens of this run's text follow. Its phrases are joined as they are."""
    phrases: int = dataclasses.field(default=0, metadata={"shapes": True})
    """Rounds of joining words that are phrases, as in new_york; each is one more reading of the text."""
    phrase_threshold: tuple[float, ...] = dataclasses.field(
        default=(100.0,), metadata={"shapes": True, "parse": _parse_thresholds, "shown": "100", "metavar": "SCORE"}
    )
    """Words are joined whose score is above this, as word2phrase.c's -threshold; or one for each round: 200,100."""
    phrase_min_count: int = dataclasses.field(default=5, metadata={"shapes": True})
    """Pairs that occur fewer times in the text are not phrases; the score subtracts this number from a pair's count."""
    window: int = dataclasses.field(default=5, metadata={"shapes": True})
    """Largest distance, in words, between the two words of a pair; 0 pairs each word with all others of its sentence,
    which then has 1,024 tokens at most."""
    fixed_window: bool = dataclasses.field(default=False, metadata={"shapes": True})
    """Use that distance for every word, instead of drawing one from 1 to --window for each."""
    sample: float = dataclasses.field(default=1e-3, metadata={"shapes": True})
    """Subsampling threshold for frequent words, as word2vec.c's -sample; 0 turns it off."""
    passes: int = dataclasses.field(default=1, metadata={"shapes": True})
    """Passes over the corpus to write, each with fresh draws of subsampling and windows; one per epoch is best."""
    shard_pairs: int = dataclasses.field(default=16 << 20, metadata={"shapes": True, "parse": parse_size})
    """Pairs that a shard is expected to have at most, as 16Mi or 500000."""
    seed: int = dataclasses.field(default=1, metadata={"shapes": True})
    """Seed of every random draw."""
    tokenizer: str = dataclasses.field(default="unicode", metadata={"shapes": True, "choices": tuple(TOKENIZERS)})
    """unicode: words by Unicode's rules, in the newest version, or in that of --vocab; unicode-v1: those of version 1,
    which cuts 3.14 and col·legi; whitespace: whatever white space separates; items: the --text-field is a list of
    strings or whole numbers, each of which is a token as it is (docs/items.md)."""
    elisions: str = dataclasses.field(default="", metadata={"shapes": True, "metavar": "LANGUAGES"})
    """Languages whose elided words are tokens of their own, such as fr,it: "l'" and "enfant" for l'enfant. Of ca, fr,
    ga and it."""
    lowercase: bool = dataclasses.field(default=True, metadata={"shapes": True})
    """Turn text into lower case; not with --tokenizer items."""
    normalize: str = dataclasses.field(default="NFC", metadata={"shapes": True, "choices": ("NFC", "NFKC", "none")})
    """Unicode normalisation form; none with --tokenizer items."""
    encoding_errors: str = dataclasses.field(
        default="dead-letter", metadata={"shapes": True, "choices": ("fail", "replace", "dead-letter")}
    )
    """What to do with lines that are not valid in --encoding: end the run, put U+FFFD for each bad byte, or set the
    line aside. Records without text end the run under fail and are set aside otherwise."""
    max_dead_letter_fraction: float = 0.001
    """End the run if more than this share of the corpus' bytes was set aside."""
    max_dead_letter_bytes: int = dataclasses.field(default=16 << 20, metadata={"parse": parse_size})
    """How much of what was set aside is kept for you to look at, with 128 bytes counted for each piece besides its
    content: those nearest to the start of each file. All are counted."""
    max_sentence_tokens: int = dataclasses.field(default=10_000, metadata={"shapes": True})
    """Longer lines or lists are cut into sentences of this many tokens; with --window 0 of 1,024 unless it is less."""
    max_token_bytes: int = dataclasses.field(default=1_000, metadata={"shapes": True})
    """Longer tokens are set aside."""
    compression: str = dataclasses.field(default="zstd", metadata={"shapes": True, "choices": COMPRESSIONS})
    """Compression of the pair shards."""
    max_decompression_ratio: int = 1000
    """End the run at a compressed file that grows by more than this, beyond its first 64 MiB; 0 for no limit."""
    max_decompression_memory: int = dataclasses.field(default=256 << 20, metadata={"parse": parse_size})
    """Memory that decompressing a file may take: for zstd's window (2Gi after zstd --long=31), xz's dictionary."""
    run_id: str = ""
    """Name of the run; by default the UTC start time and a random part."""
    threads: int = 0
    """Threads of each worker process; 0 for one per core that the process may use."""
    read_block_bytes: int = dataclasses.field(default=1 << 20, metadata={"parse": parse_size})
    """Bytes read from a file at once; no effect on the result."""
    keep: int = 0
    """Complete runs to keep once this one is published: it and those before it; older ones are removed; 0 keeps all."""
    wait: bool = True
    """Wait for the run to end; with --no-wait the command returns once a cluster has taken the job."""
    report: str = dataclasses.field(default="", metadata={"metavar": "PATH"})
    """Write a page about the corpus here, one HTML file with plots: a path or a URI."""
    json: bool = False
    """Print the result as one JSON object on the last line of standard output."""

    def __post_init__(self) -> None:
        """Bring values to their one form, so that equal settings give equal manifests; refuse those out of range.

        Raises:
            ConfigError: a value cannot be used; the message begins with its flag.
        """
        for name, value in in_one_form(self).items():
            object.__setattr__(self, name, value)
        for name, fault in faults(self):
            raise ConfigError(f"{flag_of(name)}: {fault}")

    def shaping_options(self) -> dict[str, object]:
        """Return the options that decide the dataset's bytes, by name; some only where they are used."""
        fields = [field.name for field in dataclasses.fields(self) if field.metadata.get("shapes")]
        idle = {"input_format", "text_field"} if self.input_format == "text" else set()
        idle |= {"encoding"} if self.encoding == UTF_8 else set()
        idle |= set() if self.phrases else {"phrases", "phrase_threshold", "phrase_min_count"}
        idle |= {"lowercase", "normalize"} if self.tokenizer == ITEMS else set()
        idle |= set() if self.window else {"fixed_window"}
        idle |= set() if self.elisions else {"elisions"}
        options = {name: getattr(self, name) for name in fields if name not in idle}
        options["tokenizer"] = TOKENIZERS[self.tokenizer].name  # its version is in the manifest by itself
        return options | ({"phrase_threshold": list(self.phrase_thresholds)} if self.phrases else {})

    @property
    def phrase_thresholds(self) -> tuple[float, ...]:
        return self.phrase_threshold * self.phrases if len(self.phrase_threshold) == 1 else self.phrase_threshold


def make_parser() -> OneLineParser:
    """Return the parser of ``pairstream pipeline run``, one flag a field of Config."""
    parser = OneLineParser(
        prog=command_name("pipeline"),
        description="Build a dataset of skip-gram pairs from sharded text and publish it. (Besides `run` "
        f"there are `list`, `verify`, `publish` and `clean`: {command_name('pipeline')} verify --help.) "
        "Flags that are not listed here must be Apache Beam's (--runner=…).",
        allow_abbrev=False,
    )
    add_version(parser)
    add_flags(parser, Config)
    return parser


def parse_arguments(argv: Sequence[str]) -> tuple[Config, list[str]]:
    """Split a command line into our Config and the flags left for Beam.

    Exits with status 2 and a message on wrong usage, as argparse does.
    """
    parser = make_parser()
    namespace, rest = parser.parse_known_args(with_dashes(argv, parser))
    values = vars(namespace)
    values["input"] = tuple(part for value in values["input"] for part in _split_list(value))
    if not all(values["input"]):
        parser.error(
            f"argument --input: found {','.join(values['input'])!r}, expected a glob before and after each comma"
        )
    try:
        values = expand_paths(values, Config)  # once more: of a list, each
    except ValueError as error:
        parser.error(f"argument {error}")
    # A person's; templates name it with an underscore, and pass defaults too.
    if values["input_format"] == "text" and any(word.partition("=")[0] == "--text-field" for word in argv):
        parser.error(f"argument --text-field: {NO_FIELD.format(values['text_field'])}")
    try:
        config = Config(**values)
    except ConfigError as error:
        parser.error(f"argument {error}")
    unknown = unknown_to_beam(rest, parser)
    if unknown:
        others = _beam_parser()._option_string_actions
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint(unknown, parser, others)}")
    return config, rest


def _split_list(value: str) -> list[str]:
    """Split at commas, for templates that pass one value a parameter; names of files and folders may have commas too.

    What matches files as it is stays whole. In a list of URIs, commas inside of one stay.
    """
    if "," not in value:
        return [value]
    if not storage.is_local(value):
        return re.split(r",(?=$|,|/|[a-z0-9]+://)", value)
    return [value] if matches_any(storage.local_path(value)) else value.split(",")


def unknown_to_beam(rest: Sequence[str], ours: OneLineParser) -> list[str]:
    """Return the arguments that no options class of Beam knows; Beam itself would only warn.

    Values that Beam cannot read end the command as wrong usage of ``ours``.
    """
    if not rest:
        return []
    parser = _beam_parser()
    parser.error = ours.error  # type: ignore[method-assign]
    known, unknown = parser.parse_known_args(list(rest))
    workers = known.direct_num_workers
    if workers is not None and workers < 0:
        ours.error(f"argument --direct_num_workers: found {workers}, expected 0 or more")
    return list(unknown)


def _beam_parser() -> argparse.ArgumentParser:
    from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

    parser: argparse.ArgumentParser = _BeamArgumentParser(allow_abbrev=False, add_help=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    return parser
