"""Versions that are there, live or not: looking at one, and taking one away."""

from __future__ import annotations

from typing import Any

from pipeline.dataset.schema import sha256_hex
from pipeline.storage import storage
from trainer.models.publication import remove_version
from trainer.models.store import INFO, read_info, version_folder

__all__ = ["remove_version", "staged_version"]


def staged_version(model_uri: str, version: str) -> tuple[dict[str, Any], str] | None:
    """Return model.json of a version, live or not, and its SHA-256; None where it was not written to the end.

    Raises:
        FormatError: it is damaged.
    """
    try:
        data = storage.read_bytes(storage.join(version_folder(model_uri, version), INFO))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return read_info(model_uri, version), sha256_hex(data)
