"""The server as it is started for a class, and what no browser would send it: after each the server is well, and
whoever else is there goes on. U4 to U13 are rows of the list of bad inputs.

Every request here is plain HTTP or a plain WebSocket, to a process of its own.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from browser import ROOT, serve
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from visitor import Visitor, connection, is_healthy, megabytes, multipart, open_socket, request
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app_pages import gate

pytestmark = pytest.mark.xdist_group("server")

HOST = "lens.example"  # by which the world knows this server
GATED = """
import streamlit as st
from starlette.middleware import Middleware
from app_pages.gate import Gate

if __name__ == "__main__":
    st.title("Here")
else:
    app = st.App(__file__, middleware=[Middleware(Gate)])
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def lens(home: Path) -> Iterator[str]:
    """The address of the app, which knows by which names it may be called, as the page on deployment says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STREAMLIT_SERVER_ALLOWED_HOSTS", f"localhost {HOST}")
        with serve(ROOT / "app.py", home) as address:
            yield address


@pytest.fixture
def neighbour(lens: str) -> Iterator[Visitor]:
    """Somebody who is there before, during and after, and notices nothing."""
    with Visitor(lens) as other:
        before = other.visit().pictures()
        yield other
        assert is_healthy(lens)
        other.ask()
        assert other.until_drawn().pictures() == before
        assert not other.shown("exception")


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page behind the gate, for the public."""
    home = tmp_path_factory.mktemp("gated")
    (home / "page.py").write_text(GATED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNN_LENS_PUBLIC", "1")
        with serve(home / "page.py", home) as address:
            yield address


# ---- addresses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    ["x=" + "a" * 600 * 1024, "&".join(f"k{k}=1" for k in range(1001)), "model=%ff&picture=%00&class=%fe%ff&x=%zz"],
    ids=["600 KiB", "1001 fields", "no UTF-8"],
)
def test_a_query_that_is_too_long_or_no_text_shows_the_page_without_it(  # U4, U5
    lens: str, neighbour: Visitor, query: str
) -> None:
    with Visitor(lens) as visitor:
        assert visitor.visit(query).pictures() == neighbour.pictures()
        assert not visitor.shown("exception")


@pytest.mark.usefixtures("neighbour")
def test_an_address_of_600_kib_is_not_taken_from_http(lens: str) -> None:  # U4
    try:
        status = request(lens, "GET", "/?" + "a" * 600 * 1024)[0]
    except ConnectionError:  # it hangs up in the middle
        status = 400
    assert status == 400


@pytest.mark.parametrize("page", ["nowhere", "../admin", "layers/../../x", "\0"])
def test_a_page_that_is_none_is_said_to_be_missing_and_the_first_is_shown(lens: str, page: str) -> None:  # U7
    with Visitor(lens) as visitor:
        visitor.visit(page=page)
        assert "page_not_found" in visitor.kinds
        assert visitor.shown("heading")[0].body == "Overview"
        assert not visitor.shown("exception")


@pytest.mark.parametrize(
    "place",
    [
        "/../app.py",
        "/%2e%2e/app.py",
        "/media/../../../etc/passwd",
        "/media/%2e%2e%2f%2e%2e%2fetc/passwd",
        "/component/streamlit_drawable_canvas.st_canvas/../../../etc/passwd",
        "//host/x",
        "/media/\\\\host\\x",
        "/app/static/app.py",
        "/.streamlit/config.toml",
        "/models/weights/SHA256SUMS",
    ],
)
def test_no_address_gives_a_file_of_the_server(lens: str, place: str) -> None:  # U7
    status, _, body = request(lens, "GET", place)
    assert status in (400, 404) or b"<title>Streamlit</title>" in body  # the page itself, which looks for that address


# ---- widgets ------------------------------------------------------------------------------------------------


def forged(widget: Any, **values: Any) -> WidgetState:
    """The state of a widget as a browser would send it, with any value."""
    state = WidgetState(id=widget.id)
    for name, value in values.items():
        if isinstance(value, list):
            getattr(state, name).data.extend(value)
        else:
            setattr(state, name, value)
    return state


