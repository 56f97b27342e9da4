"""Behind visits that have ended the server tidies up, without waiting for the next person."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
import weakref
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.runtime import Runtime
from streamlit.runtime.memory_session_storage import MemorySessionStorage
from streamlit.runtime.websocket_session_manager import WebsocketSessionManager

from app_pages import common, housekeeping

ROOT = Path(__file__).parents[1]


class Visit:
    """What Streamlit keeps of somebody whose connection broke."""

    def __init__(self, name: str) -> None:
        self.session = SimpleNamespace(id=name)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> MemorySessionStorage:
    """Streamlit's own store of visits, which keeps them for a fifth of a second, in its own manager of visits."""
    storage = MemorySessionStorage(ttl_seconds=0.2)  # type: ignore[arg-type]
    no_use: Any = None
    sessions = WebsocketSessionManager(storage, no_use, no_use, no_use)
    monkeypatch.setattr(Runtime, "instance", lambda: SimpleNamespace(_session_mgr=sessions))
    return storage


def test_who_may_come_back_is_a_visit_and_is_forgotten_when_that_is_over(storage: MemorySessionStorage) -> None:
    visit: Any = Visit("one")
    alive = weakref.ref(visit)
    storage.save(visit)
    assert housekeeping.visits() == {"one"}
    del visit
    time.sleep(0.25)
    assert alive() is not None  # by itself Streamlit keeps it until somebody else comes or goes
    assert housekeeping.visits() == set()
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    ("visits", "tidied"),
    [
        (["abc", "abc", "abc"], []),
        (["abc", "bc", "bc"], [False]),
        (["ab", "b", "", ""], [False, True]),
        (["", ""], []),
        (["", "abcde", ""], [True]),
        (["ab", "bc"], [False]),  # one has come meanwhile
        (["ab", "fail", "b"], [False]),
    ],
)
def test_it_is_tidied_up_when_somebody_has_gone_and_only_then(
    visits: list[str], tidied: list[bool], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[bool] = []
    left = iter(visits)

    def now() -> set[str]:
        seen = next(left, "end")
        if seen == "fail":
            raise MemoryError("in the middle")
        if seen == "end":
            raise asyncio.CancelledError
        return set(seen)

    monkeypatch.setattr(housekeeping, "EVERY", 0.001)
    monkeypatch.setattr(housekeeping, "visits", now)
    monkeypatch.setattr(housekeeping, "tidy_up", lambda *, nobody_left: found.append(nobody_left))
    # In a thread of its own: browser tests of the same worker have an event loop in this one.
    with ThreadPoolExecutor(1) as apart, pytest.raises((asyncio.CancelledError, CancelledError)):
        apart.submit(lambda: asyncio.run(housekeeping.keep_house())).result()
    assert found == tidied
    assert ("in the middle" in caplog.text) == ("fail" in visits)


@pytest.mark.parametrize("nobody_left", [True, False])
def test_the_last_one_takes_the_large_results_with_them(nobody_left: bool) -> None:
    common.results().clear()
    common.results().put("large", b"1" * common.LARGE, 1.0)
    common.results().put("small", b"12345", 1.0)
    housekeeping.tidy_up(nobody_left=nobody_left)
    assert (common.results().get("large") is None) == nobody_left
    assert common.results().get("small") is not None


def test_the_server_keeps_house_for_as_long_as_it_runs() -> None:
    script = """
import asyncio
import app
from app_pages import common, housekeeping
common.warm_up = lambda: None
async def serve():
    async with app.warm_up(None):
        (task,) = (task for task in asyncio.all_tasks() if task.get_coro().__qualname__ == "keep_house")
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
asyncio.run(serve())
print("kept")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1:] == ["kept"], done.stderr
