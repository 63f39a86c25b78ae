"""The DAG of deploy/airflow in a real Airflow: what each exit status of the command becomes there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_nights import planted
from tests.e2e.test_text_to_vectors import TOPICS
from tests.engines.install import python_env, run
from tests.support.paths import ROOT

pytestmark = pytest.mark.engines
DAGS = ROOT / "deploy" / "airflow"
#: Runs the DAG as `airflow dags test` does, once for each line of its input, and prints the states of its tasks.
DRIVER = """
import datetime, importlib.util, json, sys
spec = importlib.util.spec_from_file_location("nightly", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for task in module.nightly.tasks:
    assert task.retries == 3
    task.retry_delay = datetime.timedelta(0)
assert module.nightly.max_active_runs == 1
for line in sys.stdin:
    conf = json.loads(line)
    if "timeout_s" in conf:
        task = module.nightly.get_task("retrain")
        task.retries, task.execution_timeout = 0, datetime.timedelta(seconds=conf.pop("timeout_s"))
    done = module.nightly.test(run_conf=conf)
    states = {one.task_id: [str(one.state), one.try_number] for one in done.get_task_instances()}
    with open(sys.argv[2], "a") as out:
        out.write(json.dumps(states) + "\\n")
"""
#: Stands for `python`: its first call ends with the first status it was given, and so on.
FAKE = """#!/bin/sh
status=$(head -n 1 "$0.statuses"); sed -i 1d "$0.statuses"
echo "error: found status $status" >&2
echo '{"status": "nothing new", "version": "v", "model": "m", "about": "nothing"}'
exit "$status"
"""


SLOW = """#!/bin/sh
trap 'touch "$0.ended"; exit 143' TERM
while true; do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def airflow() -> Path:
    """Airflow's Python."""
    return python_env("airflow", (ROOT / "tests/engines/airflow.txt").read_text().split())


def fake(folder: Path, name: str, *statuses: int) -> str:
    (folder / f"{name}.statuses").write_text("".join(f"{status}\n" for status in statuses))
    (folder / name).write_text(FAKE)
    (folder / name).chmod(0o755)
    return str(folder / name)


def run_dag(airflow: Path, home: Path, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    environment = {
        **os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    run([str(airflow.with_name("airflow")), "db", "migrate"], env=environment)
    states = home / "states"
    command = [str(airflow), "-c", DRIVER, str(DAGS / "pairstream_nightly.py"), str(states)]
    lines = "".join(json.dumps(one) + "\n" for one in runs)
    done = subprocess.run(command, input=lines, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return [json.loads(line) for line in states.read_text().splitlines()]


def test_every_status_of_the_command_becomes_a_state(airflow: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    (text / "1.txt").write_text(planted(1500, TOPICS, 11))
    config = (DAGS / "retrain.toml").read_text()
    for old, new in (("/corpus/*.txt.gz", f"{text}/*"), ("/srv/pairstream", str(tmp_path)), ("epochs = 5", "dim = 16")):
        assert old in config
        config = config.replace(old, new)
    (tmp_path / "pairs.tsv").write_text("fox\tdog\t9\nfox\tapple\t1\nsaw\tdrill\t9\nsaw\twolf\t1\nfig\tpear\t9\n")
    config = config.replace("/etc/pairstream/wordsim.tsv", f"{tmp_path}/pairs.tsv")
    config = config.replace("--passes 5", "--sample 0.05")
    (tmp_path / "retrain.toml").write_text(config)
    # No ranking of the pairs' cosines can agree with scores of which several are equal.
    (tmp_path / "strict.toml").write_text(config.replace("min-similarity = 0.5", "min-similarity = 1\nepochs = 2"))
    real = {"python": sys.executable, "config": f"{tmp_path}/retrain.toml", "export_to": f"{tmp_path}/out.parquet"}
    slow = tmp_path / "slow"
    slow.write_text(SLOW)
    slow.chmod(0o755)
    runs: list[dict[str, Any]] = [
        real,
        real,
        {**real, "config": f"{tmp_path}/strict.toml"},
        {"python": fake(tmp_path, "busy", 4), "config": ""},
        {"python": fake(tmp_path, "retried", 1, 1, 0), "config": ""},
        {"python": fake(tmp_path, "usage", 2, 0), "config": ""},
        {"python": str(slow), "config": "", "timeout_s": 1},
    ]
    found = run_dag(airflow, tmp_path, runs)
    assert (tmp_path / "out.parquet").exists()
    assert found[0] == {"retrain": ["success", 1], "export": ["success", 1]}
    assert found[1] == {"retrain": ["success", 1], "export": ["skipped", 1]}
    assert found[2]["retrain"] == ["failed", 1]  # the gate refused; not tried again
    assert found[2]["export"][0] == "upstream_failed"
    assert [one["retrain"] for one in found[3:]] == [["skipped", 1], ["success", 3], ["failed", 1], ["failed", 1]]
    assert (tmp_path / "slow.ended").exists()  # the command does not outlive its task
