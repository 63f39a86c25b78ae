"""An Airflow DAG that retrains a model every night; docs/retraining.md says what the command does.

What to retrain is a TOML file (`retrain.toml` next to this one is an example). Airflow needs no package of pairstream:
the command runs in an environment of its own, whose Python the parameter `python` names.

| the command ends with | the task |
|---|---|
| 0 | succeeds; its result says whether anything was published, and if not, `export` is skipped |
| 1 | fails and is retried: the same command resumes where it stopped |
| 2, wrong usage; 3, the gate refused the new version | fails at once, with the reason; the live version stays |
| 4, another one is running | is skipped |
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

WRONG_USAGE, GATE_REFUSED, BUSY = 2, 3, 4


def run_trainer(python: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m trainer``; its progress and errors go to the task's log."""
    command = [python, "-m", "trainer", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        lines = []
        try:
            for line in child.stderr:
                print(line, end="", flush=True)
                lines = [*lines[-19:], line]
            printed = child.stdout.read()
        except BaseException:  # the task ran out of time, or someone ended it: training writes a checkpoint, and ends
            child.terminate()
            raise
    print(printed, end="", flush=True)
    return subprocess.CompletedProcess(command, child.returncode, printed, "".join(lines))


@dag(
    schedule="0 2 * * *",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=datetime.timedelta(hours=20),
    tags=["pairstream"],
    params={
        "python": Param(os.environ.get("PAIRSTREAM_PYTHON", "python"), type="string"),
        "config": Param(os.environ.get("PAIRSTREAM_RETRAIN", "/etc/pairstream/retrain.toml"), type="string"),
        "model": Param(os.environ.get("PAIRSTREAM_MODEL", ""), type="string"),
        "export_to": Param(os.environ.get("PAIRSTREAM_EXPORT", ""), type="string"),
    },
)
def pairstream_nightly() -> None:
    """Retrain; export the vectors of what was published."""

    @task(retries=3, retry_delay=datetime.timedelta(minutes=10))
    def retrain() -> dict[str, Any]:
        params = get_current_context()["params"]
        model = ["--model", params["model"]] if params["model"] else []
        done = run_trainer(params["python"], "retrain", "--config", params["config"], *model, "--quiet", "--json")
        last = (done.stderr.strip().splitlines() or [""])[-1]
        if done.returncode == BUSY:
            raise AirflowSkipException(last)
        if done.returncode == WRONG_USAGE:
            raise AirflowFailException(last)
        if done.returncode not in (0, GATE_REFUSED):
            raise AirflowException(last or f"ended with status {done.returncode}")
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if done.returncode == GATE_REFUSED:
            raise AirflowFailException(f"the gate refused {result['about']}: {'; '.join(result['reasons'])}")
        return result

    @task(retries=3, retry_delay=datetime.timedelta(minutes=1))
    def export(result: dict[str, Any]) -> str:
        params = get_current_context()["params"]
        if result["status"] != "published" or not params["export_to"]:
            raise AirflowSkipException(f"{result['status']}: {result['about']}")
        words = ["--model", result["model"], "--version", result["version"], "--to", params["export_to"]]
        done = run_trainer(params["python"], "export", "--format", "parquet", *words)
        if done.returncode != 0:
            raise AirflowException((done.stderr.strip().splitlines() or [""])[-1])
        return str(params["export_to"])

    export(retrain())


nightly = pairstream_nightly()
