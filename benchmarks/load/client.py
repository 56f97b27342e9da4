"""A visitor without a browser: speaks Streamlit's messages over a WebSocket, uploads, and fetches what it is shown.

Of the page it keeps the elements at their places, as the browser does: enough to find a widget by its key or its label,
and the pictures by their alternative text. What a run of the script did not draw again is gone when
it has finished.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

GIVE_UP = 180.0  # seconds after which what was asked for counts as lost
INTERRUPTED = ForwardMsg.FINISHED_EARLY_FOR_RERUN
HOURGLASS = "hourglass_disabled"  # the icon of a refusal
IN_LINE = ("in line, about", "being computed for somebody else")  # in the words for who waits


class Lost(Exception):
    """The server never answered."""


@dataclass(frozen=True)
class Shown:
    """An element, the run that drew it, and when it came, in seconds of `time.monotonic`."""

    element: Any
    run: str
    at: float


@dataclass
class Client:
    """Use `open` to make one. ``said`` are the words about waiting that were heard, in order."""

    address: str
    session: str = ""
    pages: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    downloads: int = 0

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        self._web = HTTPConnection(parts.hostname or "localhost", parts.port, timeout=GIVE_UP)
        self._cookie = ""
        self._token = ""
        self._query = ""
        self._run = ""
        self._elements: dict[tuple[int, ...], Shown] = {}
        self._states: dict[str, WidgetState] = {}
        self._runs: set[str] = set()
        self._finished: set[str] = set()
        self._page = ""
        self._links: dict[str, Any] = {}
        self._changed = asyncio.Event()
        self._pictures: dict[str, bytes] = {}

    @classmethod
    async def open(cls, address: str) -> Client:
        """Somebody new, who sees the first page."""
        client = cls(address)
        await client._connect()
        await client.ask()
        return client

    async def close(self) -> None:
        await self._socket.close()
        await self._reader
        self._web.close()

    def vanish(self) -> None:
        """The connection breaks off, as when the lid of a laptop is shut."""
        self._socket.transport.abort()
        self._web.close()

    # ---- what a person does ------------------------------------------------------------------------------

    async def go(self, title: str) -> None:
        await self.ask(page=self.pages[title])

    async def choose(self, key: str, value: str | float | bool | list[str]) -> None:
        """Give the widget of that key a value: an option's text, several of them, a number, or on and off."""
        state = WidgetState(id=self.widget(key).id)
        if isinstance(value, str):
            state.string_value = value
        elif isinstance(value, list):
            state.string_array_value.data.extend(value)
            state.string_array_value.SetInParent()
        elif isinstance(value, bool):
            state.bool_value = value
        else:
            state.double_value = value
        await self.ask(state)

    async def press(self, label: str) -> None:
        await self.ask(self.press_of(label))

    def press_of(self, label: str) -> WidgetState:
        return WidgetState(id=self.widget(label).id, trigger_value=True)

    async def upload(self, key: str, name: str, data: bytes) -> None:
        request = str(uuid4())
        message = BackMsg()
        message.file_urls_request.request_id = request
        message.file_urls_request.file_names.append(name)
        message.file_urls_request.session_id = self.session
        await self._socket.send(message.SerializeToString())
        await self._until(lambda: request in self._links)
        (place,) = self._links.pop(request).file_urls
        await asyncio.to_thread(self._put, place.upload_url, name, data)
        state = WidgetState(id=self.widget(key).id)
        info = state.file_uploader_state_value.uploaded_file_info.add()
        info.name, info.size, info.file_id = name, len(data), place.file_id
        info.file_urls.CopyFrom(place)
        await self.ask(state)

    async def ask(self, *states: WidgetState, page: str | None = None) -> None:
        """Run the script with what has changed, until it has finished."""
        done = await self.begin(*states, page=page)
        await done

    async def begin(self, *states: WidgetState, page: str | None = None) -> Any:
        """As `ask`, but gives what waits for the end; who asks for something else before that has changed its mind."""
        before = set(self._runs)
        self._page = self._page if page is None else page
        message = BackMsg()
        run = message.rerun_script
        run.query_string, run.page_script_hash = self._query, self._page
        for state in states:
            self._states[state.id] = state
        here = {element.id for element in self._all() if getattr(element, "id", "")}
        run.widget_states.widgets.extend(state for name, state in self._states.items() if name in here)
        run.widget_states.SetInParent()
        for state in states:
            if state.trigger_value:
                del self._states[state.id]
        await self._socket.send(message.SerializeToString())
        return self._until(lambda: self._finished - before)

    # ---- what a person sees ------------------------------------------------------------------------------

    def widget(self, name: str) -> Any:
        """The widget whose key is ``name``, or whose label begins so."""
        for element in self._all():
            if _key_of(element) == name:
                return element
        for element in self._all():
            if getattr(element, "id", "") and getattr(element, "label", "").startswith(name):
                return element
        raise KeyError(f"{name} is not on the page {self.title!r}; {self.refusal or ''}")

    def has(self, name: str) -> bool:
        try:
            return bool(self.widget(name))
        except KeyError:
            return False

    def value(self, key: str) -> str:
        """What a select box says now."""
        box = self.widget(key)
        said = self._states[box.id].string_value if box.id in self._states else None
        return said if said in box.options else box.options[box.default]

    def values(self, key: str) -> list[str]:
        """What is chosen of several options."""
        group = self.widget(key)
        if group.id in self._states:
            return list(self._states[group.id].string_array_value.data)
        return [group.options[place].content for place in group.default]

    def pictures(self) -> dict[str, str]:
        """The addresses of the pictures that are files, by alternative text."""
        shown = (picture for element in self._of("imgs") for picture in element.imgs)
        return {picture.alt: picture.url for picture in shown if picture.url.startswith("/media/")}

    def arrived(self, alt: str) -> float:
        """When the first picture came whose alternative text begins so."""
        return min(
            shown.at
            for shown in self._elements.values()
            if shown.element.WhichOneof("type") == "imgs"
            and any(picture.alt.startswith(alt) for picture in shown.element.imgs.imgs)
        )

    async def fetch(self, url: str) -> bytes:
        """A file that the page shows; fetched once, as by a browser."""
        if url not in self._pictures:
            self._pictures[url] = await asyncio.to_thread(self._get, url)
            self.downloads += 1
        return self._pictures[url]

    @property
    def title(self) -> str:
        heads = [shown.element.heading for shown in self._elements.values() if shown.element.HasField("heading")]
        return next((head.body for head in heads if head.tag == "h1" and head.body != "CNN Lens"), "")

    @property
    def titled_at(self) -> float:
        """When the title of the page came."""
        return max(
            shown.at
            for shown in self._elements.values()
            if shown.element.HasField("heading") and shown.element.heading.tag == "h1"
        )

    @property
    def refusal(self) -> str | None:
        return next((alert.body for alert in self._of("alert") if HOURGLASS in alert.icon), None)

    @property
    def exception(self) -> str | None:
        return next((f"{error.type}: {error.message}" for error in self._of("exception")), None)

    def says(self, words: str) -> bool:
        """Whether these words stand in a text of the page."""
        return any(words in text.body for text in self._of("markdown"))

    def _of(self, kind: str) -> list[Any]:
        every = (shown.element for shown in self._elements.values())
        return [getattr(element, kind) for element in every if element.WhichOneof("type") == kind]

    def _all(self) -> list[Any]:
        every = (shown.element for shown in self._elements.values())
        return [getattr(element, element.WhichOneof("type")) for element in every if element.WhichOneof("type")]

    # ---- the wire ----------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        await asyncio.to_thread(self._get, "/_stcore/health")
        self._socket: ClientConnection = await connect(
            f"{self.address.replace('http', 'ws', 1)}/_stcore/stream",
            subprotocols=["streamlit", self._token],  # type: ignore[list-item]
            additional_headers={"Cookie": self._cookie},
            origin=self.address,  # type: ignore[arg-type]
            compression=None,
            max_size=None,
            open_timeout=GIVE_UP,
            ping_interval=None,
            proxy=None,
        )
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(lambda _: self._changed.set())  # who waits finds out

    async def _read(self) -> None:
        with suppress(ConnectionClosed):
            async for data in self._socket:
                self._take(ForwardMsg.FromString(data))
                self._changed.set()

    def _take(self, message: ForwardMsg) -> None:
        kind, run = message.WhichOneof("type"), message.metadata.run.script_run_id
        if kind == "new_session":
            self._run = run
            self._runs.add(run)
            self.session = self.session or message.new_session.initialize.session_id
        elif kind == "navigation":
            self.pages = {page.page_name: page.page_script_hash for page in message.navigation.app_pages}
            self._page = message.navigation.page_script_hash
        elif kind == "page_info_changed":
            self._query = message.page_info_changed.query_string
        elif kind == "file_urls_response":
            self._links[message.file_urls_response.response_id] = message.file_urls_response
        elif kind == "delta":
            self._draw(tuple(message.metadata.delta_path), message.delta)
        elif kind == "script_finished" and message.script_finished != INTERRUPTED:
            self._finished.add(run)
            self._elements = {place: shown for place, shown in self._elements.items() if shown.run == run}

    def _draw(self, place: tuple[int, ...], delta: Any) -> None:
        if delta.WhichOneof("type") != "new_element":
            return
        element = delta.new_element
        for below in [other for other in self._elements if other[: len(place)] == place]:
            del self._elements[below]  # where a block was before
        self._elements[place] = Shown(element, self._run, time.monotonic())
        self._obey(element)
        words = element.progress.text or element.alert.body
        if any(sign in words for sign in IN_LINE):
            self.said.append(words)

    def _obey(self, element: Any) -> None:
        """A widget that the script has given another value says so once, and has it from then on."""
        widget = getattr(element, element.WhichOneof("type") or "", None)
        if not getattr(widget, "set_value", False):
            return
        state = self._states[widget.id] = WidgetState(id=widget.id)
        if element.HasField("selectbox"):
            state.string_value = widget.raw_value
        elif element.HasField("number_input"):
            state.double_value = widget.value
        elif element.HasField("multiselect") or element.HasField("button_group"):
            state.string_array_value.data.extend(widget.raw_values)
            state.string_array_value.SetInParent()
        else:
            del self._states[widget.id]

    async def _until(self, true: Any) -> None:
        give_up = time.monotonic() + GIVE_UP
        while not true():
            left = give_up - time.monotonic()
            if left <= 0 or self._reader.done():
                raise Lost(f"Nothing came on {self.title!r} within {GIVE_UP:.0f} s, or the connection broke.")
            self._changed.clear()
            if not true():
                try:
                    await asyncio.wait_for(self._changed.wait(), left)
                except TimeoutError:
                    continue

    def _get(self, path: str) -> bytes:
        return self._fetch(200, "GET", path, None, {})

    def _put(self, path: str, name: str, data: bytes) -> None:
        edge = uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + f"\r\n--{edge}--\r\n".encode()
        kind = {"X-Xsrftoken": self._token, "Content-Type": f"multipart/form-data; boundary={edge}"}
        self._fetch(204, "PUT", path, body, kind)

    def _fetch(self, wanted: int, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> bytes:
        headers = headers | ({"Cookie": self._cookie} if self._cookie else {})
        try:
            self._web.request(method, path, body, headers)
            answer = self._web.getresponse()
        except (OSError, HTTPException):  # the server closes what was silent for five seconds
            self._web.close()
            self._web.request(method, path, body, headers)
            answer = self._web.getresponse()
        data = answer.read()
        if answer.status != wanted:
            raise Lost(f"{method} {path}: {answer.status}")
        cookie = SimpleCookie(answer.headers.get("Set-Cookie", ""))
        if "_streamlit_xsrf" in cookie:
            self._token = cookie["_streamlit_xsrf"].value
            self._cookie = f"_streamlit_xsrf={self._token}"
        return data


def _key_of(element: Any) -> str:
    """Of a widget: its address is a prefix, a digest, and the key that the app gave it."""
    return "".join(getattr(element, "id", "").split("-", 2)[2:])
