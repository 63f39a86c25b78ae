"""Servers inside the process of a test, on loopback: any of Python's own, and a stand-in for S3."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """Answer requests until the block ends, whatever happens."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def moto_s3() -> Iterator[str]:
    """Run moto's server; its address. Servers of one process share their buckets and users."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()
