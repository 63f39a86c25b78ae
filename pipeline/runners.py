"""Beam's runners as a launcher meets them: which one is meant, whether anybody is there, what it says when it fails."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
from apache_beam.options.pipeline_options import (
    DirectOptions,
    PipelineOptions,
    PortableOptions,
    SetupOptions,
    StandardOptions,
)
from apache_beam.portability import python_urns
from apache_beam.runners.portability.fn_api_runner.worker_handlers import SubprocessSdkWorkerHandler, WorkerHandler
from apache_beam.runners.runner import PipelineResult, PipelineState
from apache_beam.runners.worker import sdk_worker_main

from pipeline import progress
from pipeline.errors import ConfigError, LostJobError
from pipeline.storage import storage
from pipeline.transforms import worker

#: What runs when no --runner is given: in this process. ("DirectRunner" would try to download another one.)
IN_PROCESS = "FnApiRunner"

#: They send the job to a job server, and keep workers from stage to stage only if told to.
_PORTABLE = ("PortableRunner", "FlinkRunner", "SparkRunner")
_KEEP_WORKERS_MS = 60_000

_CONNECT_S = 5

#: Exit status after Ctrl-C.
INTERRUPTED = 130


def read_options(flags: Sequence[str]) -> PipelineOptions:
    """Read Beam's own flags, and add what a job server must be told."""
    options = PipelineOptions(list(flags))
    portable = options.view_as(PortableOptions)
    if name_of(options).rpartition(".")[2] in _PORTABLE and not int(portable.environment_cache_millis):
        # Else Flink ends the workers between two stages, now and then while the next one begins to use them.
        portable.environment_cache_millis = _KEEP_WORKERS_MS
    setup = options.view_as(SetupOptions)
    if setup.save_main_session is None:  # Dataflow's default would pickle __main__ for workers
        setup.save_main_session = False
    return options


def name_of(options: PipelineOptions) -> str:
    return options.view_as(StandardOptions).runner or IN_PROCESS


def require_job_server(options: PipelineOptions) -> None:
    """Look whether anything accepts connections at --job_endpoint; Beam itself would try for minutes.

    Raises:
        ConfigError: nothing does.
    """
    endpoint = options.view_as(PortableOptions).job_endpoint
    if not endpoint or endpoint == "embed":  # Beam's own, in this process
        return
    host, _, port = endpoint.rpartition("/")[2].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S):
            pass
    except (OSError, ValueError, OverflowError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"--job_endpoint {endpoint}: no answer ({detail}); expected HOST:PORT of a job server"
        ) from None


def shares_this_process(options: PipelineOptions) -> bool:
    """Tell whether the workers of Beam's local runner are threads of this process."""
    return str(options.view_as(DirectOptions).direct_running_mode) != "multi_processing"


@contextlib.contextmanager
def stopping(soft: bool) -> Iterator[None]:
    """Stop at Ctrl-C in a way that lets a run clear up; a second Ctrl-C ends the process at once.

    Args:
        soft: the workers are threads of this process: they are asked to stop, and the run fails in order. Else the
            first Ctrl-C is a KeyboardInterrupt.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        yield
        return

    def handle(*_: object) -> None:
        if progress.is_stopped():
            os._exit(INTERRUPTED)
        progress.stop()
        if not soft:
            raise KeyboardInterrupt

    progress.allow_work()
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _QuietWorkers(SubprocessSdkWorkerHandler):  # type: ignore[misc]
    """Worker processes of the local runner that are ours: Beam's log 20 lines each."""

    def __init__(self, worker_command_line: bytes, *arguments: object) -> None:
        # Not by -m: a file pipeline.py in the folder that the launcher runs in would be taken for the package.
        code = f"import sys; sys.path[0] = {str(Path(__file__).parents[1])!r}; from {worker.__name__} import run; run()"
        beams = f"-m {sdk_worker_main.__name__}"
        super().__init__(worker_command_line.decode().replace(beams, f"-c {shlex.quote(code)}").encode(), *arguments)


def quieten_processes() -> None:
    """Let the local runner start quiet workers."""
    WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)(_QuietWorkers)


@contextlib.contextmanager
def naming(runner: str) -> Iterator[None]:
    """Say in one line why a runner cannot do its work: no such name, options that do not fit, a worker that died.

    Raises:
        ConfigError: that.
    """
    try:
        yield
    except (ValueError, RuntimeError, grpc.RpcError, grpc.FutureTimeoutError) as error:
        if any(sign in str(error) for sign in ("[while running", "Traceback", "pipeline.errors.")):
            raise  # a stage's own error
        raise ConfigError(f"--runner {runner}: cannot run the job: {_reason(error)}") from None


def wait_for(result: PipelineResult, folder: str) -> None:
    """Wait until the job of a run's folder is done.

    Raises:
        LostJobError: nothing says whether the job goes on.
        Exception: the job failed; whatever its runner made of the reason.
    """
    try:
        result.wait_until_finish()
    except Exception as error:
        if _is_over(result):
            raise
        raise LostJobError(
            f"{storage.redact(folder)}: cannot find out how its job is going ({_reason(error)}); "
            "what it wrote stays, and `pairstream pipeline clean` removes it if the job is dead"
        ) from None


def _is_over(result: PipelineResult) -> bool:
    """Ask whether a job has ended; who does not answer does not say so."""
    with contextlib.suppress(Exception):
        return bool(PipelineState.is_terminal(result.state))
    return False


def _reason(error: BaseException) -> str:
    """Return an error's text in one line; of a connection's, what is meant for people."""
    text = error.details() if isinstance(error, grpc.Call) else str(error)
    return " ".join((text or type(error).__name__).split())


def quieten_threads() -> None:
    """Beam's own threads print a traceback where a connection ends; what it means for the job is told by the job."""
    shown = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, grpc.RpcError):
            shown(arguments)

    threading.excepthook = hook
