"""One retraining of a model at a time.

On a local disk its process holds a lock on a file, and so does the pipeline that it runs; the kernel drops it with
them. An object store has no such lock. There an object says who is running. It is taken by a conditional write, and
each renewal changes its content. A second retraining watches it: if the content changes, the holder lives; if it stays
the same for as long as the holder said, measured by the watcher's own monotonic clock, the holder was killed. No two
machines' clocks are compared. In any case only one of two can publish: the model's pointer is swapped only if it still
is what the retraining began with.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.dataset.schema import canonical_json
from pipeline.storage import storage
from pipeline.storage.local import make_in
from pipeline.storage.storage import PointerMovedError
from trainer.errors import UserError
from trainer.progress.meter import warn

LOCK, LEASE = "lock", "lease.json"
ORPHANS_S = 10.0  # how long the pipeline of a killed retraining may take to end
POLL_S = 2.0
pause, clock = time.sleep, time.monotonic


class Busy(UserError):  # noqa: N818  (what is, not what failed)
    """Another retraining of the same model is running."""


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
            raise Busy("another retraining took over the lease; this one stops")


@contextlib.contextmanager
def hold(model_uri: str, folder: str, lease_s: float) -> Iterator[Lease]:
    """Be the only retraining of a model until the block ends.

    Args:
        model_uri: the model, for messages.
        folder: where the lock or lease is.
        lease_s: in an object store, how long a lease counts that is not renewed; on a local disk of no effect.

    Raises:
        Busy: another one is running.
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
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        handle = make_in(os.path.dirname(path), lambda: os.open(path, flags, 0o666))
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
        dead = _is_dead(holder)
        if not dead or time.monotonic() > deadline:
            raise Busy(_explain_orphan(model_uri, holder) if dead else _explain(model_uri, holder))
        time.sleep(0.1)


@contextlib.contextmanager
def _leased(model_uri: str, uri: str, lease_s: float) -> Iterator[Lease]:
    lease, found = Lease(), _wait_for(model_uri, uri, lease_s)
    mine = {**_myself(), "token": secrets.token_hex(8), "lease_s": lease_s, "renewals": 0}
    started = clock()
    try:
        storage.swap_pointer(uri, found, canonical_json(mine))
    except PointerMovedError:
        raise Busy(_explain(model_uri, _parse(storage.read_pointer(uri) or b""))) from None
    held, done = Held(uri, mine, lease_s, started, lease.lost), threading.Event()
    thread = threading.Thread(target=_keep, args=(held, done), daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        done.set()
        thread.join()
        if not lease.lost.is_set():
            with contextlib.suppress(OSError, PointerMovedError):
                storage.swap_pointer(uri, canonical_json(held.content), canonical_json({}))


def _wait_for(model_uri: str, uri: str, lease_s: float) -> bytes | None:
    """Wait until a lease is given up, or stays the same for as long as it counts; return what is there then.

    Only this machine's monotonic clock is read, so it does not matter what other clocks say.

    Raises:
        Busy: it was renewed or taken meanwhile: its holder lives.
    """
    first, started = storage.read_pointer(uri), clock()
    holder = _parse(first or b"")
    while holder.get("token") and clock() - started < _span(holder, lease_s):
        pause(POLL_S)
        found = storage.read_pointer(uri)
        holder = _parse(found or b"")
        if found != first:
            if holder.get("token"):
                raise Busy(_explain(model_uri, holder))
            return found
    return first


def _span(holder: dict[str, Any], lease_s: float) -> float:
    """How long a lease counts without a renewal: what its holder said, for it renews accordingly."""
    said = holder.get("lease_s")
    return float(said) if isinstance(said, (int, float)) and 0 < said < math.inf else lease_s


@dataclass
class Held:
    """A lease of ours.

    Attributes:
        uri: where it is.
        content: what we wrote there last.
        lease_s: how long it counts without a renewal.
        renewed: when the last write that succeeded was begun, by our monotonic clock.
        lost: set once it is no longer ours.
    """

    uri: str
    content: dict[str, Any]
    lease_s: float
    renewed: float
    lost: threading.Event

    def renew(self) -> None:
        """Write other content; the lease is lost if another one took it over, or if it could not be renewed in time."""
        started, following = clock(), {**self.content, "renewals": self.content["renewals"] + 1}
        try:
            storage.swap_pointer(self.uri, canonical_json(self.content), canonical_json(following))
            self.content, self.renewed = following, started
        except PointerMovedError:
            self.lost.set()
        except Exception as error:  # any store's own: the next try may succeed
            warn(f"{storage.redact(self.uri)}: could not renew the lease, will try again: {_one_line(error)}")
            if clock() - self.renewed >= self.lease_s:
                self.lost.set()


def _keep(held: Held, done: threading.Event) -> None:
    """Renew a lease three times in its span, until it is done with or lost."""
    while not held.lost.is_set() and not done.wait(held.lease_s / 3):
        held.renew()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


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


def _explain_orphan(model_uri: str, holder: dict[str, Any]) -> str:
    return (
        f"{storage.redact(model_uri)}: the retraining of process {holder['pid']} was killed, but the pipeline that it "
        f"started is still running; try again once that has ended"
    )


def _explain(model_uri: str, holder: dict[str, Any]) -> str:
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}, since {holder.get('since', '?')}"
    return f"{storage.redact(model_uri)}: another retraining is running ({who})"
