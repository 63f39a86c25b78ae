"""kill -9 at every stage: readers see the old dataset, and a run after it gives the bytes of an undisturbed one."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.dataset.reader import open_dataset
from tests.support.commands import expect_failure, in_child, make_old, words_of
from tests.support.paths import ROOT

TEXT = "\n".join(f"the fox {i % 7} saw the dog {i % 5} near house {i % 3}" for i in range(2000))

# The stage is a function of ours; its second call (or first, where there is but one) kills the process.
STAGES = {
    "counting": ("pipeline.stages.chunks.count_chunk", 1),
    "between vocabulary and pairs": ("pipeline.publishing.publish.plan_shards", 1),
    "encoding": ("pipeline.stages.chunks.encode_chunk", 2),
    "during shards": ("pipeline.stages.chunks.write_shard", 3),
    "before the manifest": ("pipeline.publishing.publish.publish", 1),
    "between manifest and pointer": ("pipeline.storage.storage.swap_pointer", 1),
}
KILLER = """
import importlib, os, sys
name, calls = sys.argv[1], int(sys.argv[2])
module, _, function = name.rpartition(".")
module = importlib.import_module(module)
original, left = getattr(module, function), [calls]
def deadly(*arguments, **options):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), 9)
    return original(*arguments, **options)
setattr(module, function, deadly)
from pipeline.cli import main
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text, an old dataset of it, and the new one as an undisturbed run makes it."""
    folder = tmp_path_factory.mktemp("kill")
    (folder / "in").mkdir()
    for part in range(2):
        (folder / "in" / f"{part}.txt").write_text(TEXT)
    assert no_kill(*words_to(folder, "old"), "--window", "2") == 0
    assert no_kill(*words_to(folder, "undisturbed")) == 0
    return folder


def words_to(folder: Path, output: str) -> list[str]:
    flags = ["--min-count", "1", "--sample", "0", "--shard-pairs", "20000"]
    return ["--input", f"{folder}/in/*", "--output", str(folder / output), *flags]


def call(*words: str) -> int:
    command = [sys.executable, "-W", "ignore", "-c", KILLER, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode


def no_kill(*words: str) -> int:
    return call("pipeline.stages.chunks.count_chunk", "-1", *words)


@pytest.mark.parametrize("stage", STAGES)
def test_killed(stage: str, work: Path) -> None:
    name = stage.replace(" ", "-")
    output = str(shutil.copytree(work / "old", work / name))
    old = open_dataset(output)
    function, calls = STAGES[stage]
    assert call(function, str(calls), *words_to(work, name)) == -signal.SIGKILL
    seen = open_dataset(output)
    assert (seen.run_id, seen.dataset_id) == (old.run_id, old.dataset_id)
    assert no_kill(*words_to(work, name)) == 0
    again, undisturbed = open_dataset(output), open_dataset(str(work / "undisturbed"))
    assert again.dataset_id == undisturbed.dataset_id != old.dataset_id
    assert [shard.sha256 for shard in again.shards] == [shard.sha256 for shard in undisturbed.shards]


#: Python runs it at each start; of the workers, one dies at its second chunk.
DYING_WORKER = """
import os, pathlib
if b"pipeline.transforms.worker" in pathlib.Path("/proc/self/cmdline").read_bytes():
    from pipeline.stages import chunks
    count, calls = chunks.count_chunk, []
    def deadly(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), 9)
        return count(*arguments, **options)
    chunks.count_chunk = deadly
"""


def test_a_worker_process_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(tmp_path)
    for part in range(4):
        (tmp_path / "in" / f"{part}.txt").write_text(TEXT)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DYING_WORKER)
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    before = f"import os; os.environ['PYTHONPATH'] += ':{tmp_path}/site'"  # of the workers alone
    run = in_child(words_of(tmp_path, *flags), before=before)

    def our_line() -> tuple[int, str]:
        status, error = run()
        return status, "\n".join(line for line in error.splitlines() if line.startswith("error: "))

    expect_failure(tmp_path, our_line, "--runner FnApiRunner: cannot run the job: ")
    assert main(words_of(tmp_path)) == 0
