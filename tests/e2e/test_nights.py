"""Four nights of retraining, undisturbed and killed at every step, as a scheduler would run them."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.test_text_to_vectors import TOPICS, call, result
from tests.support.paths import ROOT
from trainer.evaluation.align import common_rows
from trainer.models.store import Model, load_model
from trainer.vectors.search import unit_rows

pytestmark = pytest.mark.e2e
NEW_WORDS = {"animals": ["otter", "badger"], "fruit": ["mango"], "tools": ["anvil"], "πόλεις": ["σίφνος"]}
GROWN = {name: words + NEW_WORDS[name] for name, words in TOPICS.items()}
#: The same words, dealt to topics crosswise: text of the right size and vocabulary that teaches wrong neighbours.
GARBAGE = {str(i): [words[i] for words in GROWN.values() for _ in range(2)] for i in range(8)}
FILES = ("model.safetensors", "vocab.parquet", "model.json", "inputs.parquet")

# Wraps a function so that a call of it kills the process, as `kill -9` would: when it begins, or (<) when it is over.
KILLER = """
import importlib, os, sys
name, calls, over = sys.argv[1].lstrip("<"), int(sys.argv[2]), sys.argv[1].startswith("<")
parts = name.split(".")
owner = importlib.import_module(".".join(parts[:3]))
for part in parts[3:-1]:
    owner = getattr(owner, part)
original, left = getattr(owner, parts[-1]), [calls]
def deadly(*arguments, **options):
    left[0] -= 1
    if left[0] == 0 and over:
        original(*arguments, **options)
    if left[0] == 0:
        os.kill(os.getpid(), 9)
    return original(*arguments, **options)
setattr(owner, parts[-1], deadly)
from trainer.cli import main
sys.exit(main(sys.argv[3:]))
"""
#: Python runs it at each start: a function of the pipeline's kills the retraining that started it, and goes on no more.
DYING_PARENT = """
import importlib, os, pathlib, threading
words = pathlib.Path("/proc/self/cmdline").read_bytes().split(b"\\0")
if b"from pipeline.__main__ import run" in words[2] and b"run" in words:
    module, _, function = os.environ["DIES_IN"].rpartition(".")
    def deadly(*arguments, **options):
        os.kill(os.getppid(), 9)
        threading.Event().wait()
    setattr(importlib.import_module(module), function, deadly)
