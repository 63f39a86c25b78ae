"""Runs in Feast's own environment: commands and Python, one after another as they arrive, as a person would type them.

A line of standard input is a JSON object {"sh": …} or {"python": …}; the answer is a line with what it printed and what
went wrong. Python keeps its variables from step to step, the shell those that it exports. Feast's own commands run
inside this process, through its command line, since importing Feast takes longer than most of them.
"""

import contextlib
import io
import json
import os
import shlex
import subprocess
import sys
import traceback
import warnings

from feast.cli.cli import cli

MARK = "--- environment ---"


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


def answer(step: dict[str, str], variables: dict[str, object]) -> dict[str, str]:
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
    variables: dict[str, object] = {"__name__": "__main__"}
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), variables)), flush=True)


if __name__ == "__main__":
    main()
