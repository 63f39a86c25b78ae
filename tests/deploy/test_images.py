"""The images, held against the checkout: what they copy exists, what they install is locked, nothing runs as root."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.version import Version

from tests.support.paths import ROOT

pytestmark = pytest.mark.unit

DEPLOY = ROOT / "deploy"
DOCKERFILES = [DEPLOY / "images" / "Dockerfile", DEPLOY / "dataflow" / "Dockerfile"]
TARGETS = {"pipeline", "trainer-cpu", "trainer-cuda", "retrain"}
#: What of pyproject.toml each image installs.
EXTRAS = {
    "pipeline": ("pipeline", "s3", "gcs", "azure"),
    "trainer-cpu": ("trainer", "s3", "gcs", "azure"),
    "trainer-cuda": ("trainer", "s3", "gcs", "azure"),
    "retrain": ("pipeline", "trainer", "s3", "gcs", "azure"),
}


@dataclass
class Stage:
    """A stage of a Dockerfile: its base, and its instructions in order."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, kind: str) -> str | None:
        return next((words for step, words in reversed(self.steps) if step == kind), None)

    def copies(self, from_stage: bool) -> list[list[str]]:
        """The words of each COPY, out of the checkout or out of a stage or image."""
        words = [words.split() for step, words in self.steps if step == "COPY"]
        return [found for found in words if found[0].startswith("--from=") == from_stage]


def stages_of(path: Path) -> list[Stage]:
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    stages: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        step, words = line.split(maxsplit=1)
        if step == "FROM":
            base, _, name = words.partition(" AS ")
            stages.append(Stage(base, name))
        elif stages:
            stages[-1].steps.append((step, words))
    return stages


ALL = {path: stages_of(path) for path in DOCKERFILES}
IMAGES = {stage.name: stage for stage in ALL[DOCKERFILES[0]]}


def travels(path: str) -> bool:
    """Does .dockerignore let a path of the checkout through? The last pattern that matches decides."""
    allowed = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.lstrip("!")
        parents = ["/".join(path.split("/")[: n + 1]) for n in range(path.count("/") + 1)]
        if line and not line.startswith("#") and any(fnmatchcase(parent, pattern) for parent in parents):
            allowed = line.startswith("!")
    return allowed


def locked(name: str) -> dict[str, str]:
    text = (DEPLOY / "images" / f"{name}.lock.txt").read_text()
    return {plain(name): version for name, version in re.findall(r"^(\S+)==(\S+)", text, re.MULTILINE)}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints() -> dict[str, str]:
    lines = (ROOT / ".ci" / "constraints.txt").read_text().split()
    return {plain(name): version for name, version in (line.split("==") for line in lines)}


def test_every_file_that_is_copied_is_there_and_travels() -> None:
    found = [s for stages in ALL.values() for stage in stages for words in stage.copies(False) for s in words[:-1]]
    assert {"pipeline", "trainer", "pairstream.py", "pyproject.toml", "deploy/dataflow/main.py"} < set(found)
    assert [source for source in found if not (ROOT / source).exists()] == []
    assert [source for source in found if not travels(source)] == []
    assert not travels("tests")
    assert not travels(".git")
    assert not travels("deploy/README.md")


def test_every_stage_that_is_copied_from_comes_before() -> None:
    for stages in ALL.values():
        names: list[str] = []
        for stage in stages:
            for words in stage.copies(True):
                source = words[0].removeprefix("--from=")
                assert source in names or ":" in source, f"{stage.name}: COPY {' '.join(words)}"
            names.append(stage.name)


def test_every_foreign_image_is_pinned() -> None:
    foreign = set()
    for stages in ALL.values():
        own = {stage.name for stage in stages}
        sources = [words[0].removeprefix("--from=") for stage in stages for words in stage.copies(True)]
        foreign |= {name for name in [*(stage.base for stage in stages), *sources] if name not in own}
    assert len(foreign) == 4
    for name in foreign - {"${PIPELINE_IMAGE}"}:
        assert re.search(r"(@sha256:[0-9a-f]{64}|:\d[\w.]*\.\d+\.\d+|:\d{8}-rc\d+)$", name), name


def test_beams_parts_are_of_one_version() -> None:
    version = constraints()["apache-beam"]
    [boot] = [words for words in IMAGES["pipeline"].copies(True) if "beam" in words[0]]
    assert boot[0] == f"--from=apache/beam_python3.11_sdk:{version}"
    assert boot[1:] == ["/opt/apache/beam", "/opt/apache/beam"]
    assert ":3.11." in IMAGES["python"].base
    assert "python311" in ALL[DOCKERFILES[1]][0].base
    jobserver = (DEPLOY / "kubernetes" / "flink" / "jobserver.yaml").read_text()
    assert f"apache/beam_flink1.19_job_server:{version}" in jobserver


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_no_image_runs_as_root(target: str) -> None:
    stage = IMAGES[target]
    chain = [stage]
    while chain[-1].base in IMAGES:
        chain.append(IMAGES[chain[-1].base])
    user = next(user for user in (one.last("USER") for one in chain) if user)
    assert user == "10001:10001"


