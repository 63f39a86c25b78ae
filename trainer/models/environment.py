"""Versions of what takes part in the arithmetic: bytes are promised to be equal only where these are."""

from __future__ import annotations

from importlib import metadata

LIBRARIES = ("pairstream", "numpy", "pyarrow", "numba", "torch", "triton", "safetensors")


def library_versions() -> dict[str, str | None]:
    """Installed versions by name, None where one is missing."""
    return {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
