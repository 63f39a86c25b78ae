"""A glob matches what Python's matches, or says what it cannot look into."""

from __future__ import annotations

import glob
import os
import socket
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.storage.globs import match_files

pytestmark = pytest.mark.unit

FILES = ["w", ".v", "a/x", "a/b/y", "a/b/c/y", ".h/z", "a/.h/y", "[a]/*", "it's/new\nline", "a/é", "a/\udcff"]
PATTERNS = [
    "**", "**/*", "**/y", "**/b/**", "a/**", "a/**/*", "*", "*/", "**x", "./*", "a//x", ".*", ".*/*",
    "a/*/../x",    "[[]a]/[*]", "[ab]/*", "a/[x-y]", "?/?", "nope/*", "a/x/*", "w/x", "a/../**/y", "*/*/y",
    "it's/*", "w", "a", "", "**.",
]  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files, in the present folder."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_matches_what_pythons_does(pattern: str, tree: Path) -> None:
    for one in (pattern, f"{glob.escape(str(tree))}/{pattern}"):
        expected = {path for path in glob.glob(one, recursive=True) if os.path.isfile(path)}
        assert sorted(path for path, _ in match_files(one)) == sorted(expected)


def test_slashes_stay_as_they_are(tree: Path) -> None:
    assert sorted(path for path, _ in match_files(".//a//*")) == [
        ".//a//x",
        ".//a//é",
        ".//a//\udcff",
    ]  # Python's drops some


def test_a_name_with_signs_is_the_file_itself(tree: Path) -> None:
    (tree / "a?").touch()
    (tree / "ab").touch()
    assert [path for path, _ in match_files("a?")] == ["a?"]


def test_links_are_followed_but_not_in_circles(tree: Path) -> None:
    (tree / "elsewhere").symlink_to(tree / "a" / "b")
    assert {path for path, _ in match_files("elsewhere/**/y")} == {"elsewhere/y", "elsewhere/c/y"}
    (tree / "a" / "b" / "up").symlink_to(tree)
    with pytest.raises(InputError, match=r"^(a/b|elsewhere)/up(/a|/b|/elsewhere)*: symlink loop: "):
        list(match_files("**/y"))
    (tree / "it").symlink_to("it")
    with pytest.raises(InputError, match=r"^it: found Too many levels of symbolic links, expected a readable file"):
        list(match_files("i*"))


def test_a_deep_tree(tree: Path) -> None:
    deep = ""
    for _ in range(1500):
        deep += "d/"
        os.mkdir(deep)
    Path(deep, "y").touch()
    assert f"{deep}y" in {path for path, _ in match_files("**/y")}
    os.unlink(f"{deep}y")
    os.removedirs(deep)


def test_what_is_neither_file_nor_folder(tree: Path) -> None:
    os.mkfifo("fifo")
    with pytest.raises(InputError, match=r"^--input f\*: fifo is a FIFO, not a file$"):
        list(match_files("f*"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(InputError, match=r"socket is a socket, not a file$"):
            list(match_files("socket"))
    with pytest.raises(InputError, match=r"/dev/null is a device, not a file$"):
        list(match_files("/dev/null"))


def test_a_link_to_nothing_is_not_left_out(tree: Path) -> None:
    (tree / "gone").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"^gone: found No such file or directory, expected a readable file or folder"):
        list(match_files("*"))
