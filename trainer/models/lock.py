"""One training at a time in a model's folder; and whether anybody publishes into it just now."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

from pipeline.storage import storage
from pipeline.storage.local import locked, make_in
from trainer.errors import UserError

LOCK = "train.lock"
PUBLISHERS = "versions.lock"


@contextlib.contextmanager
def lock_folder(model_uri: str) -> Iterator[None]:
    """Hold the lock of a local model folder; the kernel drops it with the process, however that ends.

    An object store has no such lock: there the second of two trainings that finish at once fails to publish.

    Raises:
        UserError: another training holds it, or there is a file in the folder's place.
    """
    if not storage.is_local(model_uri):
        yield
        return
    folder = storage.local_path(model_uri)
    path = os.path.join(folder, LOCK)
    found = os.path.isdir(folder) and not os.path.lexists(path)  # by someone other than a training that was killed
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(path))
        except (NotADirectoryError, FileExistsError):
            raise UserError(f"{model_uri}: found a file, expected a model's folder") from None
        except BlockingIOError:
            raise UserError(f"{model_uri}: another training is running in it ({path})") from None
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            with contextlib.suppress(OSError):  # nothing else was written: leave no trace
                if not found:
                    os.rmdir(folder)


@contextlib.contextmanager
def share(model_uri: str, alone: Callable[[], None] | None = None) -> Iterator[None]:
    """Write versions or the pointer of a local model folder, at the same time as others.

    Args:
        model_uri: the model's folder; an object store has no such lock.
        alone: called before, and where the block fails after it, if no one else is writing and none can begin: what is
            half-written belongs to no one then.
    """
    if not storage.is_local(model_uri):
        yield
        return
    folder = storage.local_path(model_uri)
    path = os.path.join(folder, PUBLISHERS)
    handle = make_in(folder, lambda: os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
    try:
        _call_alone(handle, alone)
        fcntl.flock(handle, fcntl.LOCK_SH)
        try:
            yield
        except BaseException:
            _call_alone(handle, alone)
            raise
    finally:
        os.close(handle)


def _call_alone(handle: int, alone: Callable[[], None] | None) -> None:
    if alone is not None:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone()
