"""The measurements by hand, on a little: they run, say what they should, and their text is what they claim."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.bench import distinct, giant_line
from tests.bench.distinct import token_ids, words_of


@pytest.mark.parametrize(("tokens", "kinds"), [(1, 1), (7, 7), (1000, 999), (3_000_000, 700_000)])
def test_every_id_stands_in_the_text(tokens: int, kinds: int) -> None:
    ids = np.concatenate(list(token_ids(tokens, kinds)))
    assert len(ids) == tokens
    counts = np.bincount(ids)
    assert (len(counts), counts.min()) == (kinds, 1)
    if tokens > 1_000_000:  # and they are a text's: the first word is about as frequent as Zipf's law has it
        assert counts[0] == pytest.approx((tokens - kinds) * np.log(2) / np.log(kinds), rel=0.05)
        assert (counts == 1).mean() > 0.3


def test_words_are_as_many_as_ids() -> None:
    ids = np.concatenate([np.arange(100_000), [20_000_000, 2**32, 2**40 - 1]])
    assert len(set(words_of(ids).split())) == len(ids)
    assert words_of(ids).count(b"\n") == len(ids) // 20


def test_the_lane_of_many_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["", "--tokens", "200000", "--distinct", "60000", "--work", str(tmp_path)]
    monkeypatch.setattr("sys.argv", words)
    assert distinct.main() == 0
    assert "\n200,000 tokens in " in (said := capsys.readouterr().out)
    assert " bytes, 60,000 distinct, " in said
    monkeypatch.setattr("sys.argv", [*words, "--limit-gb", "0.01"])
    assert distinct.main() == 1
    assert list(tmp_path.iterdir()) == []


def test_the_lane_of_a_line_without_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    giant_line.write_line(tmp_path / "line", 3_000_001)
    text = (tmp_path / "line").read_bytes()
    assert (len(text), text.count(b"\n")) == (3_000_001, 0)
    assert Counter(text.split(b" ")).most_common(1)[0][1] > 5000
    monkeypatch.setattr("sys.argv", ["", "--mb", "1", "2", "--work", str(tmp_path)])
    giant_line.main()
    rows = [row.split("|")[1].strip() for row in capsys.readouterr().out.splitlines()[-2:]]
    assert rows == ["1", "2"]
    assert [path.name for path in tmp_path.iterdir()] == ["line"]