OUTSIDE = (
    ("", "selectbox", "Model", {"string_value": "nowhere"}),
    ("", "selectbox", "Sample", {"string_value": "file:///etc/passwd"}),
    ("", "selectbox", "Class", {"string_value": "<script>alert(1)</script>" * 1000}),
    ("", "button_group", "Picture", {"string_array_value": ["Draw", "nowhere"]}),
    ("layers", "number_input", "Channel", {"double_value": -1.0}),
    ("layers", "number_input", "Channel", {"double_value": 1e308}),
    ("heatmaps", "slider", "Blend", {"double_array_value": [1e12]}),
    ("heatmaps", "slider", "Blend", {"double_array_value": [math.nan]}),
    ("heatmaps", "multiselect", "Classes", {"string_array_value": ["nowhere", "<script>"]}),
    ("embedding", "number_input", "Seed", {"double_value": -1.0}),
    ("embedding", "slider", "Copies of each photo", {"double_array_value": [10e9]}),
    ("own_network", "button", "Take and examine it", {"trigger_value": True}),  # it is disabled
)


@pytest.mark.parametrize(("page", "kind", "label", "value"), OUTSIDE)
def test_a_value_that_its_widget_does_not_offer_changes_nothing(  # U10
    lens: str, page: str, kind: str, label: str, value: dict[str, Any]
) -> None:
    with Visitor(lens) as visitor:
        before = visitor.visit(page=page).pictures()
        visitor.ask(page=page, widgets=[forged(visitor.widget(kind, label), **value)])
        assert not visitor.until_drawn().shown("exception")
        assert set(before) <= set(visitor.pictures())


@pytest.mark.parametrize(
    "value",
    [
        {"string_value": "x"},
        {"bytes_value": b"\xff\x00"},
        {"json_value": "{a"},
        {"double_value": math.nan},
        {"int_value": 2**62},
    ],
)
@pytest.mark.parametrize("page", ["", "layers"])
def test_a_value_of_another_type_is_trouble_for_its_sender_alone(  # U10
    lens: str, neighbour: Visitor, page: str, value: dict[str, Any]
) -> None:
    with Visitor(lens) as visitor:
        visitor.visit(page=page)
        every = [element for kind in ("selectbox", "button_group", "number_input") for element in visitor.shown(kind)]
        visitor.ask(page=page, widgets=[forged(widget, **value) for widget in every])
        visitor.until_drawn()
        assert all("/" not in shown.message for shown in visitor.shown("exception")), "no path of the server is told"


# ---- messages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code"),
    [(b"\0" * 26 * 2**20, 1009), (b"\xff\xfe\x07" * 99, 1002), ("hello", None), (b"\1" * 70 * 2**20, 1009)],
    ids=["26 MB", "no message", "text", "70 MB"],
)
@pytest.mark.usefixtures("neighbour")
def test_a_frame_that_is_no_message_of_a_page_closes_its_socket(  # U11
    lens: str, home: Path, frame: bytes | str, code: int | None
) -> None:
    before = megabytes(home)
    with Visitor(lens) as visitor:
        with suppress(ConnectionClosed):  # it may close before all is sent
            visitor.socket.send(frame)
        with pytest.raises(ConnectionClosed) as closed:
            visitor.until(lambda: False, 10)
        assert closed.value.rcvd is None or closed.value.rcvd.code == code
    assert megabytes(home) < before + 100


@pytest.mark.usefixtures("neighbour")
def test_nobody_stops_the_server_from_a_page(lens: str) -> None:
    with Visitor(lens) as visitor:
        message = BackMsg()
        message.debug_shutdown_runtime = True
        visitor.socket.send(message.SerializeToString())
        visitor.visit()
        assert is_healthy(lens)


def test_nobody_clears_what_all_share(lens: str, home: Path) -> None:
    with Visitor(lens) as visitor:
        visitor.visit()
        message = BackMsg()
        message.clear_cache = True
        visitor.socket.send(message.SerializeToString())
        visitor.visit()
        time.sleep(0.2)
        turns = (home / "server.log").read_text().count('"method": "scores"')
        visitor.visit()
        message.clear_cache = True
        visitor.socket.send(message.SerializeToString())
        visitor.visit()
        time.sleep(0.2)
        assert (home / "server.log").read_text().count('"method": "scores"') == turns


# ---- uploads ------------------------------------------------------------------------------------------------


