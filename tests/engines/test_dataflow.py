"""What Dataflow would be sent: the Flex Template's launcher and `--runner=DataflowRunner`, with Google's own client.

Google's store is fake-gcs-server, Dataflow's service and the token server are a stub on loopback that notes what it
gets. The graph that was staged then runs here, worker images replaced, and must give the bytes of a plain run.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.e2e.test_text_to_vectors import planted_text
from tests.engines import install, servers
from tests.engines.gcs_front import xml_front
from tests.support.paths import ROOT
from tests.support.serving import serving

pytestmark = pytest.mark.engines
IMAGE = "europe-west4-docker.pkg.dev/my-project/images/dataflow:0.1.0"
SHAPE = ["--input=gs://my-bucket/text/*.txt", "--passes=2", "--phrases=1", "--keep=3"]
WORKERS = [
    "--project=my-project", "--region=europe-west4", "--job_name=pairs", "--staging_location=gs://my-bucket/staging",
    "--temp_location=gs://my-bucket/temp", f"--sdk_container_image={IMAGE}", "--num_workers=2", "--max_num_workers=40",
    "--worker_machine_type=n2-standard-8", "--disk_size_gb=100", "--worker_disk_type=pd-ssd", "--no_use_public_ips",
    "--service_account_email=pairs@my-project.iam.gserviceaccount.com",
]  # fmt: skip
#: Reads a staged graph back; runs it in this process; prints what the test needs to know of it.
READ = """
import json, sys
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.transforms import environments
graph = api.Pipeline.FromString(open(sys.argv[1], "rb").read())
parts = graph.components
made_by = {p: t.unique_name for t in parts.transforms.values() if not t.subtransforms for p in t.outputs.values()}
sides, payloads = {}, {}
for t in parts.transforms.values():
    payloads[t.unique_name] = len(t.spec.payload)
    if t.spec.urn == "beam:transform:pardo:v1":
        body = api.ParDoPayload.FromString(t.spec.payload)
        sides[t.unique_name] = [(s.access_pattern.urn, made_by[t.inputs[tag]]) for tag, s in body.side_inputs.items()]
images = [api.DockerPayload.FromString(e.payload).container_image for e in parts.environments.values()]
steps = [parts.transforms[t].unique_name for r in graph.root_transform_ids for t in parts.transforms[r].subtransforms]
unbounded = [p.unique_name for p in parts.pcollections.values() if p.is_bounded == api.IsBounded.UNBOUNDED]
print(json.dumps({"steps": steps, "sides": sides, "payloads": payloads, "images": images, "unbounded": unbounded,
                  "bytes": graph.ByteSize()}))
"""
RUN = """
import sys
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.transforms.environments import EmbeddedPythonEnvironment
from pipeline.cli import _quieten_beam
graph = api.Pipeline.FromString(open(sys.argv[1], "rb").read())
here = EmbeddedPythonEnvironment().to_runner_api(None)
for environment in graph.components.environments.values():
    capabilities = list(environment.capabilities)
    environment.CopyFrom(here)
    environment.capabilities.extend(capabilities)
FnApiRunner().run_via_runner_api(graph, PipelineOptions([])).wait_until_finish()
"""


class Google(ThreadingHTTPServer):
    """Hands out tokens, takes jobs."""

    jobs: list[dict[str, Any]]


class Answer(BaseHTTPRequestHandler):
    server: Google

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        found: dict[str, Any] = {"access_token": "token", "expires_in": 3600, "token_type": "Bearer"}
        if "/jobs" in self.path:
            self.server.jobs.append({"path": self.path, "job": json.loads(body)})
            found = {"id": "job-1", "projectId": "my-project", "currentState": "JOB_STATE_PENDING"}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def google() -> Iterator[Google]:
    server = Google(("127.0.0.1", 0), Answer)
    server.jobs = []
    with serving(server):
        yield server


def account(path: Path, port: int) -> Path:
    """Write the key file of a service account that nobody knows."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    fields = {
        "type": "service_account",
        "client_email": "pairs@my-project.iam.gserviceaccount.com",
        "private_key": pem.decode(),
        "project_id": "my-project",
        "token_uri": f"http://localhost:{port}/token",
    }
    path.write_text(json.dumps(fields))
    return path


