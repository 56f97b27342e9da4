"""The line before the processor: whose turn it is to compute, how long that will be, and who is sent away.

Plain Python. Everybody computes in a thread of their own; `Line.turn` holds it until it is their turn. At most as many
turns run at once as there are places, and of long ones one, so that short ones always have somewhere to go. Short ones
come before long ones, unless a long one has waited for its turn long enough; among those that are alike, the person who
was served the longest ago comes first. A page asks several short questions, each when it has the answer to the one
before: who comes back at once goes on before others begin, so that a page waits once and not for each of them. That
ends after BURST seconds of computing, so whoever asks for much delays others by a burst or a long turn at most. Nobody
has two turns at once, and the same question is never computed twice at once: who asks it meanwhile waits for the
answer.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

LONG = 1.0  # seconds from which a turn is a long one
PATIENCE = 10.0  # seconds after which a long one that waits is no longer overtaken by short ones
BURST = 2.0  # seconds of computing in which a person goes on before others begin
AT_ONCE = 2.0  # seconds after a turn within which who comes back goes on
MOST_WAITING = 60
MOST_OF_ONE = 2  # that wait, of one person
TELL_EVERY = 0.2  # seconds
UNKNOWN = 0.5  # seconds that a turn is thought to take before one of its kind was seen
MOST_REMEMBERED = 1000


class Busy(Exception):
    """There is no place in the line; the sentence says when to come again."""


@dataclass(frozen=True)
class Wait:
    """What somebody who waits may know: the ``place`` in the line, from 1, the ``seconds`` until the turn, about, and
    whether the same question is being answered for somebody else right now."""

    place: int
    seconds: float
    shared: bool


@dataclass
class _Burst:
    """Turns of a person without a pause between them: when the first began and the last ended, and what they took."""

    begun: float
    ended: float
    used: float = 0.0


@dataclass(eq=False)
class _Turn:
    person: Hashable
    questions: frozenset[Hashable]
    seconds: float  # that it is thought to take
    arrived: float
    started: float | None = None
    place: int | None = None  # where it runs
    dropped: bool = False

    @property
    def is_long(self) -> bool:
        return self.seconds >= LONG


class Line:
    """A fair, bounded line; safe between threads. ``clock`` counts seconds and never goes back."""

    def __init__(
        self, places: int = 2, most_waiting: int = MOST_WAITING, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._places, self._most_waiting, self._clock = places, most_waiting, clock
        self._changed = threading.Condition()
        self._waiting: list[_Turn] = []
        self._running: list[_Turn] = []
        self._served: OrderedDict[Hashable, _Burst] = OrderedDict()  # the last one of a person
        self._usual: OrderedDict[Hashable, float] = OrderedDict()  # seconds, by kind
        self._counts: Counter[str] = Counter()
        self._mine = threading.local()

    @contextmanager
    def turn(
        self,
        person: Hashable,
        questions: Iterable[Hashable],
        seconds: float,
        tell: Callable[[Wait], None] = lambda wait: None,
    ) -> Iterator[float]:
        """Wait for a turn, and have it; gives the seconds that were waited.

        ``questions`` name what is to be computed. ``tell`` is called in this thread while it waits, several times a
        second; it may raise, which gives the place up. Who has a turn already goes on with it. Raises Busy where too
        many wait, and where the same person has asked for something newer since.
        """
        if self.has_turn():
            yield 0.0
            return
        mine = self._join(person, questions, seconds)
        outcome = "cancelled"
        try:
            self._wait(mine, tell)
            assert mine.started is not None
            self._mine.place = mine.place
            yield mine.started - mine.arrived
            outcome = "done"
        except Busy:
            outcome = "refused"
            raise
        except Exception:  # counted, and raised again
            outcome = "failed"
            raise
        finally:
            self._mine.place = None
            self._leave(mine, outcome)

    def has_turn(self) -> bool:
        """Whether this thread has one now."""
        return self.place() is not None

    def place(self) -> int | None:
        """Which place this thread's turn runs at, from 0: no other does at the same time. None where it has no turn."""
        return getattr(self._mine, "place", None)

    def running(self) -> int:
        """How many turns there are now."""
        with self._changed:
            return len(self._running)

    def usual(self, kind: Hashable) -> float:
        """The seconds that a turn of this kind takes, by those that were `learn`ed."""
        with self._changed:
            return self._usual.get(kind, UNKNOWN)

    def learn(self, kind: Hashable, seconds: float) -> None:
        """A turn of this kind took so long; the latest count most."""
        with self._changed:
            before = self._usual.pop(kind, seconds)
            self._usual[kind] = 0.5 * before + 0.5 * seconds
            _forget(self._usual)

    def counts(self) -> Mapping[str, int]:
        """How many turns were "asked" for, and became "done", "cancelled", "refused" or "failed", or are "open"."""
        with self._changed:
            return dict(self._counts) | {"open": len(self._waiting) + len(self._running)}

    def _join(self, person: Hashable, questions: Iterable[Hashable], seconds: float) -> _Turn:
        with self._changed:
            self._counts["asked"] += 1
            mine = _Turn(person, frozenset(questions), seconds, self._clock())
            theirs = [turn for turn in self._waiting if turn.person == person and not turn.dropped]
            if len(theirs) >= MOST_OF_ONE:
                theirs[0].dropped = True
                self._changed.notify_all()
            elif sum(not turn.dropped for turn in self._waiting) >= self._most_waiting:
                self._counts["refused"] += 1
                seconds = max(self._seconds_before(mine), 1.0)
                about = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
                raise Busy(
                    f"{len(self._waiting)} requests are waiting already, and this one was not taken. Try again in "
                    f"about {about}; nothing that you chose is lost."
                )
            self._waiting.append(mine)
            return mine

    def _wait(self, mine: _Turn, tell: Callable[[Wait], None]) -> None:
        while True:
            with self._changed:
                if not self._may_start(mine) and not mine.dropped:
                    self._changed.wait(TELL_EVERY)
                if mine.dropped:
                    raise Busy("This was given up for something newer that you asked for.")
                if self._may_start(mine):
                    mine.place = min(set(range(self._places)) - {turn.place for turn in self._running})
                    self._waiting.remove(mine)
                    self._running.append(mine)
                    mine.started = self._clock()
                    if not self._goes_on(mine):
                        self._served[mine.person] = _Burst(mine.started, mine.started)
                        self._served.move_to_end(mine.person)
                        _forget(self._served)
                    self._changed.notify_all()  # there may be another place for the next
                    return
                wait = self._wait_of(mine)
            tell(wait)

    def _leave(self, mine: _Turn, outcome: str) -> None:
        with self._changed:
            if mine.started is None:
                self._waiting.remove(mine)
            else:
                self._running.remove(mine)
                if burst := self._served.get(mine.person):
                    burst.ended = self._clock()
                    burst.used += burst.ended - mine.started
            self._counts[outcome] += 1
            self._changed.notify_all()

    def _may_start(self, mine: _Turn) -> bool:
        return len(self._running) < self._places and next(filter(self._can_run, self._in_order()), None) is mine

    def _can_run(self, turn: _Turn) -> bool:
        return not turn.dropped and not any(
            other.person == turn.person or other.questions & turn.questions or (other.is_long and turn.is_long)
            for other in self._running
        )

    def _in_order(self) -> list[_Turn]:
        now = self._clock()

        def rank(turn: _Turn) -> tuple[bool, bool, float, float]:
            overtaken = turn.is_long and now - turn.arrived < PATIENCE
            burst = self._served.get(turn.person)
            return overtaken, not self._goes_on(turn), burst.begun if burst else -1.0, turn.arrived

        return sorted(self._waiting, key=rank)

    def _goes_on(self, turn: _Turn) -> bool:
        burst = self._served.get(turn.person)
        return bool(burst and not turn.is_long and turn.arrived - burst.ended < AT_ONCE and burst.used < BURST)

    def _wait_of(self, mine: _Turn) -> Wait:
        shared = any(other.questions & mine.questions for other in self._running)
        place = self._in_order().index(mine) + 1
        return Wait(place, self._seconds_before(mine), shared)

    def _seconds_before(self, mine: _Turn) -> float:
        """About how long until ``mine`` could start, when all take as long as they are thought to."""
        now = self._clock()
        left = {turn: max(turn.seconds - (now - (turn.started or now)), 0.1) for turn in self._running}
        for turn, seconds in left.items():
            if turn.questions & mine.questions:
                return seconds
        order = self._in_order()
        ahead = order[: order.index(mine)] if mine in order else order
        left |= {turn: turn.seconds for turn in ahead if not turn.dropped}
        if mine.is_long:  # one after another; the short ones between them take the other place
            return sum(seconds for turn, seconds in left.items() if turn.is_long) or sum(left.values()) / self._places
        if len(self._running) < self._places:
            return 0.0
        return sum(left.values()) / self._places


def _forget(remembered: OrderedDict[Hashable, Any]) -> None:
    while len(remembered) > MOST_REMEMBERED:
        remembered.popitem(last=False)
