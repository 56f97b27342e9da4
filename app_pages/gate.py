"""Who may come in, and how much they may bring: what is asked of a request before Streamlit sees it.

A page of another server may not open a connection here in its reader's name. Streamlit refuses it as well, but first
asks a server on the internet for this machine's address, while everybody waits. And what one visit uploads is limited
in sum, as is what all of them do: Streamlit limits each file alone.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import streamlit as st
from streamlit.runtime import Runtime

from app_pages import memory

Scope: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
Server: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

UPLOADS = "/_stcore/upload_file/"
# Of one visit: twice what it can look at once, for a file that replaces another may come before that has gone.
MOST_MB = 2 * (100 + 15)  # a zip of pictures, a photo
MOST_MB_WITH_NETWORKS = MOST_MB + 2 * 300
MOST_FILES = 100
STALLED = 60.0  # seconds without a byte, after which an upload is over


class Gate:
    """ASGI middleware, for the one event loop of a server."""

    def __init__(self, app: Server) -> None:
        self._app = app
        self._arriving: Counter[str] = Counter()  # bytes that are on their way, by visit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
        if scope["type"] == "websocket" and not is_of_this_server(headers):
            print(f"Refused a connection that a page of {headers['origin']!r} tried to open.", file=sys.stderr)
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: HTTP's 403
        elif scope["type"] == "http" and scope["method"] == "PUT" and UPLOADS in scope["path"]:
            await self._take_upload(scope, receive, send, headers)
        else:
            await self._app(scope, receive, send)

    async def _take_upload(self, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, str]) -> None:
        visit = scope["path"].partition(UPLOADS)[2].partition("/")[0]
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            await _answer(send, 411, "The length of an upload must be known before it comes.")
            return
        if refusal := self._refusal(visit, int(length)):
            await _answer(send, 413, refusal)
            return

        async def receive_in_time() -> Any:
            try:
                return await asyncio.wait_for(receive(), STALLED)
            except TimeoutError:
                return {"type": "http.disconnect"}  # what it was to take is for others

        self._arriving[visit] += int(length)
        try:
            await self._app(scope, receive_in_time, send)
        finally:
            self._arriving[visit] -= int(length)
            self._arriving += Counter()  # forget who has nothing on the way

    def _refusal(self, visit: str, length: int) -> str:
        """Why a file of so many bytes is not taken, or nothing."""
        from app_pages.common import uploads_allowed

        most = MOST_MB_WITH_NETWORKS if uploads_allowed() else MOST_MB
        held = held_by(visit)
        if len(held) >= MOST_FILES or sum(held) + self._arriving[visit] + length > most * memory.MB:
            return f"One visit may hold {MOST_FILES} files and {most} MB. Remove a file, or reload the page."
        if memory.resident() + self._arriving.total() + length > memory.budget() - memory.for_turn(None):
            return "The server has no memory for this file now. Try again when others have gone."
        return ""


def is_of_this_server(headers: Mapping[str, str]) -> bool:
    """Whether what opens a connection is no page, or a page of this server or one named in the settings."""
    origin = headers.get("origin")
    return (
        origin is None
        or urlsplit(origin).netloc == headers.get("host")
        or origin in st.get_option("server.corsAllowedOrigins")
        or not st.get_option("server.enableCORS")
    )


def held_by(visit: str) -> list[int]:
    """The bytes of each file that Streamlit keeps for a visit."""
    files = getattr(Runtime.instance().uploaded_file_mgr, "file_storage", {})
    return [len(file.data) for file in list(files.get(visit, {}).values())]


async def _answer(send: Send, status: int, words: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(words.encode())).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": words.encode()})
