"""One retraining of a model at a time.

On a local disk its process holds a lock on a file, and so does the pipeline that it runs; the kernel drops it with
them. An object store has no such lock: there an object says who is at work and until when, is taken and renewed by
conditional writes, and counts for nothing once its time is over: whoever finds one waits until it is renewed (another
one is at work) or runs out (it was killed). Whatever happens, only one of two can publish: the
model's pointer is swapped only if it still is what the retraining began with.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.dataset import storage
from pipeline.dataset.schema import canonical_json
from pipeline.dataset.storage import PointerMovedError
from trainer.errors import UserError
from trainer.progress import warn

LOCK, LEASE = "lock", "lease.json"
ORPHANS_S = 10.0  # how long the pipeline of a killed retraining may take to end
POLL_S = 2.0
pause = time.sleep


class Busy(UserError):  # noqa: N818  (what is, not what failed)
    """Another retraining of the same model is at work."""


@dataclass
class Lease:
    """What a retraining holds.

    Attributes:
        fds: open files whose lock a child process shall hold too.
        lost: set once another retraining took the lease over.
    """

    fds: tuple[int, ...] = ()
    lost: threading.Event = field(default_factory=threading.Event)

    def require(self) -> None:
        """Refuse to go on without it.

        Raises:
            Busy: it was taken over.
        """
        if self.lost.is_set():
            raise Busy("found that another retraining took the lease over, expected to hold it until the end")


@contextlib.contextmanager
def hold(model_uri: str, folder: str, lease_s: float) -> Iterator[Lease]:
    """Be the only retraining of a model until the block ends.

    Args:
        model_uri: the model, for messages.
        folder: where the lock or lease lies.
        lease_s: in an object store, how long a lease counts that is not renewed.

    Raises:
        Busy: another one is at work.
    """
    if storage.is_local(folder):
        with _locked(model_uri, storage.local_path(storage.join(folder, LOCK))) as handle:
            yield Lease((handle,))
    else:
        with _leased(model_uri, storage.join(folder, LEASE), lease_s) as lease:
            yield lease


@contextlib.contextmanager
def _locked(model_uri: str, path: str) -> Iterator[int]:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except (NotADirectoryError, FileExistsError):
        raise UserError(f"{model_uri}: found a file, expected a model's folder") from None
    try:
        _take(model_uri, handle)
        os.ftruncate(handle, 0)
        os.pwrite(handle, canonical_json(_myself()), 0)
        yield handle
    finally:
        os.close(handle)


def _take(model_uri: str, handle: int) -> None:
    deadline = time.monotonic() + ORPHANS_S
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        holder = _parse(os.pread(handle, 4096, 0))
        if not _is_dead(holder) or time.monotonic() > deadline:
            raise Busy(_explain(model_uri, holder))
        time.sleep(0.1)


@contextlib.contextmanager
def _leased(model_uri: str, uri: str, lease_s: float) -> Iterator[Lease]:
    lease, mine = Lease(), _renewed({**_myself(), "token": secrets.token_hex(8)}, lease_s)
    found = _wait_for(model_uri, uri)
    mine = _renewed(mine, lease_s)
    try:
        storage.swap_pointer(uri, found, canonical_json(mine))
    except PointerMovedError:
        raise Busy(_explain(model_uri, _parse(storage.read_pointer(uri) or b""))) from None
    done = threading.Event()
    thread = threading.Thread(target=_renew, args=(uri, mine, lease_s, done, lease.lost), daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        done.set()
        thread.join()
        if not lease.lost.is_set():
            with contextlib.suppress(OSError, PointerMovedError):
                storage.swap_pointer(uri, canonical_json(mine), canonical_json({**mine, "expires_at": 0}))


def _wait_for(model_uri: str, uri: str) -> bytes | None:
    """Wait until a lease runs out or is given up; return what is there then.

    Raises:
        Busy: it was renewed meanwhile: its holder lives.
    """
    found = storage.read_pointer(uri)
    until = first = _parse(found or b"").get("expires_at", 0)
    while time.time() < until:
        pause(POLL_S)
        found = storage.read_pointer(uri)
        holder = _parse(found or b"")
        until = holder.get("expires_at", 0)
        if until > first:
            raise Busy(_explain(model_uri, holder))
    return found


def _renew(uri: str, mine: dict[str, Any], lease_s: float, done: threading.Event, lost: threading.Event) -> None:
    """Renew a lease three times in its span, until it is done with or lost."""
    while not lost.is_set() and not done.wait(lease_s / 3):
        renew_once(uri, mine, lease_s, lost)


def renew_once(uri: str, mine: dict[str, Any], lease_s: float, lost: threading.Event) -> None:
    """Renew a lease, in place; it is lost if another one took it over, or if it could not be renewed in time."""
    following = _renewed(mine, lease_s)
    try:
        storage.swap_pointer(uri, canonical_json(mine), canonical_json(following))
        mine.update(following)
    except PointerMovedError:
        lost.set()
    except Exception as error:  # any store's own: the next try may succeed
        warn(f"{storage.redact(uri)}: found {' '.join(str(error).split())}, expected to renew the lease")
        if time.time() > mine["expires_at"]:
            lost.set()


def _renewed(lease: dict[str, Any], lease_s: float) -> dict[str, Any]:
    return {**lease, "expires_at": round(time.time() + lease_s, 3)}


def _myself() -> dict[str, Any]:
    now = datetime.datetime.now(datetime.timezone.utc)
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": now.isoformat(timespec="seconds")}


def _parse(data: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(data)
        if isinstance(found, dict):
            return found
    return {}


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether a lock's holder is certainly gone: then what still holds it is the pipeline that it ran."""
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return bool(holder["pid"] == os.getpid())  # the number of a process that is gone


def _explain(model_uri: str, holder: dict[str, Any]) -> str:
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}, since {holder.get('since', '?')}"
    return f"{storage.redact(model_uri)}: found another retraining at work ({who}), expected one at a time"
