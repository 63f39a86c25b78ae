"""What the threads of a worker share: as many as it has cores, and one copy of what all of them read."""

from __future__ import annotations

import gc
import os
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.config import Config
from pipeline.dataset.schema import PHRASES_SCHEMA
from pipeline.dataset.vocabulary import Vocabulary, make_vocabulary
from pipeline.native import process
from pipeline.native.process import once_a_process, usable_cores
from pipeline.phrases import join
from pipeline.stages.spill import Spill
from pipeline.transforms import phrases as phrase_transforms
from pipeline.transforms import text_to_pairs
from pipeline.transforms.threads import ThreadedDoFn
from pipeline.vocabulary import lookup

pytestmark = pytest.mark.unit

SPILL = Spill()
MAKERS = {
    "count": lambda config: text_to_pairs._CountTokens(config, SPILL, 64),
    "merge": lambda config: text_to_pairs._MergeCounts(config, SPILL, None, 64),
    "encode": lambda config: text_to_pairs._EncodeChunks(config, SPILL),
    "write": lambda config: text_to_pairs._WriteShards(config, SPILL, ""),
    "count pairs": lambda config: phrase_transforms._CountPairs(1, config, SPILL, 64),
    "merge pairs": lambda config: phrase_transforms._MergePairs(config, SPILL, 64),
    "score pairs": lambda config: phrase_transforms._ScorePairs(1, config, SPILL),
}


def bind(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    """Let this process be bound to some cores of a machine that has 64."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("threads", "expected"), [(0, 3), (5, 5)])
def test_threads_are_the_workers(
    name: str, threads: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_CGROUPS", tmp_path)
    bind(monkeypatch, 64)
    made = pickle.dumps(MAKERS[name](Config((), "", phrases=1, threads=threads)))  # on the launcher
    bind(monkeypatch, 3)
    do_fn: ThreadedDoFn = pickle.loads(made)
    do_fn.setup()
    try:
        assert do_fn._threads == do_fn._pool._max_workers == expected
    finally:
        do_fn.teardown()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 4),
        ({"cpu.max": "max 100000\n"}, 4),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_cores_are_the_containers_share(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(process, "_CGROUPS", tmp_path)
    bind(monkeypatch, 4)
    assert usable_cores() == expected


def together(threads: int, work: object) -> list[object]:
    """Call a function on several threads that all begin at once."""
    barrier = threading.Barrier(threads)

    def call(_: int) -> object:
        barrier.wait()
        return work()  # type: ignore[operator]

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, range(threads)))


def test_eight_threads_load_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, made = list[str](), make_vocabulary(["a", "b"], [2, 1])
    slow = threading.Event()

    def load(uri: str, *_: str) -> Vocabulary | pa.Table:
        calls.append(uri)
        slow.wait(0.05)  # so that the others come before it is done
        return PHRASES_SCHEMA.empty_table() if uri.endswith("phrases") else made

    monkeypatch.setattr(lookup, "load_vocab", load)
    monkeypatch.setattr(join, "load_phrases", load)
    uri = str(tmp_path)
    found = together(8, lambda: lookup.load_lookup(uri, "0"))
    assert len({id(one) for one in found}) == 1
    thresholds = together(8, lambda: lookup.load_thresholds(uri, "0", 0.001))
    assert len({id(one) for one in thresholds}) == 1
    assert calls == [uri, uri]  # once for each
    calls.clear()
    joined = together(8, lambda: join.read_phrases(((f"{uri}/phrases", "0"),)))
    assert len({id(one) for one in joined}) == 1
    assert calls == [f"{uri}/phrases"]
    lookup.load_lookup.forget()  # type: ignore[attr-defined]
    lookup.load_lookup(uri, "0")
    assert calls[1:] == [uri]


class Loaded:
    """Something that was loaded."""


def test_the_last_two_are_held() -> None:
    calls = list[str]()

    @once_a_process(held=2)
    def load(name: str) -> Loaded:
        calls.append(name)
        return Loaded()

    first = weakref.ref(load("a"))
    kept = load("b")
    assert load("a") is first()
    load("b")
    load("c")
    gc.collect()
    assert first() is None
    assert load("b") is kept
    assert calls == ["a", "b", "c"]


def test_a_load_that_fails_is_tried_again() -> None:
    calls = list[int]()

    @once_a_process(held=2)
    def load() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("once")
        return 7

    with pytest.raises(OSError, match="once"):
        load()
    assert [load(), load()] == [7, 7]
    assert len(calls) == 2
