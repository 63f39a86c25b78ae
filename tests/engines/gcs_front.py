"""Google's XML interface before fake-gcs-server, which knows the JSON one alone; obstore speaks XML.

Objects, conditions and listings are fake-gcs-server's. Uploads in parts are kept here until they are complete.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import itertools
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

from tests.support.serving import serving

_JSON = re.compile(r"/(?:storage|upload|download|batch|resumable|_internal)/")
_NOT_PASSED_ON = ("connection", "content-length", "host", "transfer-encoding")

Answer = tuple[int, dict[str, str], bytes]


class Front(http.server.ThreadingHTTPServer):
    """Answers what obstore asks; what is of the JSON interface is passed on as it is."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        """Begin without uploads."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urllib.parse.urlsplit(upstream).netloc
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.numbers, self.lock = itertools.count(1), threading.Lock()

    def handle_error(self, *_: Any) -> None:
        """Connections that a client gives up are no news here."""

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        """Ask fake-gcs-server."""
        with contextlib.closing(http.client.HTTPConnection(self.upstream, timeout=30)) as store:
            store.request(method, path, body or None, headers or {})
            answer = store.getresponse()
            data = answer.read()
            return answer.status, dict(answer.getheaders()), data


@contextlib.contextmanager
def xml_front(upstream: str) -> Iterator[str]:
    """Run the front; yield its address."""
    server = Front(upstream)
    with serving(server):
        yield server.address


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Front
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        if len(body) < size:  # the client died
            self.close_connection = True
            return
        status, headers, data = self._ask(body)
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _NOT_PASSED_ON:
                self.send_header(name, value)
        length = len(data)
        if self.command == "HEAD":
            length = int({name.lower(): value for name, value in headers.items()}.get("content-length", 0))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _answer

    def _ask(self, body: bytes) -> Answer:
        if _JSON.match(self.path):
            sent = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_PASSED_ON}
            return self.server.ask(self.command, self.path, sent, body)
        url = urllib.parse.urlsplit(self.path)
        bucket, _, key = url.path[1:].partition("/")
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        if not key:
            return self._list(bucket, query)
        if self.command in ("GET", "HEAD"):
            return self._get(bucket, key)
        if "uploads" in query or "uploadId" in query:
            return self._in_parts(bucket, key, query, body)
        if self.command == "DELETE":
            status, _, data = self.server.ask("DELETE", f"/storage/v1/b/{bucket}/o/{key}")
            return (204, {}, b"") if status < 300 else self._failed(status, bucket, data)
        return self._put(bucket, key, body, self.headers.get("x-goog-if-generation-match"))

    def _get(self, bucket: str, key: str) -> Answer:
        sent = {name: self.headers[name] for name in ("Range", "Accept-Encoding") if name in self.headers}
        answer = self.server.ask(self.command, f"/download/storage/v1/b/{bucket}/o/{key}", sent)
        if answer[0] == 404:
            return self._failed(404, bucket, b"NoSuchKey")
        if self.headers.get("If-Match") not in (None, answer[1].get("Etag")):
            return self._failed(412, bucket, b"PreconditionFailed")
        return answer

    def _put(self, bucket: str, key: str, body: bytes, generation: str | None = None) -> Answer:
        condition = "" if generation is None else f"&ifGenerationMatch={generation}"
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={key}{condition}"
        status, _, data = self.server.ask("POST", path, {"Content-Type": "application/octet-stream"}, body)
        if status >= 300:
            return self._failed(status, bucket, data)
        made = json.loads(data)
        return 200, {"ETag": f'"{made["etag"]}"', "x-goog-generation": made["generation"]}, b""

    def _in_parts(self, bucket: str, key: str, query: dict[str, str], body: bytes) -> Answer:
        uploads, upload = self.server.uploads, query.get("uploadId", "")
        if "uploads" in query:
            upload = str(next(self.server.numbers))
            uploads[upload] = {}
            return _xml(f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>")
        if upload not in uploads:
            return self._failed(404, bucket, b"NoSuchUpload")
        if self.command == "PUT":
            uploads[upload][int(query["partNumber"])] = body
            return 200, {"ETag": f'"{upload}-{query["partNumber"]}"'}, b""
        parts = uploads[upload]
        if self.command == "DELETE":
            del uploads[upload]
            return 204, {}, b""
        answer = self._put(bucket, key, b"".join(parts[number] for number in sorted(parts)))
        if answer[0] != 200:
            return answer
        # It stays, as at Google's, where completing it again is no error.
        return _xml(f"<CompleteMultipartUploadResult><ETag>{answer[1]['ETag']}</ETag></CompleteMultipartUploadResult>")

    def _list(self, bucket: str, query: dict[str, str]) -> Answer:
        start = query.get("start-after", "")
        asked = {
            "prefix": query.get("prefix", ""), "startOffset": start, "pageToken": query.get("continuation-token", ""),
            "maxResults": "1000",
        }  # fmt: skip
        status, _, data = self.server.ask("GET", f"/storage/v1/b/{bucket}/o?{urllib.parse.urlencode(asked)}")
        if status >= 300:
            return self._failed(status, bucket, data)
        found = json.loads(data)
        items = "".join(
            f"<Contents><Key>{escape(one['name'])}</Key><Size>{one['size']}</Size><ETag>{one['etag']}</ETag>"
            f"<LastModified>{one['updated']}</LastModified></Contents>"
            for one in found.get("items", ())
            if one["name"] != start
        )
        more = found.get("nextPageToken", "")
        if more:
            items += f"<NextContinuationToken>{escape(more)}</NextContinuationToken>"
        return _xml(f"<ListBucketResult><IsTruncated>{str(bool(more)).lower()}</IsTruncated>{items}</ListBucketResult>")

    def _failed(self, status: int, bucket: str, data: bytes) -> Answer:
        code = data.decode(errors="replace")
        if status == 404 and self.server.ask("GET", f"/storage/v1/b/{bucket}")[0] == 404:
            code = "NoSuchBucket"
        said = f"<Error><Code>{escape(code)}</Code><Message>as the store has it</Message></Error>"
        return status, {"Content-Type": "application/xml"}, said.encode()


def _xml(text: str) -> Answer:
    return 200, {"Content-Type": "application/xml"}, f"<?xml version='1.0' encoding='UTF-8'?>{text}".encode()
