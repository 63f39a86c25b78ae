"""Keeping names and passwords out of messages and logs."""

from __future__ import annotations

import logging
import re

_SCHEME = r"(?P<scheme>\b[A-Za-z][\w+.-]*://)"
#: Where there are no ports, as in buckets' URIs, "name:" begins a secret, which may hold slashes.
_PORT = r"(?!(?<!s3://)(?<!gs://)(?<!gcs://)(?<!az://)(?<!abfs://)(?<!abfss://)\[?[\w.:-]+\]?:\d+(?:/|\s|$))"
#: abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/… is how Azure's containers are called.
_CONTAINER = r"(?!(?:(?<=abfs://)|(?<=abfss://))[\w-]+@[\w.-]+(?:/|\s|$))"
_USER = re.compile(rf"{_SCHEME}{_PORT}{_CONTAINER}(?:[^\s/]*@|[^\s/:@]*:[^\s]*@)", re.IGNORECASE)
_QUERY = re.compile(r"(?P<uri>\bhttps?://[^\s?'\"]*\?)[^\s'\"]+", re.IGNORECASE)

#: They write whole URIs, or the headers of requests, at debug level.
_LIBRARIES = ("azure", "botocore", "google", "smart_open", "urllib3")


def redact(text: str) -> str:
    """Return a URI, or a text with some in it, without users' names and passwords, and without web addresses' queries.

    Signed addresses carry their right in the query.
    """
    if "://" not in text:
        return text
    return _QUERY.sub(r"\g<uri>***", _USER.sub(r"\g<scheme>***@", text))


def has_user(uri: str) -> bool:
    """Tell whether a URI holds a user's name or a password."""
    return _USER.match(uri) is not None


def quieten_libraries() -> None:
    """Keep the stores' libraries from writing at debug level, unless that was asked for by their own names."""
    for name in _LIBRARIES:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(max(logging.INFO, logger.getEffectiveLevel()))
