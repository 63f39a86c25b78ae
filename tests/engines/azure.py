"""What an account's owner does at Azure's store before anybody uses it: make a container, give out limited rights."""

from __future__ import annotations

import base64
import datetime
import email.utils
import hashlib
import hmac
import urllib.parse
import urllib.request

ACCOUNT = "testaccount"
_VERSION = "2020-10-02"


def _sign(text: str, key: str) -> str:
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()


def make_container(address: str, name: str, key: str) -> None:
    """Make a container, as the owner of the account's key."""
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": _VERSION}
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
    headers["Authorization"] = f"SharedKey {ACCOUNT}:" + _sign(
        "\n".join([*lines, f"/{ACCOUNT}/{ACCOUNT}/{name}", "restype:container"]), key
    )
    url = f"{address}/{ACCOUNT}/{name}?restype=container"
    urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=30).close()


def limited(container: str, rights: str, key: str) -> str:
    """Return a shared access signature for a container: some of r, a, c, w, d and l, in this order."""
    end = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = [rights, "", end, f"/blob/{ACCOUNT}/{container}", "", "", "", _VERSION, "c", *[""] * 6]
    query = {"sp": rights, "se": end, "sv": _VERSION, "sr": "c", "sig": _sign("\n".join(fields), key)}
    return urllib.parse.urlencode(query)
