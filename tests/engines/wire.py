"""What can go wrong between us and a store: toxiproxy for connections, and a proxy of our own for answers."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import socket
import struct
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.engines import install, servers
from tests.support.serving import serving

TOXIPROXY = ("github.com/Shopify/toxiproxy/v2/cmd/server", "v2.12.0", "server")

#: What our proxy may do with a request instead of passing it on and its answer back.
ANSWERS = ("503", "429", "truncated", "lost", "reset")
#: What it may do as well: send the store half of a request's body, and kill who sends it.
KILLED = "killed"


class Toxiproxy:
    """A running toxiproxy with one proxy, to the store."""

    def __init__(self, api: int, port: int, upstream: str) -> None:
        """Begin without any toxic."""
        self._api, self.address = f"http://127.0.0.1:{api}", f"http://127.0.0.1:{port}"
        self._ask("/proxies", {"name": "store", "listen": f"127.0.0.1:{port}", "upstream": upstream, "enabled": True})

    def poison(self, kind: str, stream: str, toxicity: float = 1.0, **attributes: int) -> None:
        """Add a toxic to some connections, "upstream" (what we send) or "downstream"."""
        toxic = {"type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes}
        self._ask("/proxies/store/toxics", toxic)

    def enable(self, enabled: bool) -> None:
        """Refuse connections, or accept them again."""
        self._ask("/proxies/store", {"enabled": enabled})

    def reset(self) -> None:
        """Remove all toxics."""
        self._ask("/reset", {})

    def _ask(self, path: str, body: dict[str, Any]) -> None:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._api + path, json.dumps(body).encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=10):
            pass


@contextlib.contextmanager
def toxiproxy(upstream: str, folder: Path) -> Iterator[Toxiproxy]:
    """Run toxiproxy before a store."""
    api = servers.free_port()
    command = [str(install.go_tool(*TOXIPROXY)), "-host", "127.0.0.1", "-port", str(api), "-seed", "1"]
    with servers.started(command, folder / "toxiproxy.log", lambda: servers.listens(api)):
        yield Toxiproxy(api, servers.free_port(), urllib.parse.urlsplit(upstream).netloc)


class Faulty(http.server.ThreadingHTTPServer):
    """Passes requests on to the store, but as rules say, which name one of ANSWERS, or None.

    Attributes:
        rule: asked with a request's number, from 1, and its method.
        path_rule: asked with its method and path.
        kill: kills who sends requests.
    """

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        """Begin without a fault."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urllib.parse.urlsplit(upstream).netloc
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.lock, self.requests, self.faults = threading.Lock(), 0, 0
        self.rule: Callable[[int, str], str | None] = lambda *_: None
        self.path_rule: Callable[[str, str], str | None] = lambda *_: None
        self.kill: Callable[[], object] = lambda: None

    def fault(self, method: str, path: str) -> str | None:
        """Count a request, and say what shall go wrong with it."""
        with self.lock:
            self.requests += 1
            found = self.rule(self.requests, method) or self.path_rule(method, path)
            self.faults += found is not None
            return found

    def handle_error(self, *_: Any) -> None:
        """Connections that a client gives up are no news here."""


@contextlib.contextmanager
def faulty(upstream: str) -> Iterator[Faulty]:
    """Run our proxy before a store."""
    server = Faulty(upstream)
    with serving(server):
        yield server


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Faulty
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        fault = self.server.fault(self.command, urllib.parse.unquote(self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault == KILLED:
            self.server.kill()
            with contextlib.closing(self._begin()) as store:
                store.endheaders(body[: len(body) // 2])
            self._hang_up()
        elif fault == "reset":
            self._hang_up()
        elif fault is not None and fault.isdigit():
            said = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
            self._send(int(fault), [("Content-Type", "application/xml")], said, len(said))
        else:
            self._pass_on(body, fault)

    def _pass_on(self, body: bytes, fault: str | None) -> None:
        with contextlib.closing(self._begin()) as store:
            store.endheaders(body)
            answer = store.getresponse()
            data = answer.read()
        if fault == "lost":
            self._hang_up()
            return
        length = int(answer.headers.get("Content-Length") or len(data))
        cut = data[: len(data) // 2] if fault == "truncated" else data
        self._send(answer.status, answer.getheaders(), cut, length)

    def _begin(self) -> http.client.HTTPConnection:
        store = http.client.HTTPConnection(self.server.upstream, timeout=30)
        store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "expect"):
                store.putheader(name, value)
        return store

    def _send(self, status: int, headers: list[tuple[str, str]], data: bytes, length: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)
        if len(data) < length and self.command != "HEAD":
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _hang_up(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer
