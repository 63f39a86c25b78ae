"""The manifests and units, held against the schemas and programs that will read them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.test_text_to_vectors import planted_text
from tests.engines import install, servers
from tests.support.deploy_commands import KUBERNETES, command_of, manifests, pod_of
from tests.support.paths import ROOT

pytestmark = pytest.mark.engines
FOLDERS = sorted(path.parent.name for path in KUBERNETES.glob("*/kustomization.yaml"))
#: Kubernetes as it is, and the oldest that is still run much: podFailurePolicy is stable since 1.31.
VERSIONS = ["1.37.0", "1.34.0", "1.31.0"]
SYSTEMD = ROOT / "deploy" / "systemd"


def validator() -> Path:
    """A program that carries the schemas of many versions of Kubernetes."""
    return install.python_env("kubernetes", ["kubernetes-validate==1.37.0"]).parent / "kubernetes-validate"


def call(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `kubectl apply -k` would send, a file a folder."""
    kustomize = install.go_tool("sigs.k8s.io/kustomize/kustomize/v5", "v5.5.0", "kustomize")
    place = tmp_path_factory.mktemp("built")
    for folder in FOLDERS:
        done = call(kustomize, "build", KUBERNETES / folder)
        assert done.returncode == 0, done.stderr
        (place / f"{folder}.yaml").write_text(done.stdout)
    return place


def test_these_are_the_folders() -> None:
    assert FOLDERS == ["base", "flink", "pipeline", "retrain", "training", "training-gpu"]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_them(version: str, built: Path) -> None:
    files = sorted(built.iterdir())
    done = call(validator(), "--strict", "--kubernetes-version", version, *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" passed for resource ") == sum(file.read_text().count("\nkind: ") for file in files)


def test_a_misspelt_field_is_found(built: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "job.yaml"
    wrong.write_text((built / "training.yaml").read_text().replace("completionMode", "completionsMode"))
    done = call(validator(), "--strict", wrong)
    assert done.returncode != 0
    assert "completionsMode" in done.stdout + done.stderr


def test_everything_is_in_the_namespace_and_of_a_version(built: Path) -> None:
    for file in built.iterdir():
        text = file.read_text()
        assert text.count("namespace: pairstream") == text.count("\nkind: ") - text.count("\nkind: Namespace")
        assert all(re.search(r":\d+\.\d+\.\d+", image) for image in re.findall(r"image: (\S+)", text)), file.name
    assert "pairstream/trainer-cuda:0.1.0" in (built / "training-gpu.yaml").read_text()


def units(place: Path, python: str) -> list[Path]:
    """Copies of the units that run a Python of this machine."""
    for path in SYSTEMD.glob("pairstream-retrain.*"):
        (place / path.name).write_text(path.read_text().replace("/opt/pairstream/bin/pairstream", python))
    return sorted(place.iterdir())


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    install.debian({"systemd-analyze": "systemd"})
    done = call("systemd-analyze", "verify", "--man=no", *units(tmp_path, sys.executable))
    assert (done.returncode, [line for line in done.stderr.splitlines() if "pairstream" in line]) == (0, [])
    wrong = tmp_path / "pairstream-retrain.service"
    wrong.write_text(wrong.read_text().replace("StateDirectory=", "StateDirectories="))
    assert "StateDirectories" in call("systemd-analyze", "verify", "--man=no", wrong).stderr


def test_the_unit_is_walled_in_and_its_time_comes(tmp_path: Path) -> None:
    install.debian({"systemd-analyze": "systemd"})
    [service, timer] = units(tmp_path, sys.executable)
    safe = call("systemd-analyze", "security", "--offline=true", "--threshold=20", service)
    assert safe.returncode == 0, safe.stdout[-2000:]
    [calendar] = re.findall(r"^OnCalendar=(.*)$", timer.read_text(), re.MULTILINE)
    assert "Next elapse:" in call("systemd-analyze", "calendar", calendar).stdout


def test_flink_takes_its_configuration(tmp_path: Path) -> None:
    """Flink's own reader works out a worker's memory and slots from the ConfigMap."""
    install.debian({"java": "openjdk-17-jre-headless"})
    python = install.python_env("flink", ["apache-flink-libraries==1.19.3"], no_dependencies=True)
    [flink] = python.parent.parent.glob("lib/python*/site-packages/pyflink")
    for name, content in manifests()["ConfigMap", "flink-config"]["data"].items():
        (tmp_path / name).write_text(content)
    tool = ["java", "-cp", f"{flink}/bin/bash-java-utils.jar:{flink}/lib/*",
            "org.apache.flink.runtime.util.bash.BashJavaUtils"]  # fmt: skip
    worker = call(*tool, "GET_TM_RESOURCE_PARAMS", "--configDir", tmp_path)
    assert worker.returncode == 0, worker.stdout + worker.stderr
    assert "taskmanager.numberOfTaskSlots=2" in worker.stdout
    assert "taskmanager.cpu.cores=2.0" in worker.stdout
    assert call(*tool, "GET_JM_RESOURCE_PARAMS", "--configDir", tmp_path).returncode == 0


def test_the_training_job_trains_in_as_many_processes_as_it_has_pods(tmp_path: Path) -> None:
    """The Job's own line, with two pods on loopback: only where they meet, what they read and how long is changed."""
    (tmp_path / "text.txt").write_text(planted_text(2000))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pipeline", f"--input={tmp_path}/text.txt", f"--output={tmp_path}/data"]
    subprocess.run([*command, "--sample=0.05"], env=environment, cwd=tmp_path, check=True)
    [container] = pod_of(manifests()["Job", "train"])["spec"]["containers"]
    places = {"DATA": f"{tmp_path}/data", "MODEL": f"{tmp_path}/model"}
    local = {"--nnodes=4": "--nnodes=2", "--threads=8": "--threads=1", "--master-addr=train-0.train":
             "--master-addr=127.0.0.1", "--master-port=29500": f"--master-port={servers.free_port()}"}  # fmt: skip
    running = []
    for rank in range(2):
        words = [
            local.pop(w, w) if rank else local.get(w, w)
            for w in command_of(container, {**places, "NODE_RANK": str(rank)})
        ]
        assert words[0] == "torchrun"
        command = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
        running.append(subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True))
    try:
        errors = [process.communicate(timeout=500)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert not local, "the Job's line has no longer what this test changes"
    assert [process.returncode for process in running] == [0, 0], errors
    assert (tmp_path / "model" / "LATEST.json").exists()
