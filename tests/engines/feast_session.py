"""Runs in Feast's own environment: commands and Python, one after another as they arrive, as a person would type them.

A line of standard input is a JSON object {"sh": …} or {"python": …}; the answer is a line with what it printed and what
went wrong. Python keeps its variables from step to step, the shell those that it exports. Feast's own commands run
inside this process, through its command line, since importing Feast takes longer than most of them. Python may call the
functions below that save what Feast answers.
"""

import contextlib
import io
import json
import os
import runpy
import shlex
import subprocess
import sys
import traceback
import warnings
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from feast import FeatureStore
from feast.cli.cli import cli

MARK = "--- environment ---"
FEATURES = ["word_vectors:vector", "word_vectors:count", "word_vectors:version"]


def save_online(tokens: str, out: str) -> None:
    """Save as JSON what the online store has of the tokens in a JSON file; its decimals are those of the numbers."""
    store = FeatureStore("feature_repo")
    answer = store.get_online_features(features=store.get_feature_service("words"), entity_rows=rows_of(tokens))
    with open(out, "w") as file:
        json.dump(answer.to_dict(include_event_timestamps=True), file)


def save_joined(tokens: str, times: list[str], out: str) -> None:
    """Save as Parquet what joins find of all tokens at all times."""
    rows = [row | {"event_timestamp": time} for time in times for row in rows_of(tokens)]
    asked = pd.DataFrame(rows).astype({"event_timestamp": "datetime64[ns, UTC]"})
    joined = FeatureStore("feature_repo").get_historical_features(entity_df=asked, features=FEATURES)
    pq.write_table(joined.to_arrow(), out)


def save_searches(tokens: str, out: str) -> None:
    """Save as JSON the six nearest to each token's vector."""
    store = FeatureStore("feature_repo")
    queries = store.get_online_features(features=FEATURES[:1], entity_rows=rows_of(tokens)).to_dict()["vector"]
    answers = [store.retrieve_online_documents_v2(features=FEATURES, query=query, top_k=6) for query in queries]
    with open(out, "w") as file:
        json.dump([answer.to_dict() for answer in answers], file)


def print_definitions_error(features: str) -> None:
    """Print with what error the definitions end where there are no exported vectors."""
    os.environ["PAIRSTREAM_FEATURES"] = features
    try:
        runpy.run_path("feature_repo/definitions.py")
    except SystemExit as error:
        print(error)


def rows_of(tokens: str) -> list[dict[str, str]]:
    """Read a JSON file of tokens as Feast's entity rows."""
    with open(tokens) as file:
        return [{"token": token} for token in json.load(file)]


def run_sh(code: str) -> None:
    """Run lines of shell, those that begin with `feast` through Feast's command line."""
    lines = code.replace("\\\n", " ").splitlines()
    for line in lines:
        if line.startswith("feast "):
            run_feast(shlex.split(shell(f"printf '%q ' {line}"))[1:])
        elif line:
            print(shell(line))


def run_feast(arguments: list[str]) -> None:
    """Run a command of Feast's, and leave no trace of it here: it changes folders, and imports definitions."""
    folder, path = os.getcwd(), list(sys.path)
    try:
        cli(arguments, standalone_mode=False)
    finally:
        os.chdir(folder)
        sys.path[:] = path
        sys.modules.pop("definitions", None)


def shell(line: str) -> str:
    """Run a line of bash, take over what it exports and return what it printed."""
    command = ["bash", "-euc", f"{line}\necho '{MARK}'\nenv -0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{line}: exit status {done.returncode}\n{done.stderr}")
    printed, _, variables = done.stdout.rpartition(MARK + "\n")
    os.environ.update(entry.split("=", 1) for entry in variables.split("\0") if entry)
    return printed


def answer(step: dict[str, str], variables: dict[str, Any]) -> dict[str, str]:
    """Run a step; return what it printed and, if it failed, the traceback."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            if "sh" in step:
                run_sh(step["sh"])
            else:
                exec(compile(step["python"], "<block>", "exec"), variables)
    except BaseException:
        return {"printed": printed.getvalue(), "failed": traceback.format_exc()}
    return {"printed": printed.getvalue()}


def main() -> None:
    """Answer each line of standard input."""
    warnings.simplefilter("ignore")
    functions = (save_online, save_joined, save_searches, print_definitions_error)
    variables = {function.__name__: function for function in functions}
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), variables)), flush=True)


if __name__ == "__main__":
    main()
