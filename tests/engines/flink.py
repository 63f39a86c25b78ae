"""A Flink cluster on loopback, as one has it on several machines: a JobManager, TaskManagers, and Beam's job server."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.engines.install import debian, maven_jars, python_env
from tests.engines.servers import free_port, listens, started, wait_until

FLINK = "apache-flink-libraries==1.19.3"
#: The newest job server for Flink 1.19 whose parts are in Maven's registry; it speaks to any newer Python SDK.
JOB_SERVER = ["org.apache.beam:beam-runners-flink-1.19:2.62.0", "org.slf4j:slf4j-simple:1.7.36"]

_OPENED = ("lang", "lang.reflect", "util", "util.concurrent", "nio", "net", "io", "time", "text")
_OPENS = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in _OPENED]
_JAVA = ["java", *_OPENS, "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED"]
_RUNTIME = "org.apache.flink.runtime"

_CONFIG = """\
jobmanager.rpc.address: localhost
jobmanager.rpc.port: {rpc}
jobmanager.bind-host: localhost
rest.address: localhost
rest.bind-address: localhost
rest.port: {rest}
blob.server.port: {blob}
taskmanager.host: localhost
taskmanager.bind-host: localhost
taskmanager.numberOfTaskSlots: 1
taskmanager.memory.process.size: 1200m
taskmanager.memory.managed.fraction: 0.2
taskmanager.memory.network.min: 160m
jobmanager.memory.process.size: 1g
parallelism.default: 2
io.tmp.dirs: {folder}/tmp
# A TaskManager that died is noticed within seconds, and what ran on it runs again on the others.
heartbeat.interval: 1000
heartbeat.timeout: 8000
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 3
restart-strategy.fixed-delay.delay: 1 s
# The job server's classes are the cluster's own: a job need not load them anew.
classloader.resolve-order: parent-first
"""

_LOG4J = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} %m%n
"""


class Cluster:
    """A session cluster in a folder, which holds its configuration, logs and temporary files."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        """Start the JobManager, two TaskManagers of one slot each, and the job server; ``stack`` ends them."""
        self._folder, self._stack = folder, stack
        self._rest, self._job_port = free_port(), free_port()
        self.task_managers: list[subprocess.Popen[bytes]] = []
        debian({"java": "openjdk-17-jre-headless"})
        libraries = python_env("flink", [FLINK], no_dependencies=True).parent.parent
        [self._flink] = libraries.glob("lib/python3*/site-packages/pyflink")
        self._jars = maven_jars("beam-flink", JOB_SERVER)
        self._configure()
        self._start_job_manager()
        self._worker_flags = self._ask_for_worker_flags()
        for _ in range(2):
            self.add_task_manager()
        self.wait_for_task_managers(2)
        self._start_job_server()

    @property
    def job_flags(self) -> list[str]:
        """Beam's flags that send a job here."""
        return ["--runner=PortableRunner", f"--job_endpoint=localhost:{self._job_port}", "--parallelism=2"]

    def add_task_manager(self) -> None:
        """Start one more."""
        number = len(self.task_managers)
        command = [*_JAVA, *self._worker_flags[0], *self._logging(), "-cp", f"{self._folder}/lib/*"]
        command += [f"{_RUNTIME}.taskexecutor.TaskManagerRunner", "--configDir", str(self._folder / "conf")]
        command += self._worker_flags[1]
        log = self._folder / f"task-manager-{number}.log"
        # Workers that it starts must not find this checkout: neither here nor by a path that tests set.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        server = started(command, log, lambda: True, cwd=self._folder, env=clean)
        self.task_managers.append(self._stack.enter_context(server))

    def replace_task_manager(self) -> None:
        """End the oldest as a machine ends that loses its power: at once, with no word to anybody; start another."""
        oldest = next(manager for manager in self.task_managers if manager.poll() is None)
        os.kill(oldest.pid, signal.SIGKILL)
        oldest.wait()
        self.add_task_manager()

    def wait_for_task_managers(self, count: int) -> None:
        """Wait until so many have said that they are there."""
        log = self._folder / "job-manager.log"
        wait_until(lambda: len(self.ask("taskmanagers")["taskmanagers"]) >= count, 90, log)

    def ask(self, path: str) -> Any:
        """Ask the JobManager's REST interface."""
        with urllib.request.urlopen(f"http://localhost:{self._rest}/{path}", timeout=10) as answer:
            return json.load(answer)

    def last_job(self) -> Any:
        """What the JobManager knows of the job that was submitted last."""
        jobs = self.ask("jobs/overview")["jobs"]
        return self.ask(f"jobs/{max(jobs, key=lambda job: job['start-time'])['jid']}")

    def ended(self) -> int:
        """How many jobs are over, well or not."""
        return sum(job["end-time"] > 0 for job in self.ask("jobs/overview")["jobs"])

    def _configure(self) -> None:
        for name in ("conf", "lib", "tmp"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        # The job server's jars beside Flink's own, but those of Flink, which are there already, and its logging.
        beam = [jar for jar in self._jars.glob("*.jar") if not jar.name.startswith(("flink-", "slf4j-"))]
        for jar in [*(self._flink / "lib").glob("*.jar"), *beam]:
            (self._folder / "lib" / jar.name).symlink_to(jar)
        ports = {"rpc": free_port(), "rest": self._rest, "blob": free_port()}
        (self._folder / "conf/config.yaml").write_text(_CONFIG.format(folder=self._folder, **ports))
        (self._folder / "conf/log4j.properties").write_text(_LOG4J)

    def _logging(self) -> list[str]:
        return [f"-Dlog4j.configurationFile=file:{self._folder}/conf/log4j.properties"]

    def _start_job_manager(self) -> None:
        command = [*_JAVA, "-Xmx512m", *self._logging(), "-cp", f"{self._folder}/lib/*"]
        command += [f"{_RUNTIME}.entrypoint.StandaloneSessionClusterEntrypoint"]
        command += ["--configDir", str(self._folder / "conf"), "--executionMode", "cluster"]
        log = self._folder / "job-manager.log"
        self._stack.enter_context(started(command, log, lambda: listens(self._rest)))

    def _ask_for_worker_flags(self) -> tuple[list[str], list[str]]:
        """Ask Flink how its start script would share a TaskManager's memory: flags of the JVM, then its own."""
        path = f"{self._flink}/bin/bash-java-utils.jar:{self._folder}/lib/*"
        command = ["java", "-cp", path, f"{_RUNTIME}.util.bash.BashJavaUtils", "GET_TM_RESOURCE_PARAMS"]
        command += ["--configDir", str(self._folder / "conf")]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        answers = [line.partition(":")[2] for line in printed.splitlines() if line.startswith("BASH_JAVA_UTILS_EXEC")]
        java, own = (answer.split() for answer in answers)
        return java, own

    def _start_job_server(self) -> None:
        driver = "org.apache.beam.runners.flink.FlinkJobServerDriver"
        command = [*_JAVA, "-Xmx512m", "-cp", f"{self._jars}/*", driver, f"--flink-master=localhost:{self._rest}"]
        command += [f"--job-port={self._job_port}", f"--artifact-port={free_port()}", f"--expansion-port={free_port()}"]
        command += [f"--artifacts-dir={self._folder}/artifacts"]
        log = self._folder / "job-server.log"
        self._stack.enter_context(started(command, log, lambda: listens(self._job_port)))


@contextlib.contextmanager
def flink_cluster(folder: Path) -> Iterator[Cluster]:
    """Run a cluster until the block ends."""
    with contextlib.ExitStack() as stack:
        yield Cluster(folder, stack)
