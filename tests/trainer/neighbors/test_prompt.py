"""Queries line by line: from a pipe, and from a person at a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.vocabulary import make_vocabulary
from tests.support.paths import ROOT
from trainer.models.store import Model, save_model
from trainer.neighbors.prompt import parse_command

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "dumb", "PYTHONWARNINGS": "ignore"}
DEADLINE_S = 60
# Makes standard input the process's own terminal, so that Ctrl-C reaches it, and becomes the command.
# A shell's background jobs, and all that they start, would ignore Ctrl-C.
TAKE_TERMINAL = (
    "import fcntl, os, signal, sys, termios; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("interactive"))
    table = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0.2]], np.float32)
    vocabulary = make_vocabulary(["dog", "fox", "bread", "butter"], [9, 7, 5, 3])
    save_model(folder, Model(table, table, vocabulary, {"config": {}, "lineage": {}, "metrics": {}}), {})
    return folder


def command(model: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", "trainer", "neighbors", "--model", model, "--top", "1", *flags]


def piped(model: str, text: bytes, *flags: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(model, *flags), input=text, env=ENVIRONMENT, capture_output=True, check=False)


def test_a_pipe(model: str) -> None:
    done = piped(model, b"dog\n\n  dog - bread  \r\n", "--interactive")
    assert done.returncode == 0
    assert done.stdout.decode() == (
        "dog  (count 9; rank 1)\n  fox   0.9939  7  2\n\ndog - bread  (count 9 5; rank 1 3)\n  fox   0.6247  7  2\n\n"
    )
    assert done.stderr == b""


def test_a_pipe_with_unknown_words(model: str) -> None:
    done = piped(model, b"dogg\n\xff\nfox", "--interactive")
    assert done.returncode == 1
    assert done.stdout.decode().startswith("fox  (count 7; rank 2)\n  dog ")
    errors = done.stderr.decode().splitlines()
    assert errors == [
        "error: 'dogg' is not in the vocabulary. Did you mean: dog?",
        "error: '\\udcff' is not in the vocabulary.",
    ]


def test_one_object_a_line(model: str) -> None:
    done = piped(model, b"dog\ndogg\ndog - bread\ndog bread", "--interactive", "--json")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert done.stderr == b""
    assert [answer["word"] for answer in answers] == ["dog", "dogg", "dog - bread", "dog bread"]
    assert [("neighbors" in answer, "error" in answer) for answer in answers] == [
        (True, False), (False, True), (True, False), (False, True),
    ]  # fmt: skip
    assert answers[0]["vectors"] == "input"
    assert [near["token"] for near in answers[0]["neighbors"]] == ["fox"]
    assert "Did you mean: dog?" in answers[1]["error"]


def test_words_come_before_the_lines(model: str) -> None:
    done = piped(model, b"fox\n", "bread", "--interactive")
    assert [line.split()[0] for line in done.stdout.decode().splitlines() if line] == ["bread", "butter", "fox", "dog"]


def test_an_empty_pipe(model: str) -> None:
    assert (piped(model, b"", "--interactive").returncode, piped(model, b"", "--interactive").stdout) == (0, b"")
    done = piped(model, b"fox\n")  # not asked for: some words of the vocabulary, as ever
    assert done.stdout.count(b"(count") == 4


class Terminal:
    """A person's end of a terminal."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.raw = b""

    @property
    def seen(self) -> str:
        """What came and was not waited for yet; a read may end anywhere, also inside of a line's end."""
        return self.raw.replace(b"\r\n", b"\n").decode(errors="replace")

    def wait_for(self, text: str) -> str:
        """Read until some text is there; return what came before it."""
        while text not in self.seen:
            assert select.select([self.handle], [], [], DEADLINE_S)[0], f"{text!r} did not come after {self.seen!r}"
            self.raw += os.read(self.handle, 4096)
        before, _, rest = self.seen.partition(text)
        self.raw = rest.encode()
        return before

    def rest(self) -> str:
        """What else came, once the process has ended."""
        with contextlib.suppress(OSError):  # Linux's way to say that nobody is at the other end
            while data := os.read(self.handle, 4096):
                self.raw += data
        return self.seen

    def interrupt(self) -> None:
        """Press Ctrl-C until something comes: Python hears it only while it waits for a key."""
        for _ in range(DEADLINE_S):
            self.type("\x03")
            if select.select([self.handle], [], [], 1)[0]:
                return

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.handle, text.encode())


@contextlib.contextmanager
def terminal(words: list[str]) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=ENVIRONMENT,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(ours), process
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_a_person_at_a_terminal(model: str) -> None:
    pytest.importorskip("readline")  # some builds of Python lack it, and have a prompt without a history
    with terminal(command(model)) as (person, process):
        assert "Ctrl-D ends" in person.wait_for("> ")
        person.type("dog\n")
        assert "fox   0.9939  7  2" in person.wait_for("\n\n> ")
        person.type("dogg\n")
        assert "error: 'dogg' is not in the vocabulary. Did you mean: dog?" in person.wait_for("> ")
        person.type("half a line")
        person.wait_for("half a line")
        person.interrupt()
        assert "error" not in person.wait_for("> ")
        person.type("\x10\x10\n")  # back in the history, twice: dog
        assert "fox   0.9939  7  2" in person.wait_for("\n\n> ")
        person.type("\x04")
        assert process.wait(DEADLINE_S) == 0


def test_commands_at_the_prompt(model: str) -> None:
    with terminal(command(model)) as (person, process):
        assert ":help explains; :quit or Ctrl-D ends." in person.wait_for("> ")
        for asked in (":help", "help", "HELP"):
            person.type(f"{asked}\n")
            assert "the words nearest to it" in person.wait_for(":quit itself")
            person.wait_for("> ")
        person.type("+ :quit\n")
        assert "':quit' is not in the vocabulary." in person.wait_for("> ")
        person.type("exit\n")
        assert process.wait(DEADLINE_S) == 0


def test_a_word_of_the_vocabulary_is_no_command() -> None:
    words = {"help", "exit"}
    found = [
        parse_command(line, words.__contains__) for line in ("help", "quit", "exit", ":help", ":quit", ":x", "dog")
    ]
    assert found == [None, "quit", None, "help", "quit", None, None]


def test_a_known_command_word_is_looked_up(tmp_path: Path) -> None:
    table = np.eye(2, dtype=np.float32)
    vocabulary = make_vocabulary(["quit", "stop"], [2, 1])
    save_model(str(tmp_path), Model(table, table, vocabulary, {"config": {}, "lineage": {}, "metrics": {}}), {})
    with terminal(command(str(tmp_path))) as (person, process):
        person.wait_for("> ")
        person.type("quit\n")
        assert "stop" in person.wait_for("(quit is a word here; :help explains, :quit ends)")
        person.wait_for("> ")
        person.type(":quit\n")
        assert process.wait(DEADLINE_S) == 0


def test_every_line_of_a_pipe_is_a_query(model: str) -> None:
    done = piped(model, b":quit\nquit\nfox\n", "--interactive")
    assert done.returncode == 1
    assert [line.split()[1] for line in done.stderr.decode().splitlines()] == ["':quit'", "'quit'"]
    assert done.stdout.decode().startswith("fox  (count 7; rank 2)")


def test_a_person_who_gives_words_gets_no_prompt(model: str) -> None:
    with terminal(command(model, "dog")) as (person, process):
        person.wait_for("fox   0.9939  7\n")
        assert process.wait(DEADLINE_S) == 0
        assert "> " not in person.rest()
