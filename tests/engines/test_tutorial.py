"""docs/tutorial.md, as a newcomer follows it: all of its blocks, in order, in an empty folder.

The environments that it makes are those of this machine, put in place: what pip would install is compared only.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines import install
from tests.engines.documents import Block, read_blocks
from tests.engines.feast_stores import FEAST
from tests.support.paths import ROOT
from trainer.models.store import load_model

pytestmark = pytest.mark.engines
EXTRAS = {"words-env": {"pipeline", "trainer"}, "feast-env": {"feast"}}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[Block, str]]]:
    """Run the blocks; return the folder and what each printed."""
    folder = tmp_path_factory.mktemp("tutorial")
    environments = {"words-env": Path(sys.prefix), "feast-env": install.python_env("feast", FEAST).parents[1]}
    exports, printed = [], []
    for block in read_blocks("docs/tutorial.md"):
        lines = block.code.splitlines()
        if block.heading == "1. Install":
            lines = [prepared(line, environments) for line in lines]
        if block.language == "sh":
            printed.append((block, run(folder, ["bash", "-euo", "pipefail", "-c", "\n".join([*exports, *lines])])))
            exports += [line for line in lines if line.startswith("export ")]
        elif block.language == "python":
            printed.append((block, run(folder, ["feast-env/bin/python", "-c", block.code])))
        else:
            assert block.language == "text"
    return folder, printed


def prepared(line: str, environments: dict[str, Path]) -> str:
    """Return what a line of the installation amounts to here."""
    if line.startswith("export PAIRSTREAM="):
        return f"export PAIRSTREAM='{ROOT}'"
    if made := re.fullmatch(r"python3 -m venv ([\w-]+)", line):
        return f"ln -s '{environments[made[1]]}' {made[1]}"
    installed = re.fullmatch(r'([\w-]+)/bin/pip install "\$\{PAIRSTREAM\}\[([\w,]+)\]"', line)
    assert installed, f"the tutorial installs in a way that this test does not know: {line}"
    assert set(installed[2].split(",")) == EXTRAS[installed[1]]
    return f"test -x {installed[1]}/bin/python"


def run(folder: Path, command: list[str]) -> str:
    """Run a command in the folder; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    environment = {name: value for name, value in environment.items() if not name.startswith(("PAIRSTREAM", "FEAST_"))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_newcomer_gets_to_a_lookup(ran: tuple[Path, list[tuple[Block, str]]]) -> None:
    folder, printed = ran
    [output] = [output for block, output in printed if block.heading == "6. Look up"]
    lines = output.splitlines()
    assert len(lines) == 3
    for line, word in zip(lines, ("thread", "file"), strict=False):
        count, vector = features(folder, first_version(folder), word)
        assert line == f"{word} {count} {first_version(folder)} {vector}"
    assert lines[2] == "qwertyuiop None None None"


def test_the_second_version_replaces_the_first(ran: tuple[Path, list[tuple[Block, str]]]) -> None:
    folder, printed = ran
    newest = str(load_model(str(folder / "model")).info["version"])
    assert newest != first_version(folder)
    vectors = [features(folder, newest, word)[1] for word in ("thread", "ndarray")]
    assert printed[-1][1] == f"{[newest, newest]} {vectors}\n"
    assert vectors[0] != features(folder, first_version(folder), "thread")[1]
    assert len(list((folder / "features").iterdir())) == 2


def first_version(folder: Path) -> str:
    """Return the older of the two versions: their files are named by time."""
    return min((folder / "features").iterdir()).stem.split("-", 1)[1]


def features(folder: Path, version: str, word: str) -> tuple[int, list[float]]:
    """Return a word's count in a version, and the first three numbers of its vector."""
    model = load_model(str(folder / "model"), version)
    row = model.vocabulary.id_of(word)
    assert row is not None
    return int(model.vocabulary.counts[row]), [float(value) for value in model.input_VD[row, :3]]


def test_the_steps_print_what_the_page_shows(ran: tuple[Path, list[tuple[Block, str]]]) -> None:
    by_heading = {block.heading: output for block, output in ran[1]}
    assert list(by_heading) == [
        "1. Install", "2. Text", "3. Text to pairs", "4. Pairs to vectors", "5. Vectors to features", "6. Look up",
        "7. More text, a new version",
    ]  # fmt: skip
    shown = {block.heading: block.code for block in read_blocks("docs/tutorial.md") if block.language == "text"}
    for heading in ("3. Text to pairs", "4. Pairs to vectors", "6. Look up"):
        # The same words, whatever the numbers: those are of the Python that is documented.
        for line in shown[heading].splitlines():
            if first := re.match(r"(\s{0,2}[a-z]+ )", line) if heading.startswith("3") else re.match(r"(\w+ )", line):
                assert first[1] in by_heading[heading], line


def test_the_extra_is_what_was_tested() -> None:
    extra = re.search(r'^feast = \["feast>=([\d.]+)"\]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert extra
    assert FEAST[0].endswith(f"=={extra[1]}.0")
