"""Write the lock of each image: every package it installs, at one version, those of .ci/constraints.txt at theirs.

    python3.11 -m venv /tmp/lock && /tmp/lock/bin/python deploy/images/lock.py

Run it in an empty environment of the images' Python, after a change of pyproject.toml or of the constraints.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What is resolved, and the images that install it. Beam's gcp extra is Dataflow's client and Google's file system.
SETS = {
    ("build",): ["setuptools>=77", "wheel"],
    ("pipeline",): [".[pipeline,s3,gcs,azure]", "apache-beam[gcp]"],
    ("trainer-cuda", "trainer-cpu"): [".[trainer,s3,gcs,azure]"],
    ("retrain",): [".[pipeline,trainer,s3,gcs,azure]", "apache-beam[gcp]"],
}
#: What PyTorch's CPU builds do without.
_GPU = re.compile(r"(nvidia-|cuda-|triton==)")


def resolve(requirements: list[str]) -> list[str]:
    """Let pip choose versions, within the constraints; return name==version lines, sorted by name."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    command = [*pip, "-c", ".ci/constraints.txt", *requirements]
    report = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    found = {item["metadata"]["name"].lower().replace("_", "-"): item["metadata"] for item in report["install"]}
    return [f"{name}=={found[name]['version']}" for name in sorted(found) if name != "pairstream"]


def select(image: str, lines: list[str]) -> list[str]:
    """Return what an image takes of a resolved set: without CUDA's libraries, where it has no use for them."""
    return lines if image not in ("trainer-cpu", "retrain") else [line for line in lines if not _GPU.match(line)]


def main() -> None:
    """Resolve all."""
    for images, requirements in SETS.items():
        lines = resolve(requirements)
        for image in images:
            (ROOT / "deploy" / "images" / f"{image}.lock.txt").write_text("\n".join(select(image, lines)) + "\n")


if __name__ == "__main__":
    main()
