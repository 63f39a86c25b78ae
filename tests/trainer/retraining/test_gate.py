"""The gate: each limit at, inside and outside its figure, and the figures against slow definitions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipeline.dataset.manifest import CorpusTotals
from pipeline.dataset.schema import FormatError
from tests.trainer.evaluation.test_align import make_model
from trainer.errors import UserError
from trainer.evaluation.align import common_rows
from trainer.evaluation.eval_sets import read_evalsets
from trainer.models.store import Model
from trainer.retraining.config import RetrainConfig
from trainer.retraining.gate import (
    Check,
    Measured,
    check_corpus,
    check_scores,
    check_space,
    neighbor_overlap,
    require_measurable,
    score,
)
from trainer.vectors.search import unit_rows

CONFIG = RetrainConfig(("in",), "data", "model")
CORPUS = CorpusTotals(1, 10_000, 1, 1, 600, 500, {"invalid-utf-8": 1}, 10)


def passed(checks: list[Check]) -> dict[str, bool]:
    return {check.name: check.passed for check in checks}


@pytest.mark.parametrize(("found", "passes"), [(0.5, True), (0.51, True), (0.49, False), (float("nan"), False)])
def test_a_limit_is_inside_and_nan_never_passes(found: float, passes: bool) -> None:
    assert Check("x", found, 0.5).passed is passes
    assert Check("x", -found, -0.5, at_least=False).passed is passes
    assert json.loads(msgspec.json.encode(Check("x", found, 0.5)))["passed"] is passes


def test_what_it_says_is_one_line() -> None:
    assert str(Check("mean cosine", 0.12345, 0.6)) == "mean cosine: found 0.1235, expected at least 0.6"
    assert str(Check("dead letters", 0.5, 0.001, False)) == "dead letters: found 0.5, expected at most 0.001"


@pytest.mark.parametrize(("limit", "passes"), [(0.0011, True), (0.001, True), (0.0009, False)])
def test_dead_letters(limit: float, passes: bool) -> None:
    config = dataclasses.replace(CONFIG, max_dead_letters=limit)
    assert passed(check_corpus(CORPUS, None, config)) == {"dead letters": passes}


@pytest.mark.parametrize(("live", "passes"), [(1200, True), (1201, False), (600, True), (100, True)])
def test_a_corpus_that_shrank(live: int, passes: bool) -> None:
    assert passed(check_corpus(CORPUS, live, CONFIG))["tokens, as a share of live"] is passes


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (0.6, 0.65, [True, True]),
        (0.6, 0.66, [True, False]),
        (0.49, 0.5, [False, True]),
        (0.7, 0.1, [True, True]),
        (0.7, None, [True]),
        (None, 0.5, [False]),
        (None, None, [False]),
    ],
)
def test_scores(new: float | None, old: float | None, expected: list[bool]) -> None:
    config = dataclasses.replace(CONFIG, min_similarity=0.5, max_score_drop=0.055)
    live = {} if old is None else {"similarity": {"f": Measured(old, 9, 9)}}
    checks = check_scores({"similarity": {"f": Measured(new, 9, 9)}}, live, config)
    assert [check.passed for check in checks] == expected


@pytest.mark.parametrize("kind", ["similarity", "analogies"])
def test_what_could_not_be_measured_does_not_pass(kind: str) -> None:
    config = dataclasses.replace(CONFIG, min_similarity=-1.0, min_analogies=0.0)
    live = {kind: {"f": Measured(0.5, 9, 9)}}
    [check] = check_scores({kind: {"f": Measured(None, 0, 9)}}, live, config)
    assert not check.passed
    unit = {"similarity": "pairs", "analogies": "questions"}[kind]
    assert str(check).startswith(f"{kind} f: not measured (0 of 9 {unit} have words that the model knows), expected ")
    assert msgspec.json.decode(msgspec.json.encode(check), type=Check) == check
    # A live version that could not be measured is nothing to fall from.
    assert passed(check_scores(live, {kind: {"f": Measured(None, 0, 9)}}, config)) == {f"{kind} f": True}


def test_files_that_measure_nothing_are_refused_before_the_night(tmp_path: Path) -> None:
    (tmp_path / "few.tsv").write_text("a b 1\nb c 2\n")
    (tmp_path / "equal.tsv").write_text("a b 1\nb c 1\na c 1\n")
    (tmp_path / "good.tsv").write_text("a b 1\nb c 1\na c 2\n")
    for name, pairs, scores in (("few", 2, 2), ("equal", 3, 1)):
        expected = f"^--similarity .*{name}.tsv: found {pairs} pairs with {scores} different scores, expected at least"
        with pytest.raises(UserError, match=expected):
            require_measurable(read_evalsets([f"{tmp_path}/{name}.tsv"], []))
    require_measurable(read_evalsets([f"{tmp_path}/good.tsv"], []))


@pytest.mark.parametrize(("names", "common"), [(["x", "y"], 0), (["a", "y"], 1)])
def test_spaces_without_two_common_words_do_not_pass(names: list[str], common: int) -> None:
    config = dataclasses.replace(CONFIG, min_known_words=0.0, min_overlap=0.0, min_cosine=-1.0)
    checks = check_space(make_model(["a", "b"], 1), make_model(names, 2), config)
    assert passed(checks) == {"known words": True, "neighbour overlap": False, "mean cosine": False}
    assert checks[1].shown == f"not measured (the two versions have {common} words in common)"


def test_a_space_against_itself_and_against_another() -> None:
    old = make_model([f"w{i}" for i in range(40)], 1)
    config = dataclasses.replace(CONFIG, gate_words=20)
    same = {check.name: check.found for check in check_space(old, old, config)}
    assert same == pytest.approx({"known words": 1.0, "neighbour overlap": 1.0, "mean cosine": 1.0})
    other = make_model([f"w{i}" for i in range(39, 1, -1)], 2)
    found = {check.name: check.found for check in check_space(old, other, config)}
    rows = common_rows(old, other)
    spaces = unit_rows(old.input_VD[rows[0]]), unit_rows(other.input_VD[rows[1]])
    shared = 0
    for word in range(18):
        near = [sorted((w for w in range(38) if w != word), key=lambda w, s=space: -(s[w] @ s[word]))[:10]  # type: ignore[misc]
                for space in spaces]  # fmt: skip
        shared += len(set(near[0]) & set(near[1]))
    cosine = np.mean([spaces[0][word] @ spaces[1][word] for word in range(18)])
    assert found == pytest.approx({"known words": 0.9, "neighbour overlap": shared / 180, "mean cosine": cosine})
    assert passed(check_space(old, other, config)) == {
        "known words": True, "neighbour overlap": shared / 180 >= 0.25, "mean cosine": False,
    }  # fmt: skip


def test_few_words_and_none() -> None:
    unit = unit_rows(make_model(["a", "b", "c"], 1).input_VD)
    assert neighbor_overlap(unit, unit, 3) == 1.0
    assert neighbor_overlap(unit[:1], unit[:1], 1) == 0.0
    old, new = make_model(["a", "b"], 1), make_model(["x", "y"], 2)
    assert not any(passed(check_space(old, new, CONFIG)).values())


def test_files_are_read_before_and_scored_by_kind(tmp_path: Path) -> None:
    (tmp_path / "s.tsv").write_text("w0\tw1\t1\nw0\tw2\t2\nw1\tw2\t3\n")
    (tmp_path / "a.txt").write_text(": x\nw0 w1 w2 w3\n")
    config = dataclasses.replace(CONFIG, similarity=(f"{tmp_path}/s.tsv",), analogies=(f"{tmp_path}/a.txt",))
    sets = read_evalsets(config.similarity, config.analogies)
    model: Model = make_model(["w0", "w1", "w2", "w3"], 3)
    scores = score(model, sets)
    assert list(scores["similarity"]) == [f"{tmp_path}/s.tsv"]
    assert scores["analogies"][f"{tmp_path}/a.txt"].value in (0.0, 1.0)
    unknown = score(make_model(["x", "y"], 3), sets)
    assert unknown == {
        "similarity": {f"{tmp_path}/s.tsv": Measured(None, 0, 3)},
        "analogies": {f"{tmp_path}/a.txt": Measured(None, 0, 1)},
    }
    with pytest.raises(UserError, match=r"--similarity: no file .*none"):
        read_evalsets([f"{tmp_path}/none"], [])
    (tmp_path / "s.tsv").write_bytes(b"\xff")
    with pytest.raises(FormatError, match="not valid UTF-8 at byte 0"):
        read_evalsets(config.similarity, [])
