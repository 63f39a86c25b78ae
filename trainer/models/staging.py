"""Versions that are there, live or not: looking at one, and taking one away."""

from __future__ import annotations

from pipeline.dataset.schema import sha256_hex
from pipeline.storage import storage
from trainer.models.publication import read_if_there, remove_version
from trainer.models.store import INFO, Info, read_info, version_folder

__all__ = ["remove_version", "staged_version"]


def staged_version(model_uri: str, version: str) -> tuple[Info, str] | None:
    """Return model.json of a version, live or not, and its SHA-256; None where it was not written to the end."""
    data = read_if_there(storage.join(version_folder(model_uri, version), INFO))
    return None if data is None else (read_info(model_uri, version), sha256_hex(data))
