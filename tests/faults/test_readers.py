"""Readers while runs are published, one after the other: all of the old one or all of the new one."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from pipeline.cli import main
from pipeline.dataset.reader import Dataset, open_dataset
from tests.support.commands import FLAGS, TEXT

#: Other text, many shards and few, two passes and one: whoever mixed two runs would see it.
KINDS = (("a.txt", "--shard-pairs", "500", "--passes", "2"), ("b.txt", "--shard-pairs", "1Mi", "--window", "2"))


def content_of(dataset: Dataset) -> tuple[object, ...]:
    """All that a reader can see of a dataset."""
    vocabulary = dataset.vocabulary()
    groups = [dataset.read_row_group(ref) for index in range(len(dataset.manifest.passes))
              for ref in dataset.row_groups(index)]  # fmt: skip
    pairs = tuple(np.concatenate(columns).tobytes() for columns in zip(*groups, strict=True))
    return dataset.dataset_id, tuple(vocabulary.tokens), vocabulary.counts.tobytes(), len(dataset.shards), pairs


def publish(folder: Path, kind: int, *flags: str) -> None:
    name, *words = KINDS[kind]
    words = ["--input", f"{folder}/{name}", "--output", f"{folder}/out", *FLAGS, *words, *flags]
    assert main(words) == 0


def test_readers_see_one_run_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.txt").write_text(TEXT.replace("fox", "ox") * 2)
    known = []
    for kind in (0, 1):
        publish(tmp_path, kind)
        known.append(content_of(open_dataset(f"{tmp_path}/out")))
    assert known[0] != known[1]
    assert known[0][3] > 5 * known[1][3]  # fewer shards replace many
    done, seen, errors = threading.Event(), list[int](), list[Exception]()

    def read() -> None:
        try:
            while not done.is_set():
                seen.append(known.index(content_of(open_dataset(f"{tmp_path}/out"))))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(10):
            publish(tmp_path, turn % 2, "--keep", "3")  # what a reader may still read stays
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert {0, 1} == set(seen)


def test_a_reader_that_began_before_goes_on_with_its_run(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(TEXT)
    publish(tmp_path, 0)
    opened = open_dataset(f"{tmp_path}/out")
    expected = content_of(open_dataset(f"{tmp_path}/out"))
    publish(tmp_path, 1)
    assert content_of(opened) == expected
    assert open_dataset(f"{tmp_path}/out").dataset_id != opened.dataset_id
