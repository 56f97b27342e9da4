"""A browser tab as the server sees it, without the browser: its HTTP requests, its WebSocket, and the widgets it was
sent. For what no browser sends, and for what takes many tabs."""

from __future__ import annotations

import http.client
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import ClientConnection, connect

WAIT = 60.0  # seconds for a run to end: the first loads torch and the net


class Visitor:
    """Somebody at ``address``; ``session`` is that of a tab whose connection was lost, as the browser would name it.

    ``elements`` are those that the page shows now, by their place; ``headers`` replace those of a browser.
    """

    def __init__(self, address: str, *, session: str = "", headers: dict[str, str | None] | None = None) -> None:
        self.address, self.session, self.query, self.elements = address, "", "", {}
        self.finished: list[int] = []  # how each run ended
        self.kinds: set[str] = set()  # of messages that came
        self.cookie = xsrf_cookie(address)
        self.socket = open_socket(address, self.cookie, session, headers)

    def __enter__(self) -> Visitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def visit(self, query: str = "", page: str = "", wait: float = WAIT) -> Visitor:
        """Open a page by a link, and wait until it is drawn."""
        self.ask(query, page)
        return self.until_drawn(wait)

    def ask(self, query: str = "", page: str = "", widgets: list[WidgetState] | None = None) -> None:
        self.query = query
        message = BackMsg()
        message.rerun_script.query_string = query
        message.rerun_script.page_name = page
        message.rerun_script.widget_states.widgets.extend(widgets or [])
        self.socket.send(message.SerializeToString())

    def until_drawn(self, wait: float = WAIT) -> Visitor:
        runs = len(self.finished)
        self.until(lambda: len(self.finished) > runs and self.finished[-1] != ForwardMsg.FINISHED_EARLY_FOR_RERUN, wait)
        return self

    def until(self, seen: Callable[[], bool], wait: float = WAIT) -> None:
        """Take what the server sends until ``seen``."""
        end = time.monotonic() + wait
        while not seen():
            self.take(self.socket.recv(timeout=max(end - time.monotonic(), 0.001)))

    def take(self, data: str | bytes) -> ForwardMsg:
        message = ForwardMsg()
        message.ParseFromString(data if isinstance(data, bytes) else data.encode())
        kind = message.WhichOneof("type")
        self.kinds.add(kind)
        if kind == "new_session":
            self.session = message.new_session.initialize.session_id or self.session
            if not message.metadata.run.fragment_ids:
                self.elements = {}
        elif kind == "delta" and message.delta.HasField("new_element"):
            self.elements[tuple(message.metadata.delta_path)] = message.delta.new_element
        elif kind == "delta":
            self.elements.pop(tuple(message.metadata.delta_path), None)
        elif kind == "script_finished":
            self.finished.append(message.script_finished)
        return message

    def shown(self, kind: str) -> list[Any]:
        """The elements of this kind, such as "markdown", "alert", "exception", "imgs", from top to bottom."""
        places = sorted(place for place, element in self.elements.items() if element.WhichOneof("type") == kind)
        return [getattr(self.elements[place], kind) for place in places]

    def widget(self, kind: str, label: str) -> Any:
        return next(widget for widget in self.shown(kind) if widget.label == label)

    def words(self) -> str:
        return "\n".join(part.body for kind in ("markdown", "alert") for part in self.shown(kind))

    def pictures(self) -> list[str]:
        """The addresses of the pictures on the page; that of each ends in a digest of its bytes."""
        return [picture.url for shown in self.shown("imgs") for picture in shown.imgs]

    def upload(self, data: bytes, name: str = "photo.png", session: str = "", **options: Any) -> tuple[int, str]:
        """PUT a file under a new number; the status, and the number."""
        number = str(uuid.uuid4())
        place = f"/_stcore/upload_file/{session or self.session}/{number}"
        body, headers = multipart([(name, data)])
        return request(self.address, "PUT", place, body, headers | self.token | options.get("headers", {}))[0], number

    @property
    def token(self) -> dict[str, str]:
        """The headers that show that a page of this server sends the request."""
        return {"Cookie": f"_streamlit_xsrf={self.cookie}", "X-Xsrftoken": self.cookie}


def open_socket(
    address: str, cookie: str = "", session: str = "", headers: dict[str, str | None] | None = None
) -> ClientConnection:
    """The connection that the page opens. A name in ``headers`` replaces the browser's own header."""
    host = urlsplit(address).netloc
    sent = {"Origin": address, "Host": host, "Cookie": f"_streamlit_xsrf={cookie}"} | (headers or {})
    return connect(
        f"ws://{sent.pop('Host')}/_stcore/stream",
        sock=socket.create_connection(("127.0.0.1", urlsplit(address).port), timeout=10),
        origin=sent.pop("Origin"),
        additional_headers={name: value for name, value in sent.items() if value is not None},
        subprotocols=[part for part in ("streamlit", cookie or "none", session) if part],
        compression=None,
        max_size=None,
        ping_interval=None,  # a tab that is not read does not hear the answer
        proxy=None,
        legacy=True,  # a connection, not a context manager: it lives as long as the visitor
    )


def request(
    address: str, method: str, place: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer."""
    with connection(address) as server:
        server.request(method, place, body, headers or {})
        answer = server.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@contextmanager
def connection(address: str) -> Iterator[http.client.HTTPConnection]:
    server = http.client.HTTPConnection("127.0.0.1", urlsplit(address).port, timeout=30)
    try:
        yield server
    finally:
        server.close()


def is_healthy(address: str) -> bool:
    return request(address, "GET", "/_stcore/health")[::2] == (200, b"ok")


def process_of(home: Path) -> int:
    """The number of the server's process that lives in ``home``."""
    mark = f"HOME={home}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
    raise ProcessLookupError(home)


def megabytes(home: Path) -> float:
    """What that process takes of memory now."""
    pages = int(Path(f"/proc/{process_of(home)}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def xsrf_cookie(address: str) -> str:
    headers = request(address, "GET", "/_stcore/health")[1]
    found = re.search(r"_streamlit_xsrf=([^;]+)", headers.get("set-cookie", ""))
    assert found, headers
    return found[1]


def multipart(files: list[tuple[str, bytes]]) -> tuple[bytes, dict[str, str]]:
    """A form with these files, and the header that says so."""
    edge = "edge-" + uuid.uuid4().hex
    parts = [
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        f"Content-Type: image/png\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files
    ]
    return b"".join([*parts, f"--{edge}--\r\n".encode()]), {"Content-Type": f"multipart/form-data; boundary={edge}"}
