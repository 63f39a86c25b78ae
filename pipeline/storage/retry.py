"""Trying again where an object store fails for a moment: a bounded number of times, waiting longer each time."""

from __future__ import annotations

import hashlib
import http.client
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from pipeline.storage.redact import redact

ATTEMPTS = 7
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0  # doubled from one attempt to the next
GIVE_UP_S = 180.0  # but for the first three no attempt begins later: a silent store costs half a minute each time

#: HTTP statuses that say "later": time-out, too many requests, and failures of the server itself.
STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

# By name, since the libraries that raise them need not be installed: urllib3 and requests, which smart-open uses.
_NAMES = frozenset({"ProtocolError", "HTTPError", "Timeout", "ConnectionError", "ChunkedEncodingError"})
_LIBRARIES = ("obstore", "urllib3", "requests")
#: What obstore's messages say of an answer, of one key among many, and of a connection that broke.
_SAID = re.compile(r"non-2xx status code: (\d{3})|\(code: (\w+)\)\s*$")
_CODES = {"InternalError": 500, "ServiceUnavailable": 503, "SlowDown": 503, "RequestTimeout": 408}
_REPEATED = re.compile(r"\bretries: [1-9]\d*,\s+max_retries: [1-9]")
_BROKEN = re.compile(r'message: "([^"]+)"|hyper::Error\(\s*(\w+),?\s*\)|(IncompleteBody|TimedOut)')
_ANSWER = re.compile(r"<Code>(.*?)</Code>.*?<Message>(.*?)(?:</Message>|RequestId:)", re.DOTALL)

T = TypeVar("T")


class StoreError(OSError):
    """An object store did not answer, however often it was asked, or refused; the message is one line."""


def retrying(name: str, action: Callable[[], T], sleep: Callable[[float], None] | None = None) -> T:
    """Return what an action returns, trying it again after what may pass by itself; it must be safe to repeat.

    It is called ATTEMPTS times at most; three times where it takes longer than GIVE_UP_S.

    Raises:
        StoreError: it never went through, or the store refuses it.
    """
    started, attempts, reason = time.monotonic(), 0, ""
    while attempts < 3 or (attempts < ATTEMPTS and time.monotonic() - started < GIVE_UP_S):
        if attempts:
            (sleep or time.sleep)(wait_s(name, attempts - 1))
        attempts += 1
        try:
            return action()
        except Exception as error:
            found = transient_reason(error)
            if found is None:
                raise _refused(name, error) from None
            reason = found
    seconds = time.monotonic() - started
    raise StoreError(f"{redact(name)}: {reason}, {attempts} times in {seconds:.0f} s; gave up")


def _refused(name: str, error: Exception) -> Exception:
    """Say in one line what the libraries of stores say in their own ways; all else is as it was."""
    for one in _chain(error):
        if isinstance(one, FileNotFoundError | StoreError):
            break
        if type(one).__module__.split(".")[0] in _LIBRARIES:
            return StoreError(f"{redact(name)}: the store refused: {short_text(one)}")
    return error


def short_text(error: BaseException) -> str:
    """Return what a library's error says, on one line, without secrets: a store's own words, if there are any."""
    said = re.sub(r"^Generic \w+ error: ", "", str(error).partition("\n\nDebug source:")[0])
    if answer := _ANSWER.search(said):
        said = f"{answer[1]}: {answer[2]}"
    elif type(error).__module__.split(".")[0] != "obstore" and not isinstance(error, ValueError):
        said = f"{type(error).__name__}: {said}"
    return redact(" ".join(said.split()))[:300].rstrip(" :.")


def wait_s(name: str, attempt: int) -> float:
    """Seconds before the next attempt: half of them by its number, half by a hash, so that readers spread out."""
    longest = min(FIRST_WAIT_S * (1 << attempt), LONGEST_WAIT_S)
    fraction = int.from_bytes(hashlib.blake2b(f"{name}/{attempt}".encode(), digest_size=4).digest(), "big") / 2**32
    return longest * (0.5 + 0.5 * fraction)


def transient_reason(error: BaseException) -> str | None:
    """Say in a few words what may pass by itself; None for what will not."""
    for one in _chain(error):
        status, is_stores = _status(one), type(one).__module__.split(".")[0] == "obstore"
        if is_stores and _REPEATED.search(str(one)):  # by obstore itself: a part of a large write
            return None
        if status is not None:
            return f"HTTP status {status}" if status in STATUSES else None
        if is_stores and "HTTP error: " in str(one):
            found = _BROKEN.findall(str(one))
            return next((text for text in found[-1] if text), "") if found else short_text(one)
        if not is_stores and _is_broken_connection(one):
            return redact(" ".join(f"{type(one).__name__}: {one}".split()))[:200].rstrip(": ")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes; smart-open keeps a store's own one in an attribute."""
    seen: list[BaseException] = []
    one: BaseException | None = error
    while isinstance(one, BaseException) and one not in seen:
        seen.append(one)
        yield one
        context = None if one.__suppress_context__ else one.__context__
        one = getattr(one, "backend_error", None) or one.__cause__ or context


def _status(error: BaseException) -> int | None:
    if type(error).__module__.split(".")[0] == "obstore":
        said = _SAID.search(str(error).partition("\n\nDebug source:")[0])
        return None if said is None else int(said[1] or (said[2] if said[2].isdigit() else _CODES.get(said[2], 400)))
    found = getattr(getattr(error, "response", None), "status_code", getattr(error, "code", None))
    return found if isinstance(found, int) and found >= 400 else None


def _is_broken_connection(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError | http.client.HTTPException):
        return True
    return any(kind.__name__ in _NAMES and kind.__module__.split(".")[0] in _LIBRARIES for kind in type(error).__mro__)
