"""A real web server on the loopback interface, which can be told to misbehave."""

from __future__ import annotations

import contextlib
import http.server
import re
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path


class _QuietServer(http.server.ThreadingHTTPServer):
    """A client that has gone is no news."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class WebServer:
    """Serves a folder, with ranges; what it does wrong is planned request by request.

    Attributes:
        folder: what it serves.
        asked: the path and the headers of each request, in order.
        plans: for each path, what to do at its next requests; each is a function of the handler
            and of the content that should be sent. The last of `always` stays.
        always: as `plans`, for every request of a path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.plans = defaultdict(list)
        self.always = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):  # noqa: N802
                outer.asked.append((self.path, dict(self.headers)))
                plan = outer.plans[self.path].pop(0) if outer.plans[self.path] else None
                plan = plan or outer.always.get(self.path) or send
                file = outer.folder / self.path.lstrip("/")
                content = file.read_bytes() if file.is_file() else None
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    plan(self, content)

            def log_message(self, *arguments):
                pass

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def count(self, ending: str) -> int:
        """How many requests there were for paths with this ending."""
        return sum(path.endswith(ending) for path, _ in self.asked)

    def stop(self) -> None:
        """No connection is taken any more."""
        self._server.shutdown()
        self._server.server_close()


def _part(handler, content):
    """The bytes that a request wants, and the headers that say so."""
    wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    start = int(wanted[1]) if wanted else 0
    headers = {"Content-Length": str(len(content) - start)}
    if wanted:
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return 206 if wanted else 200, headers, content[start:]


def _begin(handler, status, headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()


def send(handler, content):
    """What a good server does."""
    if content is None:
        return refuse(404)(handler, content)
    status, headers, body = _part(handler, content)
    if not body and status == 206:
        return refuse(416)(handler, content)
    _begin(handler, status, headers)
    handler.wfile.write(body)
    return None


def cut(after):
    """Breaks off after so many bytes of the body."""

    def plan(handler, content):
        status, headers, body = _part(handler, content)
        _begin(handler, status, headers)
        handler.wfile.write(body[:after])
        handler.close_connection = True

    return plan


def refuse(status, **headers):
    """Answers with an error."""

    def plan(handler, content):
        _begin(handler, status, {"Content-Length": "0", **headers})

    return plan


def redirect(address, status=302):
    """Sends the client elsewhere."""
    return refuse(status, Location=address)


def other(content):
    """Sends something else."""
    return lambda handler, _: send(handler, content)


def whole(handler, content):
    """Knows nothing of ranges."""
    _begin(handler, 200, {"Content-Length": str(len(content))})
    handler.wfile.write(content)


def endless(handler, content):
    """Says no length, and sends more than there should be."""
    _begin(handler, 200, {"Connection": "close"})
    handler.close_connection = True
    for _ in range(2000):
        handler.wfile.write(bytes(10_000))


def trickle(handler, content):
    """Sends a byte now and then."""
    status, headers, body = _part(handler, content)
    _begin(handler, status, headers)
    for byte in body:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.05)


def steady(pieces, pause):
    """Sends the body slowly, but steadily."""

    def plan(handler, content):
        status, headers, body = _part(handler, content)
        _begin(handler, status, headers)
        step = -(-len(body) // pieces)
        for start in range(0, len(body), step):
            handler.wfile.write(body[start : start + step])
            time.sleep(pause)

    return plan


def silent(handler, content):
    """Takes the request, and never answers."""
    time.sleep(5)
    handler.close_connection = True
