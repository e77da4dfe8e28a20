"""A file server on the loopback interface that knows byte ranges, and breaks off where a test wants it to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Web(ThreadingHTTPServer):
    """Serves the files of a folder.

    Attributes:
        requests: path, Range and If-Range of every request, in order.
        break_after: bytes of each answer after which the connection is cut; 0 never cuts.
        hold_after: bytes of each answer after which it stands still until `go_on` is set; 0 never does.
        go_on: see `hold_after`.
        tag: ETag of every file; "" sends none.
        page: answer with this web page instead.
        say_length: whether answers have a Content-Length.
        lie: bytes that answers have fewer than their Content-Length says.
        status: answer with this status instead, unless it is 0.
        location: where answers of a status redirect to.
        passwords: the Authorization of every request, in order.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.requests: list[tuple[str, str | None, str | None]] = []
        self.break_after = 0
        self.hold_after = 0
        self.go_on = threading.Event()
        self.tag = '"one"'
        self.page = ""
        self.say_length = True
        self.lie = 0
        self.status = 0
        self.location = ""
        self.passwords: list[str | None] = []

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        self.server.requests.append((self.path, wanted, condition))
        self.server.passwords.append(self.headers.get("Authorization"))
        path = self.server.folder / self.path.lstrip("/")
        if self.server.status:
            self._answer(self.server.status, b"", {"Location": self.server.location} if self.server.location else {})
            return
        if self.server.page:
            self._answer(200, self.server.page.encode(), {"Content-Type": "text/html; charset=utf-8"})
        elif not path.is_file():
            self.send_error(404)
        else:
            self._send_file(path.read_bytes(), wanted if condition in (None, self.server.tag) else None)

    def _send_file(self, content: bytes, wanted: str | None) -> None:
        headers = {"ETag": self.server.tag} if self.server.tag else {}
        if wanted is None:
            self._answer(200, content, headers)
            return
        first = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if first >= len(content):
            self.send_error(416)
            return
        headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self._answer(206, content[first:], headers)

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.server.say_length:
            self.send_header("Content-Length", str(len(content) + self.server.lie))
        self.end_headers()
        limit = self.server.break_after or len(content)
        for start in range(0, min(limit, len(content)), 1 << 16):
            try:
                self.wfile.write(content[start : min(start + (1 << 16), limit)])
            except OSError:
                break
            if 0 < self.server.hold_after <= start + (1 << 16):
                self.server.go_on.wait()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[None]:
    """Let a server answer for the `with` block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serve(folder: Path) -> Iterator[Web]:
    """A server of a folder that runs for the `with` block."""
    server = Web(folder)
    with running(server):
        try:
            yield server
        finally:
            server.go_on.set()
