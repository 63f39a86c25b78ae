"""Every exported file, read back by whoever it is made for."""

from __future__ import annotations

import datetime
import json
import os
import stat
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from pipeline.common.flags import OneLineParser
from pipeline.dataset.schema import FormatError
from pipeline.dataset.vocabulary import make_vocabulary
from pipeline.storage import storage
from trainer.errors import UserError
from trainer.exporting import command
from trainer.exporting.command import FORMATS, export_model, parse_timestamp
from trainer.models.store import Model, save_model

TIME = datetime.datetime(2025, 1, 31, 4, 5, 6, tzinfo=datetime.timezone.utc)
Vectors = tuple[list[str], np.ndarray]


def make_model(rows: int = 300, dim: int = 7) -> Model:
    """Random bit patterns: numbers of all sizes, subnormal ones and both zeros too; not in order of frequency."""
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2**32, (2, rows, dim), dtype=np.uint32)
    bits[(bits & 0x7F800000) == 0x7F800000] ^= 0x40000000  # NaN and Inf become finite
    tables = bits.view(np.float32)
    tables[0, 0, :6] = [0.0, -0.0, 1e-45, 3.4028235e38, 0.1, 16777216]
    tokens = ["naïve", "日本", "λόγος", "don't", '"', "#", "a\u0301\u0323", *(f"w{i}" for i in range(rows - 7))]
    info = {"config": {}, "lineage": {}, "metrics": {}, "version": "v1"}
    return Model(tables[0], tables[1], make_vocabulary(tokens, rng.integers(1, 50, rows).tolist()), info)


def expected(model: Model) -> Vectors:
    counts = model.vocabulary.counts.tolist()
    order = sorted(range(len(counts)), key=lambda i: (-counts[i], i))
    return [model.vocabulary.token(i) for i in order], model.input_VD[order]


def require_equal(found: Vectors, model: Model) -> None:
    tokens, vectors = expected(model)
    assert found[0] == tokens
    # Bit for bit: −0.0 is not 0.0.
    np.testing.assert_array_equal(np.ascontiguousarray(found[1], np.float32).view(np.uint32), vectors.view(np.uint32))


def read_gensim(path: Path, binary: bool) -> Vectors:
    from gensim.models import KeyedVectors

    loaded = KeyedVectors.load_word2vec_format(str(path), binary=binary)
    return loaded.index_to_key, loaded.vectors


def read_lists(path: Path) -> Vectors:
    table = pq.read_table(path, columns=["token", "vector"])
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    return table["token"].to_pylist(), flat.reshape(table.num_rows, -1)


def read_tensors(path: Path) -> Vectors:
    tensors = load_file(path)
    offsets, data = tensors["token_offsets"], tensors["token_bytes"].tobytes()
    return [data[a:b].decode() for a, b in pairwise(offsets)], tensors["vectors"]


def read_projector(folder: Path) -> Vectors:
    heading, *rows = (folder / "metadata.tsv").read_text("utf-8").splitlines()
    assert heading == "token\tcount"
    lines = (folder / "vectors.tsv").read_text("utf-8").splitlines()
    return [row.split("\t")[0] for row in rows], np.array([line.split("\t") for line in lines], np.float32)


def read_text(path: Path) -> Vectors:
    heading, *lines = path.read_text("utf-8").split("\n")[:-1]
    parts = [line.split(" ") for line in lines]
    assert heading == f"{len(parts)} {len(parts[0]) - 1}"
    return [part[0] for part in parts], np.array([part[1:] for part in parts], np.float32)


def read_binary(path: Path) -> Vectors:
    """As word2vec.c's distance.c does: the token up to the space, the numbers, one character for the line's end."""
    data = path.read_bytes()
    rows, dim = map(int, data[: data.index(b"\n")].split())
    at, tokens, vectors = data.index(b"\n") + 1, [], []
    for _ in range(rows):
        space = data.index(b" ", at)
        tokens.append(data[at:space].decode())
        vectors.append(np.frombuffer(data, "<f4", dim, space + 1))
        at = space + 1 + 4 * dim + 1
        assert data[at - 1 : at] == b"\n"
    assert at == len(data)
    return tokens, np.array(vectors)


