"""The pipeline Job's own command on Kubernetes, with what a pod has: a pool whose workers Beam's boot program starts.

Prism's job server stands for Flink's; boot, the pool and the locked packages are those of the image.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.dataset.reader import open_dataset
from tests.e2e.test_text_to_vectors import planted_text
from tests.engines import install, servers
from tests.support.deploy_commands import command_of, manifests, pod_of
from tests.support.paths import ROOT

pytestmark = pytest.mark.engines
BEAM = "v2.77.0"


def test_the_jobs_command_runs_on_a_worker_pool(tmp_path: Path) -> None:
    python = install.python_env("dataflow", ROOT / "deploy/images/pipeline.lock.txt")
    boot = install.go_tool("github.com/apache/beam/sdks/v2/python/container", BEAM)
    prism = install.go_tool("github.com/apache/beam/sdks/v2/go/cmd/prism", BEAM)
    (tmp_path / "text.txt").write_text(planted_text(2000))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "PATH": f"{python.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore",
        "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1",
    }  # fmt: skip
    [container] = pod_of(manifests()["Job", "pipeline"])["spec"]["containers"]
    words = command_of(container, {"INPUT": f"{tmp_path}/text.txt", "DATA": f"{tmp_path}/data"})
    jobs, pool = servers.free_port(), servers.free_port()
    local = {"--job_endpoint=flink-jobserver:8099": f"--job_endpoint=localhost:{jobs}",
             "--artifact_endpoint=flink-jobserver:8098": f"--artifact_endpoint=localhost:{jobs}",
             "--environment_config=localhost:50000": f"--environment_config=localhost:{pool}"}  # fmt: skip
    assert local.keys() < set(words)
    workers = [str(python), "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={pool}",
               f"--container_executable={boot}"]  # fmt: skip
    server = [str(prism), f"--job_port={jobs}", "--serve_http=false"]
    options = {"cwd": tmp_path, "env": environment}
    with (
        servers.started(server, tmp_path / "prism.log", lambda: servers.listens(jobs), **options),
        servers.started(workers, tmp_path / "pool.log", lambda: servers.listens(pool), **options),
    ):
        command = [str(python), "-m", *(local.get(word, word) for word in words), "--sample=0.05"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False
        )
    log = (tmp_path / "pool.log").read_text()
    assert done.returncode == 0, done.stderr + log[-3000:]
    again = subprocess.run(
        [str(python), "-m", "pipeline", f"--input={tmp_path}/text.txt", f"--output={tmp_path}/plain", "--passes=5",
         "--sample=0.05"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    found, plain = open_dataset(f"{tmp_path}/data"), open_dataset(f"{tmp_path}/plain")
    assert (found.passes, found.dataset_id) == (5, plain.dataset_id)
    assert f"Starting worker with command ['{boot}'" in log
