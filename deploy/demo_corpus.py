"""A corpus that is already on the machine: the documentation strings of Python and of the installed packages.

    python deploy/demo_corpus.py OUT_DIR [--max-bytes 40000000] [--shards 8]

Source files are parsed, never imported. A paragraph of prose becomes a line; code, markup and repetitions are left
out. Lines are ordered by a digest of their content, so neither the order in which files are found nor the number of
processes has a say in the result, and every part of a shard is a fair mix of all packages.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import gzip
import hashlib
import inspect
import multiprocessing
import os
import re
import sys
import sysconfig
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Source files beyond these are not parsed, so that a large environment takes no longer than a small one.
MAX_SOURCE_BYTES = 120_000_000
_MAX_FILE_BYTES = 3_000_000

#: Packages with much prose come first where MAX_SOURCE_BYTES does not suffice for all; then the others by name.
_FIRST = ("numpy", "scipy", "torch", "sympy", "networkx", "pyarrow", "apache_beam", "numba", "gensim", "pandas")
#: Folders whose strings are data, generated, or copies of other packages.
_SKIPPED_FOLDERS = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "_vendor", "node_modules"}

_CHUNK_FILES = 40
_MIN_WORDS = 5
_MIN_LETTERS = 0.6  # of all characters but white space; less is a table or a formula

_WORD = re.compile(r"[^\W\d_]+")
_UNDERLINE = re.compile(r"\s*([-=~^*#\"+])\1{2,}\s*$")
_SECTION = re.compile(r"\s*\w+:\s*$")
_CODE_BLOCK = re.compile(r"\.\. (?:math|code|code-block|sourcecode|plot|ipython|testcode|doctest|image|figure|parsed)")
_DIRECTIVE = re.compile(r"\.\. (?:[\w-]+::|\[[^\]]*\])")
_INLINE = (
    (re.compile(r":math:`[^`]*`|\$[^$]*\$"), " "),
    (re.compile(r":[\w:+.-]+:`[~!]?([^`<]*)(?:<[^`]*)?`"), r" \1 "),
    (re.compile(r"\w+://\S+|\\[a-zA-Z]+|[`*|{}\ud800-\udfff]+"), " "),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True)
class Collected:
    """Paragraphs in order of their digests, and how many files they came from."""

    paragraphs: list[str]
    files: int
    skipped: int


def find_sources(roots: Sequence[str]) -> list[str]:
    """List Python files below folders, packages rich in prose first, then by path; tests are left out."""
    found: dict[str, tuple[int, str]] = {}
    for root in roots:
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
            for name in files:
                if name.endswith(".py") and not name.endswith(("_pb2.py", "_pb2_grpc.py")):
                    path = os.path.join(folder, name)
                    relative = os.path.relpath(path, root)
                    package = relative.split(os.sep)[0]
                    rank = _FIRST.index(package) if package in _FIRST else len(_FIRST)
                    found.setdefault(path, (rank, relative))
    return sorted(found, key=found.__getitem__)


def extract_strings(source: bytes) -> Iterator[str]:
    """Yield a module's documentation: strings that are statements, and those handed to functions like add_docstr.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: the source cannot be parsed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's invalid escapes
        tree = ast.parse(source)
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        # Statements are nowhere else; ast.walk, which enters every expression too, takes longer than the parser.
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            nodes += getattr(node, field, ())
        if isinstance(node, ast.Expr):
            values = [node.value, *(node.value.args if _documents(node.value) else [])]
            for value in values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value


def clean_paragraphs(text: str) -> Iterator[str]:
    """Yield the prose of a documentation string, a paragraph as one line.

    Left out: doctests, code and formula blocks, headings, markup, links, and what has hardly any words.
    """
    code_indent, fenced = None, False
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        first = block.lstrip("\n")
        indent = len(first) - len(first.lstrip())
        if code_indent is not None and indent > code_indent:
            continue
        code_indent = indent if block.rstrip().endswith("::") else None
        if _CODE_BLOCK.match(first.lstrip()):
            code_indent = indent
            continue
        lines = []
        for line in block.split("\n"):
            if line.lstrip().startswith("```"):
                fenced = not fenced
            elif not fenced:
                lines.append(line)
        paragraph = _clean_inline(_prose_lines(lines))
        if _is_prose(paragraph):
            yield paragraph


def read_paragraphs(paths: Sequence[str]) -> tuple[list[str], int]:
    """Return the paragraphs of some files, each once, and how many files could not be read or parsed."""
    paragraphs: dict[str, None] = {}
    skipped = 0
    for path in paths:
        try:
            source = Path(path).read_bytes()
            if b'"""' in source or b"'''" in source:
                for text in extract_strings(source):
                    paragraphs.update(dict.fromkeys(clean_paragraphs(text)))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            skipped += 1
    return list(paragraphs), skipped


