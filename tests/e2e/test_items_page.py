"""docs/items.md, all but its chapter on Feast (tests/engines/test_items.py): from sessions to the nearest products."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import pairstream
from tests.engines.documents import Block, read_blocks
from tests.support.paths import ROOT
from trainer import cli
from trainer.keyed_vectors.vectors import Vectors

pytestmark = [pytest.mark.e2e, pytest.mark.readme]
BLOCKS = read_blocks("docs/items.md")
#: The products of each hobby, as the page's code has them.
HOBBIES: dict[str, str] = ast.literal_eval(str(re.search(r"^HOBBIES = (\{.*?^\})", BLOCKS[0].code, re.M | re.S)[1]))  # type: ignore[index]
GROUPS = {product: set(products.split(",")) for products in HOBBIES.values() for product in products.split(",")}


def run_blocks(folder: Path, blocks: Sequence[Block], feast_python: Path | None = None) -> dict[str, str]:
    """Run the page's blocks in a folder; return what each chapter's commands, and its Python, printed."""
    (folder / "bin").mkdir(exist_ok=True)
    shim = folder / "bin" / "pairstream"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m pairstream "$@"\n')
    shim.chmod(0o755)
    path = [str(folder / "bin"), *([str(feast_python.parent)] if feast_python else []), os.environ["PATH"]]
    features = {"PAIRSTREAM": str(ROOT), "PAIRSTREAM_FEATURES": str(folder / "features")}
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "PATH": ":".join(path),
        **features,
    }
    printed = dict[str, str]()
    for block in blocks:
        if block.language in ("sh", "python"):
            python = feast_python if "feast" in block.code else sys.executable
            command = ["bash", "-euo", "pipefail"] if block.language == "sh" else [str(python)]
            done = subprocess.run([*command, "-c", block.code], cwd=folder, env=environment, capture_output=True,
                                  text=True, check=False)  # fmt: skip
            assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"
            printed[f"{block.heading}, {block.language}"] = done.stdout
    return printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("items")


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[str, str]:
    return run_blocks(folder, [block for block in BLOCKS if block.heading != "In Feast"])


def test_the_commands_print_what_the_page_shows(printed: dict[str, str]) -> None:
    def masked(text: str) -> str:
        return re.sub(r"[\d,.]+", "0", text)

    # Numbers aside: those of the sessions are NumPy's; and which neighbours are nearest is of one training.
    corpus, words = (block.code.splitlines() for block in BLOCKS if block.language == "text")
    assert [line for line in corpus if masked(line) not in masked(printed["Pairs, sh"])] == []
    heads = [line for line in words if line and not line.startswith(" ")]
    assert len(heads) == 2
    assert [
        line for line in heads if masked(line) not in masked(printed["Vectors, and the nearest products, sh"])
    ] == []


def same_hobby(vectors: Vectors, count: int) -> float:
    """The share of the nearest products that are of the product's own hobby."""
    near = [(one, other) for one in GROUPS for other, _ in vectors.most_similar(one, topn=count)]
    return sum(other in GROUPS[one] for one, other in near) / len(near)


def test_what_is_bought_together_is_near(printed: dict[str, str], folder: Path) -> None:
    vectors = pairstream.load(str(folder / "model"))
    assert set(vectors.key_to_index) == set(GROUPS)
    assert same_hobby(vectors, 10) > 0.99
    near = ast.literal_eval(printed["Vectors, and the nearest products, python"])
    assert {product for product, _ in near} < GROUPS["Rain Cape"]


def test_the_second_day_extends_the_first(printed: dict[str, str], folder: Path) -> None:
    assert "published run" in printed["The next day, sh"]
    counts = [0, 0]
    for day in (1, 2):
        sessions = pq.read_table(folder / f"sessions/day-{day}.parquet")["products"].to_pylist()
        counts[day - 1] = sum(session.count("Oat Milk") for session in sessions)
    assert pairstream.load(str(folder / "model")).get_vecattr("Oat Milk", "count") == sum(counts)


def answer(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.main(list(words))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_items_with_spaces_in_other_commands(
    printed: dict[str, str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", f"{folder}/model"]
    status, out, _ = answer(["neighbors", *model, "Oat Milk + Steel Mug - Bread Flour", "--json"], capsys)
    terms = [(term["token"], term["weight"]) for term in json.loads(out)["words"][0]["terms"]]
    assert (status, terms) == (0, [("Oat Milk", 1), ("Steel Mug", 1), ("Bread Flour", -1)])
    status, _, error = answer(["neighbors", *model, "Oat Mlik"], capsys)
    assert (status, error) == (1, "error: 'Oat Mlik' is not in the vocabulary. Did you mean: Oat Milk?\n")

    (folder / "pairs.tsv").write_text("Oat Milk\tSteel Mug\t9\nYeast\tRye Flour\t8\nYeast\tMini Pump\t1\n")
    (folder / "analogies.tsv").write_text("Oat Milk\tSteel Mug\tYeast\tRye Flour\n")
    files = ["--similarity", f"{folder}/pairs.tsv", "--analogies", f"{folder}/analogies.tsv"]
    status, out, _ = answer(["evaluate", *model, *files, "--json"], capsys)
    scores = json.loads(out)
    assert (status, scores["similarity"][0]["pairs"], scores["analogies"][0]["questions"]) == (0, 3, 1)

    for form in ("word2vec", "word2vec-bin"):
        status, _, error = answer(["export", *model, "--format", form, "--to", f"{folder}/x.{form}"], capsys)
        assert status == 1
        assert error.startswith(f"error: --format {form}: found the token '")
        assert error.endswith(
            "expected none empty or with white space; parquet, safetensors and feast hold any token\n"
        )
    for form in ("parquet", "safetensors", "projector"):
        assert answer(["export", *model, "--format", form, "--to", f"{folder}/out-{form}"], capsys)[0] == 0
    assert set(pq.read_table(folder / "out-parquet")["token"].to_pylist()) == set(GROUPS)


def test_nights_of_sessions(printed: dict[str, str], folder: Path) -> None:
    page = (ROOT / "docs" / "items.md").read_text(encoding="utf-8")
    command = " ".join(str(re.search(r"`(pairstream retrain .*?)`", page, re.DOTALL)[1]).split())  # type: ignore[index]
    command = command.replace("--data data --model model", "--data nights --model night --dim 32 --epochs 3")
    (folder / "later").mkdir()
    (folder / "sessions/day-2.parquet").rename(folder / "later/day-2.parquet")
    for day in (1, 2):
        run_blocks(folder, [Block("sh", command, "")])
        if day == 1:
            (folder / "later/day-2.parquet").rename(folder / "sessions/day-2.parquet")
    vectors = pairstream.load(str(folder / "night"))
    assert vectors.get_vecattr("Oat Milk", "count") == pairstream.load(str(folder / "model")).get_vecattr(
        "Oat Milk", "count"
    )
    assert same_hobby(vectors, 5) > 0.95
