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
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from pipeline.dataset.schema import canonical_json
from pipeline.storage import storage
from pipeline.storage.local import locked
from pipeline.storage.storage import PointerMovedError
from trainer.errors import UserError
from trainer.progress.meter import warn

LOCK, LEASE = "lock", "lease.json"
ORPHANS_S = 10.0  # how long the pipeline of a killed retraining may take to end
POLL_S = 2.0
pause, clock = time.sleep, time.monotonic


class Busy(UserError):  # noqa: N818  (what is, not what failed)
    """Another retraining of the same model is running."""


class Holder(msgspec.Struct, frozen=True):
    """Who is running; in an object store also a token, "" for no one, and how long it counts without a renewal."""

    host: str = "?"
    pid: int | str = "?"
    since: str = "?"
    token: str = ""
    lease_s: float = 0.0

    def __str__(self) -> str:
        """Name the process."""
        return f"process {self.pid} on {self.host}, since {self.since}"

    def to_json(self) -> bytes:
        """Encode canonically."""
        return canonical_json(msgspec.to_builtins(self))


@dataclass
class Lease:
    """What a retraining holds.

    Attributes:
        fds: open files whose lock a child process shall hold too.
        uri: where it is in an object store, "" on a local disk.
        holder: what we wrote there last.
        renewed: when the last write that succeeded was begun, by our monotonic clock.
        lost: set once another retraining took the lease over.
    """

    fds: tuple[int, ...] = ()
    uri: str = ""
    holder: Holder = field(default_factory=Holder)
    renewed: float = 0.0
    lost: threading.Event = field(default_factory=threading.Event)

    def require(self) -> None:
        """Refuse to go on without it.

        Raises:
            Busy: it was taken over.
        """
        if self.lost.is_set():
            raise Busy("another retraining took over the lease; this one stops")

    def renew(self) -> None:
        """Write other content; the lease is lost if another one took it over, or if it could not be renewed in time."""
        started, following = clock(), msgspec.structs.replace(self.holder, token=secrets.token_hex(8))
        try:
            storage.swap_pointer(self.uri, self.holder.to_json(), following.to_json())
            self.holder, self.renewed = following, started
        except PointerMovedError:
            self.lost.set()
        except Exception as error:  # any store's own: the next try may succeed
            detail = " ".join(str(error).split())
            warn(f"{storage.redact(self.uri)}: could not renew the lease, will try again: {detail}")
            if clock() - self.renewed >= self.holder.lease_s:
                self.lost.set()


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
    with contextlib.ExitStack() as stack:
        handle, deadline = None, time.monotonic() + ORPHANS_S
        while handle is None:
            try:
                handle = stack.enter_context(locked(path))
            except (NotADirectoryError, FileExistsError):
                raise UserError(f"{model_uri}: found a file, expected a model's folder") from None
            except BlockingIOError:
                holder = _parse(storage.read_pointer(path))
                dead = _is_dead(holder)
                if not dead or time.monotonic() > deadline:
                    raise Busy(_explain(model_uri, holder, dead)) from None
                time.sleep(0.1)
        os.ftruncate(handle, 0)
        os.pwrite(handle, _myself().to_json(), 0)
        yield handle


@contextlib.contextmanager
def _leased(model_uri: str, uri: str, lease_s: float) -> Iterator[Lease]:
    found, mine = _wait_for(model_uri, uri, lease_s), _myself(secrets.token_hex(8), lease_s)
    lease, done = Lease(uri=uri, holder=mine, renewed=clock()), threading.Event()
    try:
        storage.swap_pointer(uri, found, mine.to_json())
    except PointerMovedError:
        raise Busy(_explain(model_uri, _parse(storage.read_pointer(uri)))) from None
    thread = threading.Thread(target=_keep, args=(lease, done), daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        done.set()
        thread.join()
        if not lease.lost.is_set():
            with contextlib.suppress(OSError, PointerMovedError):
                storage.swap_pointer(uri, lease.holder.to_json(), canonical_json({}))


def _wait_for(model_uri: str, uri: str, lease_s: float) -> bytes | None:
    """Wait until a lease is given up, or stays the same for as long as it counts; return what is there then.

    Only this machine's monotonic clock is read, so it does not matter what other clocks say.

    Raises:
        Busy: it was renewed or taken meanwhile: its holder lives.
    """
    first, started = storage.read_pointer(uri), clock()
    holder = _parse(first)
    span = holder.lease_s if 0 < holder.lease_s < math.inf else lease_s  # its holder renews accordingly
    while holder.token and clock() - started < span:
        pause(POLL_S)
        found = storage.read_pointer(uri)
        if found != first:
            if (now := _parse(found)).token:
                raise Busy(_explain(model_uri, now))
            return found
    return first


def _keep(lease: Lease, done: threading.Event) -> None:
    """Renew a lease three times in its span, until it is done with or lost."""
    while not lease.lost.is_set() and not done.wait(lease.holder.lease_s / 3):
        lease.renew()


def _myself(token: str = "", lease_s: float = 0.0) -> Holder:
    now = datetime.datetime.now(datetime.timezone.utc)
    # As a float, which is what is read back: a renewal compares the bytes.
    return Holder(socket.gethostname(), os.getpid(), now.isoformat(timespec="seconds"), token, float(lease_s))


def _parse(data: bytes | None) -> Holder:
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.json.decode(data or b"{}", type=Holder)
    return Holder()


def _is_dead(holder: Holder) -> bool:
    """Whether a lock's holder is certainly gone: then what still holds it is the pipeline that it ran."""
    if holder.host != socket.gethostname() or not isinstance(holder.pid, int):
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return holder.pid == os.getpid()  # the number of a process that is gone


def _explain(model_uri: str, holder: Holder, dead: bool = False) -> str:
    if dead:
        return (
            f"{storage.redact(model_uri)}: the retraining of process {holder.pid} was killed, but the pipeline that it "
            "started is still running; try again once that has ended"
        )
    return f"{storage.redact(model_uri)}: another retraining is running ({holder})"
