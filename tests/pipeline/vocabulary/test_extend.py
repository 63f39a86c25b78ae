"""--vocab: a run over new text keeps the ids, and the phrases, of an earlier one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipeline import cli, job
from pipeline.config import Config
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.dataset.verify import verify_run
from pipeline.errors import ConfigError

OLD = "the cat sat on the mat\nthe dog sat\n" * 5 + "zebra zebra zebra\n"
NEW = "the new cat ran\nnew ideas ran\nzebra once\nrare\n" * 3 + "the dog\n"


def run(folder: Path, name: str, text: str, **options: object) -> Dataset:
    source = folder / f"{name}.txt"
    source.write_text(text)
    config = Config((str(source),), str(folder / name), **{"min_count": 3, "sample": 0.0, **options})  # type: ignore[arg-type]
    return open_dataset(str(folder / name), job.run_job(config, ()).run_id)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return run(tmp_path_factory.mktemp("old"), "old", OLD)


def rows_of(dataset: Dataset) -> list[tuple[str, int]]:
    vocabulary = dataset.vocabulary()
    return list(zip(vocabulary.tokens, vocabulary.counts.tolist(), strict=True))


def test_old_rows_stay_in_place_and_new_ones_follow(old: Dataset, tmp_path: Path) -> None:
    new = run(tmp_path, "new", NEW, vocab=old.uri, min_count=4)
    counts = Counter(NEW.split())
    earlier = rows_of(old)
    fresh = [item for item in counts.items() if item[0] not in dict(earlier) and item[1] >= 4]
    expected = [(token, count + counts[token]) for token, count in earlier]
    assert rows_of(new) == expected + sorted(fresh, key=lambda item: (-item[1], item[0]))
    assert fresh
    assert new.manifest.options["vocab"] == {"digest": old.manifest.vocabulary.digest, "rows": len(earlier)}
    known = {token for token, _ in rows_of(new)}
    assert new.manifest.corpus.in_vocabulary == sum(n for token, n in counts.items() if token in known)
    assert verify_run(new.uri, None).run_id == new.run_id


def test_the_same_from_the_file_alone(old: Dataset, tmp_path: Path) -> None:
    first = run(tmp_path, "first", NEW, vocab=old.uri)
    assert run(tmp_path, "first", NEW, vocab=old.path_of("vocab.parquet")).dataset_id == first.dataset_id


def test_a_lineage_adds_up(old: Dataset, tmp_path: Path) -> None:
    second = run(tmp_path, "second", NEW, vocab=old.uri)
    third = run(tmp_path, "third", OLD, vocab=second.uri)
    assert [token for token, _ in rows_of(third)] == [token for token, _ in rows_of(second)]
    counts = Counter(OLD.split())
    assert rows_of(third) == [(token, count + counts[token]) for token, count in rows_of(second)]


def test_a_limit_takes_new_rows_only(old: Dataset, tmp_path: Path) -> None:
    rows = len(rows_of(old))
    assert len(rows_of(run(tmp_path, "one", NEW, vocab=old.uri, max_vocab=rows + 1))) == rows + 1
    assert len(rows_of(run(tmp_path, "none", NEW, vocab=old.uri, max_vocab=2))) == rows


def test_shards_are_as_many_as_the_new_text_needs(old: Dataset, tmp_path: Path) -> None:
    fresh = run(tmp_path, "fresh", NEW, min_count=1, shard_pairs=20)
    extended = run(tmp_path, "extended", NEW, min_count=1, shard_pairs=20, vocab=old.uri)
    assert len(fresh.shards) == len(extended.shards) > 2
    assert extended.manifest.passes[0].pairs == fresh.manifest.passes[0].pairs


def test_phrases_of_the_base_are_joined(tmp_path: Path) -> None:
    text = "i love new york\nnew york is big\na new idea\nyork is old\n" * 6 + "so it is\n" * 20
    base = run(tmp_path, "base", text, phrases=1, phrase_threshold=(1.0,), phrase_min_count=3)
    assert "new_york" in base.vocabulary().tokens
    new = run(tmp_path, "new", "new york new york\n", vocab=base.uri)
    at = new.vocabulary().id_of("new_york")
    assert at == base.vocabulary().id_of("new_york")
    assert at is not None
    assert new.vocabulary().counts[at] == base.vocabulary().counts[at] + 2
    name = "phrases/round-01.parquet"
    assert new.manifest.files[name] == base.manifest.files[name]
    assert verify_run(new.uri, None).run_id == new.run_id


DOTTED = "u.s.a. co\u00adop\n" * 6


def test_the_version_of_the_base_is_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old, new = (run(tmp_path, name, DOTTED, tokenizer=name) for name in ("unicode-v1", "unicode"))
    assert list(old.vocabulary().tokens) == ["a", "co\u00adop", "s", "u"]
    assert list(new.vocabulary().tokens) == ["coop", "u.s.a"]
    assert [one.manifest.tokenizer["version"] for one in (old, new)] == [1, 2]
    assert [one.manifest.options["tokenizer"] for one in (old, new)] == ["unicode", "unicode"]
    for base in (old, new):
        extended = run(tmp_path, f"more-{base.run_id}", DOTTED, vocab=base.uri)
        assert extended.manifest.tokenizer == base.manifest.tokenizer
        assert list(extended.vocabulary().tokens) == list(base.vocabulary().tokens)
    assert capfd.readouterr().err.count("warning") == 0
    run(tmp_path, "alone", DOTTED, vocab=old.path_of("vocab.parquet"))
    assert "a file alone does not say how its words were cut" in capfd.readouterr().err


def test_version_1_cannot_extend_version_2(tmp_path: Path) -> None:
    base = run(tmp_path, "base", DOTTED)
    with pytest.raises(ConfigError, match=r"found a vocabulary of version 2, expected 1, as this run has it"):
        run(tmp_path, "new", DOTTED, vocab=base.uri, tokenizer="unicode-v1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab": "{old}", "lowercase": False}, "found a vocabulary of lowercase True, expected False"),
        ({"vocab": "{old}", "tokenizer": "whitespace"}, "found a vocabulary of name 'unicode', expected 'whitespace'"),
        ({"vocab": "{old}", "elisions": "it,fr"}, "found a vocabulary of elisions '', expected 'fr,it'"),
        ({"vocab": "{old}", "phrases": 1}, "--phrases: found 1, expected 0 with --vocab"),
        ({"vocab": "{tmp}/none"}, "none/LATEST.json"),
        ({"vocab": "{tmp}/none.parquet"}, "none.parquet: found no file, expected a vocabulary"),
    ],
)
def test_what_cannot_be_extended(old: Dataset, tmp_path: Path, options: dict[str, object], message: str) -> None:
    places = {"old": old.uri, "tmp": tmp_path}
    filled = {k: v.format(**places) if isinstance(v, str) else v for k, v in options.items()}
    with pytest.raises(Exception, match="found") as error:
        run(tmp_path, "new", NEW, **filled)
    assert message in str(cli.error_line(error.value))
    assert not (tmp_path / "new").exists()