def collect_corpus(roots: Sequence[str], max_bytes: int, processes: int = 0) -> Collected:
    """Gather the paragraphs of all source files below ``roots``.

    Args:
        roots: folders of packages.
        max_bytes: of text at most, line feeds counted.
        processes: that parse; 0 for one a core.
    """
    paths = _within_budget(find_sources(roots))
    chunks = [paths[i : i + _CHUNK_FILES] for i in range(0, len(paths), _CHUNK_FILES)]
    by_digest: dict[bytes, str] = {}
    skipped = 0
    for paragraphs, unread in _read_chunks(chunks, processes or os.cpu_count() or 1):
        skipped += unread
        for paragraph in paragraphs:
            by_digest[hashlib.blake2b(paragraph.encode("utf-8"), digest_size=16).digest()] = paragraph
    kept, size = [], 0
    for _, paragraph in sorted(by_digest.items()):
        size += len(paragraph.encode("utf-8")) + 1
        if size > max_bytes:
            break
        kept.append(paragraph)
    return Collected(kept, len(paths), skipped)


def write_corpus(paragraphs: Sequence[str], folder: str, shards: int) -> list[str]:
    """Write the paragraphs as .txt.gz files, none empty; files of an earlier run are removed. Return the new names."""
    shards = min(shards, len(paragraphs))
    names = [f"docs-{shard:05d}-of-{shards:05d}.txt.gz" for shard in range(shards)]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for old in Path(folder).glob("docs-*-of-*.txt.gz"):
        if old.name not in names:
            old.unlink()
    for shard, name in enumerate(names):
        text = "".join(f"{paragraph}\n" for paragraph in paragraphs[shard::shards])
        Path(folder, name).write_bytes(gzip.compress(text.encode("utf-8"), 6, mtime=0))
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    args = _make_parser().parse_args(argv)
    started = time.perf_counter()
    try:
        if args.max_bytes < 1 or args.shards < 1:
            raise ValueError(f"found --max-bytes {args.max_bytes} --shards {args.shards}, expected at least 1")
        roots = args.source or sorted({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
        collected = collect_corpus(roots, args.max_bytes)
        if not collected.paragraphs:
            raise ValueError(f"{', '.join(roots)}: found no documentation in Python files, expected some")
        names = write_corpus(collected.paragraphs, args.out, args.shards)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    words = sum(len(paragraph.split()) for paragraph in collected.paragraphs)
    print(
        f"wrote {len(collected.paragraphs):,} paragraphs, {words:,} words, to {len(names)} files in {args.out}; "
        f"read {collected.files:,} source files, {collected.skipped:,} of them not parsable, "
        f"in {time.perf_counter() - started:.1f} s",
        file=sys.stderr,
    )
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="demo_corpus.py",
        description="Write the documentation strings of the installed Python packages as a text corpus.",
        allow_abbrev=False,
    )
    parser.add_argument("out", metavar="OUT_DIR", help="the folder for the .txt.gz files")
    parser.add_argument("--max-bytes", type=int, default=40_000_000, help="of text, at most (%(default)s)")
    parser.add_argument("--shards", type=int, default=8, help="files to write (%(default)s)")
    parser.add_argument(
        "--source", action="append", metavar="DIR",
        help="a folder of Python files; by default the standard library and the installed packages",
    )  # fmt: skip
    return parser


def _read_chunks(chunks: Sequence[Sequence[str]], processes: int) -> Iterator[tuple[list[str], int]]:
    if min(processes, len(chunks)) < 2:
        yield from map(read_paragraphs, chunks)
        return
    # Spawned, since a fork of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(min(processes, len(chunks)), context) as pool:
        yield from pool.map(read_paragraphs, chunks)


def _documents(node: ast.expr) -> bool:
    """Tell whether an expression is a call such as add_docstr(…): how C functions get their documentation."""
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return "doc" in name.lower()


def _prose_lines(lines: Sequence[str]) -> str:
    kept: list[str] = []
    for line in lines:
        if line.lstrip().startswith((">>>", "...", "In [", "$ ")):
            break  # what a prompt prints follows it up to the next empty line
        if _UNDERLINE.match(line):
            kept = kept[:-1]
        elif not _SECTION.match(line):
            kept.append(_DIRECTIVE.sub(" ", line))
    return " ".join(kept)


def _clean_inline(text: str) -> str:
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return text.strip()


def _is_prose(text: str) -> bool:
    words = _WORD.findall(text)
    letters, characters = sum(map(len, words)), len(text) - text.count(" ")
    return len(words) >= _MIN_WORDS and letters >= _MIN_LETTERS * characters


def _within_budget(paths: Sequence[str]) -> list[str]:
    kept, total = [], 0
    for path in paths:
        try:
            size = os.path.getsize(path)
        except OSError:
            size = 0  # counted as skipped when it is read
        if size <= _MAX_FILE_BYTES:
            total += size
            if total > MAX_SOURCE_BYTES:
                break
            kept.append(path)
    return kept


if __name__ == "__main__":
    sys.exit(main())