class Cloud:
    """A project with one bucket: its store, its service, and how to run something against both."""

    def __init__(self, folder: Path, store: str, service: Google) -> None:
        self.folder, self.store, self.service = folder, store, service
        self.port = service.server_address[1]
        self.python = install.python_env("dataflow", ROOT / "deploy/images/pipeline.lock.txt")
        self.graphs: dict[Path, dict[str, Any]] = {}
        key = account(folder / "key.json", self.port)
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore",
            "STORAGE_EMULATOR_HOST": store, "GOOGLE_APPLICATION_CREDENTIALS": str(key), "NO_GCE_CHECK": "true",
            "GOOGLE_CLOUD_PROJECT": "my-project",
        }  # fmt: skip

    def run(self, *words: str) -> str:
        command = [str(self.python), *words]
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    def read(self, name: str) -> bytes:
        address = f"{self.store}/storage/v1/b/my-bucket/o/{name.replace('/', '%2F')}?alt=media"
        with urllib.request.urlopen(address, timeout=30) as answer:
            data: bytes = answer.read()
        return data

    def names(self, prefix: str = "") -> list[str]:
        with urllib.request.urlopen(f"{self.store}/storage/v1/b/my-bucket/o?prefix={prefix}", timeout=30) as answer:
            return [item["name"] for item in json.load(answer).get("items", [])]

    def put(self, name: str, data: bytes) -> None:
        address = f"{self.store}/upload/storage/v1/b/my-bucket/o?uploadType=media&name={name}"
        urllib.request.urlopen(urllib.request.Request(address, data, method="POST"), timeout=30).close()

    def staged_graph(self, job: dict[str, Any]) -> Path:
        """Fetch the graph that a job names."""
        url = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
        path = self.folder / f"{url.replace('/', '-')}"
        path.write_bytes(self.read(url.removeprefix("gs://my-bucket/")))
        return path

    def graph(self, job: dict[str, Any]) -> dict[str, Any]:
        """Take the graph that a job names apart, once."""
        path = self.staged_graph(job)
        if path not in self.graphs:
            self.graphs[path] = json.loads(self.run("-c", READ, str(path)))
        return self.graphs[path]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    folder, port = tmp_path_factory.mktemp("cloud"), servers.free_port()
    program = install.go_tool("github.com/fsouza/fake-gcs-server", "v1.56.1")
    store = f"http://127.0.0.1:{port}"
    command = [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory",
               "-public-host", f"127.0.0.1:{port}", "-external-url", store]  # fmt: skip
    with (
        servers.started(command, folder / "store.log", lambda: servers.listens(port)),
        google() as service,
        xml_front(store) as front,
    ):
        bucket = urllib.request.Request(f"{store}/storage/v1/b?project=my-project", b'{"name": "my-bucket"}')
        bucket.add_header("Content-Type", "application/json")
        urllib.request.urlopen(bucket, timeout=30).close()
        found = Cloud(folder, front, service)
        text = planted_text(3000).encode()
        half = text.index(b"\n", len(text) // 2) + 1
        found.put("text/a.txt", text[:half])
        found.put("text/b.txt", text[half:])
        yield found


@pytest.fixture(scope="module")
def flex(cloud: Cloud) -> dict[str, Any]:
    """The job that the template's launcher leaves for Dataflow to start."""
    cloud.run(
        str(ROOT / "deploy/dataflow/main.py"), *SHAPE, "--output=gs://my-bucket/data", "--run_id=night-1",
        "--runner=DataflowRunner", *WORKERS, "--template_location=gs://my-bucket/template_launches/job_object",
    )  # fmt: skip
    job: dict[str, Any] = json.loads(cloud.read("template_launches/job_object"))
    return job


@pytest.fixture(scope="module")
def classic(cloud: Cloud) -> dict[str, Any]:
    """The job that `--runner=DataflowRunner` sends."""
    endpoint = f"--dataflow_endpoint=http://localhost:{cloud.port}"
    cloud.run(
        "-m", "pipeline", *SHAPE, "--output=gs://my-bucket/classic", "--no-wait", "--runner=DataflowRunner", *WORKERS,
        endpoint,
    )  # fmt: skip
    [sent] = cloud.service.jobs
    assert sent["path"].startswith("/v1b3/projects/my-project/locations/europe-west4/jobs")
    job: dict[str, Any] = sent["job"]
    return job


@pytest.mark.parametrize("kind", ["flex", "classic"])
def test_workers_are_what_the_flags_say(kind: str, request: pytest.FixtureRequest) -> None:
    job = request.getfixturevalue(kind)
    assert job["type"] in ("JOB_TYPE_BATCH", 1)
    assert job["name"] == "pairs"
    [pool] = job["environment"]["workerPools"]
    assert pool["numWorkers"] == 2
    assert pool["machineType"] == "n2-standard-8"
    assert pool["diskSizeGb"] == 100
    assert pool["diskType"] == "pd-ssd"
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 40
    assert pool["ipConfiguration"] in ("WORKER_IP_PRIVATE", 2)
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == [IMAGE]
    options = job["environment"]["sdkPipelineOptions"]["options"]
    assert options["streaming"] is False
    assert options["sdk_container_image"] == IMAGE
    assert job["environment"]["serviceAccountEmail"] == "pairs@my-project.iam.gserviceaccount.com"
    assert len(json.dumps(job)) < 1 << 18


@pytest.mark.parametrize("kind", ["flex", "classic"])
def test_no_code_travels_beside_the_image(kind: str, request: pytest.FixtureRequest) -> None:
    [pool] = request.getfixturevalue(kind)["environment"]["workerPools"]
    packages = [package["name"] for package in pool.get("packages", [])]
    assert [name for name in packages if not name.endswith("submission_environment_dependencies.txt")] == []


@pytest.mark.parametrize("kind", ["flex", "classic"])
def test_the_graph_is_small_and_whole(kind: str, cloud: Cloud, request: pytest.FixtureRequest) -> None:
    graph = cloud.graph(request.getfixturevalue(kind))
    steps = ["CountTokens", "MergeCounts", "WriteVocabulary", "PlanShards", "EncodeChunks", "WriteShards", "Publish",
             "RemoveOldRuns", "ReadListing", "SpreadChunks", "WriteDeadLetters"]  # fmt: skip
    assert set(steps) <= {step.split("/")[0] for step in graph["steps"]}
    assert set(graph["images"]) == {IMAGE}
    assert graph["unbounded"] == []
    assert graph["bytes"] < 1 << 20
    assert max(graph["payloads"].values()) < 1 << 17


def test_no_worker_is_handed_a_vocabulary(cloud: Cloud, flex: dict[str, Any]) -> None:
    """What the workers of text and shards share are names of files and the plan, one element each, never a map."""
    graph = cloud.graph(flex)
    sides = {name.split("/")[0]: found for name, found in graph["sides"].items() if found}
    assert {urn for found in sides.values() for urn, _ in found} == {"beam:side_input:iterable:v1"}
    makers = {name: sorted({maker.split("/")[0] for _, maker in found}) for name, found in sides.items()}
    assert makers["CountTokens"] == ["Phrases1"]
    assert makers["EncodeChunks"] == ["Phrases1", "PlanShards", "WriteVocabulary"]
    assert makers["WriteShards"] == ["PlanShards", "WriteVocabulary"]


def test_the_launcher_leaves_the_run_to_the_job(cloud: Cloud, flex: dict[str, Any]) -> None:
    assert flex
    assert cloud.names("data/") == ["data/runs/night-1/lease.json", "data/runs/night-1/listing.parquet"]


def test_what_was_staged_gives_the_bytes_of_a_plain_run(cloud: Cloud, flex: dict[str, Any]) -> None:
    cloud.run("-c", RUN, str(cloud.staged_graph(flex)))
    pointer = json.loads(cloud.read("data/LATEST.json"))
    assert pointer["run"] == "night-1"
    plain = cloud.run("-m", "pipeline", *SHAPE, "--output=gs://my-bucket/plain", "--json")
    assert json.loads(plain.splitlines()[-1])["dataset_id"] == pointer["manifest_sha256"]
    cloud.run("-m", "pipeline", "verify", "--output=gs://my-bucket/data")
    assert "data/runs/night-1/lease.json" not in cloud.names("data/")


def test_googles_own_type_reads_the_parameters(cloud: Cloud) -> None:
    code = """
import json, sys
from google.cloud.dataflow_v1beta3.types import TemplateMetadata
text = open(sys.argv[1]).read()
print(len(TemplateMetadata.from_json(text, ignore_unknown_fields=False).parameters))
"""
    path = ROOT / "deploy/dataflow/metadata.json"
    assert int(cloud.run("-c", code, str(path))) == len(json.loads(path.read_text())["parameters"])