def test_the_only_image_of_root_is_dataflows_which_says_why() -> None:
    roots = [path for path, stages in ALL.items() if stages[-1].last("USER") in ("root", "0", "0:0")]
    assert roots == [DOCKERFILES[1]]
    assert "/var/log/dataflow" in DOCKERFILES[1].read_text()


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_every_entrypoint_is_a_command_that_the_image_has(target: str) -> None:
    stage = IMAGES[target]
    words = json.loads(str(stage.last("ENTRYPOINT")))
    environment = [copy for copy in stage.copies(True) if copy[1] == "/opt/pairstream"]
    assert environment == [[f"--from={target}-environment", "/opt/pairstream", "/opt/pairstream"]]
    scripts = re.findall(r"^([\w-]+) = \"\w[\w.]*:run\"$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert words in ([scripts[0]], ["/opt/apache/beam/boot"])


def test_dataflows_image_is_launcher_and_worker() -> None:
    """The worker starts by itself; the launcher lies where Dataflow looks for it, and finds its file."""
    final = ALL[DOCKERFILES[1]][-1]
    launcher = "/opt/google/dataflow/python_template_launcher"
    assert final.last("ENTRYPOINT") == IMAGES["pipeline"].last("ENTRYPOINT")
    assert ["--from=launcher", launcher, launcher] in final.copies(True)
    assert ["deploy/dataflow/main.py", "/template/main.py"] in final.copies(False)
    assert final.last("ENV") == "FLEX_TEMPLATE_PYTHON_PY_FILE=/template/main.py"


def test_installing_takes_what_is_locked_and_nothing_else() -> None:
    pips = [step for stage in IMAGES.values() for kind, words in stage.steps if kind == "RUN"
            for step in words.split("&&") if re.search(r"\bpip\b.* (install|wheel) ", step)]  # fmt: skip
    assert len(pips) >= 10
    assert all("--no-deps" in step for step in pips)
    unchecked = [step for step in pips if "--no-index" not in step and "--require-hashes" not in step]
    assert len(unchecked) == 2
    assert any(step.endswith(" .") for step in unchecked)  # our own wheel
    assert any("TORCH_INDEX_URL" in step for step in unchecked)
    used = set(re.findall(r"(\S+)\.lock\.txt", " ".join(words for s in IMAGES.values() for _, words in s.steps)))
    assert {name.rsplit("/", 1)[-1] for name in used} == TARGETS | {"build"}


@pytest.mark.parametrize("target", sorted(TARGETS | {"build"}))
def test_a_lock_agrees_with_what_is_tested(target: str) -> None:
    ours, theirs = locked(target), constraints()
    assert {name: version for name, version in ours.items() if theirs.get(name, version) != version} == {}


@pytest.mark.parametrize("target", sorted(TARGETS | {"build"}))
def test_a_lock_has_hashes_and_names_no_index(target: str) -> None:
    text = (DEPLOY / "images" / f"{target}.lock.txt").read_text()
    packages = re.findall(r"^\S.*\n(?: .*\n)*", text, re.MULTILINE)
    bare = [package for package in packages if not re.search(r"--hash=sha256:[0-9a-f]{64}$", package.strip())]
    assert [name.split("==")[0] for name in bare] == (["torch"] if target in ("trainer-cpu", "retrain") else [])
    assert "".join(packages) == text
    assert "://" not in text


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_a_lock_holds_all_that_the_product_asks_for(target: str) -> None:
    """From pyproject.toml on: each package whose like is installed here says what it needs; the lock has it."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    project = toml.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(line) for line in project["dependencies"]]
    wanted += [Requirement(line) for extra in EXTRAS[target] for line in project["optional-dependencies"][extra]]
    lock, seen, missing, looked_into = locked(target), set(), [], 0
    gpu = re.compile("nvidia-|cuda-|triton$")
    while wanted:
        requirement = wanted.pop()
        name = plain(requirement.name)
        if (target in ("trainer-cpu", "retrain") and gpu.match(name)) or not holds(requirement):
            continue
        if name not in lock or not requirement.specifier.contains(Version(lock[name]), prereleases=True):
            missing.append(str(requirement))
        for extra in ["", *requirement.extras]:
            if (name, extra) not in seen and installed_here(name, lock.get(name)):
                seen.add((name, extra))
                looked_into += 1
                wanted += needs(name, extra)
    assert missing == []
    assert looked_into > 15


def installed_here(name: str, version: str | None) -> bool:
    try:
        return importlib.metadata.version(name) == version
    except importlib.metadata.PackageNotFoundError:
        return False


def needs(name: str, extra: str) -> list[Requirement]:
    """What a package asks for, with an extra of it or without."""
    found = [Requirement(line) for line in importlib.metadata.requires(name) or []]
    return [one for one in found if holds(one, extra)]


def holds(requirement: Requirement, extra: str = "") -> bool:
    """Is it asked for on the images' system?"""
    environment = {**default_environment(), "python_version": "3.11", "python_full_version": "3.11.14", "extra": extra}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def test_cpu_images_have_no_cuda() -> None:
    assert not [name for name in locked("trainer-cpu") | locked("retrain") if re.match("nvidia|cuda|triton", name)]
    assert "triton" in locked("trainer-cuda")
