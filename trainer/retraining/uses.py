"""Which runs of the dataset a model's versions were trained on, written down where the pipeline's `clean` looks.

DATASET/models/NAME.json    one for each model: its URI, the machine that a local one is on, and each run with the files
                            in the model's folder that show that it is in use: it is while one of them is there
"""

from __future__ import annotations

import contextlib
import hashlib
import socket

from pipeline.dataset.manifest import MODELS
from pipeline.dataset.schema import FORMAT_VERSION, FormatError, canonical_json
from pipeline.storage import storage
from trainer.models.pointer import read_pointer
from trainer.models.store import INFO, read_run
from trainer.progress.meter import warn
from trainer.retraining.config import RetrainConfig
from trainer.retraining.state import FOLDER, NIGHT, Night, load_outcomes


def record_uses(own: RetrainConfig, night: Night | None = None) -> None:
    """Write down the runs of all versions that are kept, and of the night under way."""
    live = read_pointer(own.model)
    versions = {one.version for one in load_outcomes(own.model)} | set(live.kept if live else ())
    versions |= {night.version} if night else set()
    uses = {night.run: [storage.join(FOLDER, night.name, NIGHT)]} if night else {}
    for version in sorted(versions - {""}):
        with contextlib.suppress(FormatError):  # removed since, or made by another program
            if run := read_run(own.model, version).get("data_run"):
                uses.setdefault(str(run), []).append(storage.join("versions", version, INFO))
    model = storage.absolute(own.model)
    host = socket.gethostname() if storage.is_local(model) else ""
    record = {"format_version": FORMAT_VERSION, "model": storage.redact(model), "host": host, "uses": uses}
    name = hashlib.sha256(f"{host}\n{model}".encode()).hexdigest()[:16]
    try:
        storage.write_bytes(storage.join(own.data, MODELS, f"{name}.json"), canonical_json(record))
    except OSError as error:
        warn(f"{storage.redact(own.data)}: could not write which runs are in use, `clean` may remove them: {error}")