def read_fasttext(path: Path) -> Vectors:
    """As `Dictionary::load` and `DenseMatrix::load` do."""
    data = path.read_bytes()
    assert struct.unpack_from("<2i", data) == (793712314, 12)
    size, words, labels, _, pruned = struct.unpack_from("<3i2q", data, 64)
    assert (size, labels, pruned) == (words, 0, -1)
    at, tokens = 92, []
    for _ in range(size):
        end = data.index(b"\0", at)
        tokens.append(data[at:end].decode())
        assert data[end + 9] == 0
        at = end + 10
    rows, dim = struct.unpack_from("<x2q", data, at)
    assert len(data) == at + 2 * (17 + 4 * rows * dim)
    return tokens, np.frombuffer(data, "<f4", rows * dim, at + 17).reshape(rows, dim)


READERS: dict[str, Callable[[Path], Vectors]] = {
    "word2vec": read_text,
    "word2vec-bin": read_binary,
    "parquet": read_lists,
    "safetensors": read_tensors,
    "fasttext": read_fasttext,
    "projector": read_projector,
    "feast": read_lists,
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("block", [1, 50, 1 << 22])
def test_what_is_read_back_is_the_table(form: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.exporting.formats._BLOCK_VALUES", block)
    model = make_model()
    export_model(model, form, str(tmp_path / "new/out"), timestamp=TIME)
    require_equal(READERS[form](tmp_path / "new/out"), model)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # gensim's and its dependencies' own
@pytest.mark.parametrize("binary", [False, True])
def test_gensim_loads_word2vec_files(binary: bool, tmp_path: Path) -> None:
    model = make_model()
    export_model(model, "word2vec-bin" if binary else "word2vec", str(tmp_path / "out"))
    require_equal(read_gensim(tmp_path / "out", binary), model)


def test_parquet_columns(tmp_path: Path) -> None:
    model = make_model()
    export_model(model, "parquet", str(tmp_path / "out"))
    table = pq.read_table(tmp_path / "out")
    assert table.schema.names == ["token", "count", "vector"]
    assert [str(table.schema.field(i).type) for i in range(2)] == ["string", "int64"]
    assert table.schema.field("vector").type == pa.list_(pa.float32())
    assert table["count"].to_pylist() == sorted(model.vocabulary.counts.tolist(), reverse=True)


def test_feast_columns(tmp_path: Path) -> None:
    export_model(make_model(), "feast", str(tmp_path / "out"), timestamp=TIME)
    table = pq.read_table(tmp_path / "out")
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("token", "string"),
        ("event_timestamp", "timestamp[us, tz=UTC]"),
        ("vector", "list<element: float>"),
        ("count", "int64"),
        ("version", "string"),
    ]
    assert set(table["event_timestamp"].to_pylist()) == {TIME}
    assert table["count"].to_pylist() == sorted(make_model().vocabulary.counts.tolist(), reverse=True)
    assert set(table["version"].to_pylist()) == {"v1"}
    group = pq.ParquetFile(tmp_path / "out").metadata.row_group(0)
    statistics = {group.column(i).path_in_schema: group.column(i).statistics for i in range(5)}
    assert [name for name, found in statistics.items() if found] == ["event_timestamp"]
    assert (statistics["event_timestamp"].min, statistics["event_timestamp"].max) == (TIME, TIME)


def test_feast_folders_get_a_file_a_version(tmp_path: Path) -> None:
    model, folder = make_model(), tmp_path / "features"
    first = export_model(model, "feast", f"{folder}/", timestamp=TIME)
    assert first == f"{folder}/20250131T040506Z-v1.parquet"
    assert export_model(model, "feast", str(folder), timestamp=TIME) == first
    model.info["version"] = "v0"
    east = TIME.astimezone(datetime.timezone(datetime.timedelta(hours=9))) + datetime.timedelta(days=1)
    second = export_model(model, "feast", f"file://{folder}", timestamp=east)
    assert [path.name for path in sorted(folder.iterdir())] == [Path(first).name, "20250201T040506Z-v0.parquet"]
    assert second == f"file://{folder}/20250201T040506Z-v0.parquet"
    assert pq.read_table(folder)["version"].to_pylist() == ["v1"] * 300 + ["v0"] * 300


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_model_is_the_same_bytes(form: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_model(make_model(), form, str(tmp_path / name), timestamp=TIME)
    files = ["vectors.tsv", "metadata.tsv"] if form == "projector" else [""]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_average_of_both_tables(tmp_path: Path) -> None:
    model = make_model()
    model = Model(model.input_VD.clip(-9, 9), model.output_VD.clip(-9, 9), model.vocabulary, model.info)
    export_model(model, "parquet", str(tmp_path / "out"), "average")
    average = Model((model.input_VD + model.output_VD) / 2, model.output_VD, model.vocabulary, model.info)
    require_equal(read_lists(tmp_path / "out"), average)


SPACES = ["a b", " ", "\u00a0", "\u3000"]
BREAKS = ["", "a\tb", "a\nb", "a\r", "\x00", "a\u2028b", "\x0b", "\x85"]
REFUSED = {"word2vec": SPACES + BREAKS, "word2vec-bin": SPACES + BREAKS, "projector": BREAKS, "fasttext": ["", "\x00"]}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("token", SPACES + BREAKS)
def test_tokens_with_white_space_are_whole_or_refused(form: str, token: str, tmp_path: Path) -> None:
    table = np.ones((2, 3), np.float32)
    model = Model(table, table, make_vocabulary(["fine", token], [2, 1]), {"version": "v"})
    if token not in REFUSED.get(form, []):
        export_model(model, form, str(tmp_path / "out"), timestamp=TIME)
        require_equal(READERS[form](tmp_path / "out"), model)
        return
    with pytest.raises(FormatError) as caught:
        export_model(model, form, str(tmp_path / "out"), timestamp=TIME)
    assert f"found the token {token!r} (id 1)" in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_failed_export_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object, stream: IO[bytes]) -> None:
        stream.write(b"half")
        raise OSError("disk full")

    (tmp_path / "out").write_bytes(b"old")
    monkeypatch.setitem(command._FILE_WRITERS, "parquet", fail)
    with pytest.raises(OSError, match="disk full"):
        export_model(make_model(), "parquet", str(tmp_path / "out"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out": b"old"}


@pytest.mark.parametrize("form", FORMATS)
def test_files_have_the_permissions_of_any_file(form: str, tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        export_model(make_model(), form, str(tmp_path / "out"), timestamp=TIME)
    finally:
        os.umask(previous)
    written = [path for path in [tmp_path / "out", *tmp_path.rglob("*")] if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o640}


def test_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, uploads = make_model(), {}
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr("pipeline.storage.storage.write_bytes", lambda uri, data: uploads.update({uri: bytes(data)}))
    for to in (str(tmp_path / "out"), f"file://{tmp_path}/by-uri", "s3://bucket/folder/out"):
        export_model(model, "word2vec", to)
    written = (tmp_path / "out").read_bytes()
    assert (tmp_path / "by-uri").read_bytes() == written
    assert uploads == {"s3://bucket/folder/out": written}
    assert export_model(model, "feast", "s3://bucket/f/", timestamp=TIME) == "s3://bucket/f/20250131T040506Z-v1.parquet"
    assert uploads["s3://bucket/f/20250131T040506Z-v1.parquet"].startswith(b"PAR1")
    assert not list((tmp_path / "temporary").iterdir())


def test_wrong_places(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--to: found a folder"):
        export_model(make_model(), "parquet", str(tmp_path))
    for form, to in (("projector", "file"), ("parquet", "file/out")):
        with pytest.raises(UserError, match=r"--to: found a file at .*, expected a folder"):
            export_model(make_model(), form, str(tmp_path / to))
    with pytest.raises(OSError, match="out") as caught:
        export_model(make_model(), "parquet", "/proc/out")
    assert caught.value.filename == "/proc/out"
    with pytest.raises(UserError, match="--format: found 'onnx'"):
        export_model(make_model(), "onnx", str(tmp_path / "x"))
    with pytest.raises(UserError, match="--timestamp: found none"):
        export_model(make_model(), "feast", str(tmp_path / "x"))


def test_timestamps() -> None:
    assert parse_timestamp("2025-01-31T04:05:06Z") == TIME
    assert parse_timestamp("2025-01-31T04:05:06") == TIME
    assert parse_timestamp("2025-01-31T06:05:06+02:00") == TIME
    for text in ("yesterday", "", " ", "2025-13-01", "2025-01-31T04:05:06+99:00", "nan", "１９７０-01-01", "1e9"):
        with pytest.raises(UserError, match=r"--timestamp: found .* expected an ISO 8601 time"):
            parse_timestamp(text)
    for text in ("0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-00:01"):
        with pytest.raises(UserError, match=r"--timestamp: found .* expected a time from year 1 to 9999"):
            parse_timestamp(text)


def test_file_names_order_by_time_in_any_year(tmp_path: Path) -> None:
    times = [datetime.datetime(year, 1, 2, tzinfo=datetime.timezone.utc) for year in (1, 99, 1970, 9999)]
    names = [Path(export_model(make_model(9), "feast", f"{tmp_path}/f/", timestamp=time)).name for time in times]
    assert names == sorted(names)
    assert names[0] == "00010102T000000Z-v1.parquet"


def test_the_model_is_mapped_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    save_model(str(tmp_path / "m"), model, {})
    read = storage.read_bytes

    def refuse(uri: str) -> bytes:
        assert not uri.endswith(".safetensors")
        return read(uri)

    monkeypatch.setattr(storage, "read_bytes", refuse)
    for form in ("word2vec", "safetensors"):
        assert run("--model", str(tmp_path / "m"), "--to", str(tmp_path / form), "--format", form) == 0
        require_equal(READERS[form](tmp_path / form), model)


def run(*flags: str) -> int:
    parser = OneLineParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(flags))


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = make_model(), str(tmp_path / "out")
    version = save_model(str(tmp_path / "m"), model, {"published_at": TIME.isoformat()})
    flags = ("--model", str(tmp_path / "m"), "--to", out)
    assert run(*flags, "--format", "parquet", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result == {"to": out, "format": "parquet", "vectors": "input", "tokens": 300, "dim": 7}
    assert run(*flags, "--format", "feast", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["version"], result["timestamp"], result["to"]) == (version, TIME.isoformat(), out)
    assert run(*flags, "--format", "feast") == 0
    assert capsys.readouterr().out == f"wrote 300 tokens, 7 dimensions, input vectors, as feast to {out}\n"
    assert pq.read_table(out)["event_timestamp"][0].as_py() == TIME
    assert run(*flags, "--format", "feast", "--timestamp", "2020-01-01") == 0
    assert pq.read_table(out)["event_timestamp"][0].as_py().year == 2020
    with pytest.raises(UserError, match="expected only with --format feast"):
        run(*flags, "--format", "parquet", "--timestamp", "2020-01-01")
    model.info["metrics"] = {"loss": 1.0}
    for one in (version, save_model(str(tmp_path / "m"), model, {})):
        assert run(*flags, "--format", "feast", "--timestamp", "2020-01-01", "--version", one) == 0
        assert pq.read_table(out)["version"][0].as_py() == one
    with pytest.raises(FormatError, match=r"versions/v3/model\.json: found no file"):
        run(*flags, "--format", "parquet", "--version", "v3")
    for flags in (("--to", "", "--format", "parquet"), ("--to", out, "--format", "feast", "--timestamp", "")):
        with pytest.raises(SystemExit) as stop:
            run("--model", str(tmp_path / "m"), *flags)
        assert stop.value.code == 2
