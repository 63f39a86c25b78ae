"""Write the lock of each image: every package it installs, at one version, those of .ci/constraints.txt at theirs.

    pip install uv && python deploy/images/lock.py

Run it after a change of pyproject.toml or of the constraints. Every package has the hashes of its files, but for
PyTorch's CPU builds, which come from an index of their own.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The images, what of pyproject.toml they install, and what besides. Beam's gcp extra is Dataflow's client and Google's
#: file system.
SETS = [
    (["build"], [], "setuptools>=77\nwheel"),
    (["pipeline"], ["pipeline", "s3", "gcs", "azure"], "apache-beam[gcp]"),
    (["trainer-cuda", "trainer-cpu"], ["trainer", "report", "s3", "gcs", "azure"], ""),
    (["retrain"], ["pipeline", "trainer", "report", "s3", "gcs", "azure"], "apache-beam[gcp]"),
]
#: One package: its version, and its hashes in lines of their own.
_PACKAGE = re.compile(r"^\S.*\n(?: .*\n)*", re.MULTILINE)
_GPU = re.compile(r"(nvidia-|cuda-|triton==)")


def resolve(extras: list[str], others: str) -> str:
    """Let uv choose versions, within the constraints, for the images' Python and system."""
    command = [
        "uv", "pip", "compile", "--quiet", "--generate-hashes", "--python-version", "3.11",
        "--python-platform", "x86_64-manylinux_2_28", "--constraints", ".ci/constraints.txt",
        "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
        *(["pyproject.toml"] if extras else []), *(f"--extra={extra}" for extra in extras), "-",
    ]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, input=others, stdout=subprocess.PIPE, check=True, text=True).stdout


def without_gpu(lock: str) -> str:
    """Leave out CUDA's libraries, and the hashes of the torch that needs them."""
    kept = [package for package in _PACKAGE.findall(lock) if not _GPU.match(package)]
    return "".join(re.sub(r" \\\n(.*\n)*", "\n", one) if one.startswith("torch==") else one for one in kept)


def main() -> None:
    """Resolve all."""
    for images, extras, others in SETS:
        lock = resolve(extras, others)
        for image in images:
            text = without_gpu(lock) if image in ("trainer-cpu", "retrain") else lock
            (ROOT / "deploy" / "images" / f"{image}.lock.txt").write_text(text)


if __name__ == "__main__":
    main()
