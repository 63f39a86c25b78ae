"""Which files a run reads, in which order, in which parts."""

from __future__ import annotations

import datetime
import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.inputs.chunks import CHUNK_BYTES
from pipeline.inputs.discover import InputFile, list_inputs
from pipeline.inputs.listing import read_listing, read_share, save_listing
from pipeline.inputs.splits import Part, batch_parts, split_text

pytestmark = pytest.mark.unit


def make_files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x" * len(name))


def test_names_are_paths_below_the_fixed_prefix_in_bytewise_order(tmp_path: Path) -> None:
    make_files(tmp_path, "a/b.txt", "a/B.txt", "a/é.txt", "a/sub/z.txt", "plain.txt")
    files = list_inputs([f"{tmp_path}/a/**/*.txt", f"{tmp_path}/plain.txt"])
    assert [(f.ordinal, f.name) for f in files] == [
        (0, "B.txt"), (1, "b.txt"), (2, "sub/z.txt"), (3, "é.txt"), (4, "plain.txt"),
    ]  # fmt: skip


@pytest.mark.parametrize("pattern", ["[[]a]/[*]/*.txt", "[[]a]/[*]/x[?].txt", "[a]/*/x?.txt"])
def test_signs_of_globs_in_folders_names(pattern: str, tmp_path: Path) -> None:
    make_files(tmp_path, "[a]/*/x?.txt")  # the last pattern is the file's own name
    assert [file.name for file in list_inputs([f"{tmp_path}/{pattern}"])] == ["x?.txt"]


def test_size_and_time_of_the_last_write(tmp_path: Path) -> None:
    make_files(tmp_path, "a.txt")
    os.utime(tmp_path / "a.txt", (0, 1_700_000_000))
    [file] = list_inputs([f"{tmp_path}/a.txt"])
    assert (file.bytes, file.modified) == (5, datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.timezone.utc))


def test_a_file_uri_names_what_its_path_names(tmp_path: Path) -> None:
    make_files(tmp_path, "with space/a.txt", "with space/b.txt")
    by_path = list(list_inputs([f"{tmp_path}/with space/*.txt"]))
    assert list(list_inputs([f"file://{tmp_path}/with%20space/*.txt"])) == by_path
    assert [file.name for file in by_path] == ["a.txt", "b.txt"]


@pytest.mark.parametrize("second", ["{root}/a.txt", "{root}/../{name}/a.txt", "file://{root}/a.txt"])
def test_a_file_matched_twice_is_refused(tmp_path: Path, second: str) -> None:
    make_files(tmp_path, "a.txt", "b.txt")
    with pytest.raises(InputError, match=r"matches .*a\.txt, as --input .*\*\.txt does; expected each file once"):
        list(list_inputs([f"{tmp_path}/*.txt", second.format(root=tmp_path, name=tmp_path.name)]))