def put(address: str, visitor: Visitor, body: bytes, headers: dict[str, str]) -> int:
    return request(address, "PUT", f"/_stcore/upload_file/{visitor.session}/1", body, headers)[0]


def announce(address: str, visitor: Visitor, headers: dict[str, str], body: bytes = b"") -> int:
    """The answer to an upload of which no more than ``body`` follows its headers."""
    with connection(address) as server:
        server.putrequest("PUT", f"/_stcore/upload_file/{visitor.session}/1")
        for name, value in (visitor.token | headers).items():
            server.putheader(name, value)
        server.endheaders(body or None)
        return server.getresponse().status


@pytest.mark.usefixtures("neighbour")
def test_an_upload_needs_a_visit_that_is_there_and_a_page_of_this_server(lens: str) -> None:  # U12
    with Visitor(lens) as visitor:
        visitor.visit()
        body, headers = multipart([("photo.png", b"x" * 100)])
        assert visitor.upload(b"x")[0] == 204
        assert visitor.upload(b"x", session="3f1c0000-0000-4000-8000-000000000000")[0] == 400
        assert put(lens, visitor, body, headers) == 403
        assert put(lens, visitor, body, headers | {"Cookie": "_streamlit_xsrf=a", "X-Xsrftoken": "a"}) == 403
        assert request(lens, "DELETE", f"/_stcore/upload_file/{visitor.session}/1")[0] == 403


@pytest.mark.usefixtures("neighbour")
def test_an_upload_is_one_file_of_the_length_that_was_said(lens: str, home: Path) -> None:  # U12
    with Visitor(lens) as visitor:
        visitor.visit()
        before = megabytes(home)
        body, headers = multipart([(f"photo {k}.png", b"x" * 100) for k in range(50)])
        assert put(lens, visitor, body, headers | visitor.token) == 400
        body, headers = multipart([("photo.png", b"x" * 16 * 2**20)])
        assert announce(lens, visitor, headers | {"Content-Length": "10"}, body[:1000]) == 400  # less than there is
        assert announce(lens, visitor, headers | {"Content-Length": str(10**12)}, body[:1000]) == 413
        assert megabytes(home) < before + 50


def test_one_visit_holds_no_more_than_its_share_even_when_all_comes_at_once(gated: str) -> None:  # U12
    with Visitor(gated) as visitor, Visitor(gated) as other:
        visitor.visit()
        other.visit()
        assert announce(gated, visitor, {"Content-Length": str(231 * 10**6)}) == 413
        slow = [open_upload(gated, visitor, 100 * 10**6) for _ in range(2)]
        try:
            wait_for(lambda: announce(gated, visitor, {"Content-Length": str(100 * 10**6)}) == 413)
            assert visitor.upload(b"x" * 1000)[0] == 204
            assert other.upload(b"x" * 10**6)[0] == 204, "what one visit sends takes nothing from another"
        finally:
            for server in slow:
                server.close()
        wait_for(lambda: visitor.upload(b"x" * 40 * 10**6)[0] == 204)  # who hung up has nothing on the way


def test_an_upload_that_stalls_is_over_and_gives_back_what_it_was_to_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # U12
    monkeypatch.setattr(gate, "STALLED", 0.05)
    monkeypatch.setattr(gate.Gate, "_refusal", lambda self, visit, length: "")
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not heard or heard[-1] != "http.disconnect":
            heard.append((await receive())["type"])

    async def upload() -> None:
        parts = iter([{"type": "http.request", "body": b"x", "more_body": True}] * 3)

        async def receive() -> Any:
            await asyncio.sleep(0.01)
            return next(parts, None) or await asyncio.sleep(60)

        server = gate.Gate(app)
        path = f"{gate.UPLOADS}visit/file"
        scope = {"type": "http", "method": "PUT", "path": path, "headers": [(b"content-length", b"100000000")]}
        taking = asyncio.create_task(server(scope, receive, receive))
        await asyncio.sleep(0.02)
        assert server._arriving.total() == 10**8
        await asyncio.wait_for(taking, 10)
        assert not server._arriving

    with ThreadPoolExecutor(1) as apart:  # browser tests of the same worker have an event loop in this thread
        apart.submit(lambda: asyncio.run(upload())).result()
    assert heard == ["http.request"] * 3 + ["http.disconnect"]


