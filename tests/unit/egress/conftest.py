"""A real HTTP server on loopback whose every answer a test writes, and the policies that the tests share."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fyretoolkit.egress.urls import Policy, policy_from
from fyretoolkit.settings import EgressSettings, Settings

Answer = Callable[[BaseHTTPRequestHandler], None]


class Origin:
    """A server on 127.0.0.1: `routes` maps a path (without query) to the function that answers it."""

    def __init__(self) -> None:
        self.routes: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.is_closing = threading.Event()
        origin = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                origin.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                origin.routes[self.path.partition("?")[0]](self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Keeps the test output clean."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, request: object, client_address: object) -> None:
                """Clients hang up in the middle here; that is what is tested."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self.is_closing.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def answer(self, path: str, status: int, body: bytes = b"", **headers: str) -> None:
        """Makes `path` answer at once; `content_type=` becomes the header Content-Type."""

        def respond(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.routes[path] = respond


@pytest.fixture
def origin() -> Iterator[Origin]:
    server = Origin()
    yield server
    server.close()


class Trap:
    """A listener that nothing may connect to."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    def is_untouched(self) -> bool:
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    listener = Trap()
    yield listener
    listener.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The one folder that file URLs may name."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(tmp_path: Path, root: Path) -> Settings:
    return Settings(
        home=root / "home",
        redis_url="unix:///nowhere",
        egress=EgressSettings(development_file_roots=(root,)),
    )


@pytest.fixture
def development(settings: Settings) -> Policy:
    return policy_from(settings)


@pytest.fixture
def production(settings: Settings) -> Policy:
    return policy_from(settings.model_copy(update={"mode": "production"}))