def test_no_match_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match="no file matches, only folders"):
        list(list_inputs([f"{tmp_path}/*.txt"]))
    with pytest.raises(InputError, match="no file matches"):
        list(list_inputs([f"{tmp_path}/*.gz"]))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("sftp://me:secret@host/*.txt", r"--input sftp://\*\*\*@host/\*\.txt: found a name or password in the URI, "),
        ("nonsense://host/*.txt", r"--input nonsense://host/\*\.txt: cannot list it \(.+\)$"),
    ],
)
def test_uris_that_cannot_be_listed_are_refused_in_one_line(pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        list(list_inputs([pattern]))
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.txt", "wb"):
        pass
    with pytest.raises(InputError, match=r"found the file name '.*\\udcff\.txt', expected UTF-8"):
        list(list_inputs([f"{tmp_path}/*.txt"]))


def test_small_files_travel_together() -> None:
    sizes = [3 << 20, 3 << 20, 0, 9 << 20, *[0] * 200, 1]
    parts = [Part(InputFile(i, f"{i}", f"{i}", size)) for i, size in enumerate(sizes)]
    batches = list(batch_parts(parts))
    assert [part for batch in batches for part in batch] == parts
    # Empty files are not free: each must be opened.
    assert [len(batch) for batch in batches] == [3, 1, 128, 73]


@given(chunks=st.integers(0, 40), more=st.integers(0, 2), part=st.integers(1, 9), compressed=st.booleans())
def test_large_plain_text_is_split(
    tmp_path_factory: pytest.TempPathFactory, chunks: int, more: int, part: int, compressed: bool
) -> None:
    path = tmp_path_factory.mktemp("split") / "a.gz"  # the name says nothing
    path.write_bytes(gzip.compress(b"a") if compressed else b"text")
    file = InputFile(0, str(path), "a.gz", chunks * CHUNK_BYTES + more)
    parts = list(split_text(file, part * CHUNK_BYTES))
    if compressed or file.bytes <= part * CHUNK_BYTES:
        assert parts == [Part(file)]
        return
    assert [p.first for p in parts] == list(range(0, chunks + (more > 0), part))
    assert [p.end for p in parts] == [*(p.first for p in parts[1:]), None]
    assert sum(p.bytes for p in parts) == file.bytes


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.txt: found No such file or directory, expected a readable file"):
        list(split_text(InputFile(0, f"{tmp_path}/gone.txt", "gone.txt", 1 << 30)))


@pytest.mark.parametrize("count", [1, 5, 64, 8192, 20_001])
def test_shares_of_a_listing_are_all_of_it(count: int, tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    files = [InputFile(i, f"s3://bucket/{i}", f"{i}", i * i, now if i % 2 else None) for i in range(count)]
    with open(tmp_path / "listing.parquet", "wb") as sink:
        assert save_listing(files, sink) == (count, sum(file.bytes for file in files))
    uri = f"{tmp_path}/listing.parquet"
    read = [file for share in range(64) for file in read_share(uri, share)]
    assert read == [InputFile(f.ordinal, f.uri, f.name, f.bytes) for f in files]
    assert read_listing(uri)["uri"].to_pylist() == [file.uri for file in files]


def test_a_listing_that_is_gone_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"listing\.parquet: found No such file or directory, expected the list of"):
        list(read_share(f"{tmp_path}/listing.parquet", 0))
    (tmp_path / "listing.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"listing\.parquet: found .*Parquet.*, expected the list of") as error:
        read_listing(f"{tmp_path}/listing.parquet")
    assert "\n" not in str(error.value)


MARKERS = (
    "_SUCCESS", "_committed_123", "_started_123", "_metadata", "_common_metadata", "part-0.txt.crc", "Thumbs.db",
    "desktop.ini", "_delta_log/00000.json",
)  # fmt: skip


def test_files_that_are_not_data_are_passed_over(tmp_path: Path) -> None:
    make_files(tmp_path, *MARKERS, ".DS_Store", ".part-0.txt.crc", "part-0.txt", "_intro.txt")
    passed_over: list[str] = []
    found = list(list_inputs([f"{tmp_path}/**"], passed_over))
    assert [(file.ordinal, file.name) for file in found] == [(0, "_intro.txt"), (1, "part-0.txt")]
    assert sorted(passed_over) == sorted(f"{tmp_path}/{name}" for name in MARKERS)


def test_markers_above_the_glob_or_named_alone_are_read(tmp_path: Path) -> None:
    make_files(tmp_path, "_temporary/__MACOSX/a.txt", "_SUCCESS")
    assert [file.name for file in list_inputs([f"{tmp_path}/_temporary/__MACOSX/*"])] == ["a.txt"]
    assert [file.name for file in list_inputs([f"{tmp_path}/_SUCCESS"])] == ["_SUCCESS"]


def test_globs_that_match_no_data_say_what_they_match(tmp_path: Path) -> None:
    make_files(tmp_path, "a/_SUCCESS", "a/_metadata")
    with pytest.raises(InputError, match=r"no data, only files such as _SUCCESS"):
        list(list_inputs([f"{tmp_path}/a/*"]))
    with pytest.raises(InputError, match=r"only folders: .*/\*/\*\* is all"):
        list(list_inputs([f"{tmp_path}/*"]))