def open_upload(address: str, visitor: Visitor, length: int) -> Any:
    """An upload that has begun and goes no further."""
    body, headers = multipart([("slow.png", b"x" * 1000)])
    server = connection(address).__enter__()
    server.putrequest("PUT", f"/_stcore/upload_file/{visitor.session}/slow")
    for name, value in (visitor.token | headers | {"Content-Length": str(length)}).items():
        server.putheader(name, value)
    server.endheaders(body[:500])
    return server


def wait_for(seen: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_visit_holds_a_hundred_files_and_not_one_more_until_it_removes_one(gated: str) -> None:  # U12
    with Visitor(gated) as visitor:
        visitor.visit()
        numbers = [visitor.upload(b"x") for _ in range(101)]
        assert [status for status, _ in numbers] == [204] * 100 + [413]
        place = f"/_stcore/upload_file/{visitor.session}/{numbers[0][1]}"
        assert request(gated, "DELETE", place, headers=visitor.token)[0] == 204
        assert visitor.upload(b"x")[0] == 204


def test_an_upload_of_unknown_length_is_not_taken(gated: str) -> None:  # U12
    with Visitor(gated) as visitor:
        visitor.visit()
        assert announce(gated, visitor, {"Transfer-Encoding": "chunked"}) == 411


@pytest.mark.slow
def test_what_all_upload_stays_within_the_servers_memory(  # U12
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNN_LENS_MEMORY_MB", "900")  # the least; the page alone takes about 150
    (tmp_path / "page.py").write_text(GATED)
    with serve(tmp_path / "page.py", tmp_path) as address:
        visitors = [Visitor(address).visit() for _ in range(20)]
        try:
            answers = [visitor.upload(b"x" * 60 * 10**6)[0] for visitor in visitors]
            assert answers[:3] == [204] * 3
            assert answers[-1] == 413
            assert megabytes(tmp_path) < 900 + 100
        finally:
            for visitor in visitors:
                visitor.socket.close()


# ---- who may come in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},  # as with DNS rebinding
        {"Host": "lens.example.evil.example"},
    ],
)
@pytest.mark.usefixtures("neighbour")
def test_a_page_of_another_server_and_another_name_of_this_one_are_refused(  # U13
    lens: str, headers: dict[str, str | None]
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_socket(lens, headers=headers)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("headers", [{}, {"Host": HOST, "Origin": f"https://{HOST}"}, {"Origin": None}])
def test_its_own_pages_by_its_own_names_are_let_in(lens: str, headers: dict[str, str | None]) -> None:  # U13
    with Visitor(lens, headers=headers) as visitor:
        assert visitor.visit().pictures()


def asks_the_internet(folder: Path) -> bool:
    return "external IP" in (folder / "server.log").read_text()


def test_to_refuse_a_foreign_page_the_app_asks_nobody(tmp_path: Path) -> None:  # U13
    with serve(ROOT / "app.py", tmp_path) as address:
        with pytest.raises(InvalidStatus):
            open_socket(address, headers={"Origin": "http://evil.example"})
        assert not asks_the_internet(tmp_path)


def test_to_refuse_a_foreign_page_the_gate_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # U13
    monkeypatch.setenv("STREAMLIT_SERVER_CORS_ALLOWED_ORIGINS", "https://frame.example https://other.example")
    (tmp_path / "page.py").write_text(GATED)
    with serve(tmp_path / "page.py", tmp_path) as address:
        for origin in ("http://evil.example", "null", "https://frame.example.evil.example", address + "0", ""):
            with pytest.raises(InvalidStatus) as refused:
                open_socket(address, headers={"Origin": origin})
            assert refused.value.response.status_code == 403
        assert not asks_the_internet(tmp_path)
        for origin in (address, None, "https://frame.example"):
            open_socket(address, headers={"Origin": origin}).close()


def test_thirty_sockets_that_open_and_vanish_leave_nothing(lens: str, neighbour: Visitor, home: Path) -> None:
    def come_and_go() -> None:
        socket = open_socket(lens)
        socket.socket.close()

    threads = [threading.Thread(target=come_and_go) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    active = "active_sessions"
    wait_for(lambda: f"{active} 1" in request(lens, "GET", f"/_stcore/metrics?families={active}")[2].decode(), 90)
