"""Each error line that docs/troubleshooting.md explains is one that the commands print."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline.cli
import trainer.cli
from tests.support.paths import ROOT
from trainer.models.lock import lock_folder

pytestmark = pytest.mark.e2e
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
LINES = re.findall(r"^```text\n(error: .*)\n```", PAGE, re.MULTILINE)
TRAIN = ["train", "--data", "data", "--quiet", "--model"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to work in, with a corpus, its dataset and a model, and what is wrong with others."""
    root = tmp_path_factory.mktemp("wrong")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        rng = random.Random(1)
        text = "\n".join(" ".join(f"w{rng.randrange(50)}" for _ in range(12)) for _ in range(2000)) + "\n"
        Path("corpus").mkdir()
        Path("corpus/a.txt").write_text(text)
        whole = gzip.compress(text.encode())
        Path("cut.txt.gz").write_bytes(whole[: len(whole) // 2])
        Path("latin.txt").write_bytes(text.encode() + "café ".encode("latin-1") * 300)
        Path("corpus.zip").write_bytes(b"PK\x03\x04" + whole)
        Path("wide.txt").write_bytes(text.encode("utf-16"))
        Path("rare.txt").write_text("each word stands here once")
        Path("bomb.txt.gz").write_bytes(gzip.compress(b"a " * (48 << 20)))
        pipe("--input", "corpus/a.txt", "--output", "data", "--run-id", "first")
        pipe("--input", "corpus/a.txt", "--output", "damaged", "--compression", "none")
        pipe("--input", "corpus/a.txt", "--output", "mixed")
        assert trainer.cli.main([*TRAIN, "model", "--threads", "1"]) == 0
        [shard] = Path("damaged").glob("runs/*/pairs/pass-00/part-00000-*.parquet")
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
        [manifest] = Path("mixed").glob("runs/*/manifest.json")
        manifest.write_bytes(manifest.read_bytes().replace(b"seed", b"Seed"))
        yield root


def pipe(*words: str) -> int:
    """Run the pipeline's command in this process."""
    return pipeline.cli.main([*words, "--json"])


def cause_all() -> Iterator[int]:
    """Run into everything that the page explains; yields exit statuses."""
    out = ["--output", "out"]
    yield pipe("--input", "nothing/*.txt", *out)
    yield pipe("--input", "corpus", *out)
    yield pipe("--input", "cut.txt.gz", *out)
    yield pipe("--input", "latin.txt", *out)
    yield pipe("--input", "corpus.zip", *out)
    yield pipe("--input", "wide.txt", *out)
    yield pipe("--input", "rare.txt", *out)
    yield pipe("--input", "corpus/a.txt", "--output", "data", "--run-id", "first")
    yield pipe("--input", "corpus/*", *out, "--report", "corpus/page.html")
    yield pipe("--input", "bomb.txt.gz", "--max-decompression-ratio", "10", *out)
    for words in (
        ["train", "--data", "nothing", "--model", "m"],
        ["train", "--data", "damaged", "--model", "m", "--quiet"],
        ["train", "--data", "mixed", "--model", "m", "--quiet"],
        [*TRAIN, "m", "--device", "cuda"],
        [*TRAIN, "m", "--learning-rate", "1e9"],
        [*TRAIN, "model", "--dim", "50"],
        [*TRAIN, "m2", "--dim", "50", "--init-from", "model"],
        ["neighbors", "--model", "data/runs", "w1"],
        ["neighbors", "--model", "model", "w111"],
    ):
        yield trainer.cli.main(words)


@pytest.fixture(scope="module")
def printed(folder: Path) -> list[str]:
    """The error lines of all of them."""
    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(errors):
        patch.chdir(folder)
        patch.setattr("torch.cuda.is_available", lambda: False)
        assert list(cause_all()) == [1] * 19
        with pytest.raises(SystemExit):
            pipe("--input", "corpus/a.txt", "--output", "out", "--lines", "3")
        with pytest.raises(SystemExit):
            pipe("--input", "corpus/a.txt", "--output=~nobody-here/x")
        with lock_folder("busy"):
            assert trainer.cli.main([*TRAIN, "busy"]) == 1
    return [line for line in errors.getvalue().splitlines() if line.startswith("error: ")]


def test_the_page_has_lines() -> None:
    assert len(LINES) >= 18


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_printed_as_it_is_shown(line: str, printed: list[str]) -> None:
    pattern = ".*".join(map(re.escape, line.split("…")))
    assert any(re.fullmatch(pattern, one) for one in printed), "\n".join(printed)


def test_whatever_is_printed_is_explained(printed: list[str]) -> None:
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in LINES]
    assert [one for one in printed if not any(re.fullmatch(pattern, one) for pattern in patterns)] == []
