"""The networks that are loaded: one of each for everybody, within the bytes that there are for networks."""

from __future__ import annotations

import gc
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import RLock
from typing import Any

from app_pages.memory import MB
from vizcore.records import LensError


class NoRoom(LensError):
    """The memory that there is for networks is not enough."""


class Networks:
    """The networks that are loaded, within a number of bytes: the least recently used goes first, and one that a visit
    still holds counts until that lets it go. Safe between threads."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._known: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()  # kept, or still held
        self._alive: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()  # nets, and their bytes
        self._lock = RLock()  # held while one is loaded: the next who asks for it finds it

    def find(self, key: Hashable) -> Any | None:
        """The `Model` called ``key`` where it is loaded, without waiting for another that is being loaded."""
        found = self._known.get(key)
        if found and self._lock.acquire(blocking=False):
            try:
                self._keep(key, found)
            finally:
                self._lock.release()
        return found

    def _keep(self, key: Hashable, model: Any) -> None:
        self._kept[key] = self._known[key] = model
        self._kept.move_to_end(key)

    def get(self, key: Hashable, title: str, size: int, load: Callable[[], Any]) -> Any:
        """The `Model` called ``key``, of ``size`` bytes; ``load`` makes it where it is not kept. Raises NoRoom."""
        with self._lock:
            if not (model := self._known.get(key)):
                self.make_room(title, size)
                model = load()
                self._alive[model.net] = size
            self._keep(key, model)
            return model

    def take_in(self, model: Any, title: str, size: int) -> None:
        """Count a network that a visit brought, for as long as that holds it. Raises NoRoom."""
        with self._lock:
            self.make_room(title, size)
            self._alive[model.net] = size

    def make_room(self, title: str, size: int) -> None:
        """Let go of what nobody used for the longest until ``size`` more bytes fit. Raises NoRoom where they do not."""
        with self._lock:
            if size > self.capacity:
                raise NoRoom(
                    f"{title} takes {size / MB:,.0f} MB; this server has {self.capacity / MB:,.0f} MB for networks. "
                    "Choose a smaller one, or start the server with a larger CNN_LENS_MEMORY_MB."
                )
            while self._kept and self.held() + size > self.capacity:
                self._kept.popitem(last=False)
                gc.collect()
            if self.held() + size > self.capacity:
                raise NoRoom(
                    f"{title} takes {size / MB:,.0f} MB, and networks that others look at now take "
                    f"{self.held() / MB:,.0f} of the {self.capacity / MB:,.0f} MB for all. Choose a smaller one, or "
                    "try again later."
                )

    def let_go(self) -> None:
        """Keep none but those that a visit holds."""
        with self._lock:
            self._kept.clear()

    def held(self) -> int:
        """Bytes of all networks that are alive."""
        return sum(self._alive.values())
