"""Texts are known by their content, whatever their files are called; files are opened only where that matters."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline import job
from pipeline.cli import main
from pipeline.config import Config
from pipeline.dataset.reader import open_dataset
from pipeline.inputs import text_digests
from pipeline.inputs.discover import InputFile, list_inputs
from pipeline.inputs.text_digests import Text, digest_text, find_texts
from pipeline.storage.storage import RealPaths

TEXT = b"the cat saw the dog\n" * 200_000  # several chunks
PACKED = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.ZstdCompressor().compress}


def looked_at(files: list[InputFile], known: dict[Any, Text], config: Config, patch: pytest.MonkeyPatch) -> set[str]:
    """Names of the files that are read as a whole."""
    names = set[str]()

    def digest(file: InputFile, config: Config) -> Text:
        names.add(file.name)
        return digest_text(file, config)

    patch.setattr(text_digests, "digest_text", digest)
    real = RealPaths()
    find_texts(files, [real.of(file.uri) for file in files], known, config)
    return names


def test_a_digest_is_the_datasets_in_any_compression(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(TEXT)
    (tmp_path / "in" / "b.txt").write_bytes(b"\xef\xbb\xbf" + TEXT)
    for ending, compress in PACKED.items():
        (tmp_path / "in" / f"c.txt.{ending}").write_bytes(compress(TEXT))
    config = Config((f"{tmp_path}/in/*",), str(tmp_path / "out"), min_count=1, sample=0.0)
    files = list(list_inputs(config.input))
    found = find_texts(files, [file.uri for file in files], {}, config)
    made = pq.read_table(open_dataset(config.output, job.run_job(config, ()).run_id).path_of("inputs.parquet"))
    assert [text.digest for text in found] == made["digest"].to_pylist()
    assert [text.bytes for text in found] == made["bytes"].to_pylist()
    assert len(set(found)) == 1


def test_only_what_may_be_equal_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "one": "a b\n",
        "two": "a b c\n",
        "same": "b a c\n",
        "known": "old text\n",
        "bom": "\ufeffo\n",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(b"abc d\n\n"))
    config = Config((f"{tmp_path}/*",), "out")
    files = list(list_inputs(config.input))
    assert looked_at(files, {}, config, monkeypatch) == {"two", "same", "packed.gz"}
    known = {(file.uri, file.bytes, file.modified): Text("d", 4) for file in files if file.name == "known"}
    assert looked_at(files, known, config, monkeypatch) == {"one", "two", "same", "packed.gz"}  # one is of 4 bytes, too
    known = {stamp: Text("d", None) for stamp in known}  # of a model that an earlier version made
    assert looked_at(files, known, config, monkeypatch) == {file.name for file in files} - {"known"}


@pytest.mark.parametrize(("settings", "line"), [
    ({"input_format": "jsonl"}, '{"text": "a"}'), ({"encoding": "latin-1"}, "caf\xe9"), ({"encoding": "utf-16-le"}, "a")
])  # fmt: skip
def test_a_size_that_does_not_tell_the_texts_length_is_not_trusted(
    settings: dict[str, Any], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, count in (("one", 1), ("two", 2)):
        (tmp_path / name).write_bytes(f"{line}\n".encode(settings.get("encoding", "utf-8")) * count)
    config = Config((f"{tmp_path}/*",), "out", **settings)
    assert looked_at(list(list_inputs(config.input)), {}, config, monkeypatch) == {"one", "two"}


def test_the_list_names_links_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(b"a b\n")
    (tmp_path / "in" / "b.txt").symlink_to("a.txt")
    os.link(tmp_path / "in" / "a.txt", tmp_path / "in" / "c.txt")
    (tmp_path / "in" / "d.txt").touch()
    shutil.copy(tmp_path / "in" / "d.txt", tmp_path / "elsewhere.txt")
    known = {"uri": [], "bytes": [], "modified": [], "digest": [], "text_bytes": []}
    pq.write_table(text_digests.pa.table(known), tmp_path / "known.parquet")
    words = ["list", "--input", f"{tmp_path}/in/*", "--output", f"{tmp_path}/out", "--to", f"{tmp_path}/list"]
    assert main(words) == 1  # a run would count the text twice
    assert "expected each file once" in capsys.readouterr().err
    assert main([*words, "--known", f"{tmp_path}/known.parquet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["twice"] == [[f"{tmp_path}/in/b.txt", f"{tmp_path}/in/a.txt"]]
    listed = pq.read_table(tmp_path / "list").to_pylist()
    assert [row["name"] for row in listed] == ["a.txt", "c.txt", "d.txt"]
    assert listed[0]["digest"] == listed[1]["digest"]
    assert listed[2]["digest"] == ""
