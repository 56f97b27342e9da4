"""How people come: steadily, all with one question, all with photos of their own, in waves, and all gone at once."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from app_pages.housekeeping import EVERY
from benchmarks.load.answers import Page
from benchmarks.load.person import OWN_HEATMAP, Deed, Person, TurnedAway
from benchmarks.load.server import KEPT, Held, Server

COMPUTED = 0.5  # of the longest turn: one that finds its answer known takes far less
JOINING = 5.0  # seconds within which all of a crowd open the page
ENDINGS = ("done", "cancelled", "refused")


@dataclass(frozen=True)
class Crowd:
    """What so many people met. ``ours`` and ``theirs``: the share of all processors that clients and server took."""

    count: int
    deeds: tuple[Deed, ...]
    pages: tuple[Page, ...]
    said: int  # words about waiting that were heard
    journal: tuple[dict, ...]
    ours: float
    theirs: float
    fairness: float
    evenness: float

    def seconds(self, *, what: str | None = None, known: bool | None = None) -> np.ndarray:
        return np.array(
            [
                deed.seconds
                for deed in self.deeds
                if deed.outcome == "done" and what in (None, deed.what) and known in (None, deed.known)
            ]
        )

    def titled(self) -> np.ndarray:
        """Seconds until the title of another page stood there."""
        return np.array([deed.titled for deed in self.deeds if deed.titled is not None])

    def opened(self) -> np.ndarray:
        """Seconds until all of another page was there."""
        return np.array([deed.seconds for deed in self.deeds if deed.titled is not None])

    def outcomes(self) -> Counter[str]:
        return Counter(deed.outcome for deed in self.deeds)

    def unaccounted(self) -> list[Deed]:
        return [deed for deed in self.deeds if deed.outcome not in ENDINGS]


class Watch:
    """The processors' time and the journal while a ``with`` lasts."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __enter__(self) -> Watch:
        self._lines = len(self._server.journal())
        self._start, self._ours, self._theirs = time.monotonic(), _own_seconds(), self._server.processor()
        return self

    def __exit__(self, *_: object) -> None:
        processors = (time.monotonic() - self._start) * (os.cpu_count() or 1)
        self.ours = (_own_seconds() - self._ours) / processors
        self.theirs = (self._server.processor() - self._theirs) / processors
        self.journal = tuple(self._server.journal(self._lines))

    def crowd(self, people: Sequence[Person]) -> Crowd:
        return Crowd(
            len(people),
            tuple(deed for person in people for deed in person.deeds),
            tuple(page for person in people for page in person.seen),
            sum(len(person.client.said) for person in people),
            self.journal,
            self.ours,
            self.theirs,
            jain(_waits(self.journal)),
            jain(relative_waits([person.deeds for person in people])),
        )


async def together(deeds: Iterable[Awaitable[None]]) -> None:
    """All at once; who is turned away has written it down."""
    for end in await asyncio.gather(*deeds, return_exceptions=True):
        if isinstance(end, BaseException) and not isinstance(end, TurnedAway):
            raise end


async def arrive(server: Server, count: int, first: int, within: float = JOINING) -> list[Person]:
    async def one(number: int) -> Person:
        await asyncio.sleep(within * number / count)
        return await Person.arrive(server.address, first + number)

    return list(await asyncio.gather(*(one(number) for number in range(count))))


async def leave(people: Iterable[Person]) -> None:
    await together(person.client.close() for person in people)


async def steady(server: Server, count: int, seconds: float, first: int) -> Crowd:
    """People come within five seconds, and do what people do."""
    with Watch(server) as watch:
        people = await arrive(server, count, first)
        until = time.monotonic() + seconds
        await together(person.stay(until) for person in people)
    await leave(people)
    return watch.crowd(people)


async def everyone_runs(server: Server, count: int, first: int, classes: list[str]) -> tuple[Crowd, int]:
    """All press the same button for the same question at once; how often it was computed."""
    people = await arrive(server, count, first)
    await together(person.prepare_occlusion() for person in people)
    await together(person.client.choose("classes", classes) for person in people)
    for person in people:
        person.deeds.clear()
    with Watch(server) as watch:
        await together(person.run_occlusion() for person in people)
    await leave(people)
    turns = [line["seconds"] for line in watch.journal if line["outcome"] == "done"]
    return watch.crowd(people), sum(seconds > COMPUTED * max(turns) for seconds in turns)


async def everyone_uploads(server: Server, count: int, first: int) -> Crowd:
    """All give a photo of their own at once, and wait for its heatmaps."""
    people = await arrive(server, count, first)
    await together(person.upload() for person in people)  # the first brings them to the page
    for person in people:
        person.deeds.clear()
    with Watch(server) as watch:
        await together(person.upload_now() for person in people)
    await leave(people)
    return watch.crowd(people)


async def waves(server: Server, count: int, first: int) -> tuple[list[Held], list[Page]]:
    """Three times so many come at once, upload, look and leave: what the server holds before, and after each."""
    pages: list[Page] = []
    held = [await _held_after_all_left(server)]
    for wave in range(3):
        people = await arrive(server, count, first + wave * count, within=1.0)
        await together(person.upload() for person in people)
        await together(person.client.go("Layers") for person in people)
        await leave(people)
        held.append(await _held_after_all_left(server))
        pages += [page for person in people for page in person.seen]
    return held, pages


async def all_killed(server: Server, count: int, first: int) -> float:
    """In the middle of their work all connections break: seconds until the server is idle."""
    people = await arrive(server, count, first)
    await together(person.prepare_occlusion() for person in people)
    work = [asyncio.create_task(person.run_occlusion()) for person in people[::2]]
    work += [asyncio.create_task(person.upload()) for person in people[1::2]]
    await asyncio.sleep(1.0)
    for person in people:
        person.client.vanish()
    idle = await asyncio.to_thread(server.seconds_until_idle)
    await asyncio.gather(*work, return_exceptions=True)
    return idle


def jain(waits: Sequence[float]) -> float:
    """1 where all wait alike, 1 ÷ n where one waits for all (Jain, Chiu & Hawe 1984)."""
    x = np.array(waits)
    return float(x.sum() ** 2 / (len(x) * (x**2).sum())) if (x > 0).any() else 1.0


def high(seconds: np.ndarray) -> float:
    """The 95th percentile."""
    return float(np.percentile(seconds, 95)) if len(seconds) else float("nan")


def own_heatmaps(crowd: Crowd) -> np.ndarray:
    return crowd.seconds(what=OWN_HEATMAP)


def _waits(journal: Iterable[dict]) -> list[float]:
    """The mean wait for a turn, of each visit."""
    waited = defaultdict(list)
    for line in journal:
        waited[line["visit"]].append(line["waited"])
    return [float(np.mean(each)) for each in waited.values()]


def relative_waits(people: Iterable[Sequence[Deed]]) -> list[float]:
    """How long each person waited for what they did, 1 being as long as all did for the same: the mean of it."""
    people = [[deed for deed in deeds if deed.outcome == "done"] for deeds in people]
    of_kind = defaultdict(list)
    for deed in (deed for deeds in people for deed in deeds):
        of_kind[deed.what].append(deed.seconds)
    usual = {what: float(np.mean(seconds)) for what, seconds in of_kind.items()}
    return [float(np.mean([deed.seconds / usual[deed.what] for deed in deeds])) for deeds in people if deeds]


def _own_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _held_after_all_left(server: Server) -> Held:
    """When the visits of those who left are forgotten, and the server has tidied up behind them."""
    await asyncio.sleep(KEPT + 2 * EVERY)
    return server.held()
