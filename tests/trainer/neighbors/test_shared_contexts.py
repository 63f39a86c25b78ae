"""Shared contexts against counting by hand; the dataset that a model names, or another."""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.dataset.vocabulary import Vocabulary, make_vocabulary
from tests.support.datasets import group_of, make_dataset
from trainer.errors import UserError
from trainer.models.store import Model, save_model
from trainer.neighbors import command
from trainer.neighbors.shared_contexts import Contexts, count_contexts

WORDS = 30
GROUPS = 12


def sentences(seed: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [list(rng.integers(0, 10, 6) + 10 * rng.integers(0, 3)) for _ in range(40)]


def group(seed: int) -> Any:
    return group_of(sentences(seed))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    groups = [group(seed) for seed in range(GROUPS)]
    second = [[group(99)]]
    return make_dataset(tmp_path_factory.mktemp("contexts") / "data", passes=[[groups[:7], groups[7:]], second])


@pytest.fixture(scope="module")
def dataset(data: str) -> Dataset:
    return open_dataset(data)


def pairs_of(seeds: list[int]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for seed in seeds:
        counts.update((f"w{center}", f"w{context}") for center, context in zip(*group(seed), strict=True))
    return counts


def weight(pairs: Counter[tuple[str, str]], word: str, context: str) -> float:
    """Pantel & Lin (2002), written out."""
    both = pairs[word, context]
    of_word = sum(count for (center, _), count in pairs.items() if center == word)
    of_context = sum(count for (_, around), count in pairs.items() if around == context)
    if not both:
        return 0.0
    information = math.log(both / pairs.total() / (of_word / pairs.total() * of_context / pairs.total()))
    rarer = min(of_word, of_context)
    return max(0.0, information) * both / (both + 1) * rarer / (rarer + 1)


@pytest.mark.parametrize("asked", [["w3"], ["w3", "w14"], ["w3", "w4", "nothing"], ["nothing"]])
def test_shared_contexts_agree_with_counting_by_hand(dataset: Dataset, asked: list[str]) -> None:
    pairs = pairs_of(list(range(GROUPS)))
    contexts = count_contexts(dataset, dataset.vocabulary(), [*asked, "w5", "w25"], 10**9)
    assert contexts.read == contexts.of == pairs.total()
    for other in ("w5", "w25"):
        expected = {}
        for context in (f"w{i}" for i in range(WORDS)):
            best = max(asked, key=lambda word: weight(pairs, word, context))
            shared = min(weight(pairs, best, context), weight(pairs, other, context))
            if shared > 0:
                expected[context] = (shared, [pairs[best, context], pairs[other, context]])
        found = contexts.shared(asked, other, WORDS)
        assert {entry["token"]: entry["counts"] for entry in found} == {
            c: counts for c, (_, counts) in expected.items()
        }
        weights = [entry["weight"] for entry in found]
        np.testing.assert_allclose(weights, [expected[entry["token"]][0] for entry in found], atol=1e-4)
        assert weights == sorted(weights, reverse=True)
        assert contexts.shared(asked, other, 2) == found[:2]


def test_no_more_row_groups_are_read_than_asked_for(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = Dataset.read_row_group

    def note(self: Dataset, ref: Any) -> Any:
        read.append(ref.rows)
        return original(self, ref)

    monkeypatch.setattr(Dataset, "read_row_group", note)
    rows = [ref.rows for ref in dataset.row_groups(0)]
    for pairs, groups in ((1, 1), (sum(rows) // 2 + 1, GROUPS // 2), (10**9, GROUPS)):
        read.clear()
        contexts = count_contexts(dataset, dataset.vocabulary(), ["w3"], pairs)
        assert len(read) == groups
        assert contexts.read == sum(read)
    assert contexts.of == sum(rows)


def test_uneven_row_groups_keep_to_the_bound(tmp_path: Path) -> None:
    sizes = [40, 1, 30, 2, 40, 3, 25, 1, 1, 38]
    groups = [group_of(sentences(1)[:size]) for size in sizes]
    dataset = open_dataset(make_dataset(tmp_path / "uneven", passes=[[groups]]))
    rows = [ref.rows for ref in dataset.row_groups(0)]
    for pairs in range(1, sum(rows) + 100, 37):
        read = count_contexts(dataset, dataset.vocabulary(), ["w3"], pairs).read
        assert read <= max(pairs, rows[0])
    assert read == sum(rows)


def test_contexts_that_do_not_attract_are_none(dataset: Dataset) -> None:
    contexts = Contexts(dataset.vocabulary(), 0, 0, np.zeros(WORDS, np.int64))
    assert contexts.shared(["w3"], "w4", 5) == []


def make_model(folder: Path, lineage: dict[str, Any], run: dict[str, Any], vocabulary: Vocabulary) -> str:
    table = np.random.default_rng(1).standard_normal((len(vocabulary), 4)).astype(np.float32)
    info = {"config": {}, "lineage": lineage, "metrics": {}}
    save_model(str(folder), Model(table, table, vocabulary, info), run)
    return str(folder)


@pytest.fixture
def model(data: str, dataset: Dataset, tmp_path: Path) -> str:
    lineage = {"dataset_id": dataset.dataset_id}
    return make_model(tmp_path / "m", lineage, {"data": data, "data_run": "run-1"}, dataset.vocabulary())


def run(*flags: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(flags))


def test_the_command_explains(model: str, dataset: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--model", model, "w3", "w14 - w15 + w3", "--top", "4", "--explain", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    total = dataset.pairs_in_pass(0)
    assert result["explained"] == {"dataset_id": dataset.dataset_id, "pairs": total, "of": total}
    contexts = count_contexts(dataset, dataset.vocabulary(), [f"w{i}" for i in range(WORDS)], 10**9)
    shared = []
    for answer, asked in zip(result["words"], (["w3"], ["w14", "w3"]), strict=True):
        assert len(answer["neighbors"]) == 4
        for near in answer["neighbors"]:
            assert near["shared"] == contexts.shared(asked, near["token"], 5)
            shared.append(near["shared"])
    assert sum(map(bool, shared)) > 2
    assert run("--model", model, "w3", "--top", "2", "--explain", "--explain-pairs", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(line.startswith(("      both with w", "      no context in common")) for line in lines[2::2])


def test_another_dataset(model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The same text under other ids and without some words.
    turned = [(group(1)[0], group(1)[1])]
    turned = [(WORDS - 1 - center, WORDS - 1 - context) for center, context in turned]
    vocabulary = make_vocabulary([f"w{i}" for i in reversed(range(WORDS))], [1] * WORDS)
    other = make_dataset(tmp_path / "other", vocabulary, passes=[[turned]])
    plain = make_dataset(tmp_path / "plain", make_vocabulary([f"w{i}" for i in range(WORDS)], [1] * WORDS),
                         passes=[[[group(1)]]])  # fmt: skip
    results = []
    for uri in (other, plain):
        assert run("--model", model, "w3", "--explain", "--json", "--data", uri) == 0
        results.append(json.loads(capsys.readouterr().out)["words"][0]["neighbors"])
    counted = [[{e["token"]: e["weight"] for e in near["shared"]} for near in result] for result in results]
    assert [sorted(shared.values()) for shared in counted[0]] == [sorted(shared.values()) for shared in counted[1]]
    assert any(counted[0])


def test_no_dataset(model: str, data: str, dataset: Dataset, tmp_path: Path) -> None:
    vocabulary = dataset.vocabulary()
    lineage = {"dataset_id": dataset.dataset_id}
    gone = make_model(tmp_path / "a", lineage, {"data": str(tmp_path / "gone")}, vocabulary)
    with pytest.raises(UserError, match=r"found no dataset where the model's lay \(.*gone.*\); expected --data URI"):
        run("--model", gone, "w3", "--explain")
    nothing = make_model(tmp_path / "b", lineage, {}, vocabulary)
    with pytest.raises(UserError, match=r"found no dataset in the model's run\.json"):
        run("--model", nothing, "w3", "--explain")
    other = make_model(tmp_path / "c", {"dataset_id": "0" * 64}, {"data": data, "data_run": "run-1"}, vocabulary)
    with pytest.raises(
        UserError, match=f"found dataset {dataset.dataset_id[:16]}…, where the model's lineage has 0000"
    ):
        run("--model", other, "w3", "--explain")
    # A newer run beside it changes nothing: the model names the one it read.
    copy = str(tmp_path / "copy")
    shutil.copytree(data, copy)
    make_dataset(copy, passes=[[[group(50)]]], run_id="run-2")
    moved = make_model(tmp_path / "d", lineage, {"data": copy, "data_run": "run-1"}, vocabulary)
    assert run("--model", moved, "w3", "--explain") == 0
