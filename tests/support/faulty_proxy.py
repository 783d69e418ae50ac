"""An HTTP proxy in front of an S3 server that does to each request what its script says."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"


class FaultyProxy(ThreadingHTTPServer):
    """`fault(method, path)` says what becomes of a request: None, '503', 'slow', 'drop' or 'expired'."""

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.fault: Callable[[str, str], str | None] = lambda method, path: None
        self.faults: list[tuple[str, str, str]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FaultyProxy
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        """Say nothing."""

    def handle_expect_100(self):
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def handle_request(self):
        with self.server.lock:
            fault = self.server.fault(self.command, self.path)
            if fault:
                self.server.faults.append((fault, self.command, self.path))
        length = int(self.headers.get("Content-Length", 0))
        if fault == "drop":
            self.rfile.read(length // 2)
            self.close_connection = True
            self.connection.close()
            return
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
        content = self._chunks() if chunked else self.rfile.read(length)
        if fault == "slow":
            time.sleep(1.5)
        if fault == "503":
            self._refuse(503, "SlowDown", "Please reduce your request rate.")
        elif fault == "expired":
            self._refuse(400, "ExpiredToken", "The provided token has expired.")
        else:
            self._forward(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_request

    def _chunks(self):
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return content

    def _forward(self, content):
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        framing = ("transfer-encoding", "content-length")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in framing}
        upstream.request(self.command, self.path, content, headers)
        answer = upstream.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(body)
        upstream.close()

    def _refuse(self, status, code, message):
        body = ERROR.format(code=code, message=message).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def faulty_proxy(upstream: str):
    """Serve a proxy on loopback."""
    proxy = FaultyProxy(upstream)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    yield proxy
    proxy.shutdown()
    proxy.server_close()