"""
MOMENTS = {
    "pipeline": "pipeline.stages.chunks.encode_chunk",
    "between the dataset and its pointer": "pipeline.storage.storage.swap_pointer",
    "before training": "trainer.retraining.steps.train_candidate 1",
    "training": "<trainer.checkpoints.write.Checkpoints._finish 1",
    "training, once more": "trainer.training.loop.Loop._step 2",
    "staging": "trainer.retraining.lineage.save_lineage 1",
    "between staging and measuring": "trainer.retraining.judgement.check_corpus 1",
    "between measuring and promotion": "trainer.retraining.judgement.write_report 1",
    "in promotion": "trainer.retraining.judgement.swap 1",
    "after promotion": "<trainer.retraining.judgement.publish 1",
    "in remembering": "<trainer.retraining.state.remember 1",
    "in refusal": "trainer.retraining.state.remember 1",
}


def planted(sentences: int, topics: dict[str, list[str]], key: int) -> str:
    """Sentences about one topic each, with a few words that stand anywhere."""
    draws = (np.random.Philox(key=key).random_raw(sentences * 12).reshape(-1, 12) >> np.uint64(20)).tolist()
    names = list(topics.values())

    def word(draw: int, topic: Sequence[str]) -> str:
        return ["the", "of", "and", "a"][draw % 4] if draw % 5 == 0 else topic[draw % len(topic)]

    return "".join(" ".join(word(d, names[row[0] % len(names)]) for d in row[1:]) + "\n" for row in draws)


def words_of(folder: Path, *flags: str) -> list[str]:
    """The nightly command; everything in it but the folder is what a crontab has."""
    places = ["--input", f"{folder.parent}/text/*", "--data", f"{folder}/data", "--model", f"{folder}/model"]
    training = ["--dim", "24", "--epochs", "2", "--learning-rate", "0.05", "--threads", "1"]
    training += ["--checkpoint-pairs", "30000", "--quiet"]
    gate = ["--similarity", f"{folder.parent}/pairs.tsv", "--min-similarity", "0.5", "--json", *flags]
    return ["retrain", *places, *training, *gate, "--", "--passes", "2", "--sample", "0.05", "--shard-pairs", "20000"]


def retrain(folder: Path, *flags: str, status: int = 0) -> dict[str, Any]:
    done = call("trainer", *words_of(folder, *flags), status=status)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {"error": done.stderr}
    return found


def die(folder: Path, moment: str) -> None:
    """Run the night's command until it dies of ``kill -9`` at some moment."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    if MOMENTS[moment].startswith("pipeline."):
        site = folder.parent / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(DYING_PARENT)
        environment |= {"PYTHONPATH": f"{ROOT}:{site}", "DIES_IN": MOMENTS[moment]}
        command = [sys.executable, "-m", "trainer", *words_of(folder)]
    else:
        command = [sys.executable, "-c", KILLER, *MOMENTS[moment].split(), *words_of(folder)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, (moment, done.stderr)


def live(folder: Path) -> Model | None:
    return load_model(str(folder / "model")) if (folder / "model/LATEST.json").exists() else None


def version_of(folder: Path) -> str:
    model = live(folder)
    return model.info["version"] if model else ""


def neighbors(folder: Path, words: Sequence[str], top: int) -> dict[str, list[str]]:
    found = result("trainer", "neighbors", "--model", f"{folder}/model", "--top", str(top), *words)["words"]
    return {answer["word"]: [near["token"] for near in answer["neighbors"]] for answer in found}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nights")
    (folder / "text").mkdir()
    topics = list(TOPICS.values())
    near = [f"{words[i]}\t{words[i + 1]}\t9" for words in topics for i in range(6)]
    far = [f"{topics[i][j]}\t{topics[(i + 1) % 4][j]}\t1" for i in range(4) for j in range(6)]
    (folder / "pairs.tsv").write_text("\n".join(near + far) + "\n")
    return folder


def add_text(work: Path, name: str, text: str) -> None:
    path = work / "text" / name
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if name.endswith(".gz") else text.encode())
    os.utime(path, (1_700_000_000, 1_700_000_000))


def night(work: Path, moments: Sequence[str], status: int = 0) -> dict[str, Any]:
    """The same night in two places: undisturbed, and with a death at each moment; it must come to the same end."""
    calm, torn = work / "calm", work / "torn"
    before = version_of(torn)
    calmly = retrain(calm, status=status)
    for moment in moments:
        die(torn, moment)
        seen = version_of(torn)  # every byte of it is read and checked
        promoted = moment in ("after promotion", "in remembering")
        assert seen == (calmly["version"] if promoted else before), moment
    again = retrain(torn, status=status)
    same = ("status", "version", "live", "parent", "dataset_id", "files_read", "checks")
    assert {name: again[name] for name in same} == {name: calmly[name] for name in same}
    for file in FILES:
        folders = [place / "model/versions" / calmly["version"] for place in (calm, torn)]
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes(), file
    assert sorted(path.name for path in (torn / "model/retrain").iterdir()) == ["lock", "state.json"]
    return calmly


