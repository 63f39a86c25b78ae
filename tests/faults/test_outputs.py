"""Where commands write: through pipes, devices and links; never onto what they read, nor half a file."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.cli import main as pipeline
from pipeline.common import outputs
from pipeline.common.outputs import OutputError, open_output, refuse_inputs, refuse_owned, write_output
from tests.trainer.exporting.test_formats import READERS, TIME, make_model, require_equal
from trainer.cli import main as trainer
from trainer.exporting.command import FORMATS, export_model
from trainer.models.store import save_model

FILES = [form for form in FORMATS if form != "projector"]


def read_all(path: Path, into: list[bytes]) -> threading.Thread:
    thread = threading.Thread(target=lambda: into.append(path.read_bytes()), daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("form", FILES)
def test_each_format_through_a_pipe(form: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    got: list[bytes] = []
    reader = read_all(tmp_path / "pipe", got)
    export_model(make_model(), form, str(tmp_path / "pipe"), timestamp=TIME)
    reader.join(timeout=60)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    (tmp_path / "copy").write_bytes(got[0])
    require_equal(READERS[form](tmp_path / "copy"), make_model())
    export_model(make_model(), form, str(tmp_path / "file"), timestamp=TIME)
    assert got[0] == (tmp_path / "file").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "file", "pipe"]


@pytest.mark.parametrize("form", FILES)
def test_a_device_stays_one(form: str, tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    for place in ("/dev/null", str(tmp_path / "null")):
        export_model(make_model(), form, place, timestamp=TIME)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match="No space left") as caught:
        export_model(make_model(), form, "/dev/full", timestamp=TIME)
    assert caught.value.filename == "/dev/full"


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "/proc/{pid}/fd/{}", "link"])
def test_an_open_file_is_written_where_it_stands(name: str, tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb", buffering=0) as stream:
        stream.write(b"before ")
        place = name.format(stream.fileno(), pid=os.getpid())
        if name == "link":
            place = str(tmp_path / "link")
            os.symlink(f"/dev/fd/{stream.fileno()}", place)
        write_output(place, b"new")
        stream.write(b" after")
    assert (tmp_path / "out").read_bytes() == b"before new after"


def test_links_stay_and_their_targets_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "old").write_bytes(b"old")
    (tmp_path / "sub" / "old").chmod(0o604)
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("sub/old")
    os.link(tmp_path / "sub" / "old", tmp_path / "hard")
    write_output(str(tmp_path / "one"), b"new")
    assert ((tmp_path / "sub" / "old").read_bytes(), (tmp_path / "hard").read_bytes()) == (b"new", b"old")
    assert (tmp_path / "one").is_symlink()
    assert (tmp_path / "two").is_symlink()
    assert stat.S_IMODE((tmp_path / "sub" / "old").stat().st_mode) == 0o604
    (tmp_path / "dangling").symlink_to("sub/made")
    write_output(str(tmp_path / "dangling"), b"made")
    assert (tmp_path / "sub" / "made").read_bytes() == b"made"
    assert sorted(path.name for path in (tmp_path / "sub").iterdir()) == ["made", "old"]


@pytest.fixture
def places(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """What cannot be written to, by the words of the error."""
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        yield {
            "Too many levels of symbolic links": tmp_path / "loop",
            "found a socket": tmp_path / "socket",
            "File name too long": tmp_path / ("x" * 300),
        }


def test_the_rest_is_refused_in_one_line(
    places: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(str(tmp_path / "m"), make_model(), {})
    before = sorted(tmp_path.iterdir())
    for words, place in places.items():
        assert trainer(["export", "--model", str(tmp_path / "m"), "--format", "word2vec", "--to", str(place)]) == 1
        line = capsys.readouterr().err
        assert line.startswith("error: ")
        assert line.count("\n") == 1
        assert words in line
        assert str(place) in line
    assert sorted(tmp_path.iterdir()) == before


def test_a_block_device_is_refused(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    except PermissionError:
        pytest.skip("only root may make a device")
    with pytest.raises(OutputError, match="found a block device"):
        write_output(str(tmp_path / "disk"), b"")


def test_a_file_that_may_not_be_written_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").write_bytes(b"old")
    monkeypatch.setattr(outputs.os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError):
        write_output(str(tmp_path / "out"), b"new")
    assert (tmp_path / "out").read_bytes() == b"old"


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")

    def write_half(number: int) -> None:
        with open_output(str(tmp_path / "out")) as stream:
            stream.write(b"half")
            raise OSError(number, os.strerror(number))

    for number in (errno.EIO, errno.EDQUOT, errno.ENOSPC):
        with pytest.raises(OSError, match="out") as caught:
            write_half(number)
        assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / "out"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out": b"old"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    (tmp_path / "disk").mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", f"{tmp_path}/disk"]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield tmp_path / "disk"
    subprocess.run(["umount", "--lazy", f"{tmp_path}/disk"], check=True)


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_one_line_that_names_the_file(
    form: str, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(str(tmp_path / "m"), make_model(2000, 50), {"published_at": TIME.isoformat()})
    to = small_disk / "out"
    assert trainer(["export", "--model", str(tmp_path / "m"), "--format", form, "--to", str(to)]) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith(f"error: {to}")
    assert "No space left on device" in line
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []


def write_text(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a.txt").write_text("the fox saw the dog near the house\n" * 20)
    return folder / "a.txt"


def same_name(text: Path) -> str:
    return str(text)


def relative(text: Path) -> str:
    return os.path.relpath(text)


def soft_link(text: Path) -> str:
    link = text.parent.parent / "page.html"
    link.symlink_to(text)
    return str(link)


def hard_link(text: Path) -> str:
    os.link(text, text.parent.parent / "page.html")
    return str(text.parent.parent / "page.html")


def by_another_folder(text: Path) -> str:
    (text.parent.parent / "other").symlink_to(text.parent)
    return str(text.parent.parent / "other" / "a.txt")


def not_there_yet(text: Path) -> str:
    return str(text.parent / "page.txt")


def as_a_uri(text: Path) -> str:
    return f"file://{text}"


@pytest.mark.parametrize(
    "place", [same_name, relative, soft_link, hard_link, by_another_folder, not_there_yet, as_a_uri]
)
@pytest.mark.parametrize("command", ["run", "list"])
def test_the_pipeline_does_not_write_onto_its_text(
    place: Callable[[Path], str], command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write_text(tmp_path / "in")
    before, target = text.read_bytes(), place(text)
    flag = "--report" if command == "run" else "--to"
    words = [command, "--input", f"{tmp_path}/in/*.txt", "--output", f"{tmp_path}/out", flag, target]
    assert pipeline(words) == 1
    line = capsys.readouterr().err
    assert line.startswith(f"error: {flag} {target}: --input {tmp_path}/in/*.txt reads it")
    assert line.count("\n") == 1
    assert text.read_bytes() == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pattern", ["in/**", "in/**/*.parquet", "in/*/LATEST.json"])
def test_an_output_among_the_inputs_is_refused(
    pattern: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text(tmp_path / "in")
    assert pipeline(["--input", f"{tmp_path}/{pattern}", "--output", f"{tmp_path}/in/out"]) == 1
    assert f"error: --output {tmp_path}/in/out: --input" in capsys.readouterr().err
    assert not (tmp_path / "in" / "out").exists()


def test_a_page_beside_the_text_is_fine(tmp_path: Path) -> None:
    write_text(tmp_path / "in")
    refuse_inputs("--report", f"{tmp_path}/in/page.html", [("--input", f"{tmp_path}/in/*.txt"), ("--vocab", "")])
    refuse_inputs("--report", "s3://b/in/page.html", [("--input", "s3://b/in/*.txt")])
    with pytest.raises(OutputError):
        refuse_inputs("--report", "s3://b/in/page.txt", [("--input", "s3://b/in/*.txt")])


def test_own_files_of_a_dataset_or_model(tmp_path: Path) -> None:
    version = save_model(str(tmp_path / "m"), make_model(), {})
    tables = tmp_path / "m" / "versions" / version / "model.safetensors"
    os.link(tables, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(tables)
    owned = [tables, tmp_path / "m/versions/new", tmp_path / "m/LATEST.json", tmp_path / "hard", tmp_path / "soft"]
    for place in owned:
        with pytest.raises(OutputError, match="found one of the own files of --model"):
            refuse_owned("--to", str(place), "--model", str(tmp_path / "m"), ("LATEST.json", "versions"))
    refuse_owned("--to", str(tmp_path / "m/vectors.txt"), "--model", str(tmp_path / "m"), ("LATEST.json", "versions"))


@pytest.mark.parametrize(
    "words",
    [
        ["export", "--format", "word2vec", "--to", "m/LATEST.json"],
        ["export", "--format", "safetensors", "--to", "m/versions/VERSION/model.safetensors"],
        ["export", "--format", "projector", "--to", "m/versions/VERSION"],
        ["report", "--to", "m/versions/VERSION/vocab.parquet"],
        ["report", "--similarity", "s.tsv", "--to", "s.tsv"],
        ["train", "--data", "d", "--similarity", "s.tsv", "--report", "s.tsv"],
        ["train", "--data", "d", "--report", "d/runs/page.html"],
        ["train", "--data", "d", "--config", "c.toml", "--report", "c.toml"],
        ["retrain", "--data", "d", "--input", "in/*", "--report", "in/page.html"],
        ["retrain", "--data", "d", "--input", "in/*", "--similarity", "s.tsv", "--report", "./s.tsv"],
    ],
)
def test_the_trainer_does_not_write_onto_what_it_reads(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    version = save_model("m", make_model(), {})
    words = [word.replace("VERSION", version) for word in words]
    Path("s.tsv").write_text("a b 1\nc d 2\ne f 3\n")
    Path("c.toml").write_text("dim = 5\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    status = trainer([words[0], "--model", "m", *words[1:]])
    line = capsys.readouterr().err
    assert (status, line.count("\n")) == (1, 1)
    assert line.startswith(("error: --to ", "error: --report "))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
