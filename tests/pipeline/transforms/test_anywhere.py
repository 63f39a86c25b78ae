"""Equal bytes wherever and however it runs: locale, clock, folder, hash seed, blocks, and every runner there is."""

from __future__ import annotations

import gzip
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from apache_beam.runners.portability.prism_runner import PrismJobServer

from pipeline.dataset.reader import Dataset, open_dataset
from tests.pipeline.test_job import files_of, text_of
from tests.support.commands import expect_failure, in_child, make_old, words_of
from tests.support.paths import ROOT

FLAGS = ["--min-count", "2", "--passes", "2", "--shard-pairs", "3000", "--sample", "0.05"]

# In Turkish the lower case of "I" is "ı", of "İ" is "i"; str.lower, which knows no locale, gives "i" and "i̇".
TURKISH = "I ı İ i ISPARTA IĞDIR ığdır İSTANBUL istanbul I\u0307ZMI\u0307R DIŞ dış Ilık"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anywhere") / "corpus"
    folder.mkdir()
    for number in range(3):
        text = text_of(number) + f"{TURKISH}\n" * 30
        (folder / f"{number}ıİ.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "I.txt").write_text(text_of(7, 2000), encoding="utf-8")  # of several blocks
    return folder


def run(folder: Path, output: Path, *flags: str, before: str = "", **environment: str) -> Dataset:
    """Build a dataset in a process of its own, after some code."""
    code = f"import sys\n{before}\nfrom pipeline.cli import main\nsys.exit(main(sys.argv[1:]))"
    words = ["--input", f"{folder}/*", "--output", str(output), *FLAGS, *flags]
    command = [sys.executable, "-W", "ignore", "-c", code, *words]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON", "TZ"))}
    done = subprocess.run(
        command, env={**clean, "PYTHONPATH": str(ROOT), **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return open_dataset(str(output))


@pytest.fixture(scope="module")
def expected(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    environment = {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", "TZ": "UTC"}
    dataset = run(corpus, tmp_path_factory.mktemp("anywhere") / "out", **environment)
    vocabulary = dataset.vocabulary()
    counts = dict(zip(vocabulary.tokens, vocabulary.counts.tolist(), strict=True))
    words = [word.lower() for word in TURKISH.replace("I\u0307", "İ").split()]
    assert {word: counts[word] for word in words} == {word: 90 * words.count(word) for word in words}
    assert counts["i"] == counts["i̇"] * 2 == 180  # "I" and "i"; "İ"
    assert len(dataset.shards) > 4
    return files_of(dataset)


@pytest.mark.parametrize("seed", ["1", "4294967295"])
def test_hash_seeds(seed: str, corpus: Path, expected: dict[str, str], tmp_path: Path) -> None:
    assert files_of(run(corpus, tmp_path, PYTHONHASHSEED=seed)) == expected


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/St_Johns"])
def test_time_zones(zone: str, corpus: Path, expected: dict[str, str], tmp_path: Path) -> None:
    offset = {"Asia/Kathmandu": -20700, "America/St_Johns": 12600}[zone]
    before = f"import time; assert time.timezone == {offset}"
    assert files_of(run(corpus, tmp_path, before=before, TZ=zone)) == expected


def test_the_c_locale(corpus: Path, expected: dict[str, str], tmp_path: Path) -> None:
    before = "import locale; assert locale.setlocale(locale.LC_ALL, '') == 'C'"
    assert files_of(run(corpus, tmp_path, before=before, LC_ALL="C")) == expected


@pytest.fixture(scope="module")
def turkish(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environments with a Turkish locale, by its encoding, compiled from the system's own sources."""
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef") is None:
        pytest.skip("there is no localedef to compile the Turkish locale with")
    for charset in ("UTF-8", "ISO-8859-9"):
        command = ["localedef", "-i", "tr_TR", "-f", charset, str(folder / f"tr_TR.{charset}")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not (folder / f"tr_TR.{charset}").is_dir():
            pytest.skip(f"localedef makes no tr_TR.{charset} here: {done.stderr.strip()}")
    return {"LOCPATH": str(folder)}


IN_TURKEY = """
import ctypes, locale
assert locale.setlocale(locale.LC_ALL, "").startswith("tr_TR.")
assert chr(ctypes.CDLL(None).towupper(ord("i"))) == "\\u0130"
"""


def test_a_turkish_locale(corpus: Path, expected: dict[str, str], tmp_path: Path, turkish: dict[str, str]) -> None:
    dataset = run(corpus, tmp_path, before=IN_TURKEY, LC_ALL="tr_TR.UTF-8", **turkish)
    assert files_of(dataset) == expected


def test_a_turkish_locale_without_utf_8(
    corpus: Path, expected: dict[str, str], tmp_path: Path, turkish: dict[str, str]
) -> None:
    environment = {**turkish, "LC_ALL": "tr_TR.ISO-8859-9"}
    with pytest.raises(
        AssertionError, match=r"expected ASCII, for this locale's names are iso8859-9: set PYTHONUTF8=1"
    ):
        run(corpus, tmp_path, **environment)
    assert list(tmp_path.iterdir()) == []
    assert files_of(run(corpus, tmp_path, PYTHONUTF8="1", **environment)) == expected
    plain = tmp_path / "plain"
    plain.mkdir()
    shutil.copy(corpus / "0ıİ.gz", plain / "0.gz")
    here, there = run(plain, tmp_path / "here"), run(plain, tmp_path / "ığ", before=IN_TURKEY, **environment)
    assert files_of(here) == files_of(there)


def test_another_folder(corpus: Path, expected: dict[str, str], tmp_path: Path) -> None:
    elsewhere = shutil.copytree(corpus, tmp_path / "here and there" / "[ı]" / "x")
    os.utime(elsewhere / "I.txt", (0, 0))
    pattern = elsewhere.parent.parent / "[[]ı]" / "x"
    assert files_of(run(pattern, tmp_path / "out" / "'ö\n\"" / "data")) == expected


@pytest.mark.parametrize("size", ["4Ki", "64Ki", "1Mi"])
def test_read_sizes(size: str, corpus: Path, expected: dict[str, str], tmp_path: Path) -> None:
    assert files_of(run(corpus, tmp_path, "--read-block-bytes", size)) == expected


def prism() -> str:
    """The local runner Prism, as Beam keeps it or on the PATH; without it the test is skipped."""
    kept = Path(PrismJobServer.BIN_CACHE).glob("*prism*")
    name = f"{platform.system().lower()}-{platform.machine().lower()}"
    found = [str(path) for path in kept if path.suffix != ".zip" and os.access(path, os.X_OK)]
    binary = os.environ.get("PRISM") or shutil.which("prism") or next(iter(found), None)
    if binary is None:
        pytest.skip(f"no Prism for {name}: not in $PRISM, on the PATH, nor in {PrismJobServer.BIN_CACHE}")
    return binary


FN_API = "--runner=apache_beam.runners.portability.fn_api_runner.fn_runner.FnApiRunner"
RUNNERS = {
    "in process": [],
    "one thread": ["--threads=1"],
    "one worker": ["--direct_num_workers=1", "--direct_running_mode=multi_threading"],
    "two workers": ["--direct_num_workers=2", "--direct_running_mode=multi_threading"],
    "two processes": ["--direct_num_workers=2", "--direct_running_mode=multi_processing"],
    "FnApiRunner by name, through the shuffle": [FN_API],
    "Prism": ["--runner=PrismRunner"],
}


def flags_of(name: str) -> list[str]:
    return [*RUNNERS[name], *([f"--prism_location={prism()}"] if name == "Prism" else [])]


@pytest.mark.parametrize("name", list(RUNNERS)[1:])
def test_runners(name: str, corpus: Path, expected: dict[str, str], tmp_path: Path) -> None:
    assert files_of(run(corpus, tmp_path, *flags_of(name))) == expected


@pytest.mark.parametrize("name", RUNNERS)
def test_every_runner_fails_with_one_line(name: str, tmp_path: Path) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a.gz").write_bytes(gzip.compress(text_of(1).encode())[:-9])
    run = in_child(words_of(tmp_path, *flags_of(name)))

    def our_lines() -> tuple[int, str]:
        status, error = run()
        return status, "\n".join(line for line in error.splitlines() if line.startswith("error: "))

    has_own_logs = name in ("two processes", "Prism")  # of the worker processes; of connections that are cut at the end
    message = f"{tmp_path}/in/a.gz: found the end of the file inside gzip member 1"
    expect_failure(tmp_path, our_lines if has_own_logs else run, message)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--runner=Nonsense"],
            "--runner Nonsense: cannot run the job: Unexpected pipeline runner: Nonsense. ",
        ),
        (
            ["--runner=PrismRunner", "--prism_location=/no/prism"],
            "--runner PrismRunner: cannot run the job: ",
        ),
        (
            ["--runner=DataflowRunner"],
            "--runner DataflowRunner: cannot run the job: Pipeline has validations ",
        ),
    ],
    ids=["name", "binary", "options"],
)
def test_a_runner_that_cannot_be_started(flags: list[str], message: str, tmp_path: Path) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a.txt").write_text(text_of(1))
    expect_failure(tmp_path, in_child(words_of(tmp_path, *flags)), message)