def test_four_nights(work: Path) -> None:
    add_text(work, "1.txt.gz", planted(3000, TOPICS, 11))
    first = night(work, ["pipeline", "training", "staging", "after promotion"])
    assert (first["status"], first["parent"]) == ("published", "")
    calm = work / "calm"

    add_text(work, "2.txt.gz", planted(1500, GROWN, 12))
    second = night(work, list(MOMENTS)[:-1])
    assert (second["status"], second["parent"], second["files_read"]) == ("published", first["version"], 2)
    checks = {check["name"]: check["found"] for check in second["checks"]}
    old, new = load_model(f"{calm}/model", first["version"]), load_model(f"{calm}/model")
    rows = common_rows(old, new)
    cosines = (unit_rows(old.input_VD[rows[0]]) * unit_rows(new.input_VD[rows[1]])).sum(axis=1)
    assert len(cosines) == len(old.vocabulary)
    assert cosines.mean() == pytest.approx(checks["mean cosine"], abs=1e-5)
    assert cosines.mean() > 0.95
    assert cosines.min() > 0.8
    for topic, words in NEW_WORDS.items():
        for word, near in neighbors(calm, words, 5).items():
            assert set(near) <= set(GROWN[topic]), (word, near)

    before = {path: path.stat().st_mtime_ns for path in (calm / "data").rglob("*")}
    third = retrain(calm)
    assert (third["status"], third["version"]) == ("nothing new", second["version"])
    assert before == {path: path.stat().st_mtime_ns for path in (calm / "data").rglob("*")}

    add_text(work, "4.txt.gz", planted(12_000, GARBAGE, 13))
    fourth = night(work, ["pipeline", "training", "between staging and measuring", "in refusal"], status=3)
    assert (fourth["status"], fourth["live"]) == ("refused", second["version"])
    assert any(reason.startswith("similarity ") for reason in fourth["reasons"])
    assert retrain(calm, status=3)["version"] == fourth["version"]  # said again, without training again

    broken = (work / "text/1.txt.gz").read_bytes()
    (work / "text/4.txt.gz").write_bytes(broken[: len(broken) // 2])
    error = retrain(calm, status=1)["error"]
    assert "4.txt.gz" in error
    assert error.count("\n") == 1
    assert version_of(calm) == second["version"]
    (work / "text/4.txt.gz").unlink()

    states = {entry["version"]: entry["state"] for entry in versions(calm)}
    assert states == {second["version"]: "live", first["version"]: "previous", fourth["version"]: "refused"}
    back(calm, first["version"])
    assert {entry["version"]: entry["state"] for entry in versions(calm)}[second["version"]] == "rolled back"
    assert retrain(calm)["status"] == "nothing new"  # the same text is not published once more
    assert version_of(calm) == first["version"]
    back(calm, second["version"], "--to", second["version"])
    assert retrain(calm)["status"] == "nothing new"


def versions(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = result("trainer", "versions", "--model", f"{folder}/model")["versions"]
    return found


def back(folder: Path, to: str, *flags: str) -> None:
    assert result("trainer", "rollback", "--model", f"{folder}/model", *flags)["version"] == to
    assert version_of(folder) == to


#: A retraining that waits, its lock held, until its standard input ends.
WAITER = """
import sys
from trainer.retraining import plan
find = plan.find_night
def wait(*arguments):
    print("held", flush=True)
    sys.stdin.read()
    return find(*arguments)
plan.find_night = wait
from trainer.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_new_files_alone_and_two_at_once(work: Path) -> None:
    folder = work / "only" / "new"
    shutil.copytree(work / "text", work / "only" / "text")
    shutil.copy(work / "pairs.tsv", work / "only")
    text = work / "only" / "text"
    second = (text / "2.txt.gz").rename(work / "only" / "2.txt.gz")
    first = retrain(folder, "--only-new")
    second.rename(text / "2.txt.gz")

    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", WAITER, *words_of(folder, "--only-new")]
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        error = retrain(folder, "--only-new", status=4)["error"]
        assert f"process {holder.pid} on " in error
        assert error.count("\n") == 1
        printed, complaint = holder.communicate(timeout=300)
        assert holder.returncode == 0, complaint
    found = json.loads(printed.splitlines()[-1])
    assert (found["status"], found["files_read"], found["files_listed"]) == ("published", 1, 2)
    old, new = load_model(f"{folder}/model", first["version"]), load_model(f"{folder}/model")
    assert new.vocabulary.tokens[: len(old.vocabulary)] == old.vocabulary.tokens  # ids last
    assert {word for words in NEW_WORDS.values() for word in words} <= set(new.vocabulary.tokens)

    assert retrain(folder, "--only-new")["status"] == "nothing new"
    os.utime(text / "1.txt.gz", (1_800_000_000, 1_800_000_000))
    plain = gzip.decompress((text / "2.txt.gz").read_bytes())
    (text / "2.txt.gz").rename(text / "renamed.txt.gz")
    (text / "copy.txt.bz2").write_bytes(bz2.compress(plain))
    found = retrain(folder, "--only-new")
    assert found["status"] == "nothing new"
    assert found["files_passed"] == {"unchanged": 0, "same_text": 3, "same_file": 0, "empty": 0}
    assert retrain(folder, "--only-new")["files_passed"]["unchanged"] == 3  # which is remembered
    (text / "renamed.txt.gz").write_bytes(gzip.compress(plain + b"more\n"))
    assert "renamed.txt.gz: changed since" in retrain(folder, "--only-new", status=1)["error"]
