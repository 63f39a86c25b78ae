"""The embedded corpus: prose out of source files that are never run, the same on every run."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from deploy import demo_corpus
from deploy.demo_corpus import (
    clean_paragraphs,
    collect_corpus,
    extract_strings,
    find_sources,
    main,
    write_corpus,
)

pytestmark = pytest.mark.unit

MODULE = '''
"""Module text."""
raise SystemExit("this module was imported")

class A:
    """Class text."""
    field: int = 0
    """Field text."""

    async def method(self):
        """Method text."""
        "not a docstring, but a statement"
        return "no text"

if True:
    try:
        def inner():
            r"""Inner \\d text."""
    except E:
        """Handler text."""
    else:
        add_docstr(A.method, """Added text.""")
        numpy.add_newdoc("name", f("x"), "New text.", 3)
        print("""Printed text.""")

VALUE = """Assigned text."""
'''


def test_documentation_strings_are_extracted() -> None:
    found = [text for text in extract_strings(MODULE.encode()) if text.endswith("text.")]
    names = ["Module", "Class", "Field", "Method", "Inner \\d", "Handler", "Added", "New"]
    assert sorted(found) == sorted(f"{name} text." for name in names)


def test_invalid_escapes_do_not_warn() -> None:
    assert list(extract_strings(b'"""a \\d b"""')) == ["a \\d b"]


def test_prose_is_what_is_left() -> None:
    text = """
    Return the :class:`~numpy.ndarray` of `values`, see http://example.org/x?y or :func:`the mean <mean>`.
    It goes **on** here.

    Parameters
    ----------
    axis : int, optional
        The axis along which the values are sorted.

    >>> sort([3, 1, 2])  # this is a doctest and no prose at all
    [1, 2, 3] and what it prints

    An example of what follows in a block of code::

        the code of this block is not prose at all

        nor is the second part of this block any

    .. note:: Notes keep the words that they have.

    .. math::

        a formula with x and y and z

    This uses :math:`x^2 + y^2` and \\alpha as words.

    ```
    code between fences is not prose at all
    ```

    Too short.

    1 2 3 4 5 | 6 7 8 9 | a b c d e 10 11 12 13
    """
    assert list(clean_paragraphs(text)) == [
        "Return the numpy.ndarray of values , see or the mean . It goes on here.",
        "axis : int, optional The axis along which the values are sorted.",
        "An example of what follows in a block of code::",
        "Notes keep the words that they have.",
        "This uses and as words.",
    ]


def test_lone_surrogates_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('"""Words before a \\ud800 lone surrogate and after."""')
    assert collect_corpus([str(tmp_path)], 1000).paragraphs == ["Words before a lone surrogate and after."]


def make_packages(root: Path, count: int = 100) -> Path:
    for number in range(count):
        folder = root / f"package{number % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        text = f"The text of module number {number} is here.\n\nThe same text in all of them."
        (folder / f"m{number}.py").write_text(f'raise SystemExit\n"""\n{text}\n"""\n')
    return root


def test_every_paragraph_once(tmp_path: Path) -> None:
    found = collect_corpus([str(make_packages(tmp_path))], 10**6, processes=1)
    expected = {f"The text of module number {n} is here." for n in range(100)} | {"The same text in all of them."}
    assert len(found.paragraphs) == len(expected) == 101
    assert set(found.paragraphs) == expected
    assert (found.files, found.skipped) == (100, 0)


def test_the_number_of_processes_and_the_place_have_no_say(tmp_path: Path) -> None:
    first = collect_corpus([str(make_packages(tmp_path / "a"))], 3000, processes=1)
    second = collect_corpus([str(make_packages(tmp_path / "another/place"))], 3000, processes=2)
    assert first == second
    assert 2900 < sum(len(paragraph) + 1 for paragraph in first.paragraphs) <= 3000


def test_tests_and_caches_are_left_out_and_known_packages_come_first(tmp_path: Path) -> None:
    for name in ("a/x.py", "numpy/y.py", "torch/z.py", "a/tests/t.py", "a/__pycache__/c.py", "a/m_pb2.py", "a/n.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_sources([str(tmp_path), str(tmp_path)])
    assert [path.removeprefix(f"{tmp_path}/") for path in found] == ["numpy/y.py", "torch/z.py", "a/x.py"]


def test_a_budget_of_source_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(make_packages(tmp_path))
    monkeypatch.setattr(demo_corpus, "MAX_SOURCE_BYTES", 1000)
    assert 1 < collect_corpus([root], 10**6).files < 15


def test_unreadable_files_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_packages(tmp_path / "in", 3)
    bad = {"syntax": b'"""', "bytes": b'"""\xff"""', "null": b'"""\0"""', "deep": b'""""""\n' + b"(" * 100_000}
    for name, content in bad.items():
        (tmp_path / f"in/{name}.py").write_bytes(content)
    (tmp_path / "in/gone.py").symlink_to("nowhere")
    assert main([str(tmp_path / "out"), "--source", str(tmp_path / "in")]) == 0
    assert "read 8 source files, 5 of them not parsable" in capsys.readouterr().err


def test_shards_hold_all_and_none_is_empty(tmp_path: Path) -> None:
    lines = [f"line {number}" for number in range(10)]
    for shards, expected in ((20, 10), (3, 3), (3, 3)):
        names = write_corpus(lines, str(tmp_path), shards)
        assert sorted(path.name for path in tmp_path.iterdir()) == names
        assert len(names) == expected
        parts = [gzip.decompress((tmp_path / name).read_bytes()).decode().splitlines() for name in names]
        assert all(parts)
        assert sorted(line for part in parts for line in part) == lines


def test_the_same_command_is_the_same_bytes(tmp_path: Path) -> None:
    source = str(make_packages(tmp_path / "in"))
    for name in ("a", "b"):
        assert main([str(tmp_path / name), "--source", source, "--shards", "2"]) == 0
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("a", "b"))
    assert first == second
    assert sorted(first) == ["docs-00000-of-00002.txt.gz", "docs-00001-of-00002.txt.gz"]


@pytest.mark.parametrize("flags", [("--shards", "0"), ("--max-bytes", "0"), ()])
def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "out"), "--source", str(tmp_path / "empty"), *flags]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
