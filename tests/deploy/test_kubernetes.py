"""The manifests, held against each other and the command lines that they run; tests/engines holds their schema."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.support.deploy_commands import KUBERNETES, command_of, manifests, objects, parse, pod_of

pytestmark = pytest.mark.unit

ALL = manifests()
PLACES = ALL["ConfigMap", "pairstream-places"]["data"]
WORKLOADS = {key: found for key, found in ALL.items() if key[0] in ("Deployment", "Job", "CronJob")}
PODS = {key: pod_of(found) for key, found in WORKLOADS.items()}
CONTAINERS = [(key, container) for key, pod in PODS.items() for container in pod["spec"]["containers"]]
NAMES = [f"{key[1]}/{container['name']}" for key, container in CONTAINERS]
SERVICES = {key[1]: found["spec"] for key, found in ALL.items() if key[0] == "Service"}


def container(kind: str, name: str, index: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = PODS[kind, name]["spec"]["containers"][index]
    return found


def words_of(kind: str, name: str) -> list[str]:
    return command_of(container(kind, name), {**PLACES, "NODE_RANK": "3"})


def flags_of(words: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def cores(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def test_these_are_all() -> None:
    assert sorted(name for _, name in WORKLOADS) == [
        "flink-jobmanager", "flink-jobserver", "flink-taskmanager", "pipeline", "retrain", "train",
    ]  # fmt: skip


@pytest.mark.parametrize(("key", "container"), CONTAINERS, ids=NAMES)
def test_containers_have_no_privileges(key: tuple[str, str], container: dict[str, Any]) -> None:
    spec, own = PODS[key]["spec"], container["securityContext"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert (own.get("runAsUser") or spec["securityContext"]["runAsUser"]) > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["serviceAccountName"] == "pairstream"
    assert spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize(("key", "container"), CONTAINERS, ids=NAMES)
def test_containers_have_a_share_of_the_machine_and_a_place_to_write(
    key: tuple[str, str], container: dict[str, Any]
) -> None:
    resources = container["resources"]
    assert cores(resources["requests"]["cpu"]) > 0
    assert resources["limits"]["memory"] == resources["requests"]["memory"]
    volumes = {volume["name"]: volume for volume in PODS[key]["spec"]["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert mounts["/tmp"]["emptyDir"]["sizeLimit"]
    for volume in volumes.values():
        assert "configMap" not in volume or ("ConfigMap", volume["configMap"]["name"]) in ALL


@pytest.mark.parametrize(("key", "container"), CONTAINERS, ids=NAMES)
def test_secrets_are_named_not_held(key: tuple[str, str], container: dict[str, Any]) -> None:
    assert not any("value" in variable for variable in container.get("env", []))
    for source in container.get("envFrom", []):
        name = source.get("configMapRef", source.get("secretRef"))["name"]
        assert ("ConfigMap", name) in ALL or source["secretRef"] == {"name": "pairstream-store", "optional": True}
    assert not [key for key in ALL if key[0] in ("Secret", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")]


@pytest.mark.parametrize("key", [key for key in PODS if key[0] == "Deployment"], ids=str)
def test_servers_are_watched(key: tuple[str, str]) -> None:
    for found in PODS[key]["spec"]["containers"]:
        ports = {port["name"] for port in found["ports"]}
        for probe in ("startupProbe", "livenessProbe"):
            [action] = [found[probe].get(kind) for kind in ("httpGet", "tcpSocket") if kind in found[probe]]
            assert action["port"] in ports


def test_services_reach_pods_of_theirs() -> None:
    for name, spec in SERVICES.items():
        [key] = [key for key, pod in PODS.items() if spec["selector"].items() <= pod["metadata"]["labels"].items()]
        listening = {p["containerPort"] for c in PODS[key]["spec"]["containers"] for p in c.get("ports", [])}
        assert {port["port"] for port in spec["ports"]} <= listening, name


def test_deployments_select_their_own_pods_and_the_wall_holds_all() -> None:
    wall = ALL["NetworkPolicy", "pairstream"]["spec"]
    for key, pod in PODS.items():
        labels = pod["metadata"]["labels"].items()
        assert wall["podSelector"]["matchLabels"].items() <= labels
        assert key[0] != "Deployment" or WORKLOADS[key]["spec"]["selector"]["matchLabels"].items() <= labels
    assert wall["policyTypes"] == ["Ingress"]


def test_images_are_the_ones_that_are_built_or_pinned() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", (KUBERNETES.parent / "images" / "Dockerfile").read_text(), re.M))
    tagged = {
        image["name"]
        for path in KUBERNETES.glob("*/kustomization.yaml")
        for image in objects(path)[0].get("images", [])
        if re.fullmatch(r"\d+\.\d+\.\d+", image["newTag"])
    }
    for _, found in CONTAINERS:
        name = found["image"]
        assert (name in tagged and name.removeprefix("pairstream/") in targets) or re.search(r":\d+\.\d+\.\d+", name)


def test_the_pipelines_command_parses_and_fits_the_cluster() -> None:
    words = words_of("Job", "pipeline")
    config = parse(words)
    flags = flags_of(words)
    assert config.input == (PLACES["INPUT"],)
    assert config.output == PLACES["DATA"]
    workers = WORKLOADS["Deployment", "flink-taskmanager"]["spec"]
    flink = yaml.safe_load(ALL["ConfigMap", "flink-config"]["data"]["config.yaml"])
    slots = flink["taskmanager"]["numberOfTaskSlots"]
    pool = container("Deployment", "flink-taskmanager", 1)
    assert int(flags["--parallelism"]) == workers["replicas"] * slots
    assert config.threads * slots == cores(pool["resources"]["requests"]["cpu"])
    assert pool["args"] == ["--worker_pool"]
    assert flags["--environment_config"] == f"localhost:{pool['ports'][0]['containerPort']}"
    for name in ("--job_endpoint", "--artifact_endpoint"):
        host, port = flags[name].split(":")
        assert int(port) in {found["port"] for found in SERVICES[host]["ports"]}


def test_flinks_addresses_are_its_services() -> None:
    config = yaml.safe_load(ALL["ConfigMap", "flink-config"]["data"]["config.yaml"])
    ports = {port["name"]: port["port"] for port in SERVICES[config["jobmanager"]["rpc"]["address"]]["ports"]}
    assert ports == {
        "rpc": config["jobmanager"]["rpc"]["port"],
        "blob": config["blob"]["server"]["port"],
        "rest": config["rest"]["port"],
    }
    server = flags_of(container("Deployment", "flink-jobserver")["args"])
    assert server["--flink-master"] == f"{config['rest']['address']}:{config['rest']['port']}"
    listening = {str(port["port"]) for port in SERVICES["flink-jobserver"]["ports"]}
    assert {server["--job-port"], server["--artifact-port"]} == listening


def test_the_training_job_is_one_world() -> None:
    job, words = WORKLOADS["Job", "train"]["spec"], words_of("Job", "train")
    flags, pod = flags_of(words), PODS["Job", "train"]["spec"]
    parsed = parse(words)
    assert parsed.data == PLACES["DATA"]
    assert job["completionMode"] == "Indexed"
    assert job["completions"] == job["parallelism"] == int(flags["--nnodes"])
    assert job["backoffLimit"] >= job["completions"]
    assert flags["--master-addr"] == f"train-0.{pod['subdomain']}"
    service = SERVICES[pod["subdomain"]]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    assert int(flags["--master-port"]) == service["ports"][0]["port"]
    assert parsed.threads == cores(container("Job", "train")["resources"]["requests"]["cpu"])
    [rank] = container("Job", "train")["env"]
    assert "job-completion-index" in rank["valueFrom"]["fieldRef"]["fieldPath"]
    assert pod["terminationGracePeriodSeconds"] >= 120


def test_the_gpu_patch_means_the_arguments_that_it_replaces() -> None:
    [overlay] = objects(KUBERNETES / "training-gpu" / "kustomization.yaml")
    arguments = container("Job", "train")["args"]
    tests = [op for op in yaml.safe_load(overlay["patches"][0]["patch"]) if op["op"] == "test"]
    assert [arguments[int(op["path"].rsplit("/", 1)[1])] for op in tests] == ["--device=cpu"]
    assert parse([*words_of("Job", "train")[:-2], "--device=cuda"]).device == "cuda"


@pytest.mark.parametrize("key", [("Job", "pipeline"), ("Job", "train"), ("CronJob", "retrain")], ids=str)
def test_jobs_do_not_repeat_what_cannot_get_better(key: tuple[str, str]) -> None:
    job = WORKLOADS[key]["spec"].get("jobTemplate", WORKLOADS[key])["spec"]
    assert PODS[key]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy asks for it
    rules = {rule["action"]: rule for rule in job["podFailurePolicy"]["rules"]}
    final = rules["FailJob"]["onExitCodes"]
    assert final["containerName"] == PODS[key]["spec"]["containers"][0]["name"]
    assert final["values"] == ([2, 3, 4] if key[1] == "retrain" else [2])
    assert rules["Ignore"]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]


def test_the_nightly_command_parses() -> None:
    cron = WORKLOADS["CronJob", "retrain"]["spec"]
    assert cron["concurrencyPolicy"] == "Forbid"
    words = words_of("CronJob", "retrain")
    assert words[:2] == ["pairstream", "retrain"]
    parsed = parse(words)
    assert parsed.data == PLACES["DATA"]
    assert parse(["pairstream", "pipeline", "--input=x", "--output=y", *parsed.pipeline_args.split()]).passes == 5
