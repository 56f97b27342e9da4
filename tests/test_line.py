"""The line before the processor: fair, bounded, nothing computed twice at once, and every request accounted for."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from app_pages.line import AT_ONCE, BURST, MOST_OF_ONE, PATIENCE, Busy, Line, Wait

SHORT, LONG = 0.1, 5.0
SOON = 10.0  # seconds within which a thread has long done what it was asked to


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Person(threading.Thread):
    """Somebody who asks once, and keeps the turn until told to let go."""

    def __init__(self, line: Line, name: str, question: str | None = None, seconds: float = SHORT) -> None:
        super().__init__(daemon=True)
        self.line, self.who, self.question, self.seconds = line, name, question or f"of {name}", seconds
        self.waits: list[Wait] = []
        self.has_turn, self.may_go, self.gives_up = threading.Event(), threading.Event(), threading.Event()
        self.ended: BaseException | str | None = None

    def tell(self, wait: Wait) -> None:
        self.waits.append(wait)
        if self.gives_up.is_set():
            raise KeyboardInterrupt  # no Exception, like what Streamlit stops a run with

    def run(self) -> None:
        try:
            with self.line.turn(self.who, [self.question], self.seconds, self.tell):
                self.has_turn.set()
                assert self.may_go.wait(SOON)
            self.ended = "done"
        except BaseException as error:
            self.ended = error

    def arrives(self) -> Person:
        """Begins, and is in the line or has the turn when this returns."""
        before = sum(self.line.counts().get(what, 0) for what in ("asked",))
        self.start()
        until(lambda: self.line.counts().get("asked", 0) > before)
        until(lambda: self.has_turn.is_set() or bool(self.waits) or not self.is_alive())
        return self

    def lets_go(self) -> None:
        self.may_go.set()
        self.join(SOON)
        assert self.ended == "done"


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.002)


def next_of(people: list[Person]) -> Person:
    """Who of them has the turn now, alone."""
    until(lambda: any(person.has_turn.is_set() and not person.may_go.is_set() for person in people))
    (one,) = (person for person in people if person.has_turn.is_set() and not person.may_go.is_set())
    return one


@contextmanager
def queued(line: Line, *people: Person) -> Iterator[Person]:
    """The line with one place taken by somebody and ``people`` in it, in this order."""
    first = Person(line, "the first").arrives()
    assert first.has_turn.is_set()
    for person in people:
        person.arrives()
        assert not person.has_turn.is_set()
    yield first
    for person in (first, *people):
        person.may_go.set()
        person.gives_up.set()
        person.join(SOON)


def order_of_turns(first: Person, people: list[Person]) -> list[str]:
    first.lets_go()
    names, left = [], list(people)
    while left:
        one = next_of(left)
        names.append(one.who)
        left.remove(one)
        one.lets_go()
    return names


# ---- who comes next --------------------------------------------------------------------------------------------


def test_people_are_served_in_the_order_in_which_they_came() -> None:
    line = Line(places=1)
    people = [Person(line, name) for name in "abcd"]
    with queued(line, *people) as first:
        assert order_of_turns(first, people) == list("abcd")


def test_a_short_turn_comes_before_a_long_one_that_came_earlier() -> None:
    line = Line(places=1, clock=Clock())
    people = [Person(line, "long", seconds=LONG), Person(line, "short")]
    with queued(line, *people) as first:
        assert order_of_turns(first, people) == ["short", "long"]


def test_a_long_turn_that_has_waited_long_enough_is_overtaken_no_more() -> None:
    clock = Clock()
    line = Line(places=1, clock=clock)
    long, short = Person(line, "long", seconds=LONG), Person(line, "short")
    with queued(line, long) as first:
        clock.now += PATIENCE
        short.arrives()
        assert order_of_turns(first, [long, short]) == ["long", "short"]
        short.join(SOON)


def test_whoever_was_served_already_comes_after_who_was_not() -> None:
    clock = Clock()
    line = Line(places=1, clock=clock)
    with line.turn("greedy", ["before"], SHORT):
        clock.now += 1
    clock.now += AT_ONCE
    people = [Person(line, "greedy"), Person(line, "modest")]
    with queued(line, *people) as first:
        assert order_of_turns(first, people) == ["modest", "greedy"]


def test_whoever_comes_back_at_once_goes_on_before_others_begin() -> None:
    clock = Clock()
    line = Line(places=1, clock=clock)
    with line.turn("half done", ["before"], SHORT):
        clock.now += SHORT
    clock.now += AT_ONCE / 2
    people = [Person(line, "new"), Person(line, "half done"), Person(line, "newer")]
    with queued(line, *people) as first:
        assert order_of_turns(first, people) == ["half done", "new", "newer"]


def test_whoever_has_gone_on_for_long_enough_comes_after_who_was_not_served() -> None:
    clock = Clock()
    line = Line(places=1, clock=clock)
    for part in range(4):
        with line.turn("greedy", [f"part {part}"], SHORT):
            clock.now += BURST / 4
    people = [Person(line, "greedy"), Person(line, "modest")]
    with queued(line, *people) as first:
        assert order_of_turns(first, people) == ["modest", "greedy"]


def test_a_long_turn_is_none_to_go_on_with() -> None:
    clock = Clock()
    line = Line(places=1, clock=clock)
    with line.turn("half done", ["before"], SHORT):
        clock.now += SHORT
    people = [Person(line, "half done", seconds=LONG), Person(line, "modest", seconds=LONG)]
    with queued(line, *people) as first:
        assert order_of_turns(first, people) == ["modest", "half done"]


def test_long_turns_run_one_at_a_time_and_leave_a_place_to_short_ones() -> None:
    line = Line(places=2)
    one, other = Person(line, "one", seconds=LONG).arrives(), Person(line, "other", seconds=LONG).arrives()
    short = Person(line, "short").arrives()
    assert one.has_turn.is_set()
    assert short.has_turn.wait(SOON)
    short.lets_go()
    assert not other.has_turn.wait(0.3)
    one.lets_go()
    assert other.has_turn.wait(SOON)
    other.lets_go()


def test_a_turn_has_a_place_that_no_other_has_at_the_same_time() -> None:
    line, seen = Line(places=3), list[int | None]()
    together = threading.Barrier(3)

    def ask(number: int) -> None:
        with line.turn(number, [number], SHORT):
            together.wait(SOON)
            seen.append(line.place())
            with line.turn(number, ["more"], SHORT):  # the same turn
                assert line.place() == seen[-1] or line.place() in seen
            together.wait(SOON)

    for _ in range(5):
        seen.clear()
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert sorted(filter(lambda place: place is not None, seen)) == [0, 1, 2]
    assert line.place() is None
    assert not line.has_turn()


# ---- one person ------------------------------------------------------------------------------------------------


def test_nobody_has_two_turns_at_once_though_there_is_a_place() -> None:
    line = Line(places=2)
    one, more = Person(line, "a", "first").arrives(), Person(line, "a", "second").arrives()
    assert not more.has_turn.wait(0.3)
    one.lets_go()
    assert more.has_turn.wait(SOON)
    more.lets_go()


def test_what_somebody_asks_beyond_two_that_wait_replaces_the_oldest() -> None:
    line = Line(places=1)
    asked = [Person(line, "a", f"question {k}") for k in range(MOST_OF_ONE + 1)]
    with queued(line, *asked[:-1]):
        asked[-1].arrives()
        asked[0].join(SOON)
        assert isinstance(asked[0].ended, Busy)
        assert "newer" in str(asked[0].ended)
        assert line.counts()["refused"] == 1
        assert not line.counts().get("failed")
        assert all(one.is_alive() for one in asked[1:])
    asked[-1].may_go.set()
    asked[-1].join(SOON)


def test_who_has_a_turn_goes_on_with_it() -> None:
    line = Line(places=1)
    with line.turn("a", ["outer"], SHORT), line.turn("a", ["inner"], LONG) as waited:
        assert waited == 0
    assert line.counts() == {"asked": 1, "done": 1, "open": 0}


# ---- the same question -----------------------------------------------------------------------------------------


def test_the_same_question_from_thirty_at_once_is_computed_once() -> None:
    line, answers, computed, begin = Line(places=2), {}, [], threading.Barrier(30)

    def ask(person: int) -> None:
        begin.wait()
        if "q" not in answers:
            with line.turn(person, ["q"], SHORT):
                if "q" not in answers:
                    time.sleep(0.2)
                    computed.append(person)
                    answers["q"] = 42

    threads = [threading.Thread(target=ask, args=(person,)) for person in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert len(computed) == 1
    assert line.counts()["open"] == 0


def test_who_asks_what_is_being_computed_is_told_so_and_takes_over_where_it_is_given_up() -> None:
    line = Line(places=2)
    one = Person(line, "one", "q").arrives()
    other = Person(line, "other", "q").arrives()
    until(lambda: bool(other.waits))
    assert other.waits[-1].shared
    assert not other.has_turn.wait(0.3)
    one.lets_go()
    assert other.has_turn.wait(SOON)
    other.lets_go()


# ---- the bounds ------------------------------------------------------------------------------------------------


def test_a_full_line_sends_away_with_the_time_to_come_again() -> None:
    line = Line(places=1, most_waiting=2)
    with queued(line, Person(line, "a"), Person(line, "b")):
        with pytest.raises(Busy, match=r"2 requests are waiting.*Try again in about \d+ s"), line.turn("c", ["q"], 1):
            pass
        assert line.counts()["refused"] == 1


def test_a_long_time_to_come_again_is_said_in_minutes() -> None:
    line = Line(places=1, most_waiting=1)
    with (
        queued(line, Person(line, "a", seconds=300.0)),
        pytest.raises(Busy, match="about 5 min"),
        line.turn("b", ["q"], 300.0),
    ):
        pass


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_turn_that_fails_or_is_stopped_frees_its_place(failure: type[BaseException]) -> None:
    line = Line(places=1)
    with pytest.raises(failure), line.turn("a", ["q"], SHORT):
        raise failure
    with line.turn("b", ["q"], SHORT):
        pass
    assert line.counts() == {"asked": 2, "done": 1, "open": 0} | {"failed" if failure is ValueError else "cancelled": 1}


def test_who_gives_up_while_waiting_is_gone_at_once() -> None:
    line = Line(places=1)
    person = Person(line, "a")
    with queued(line, person):
        person.gives_up.set()
        person.join(1.0)
        assert isinstance(person.ended, KeyboardInterrupt)
        assert line.counts()["cancelled"] == 1
        assert line.counts()["open"] == 1


# ---- what the waiting are told ---------------------------------------------------------------------------------


def test_place_and_seconds_add_up() -> None:
    line = Line(places=1, clock=Clock())
    people = [Person(line, name, seconds=0.5) for name in "abc"]
    with queued(line, *people):
        until(lambda: all(person.waits for person in people))
        assert [person.waits[-1].place for person in people] == [1, 2, 3]
        assert [person.waits[-1].seconds for person in people] == pytest.approx([0.1, 0.6, 1.1])


def test_a_kind_is_thought_to_take_what_the_last_of_it_took() -> None:
    line = Line()
    assert line.usual("map") == 0.5
    line.learn("map", 4.0)
    assert line.usual("map") == 4.0
    for _ in range(10):
        line.learn("map", 1.0)
    assert line.usual("map") == pytest.approx(1.0, abs=0.01)


# ---- everything at once ----------------------------------------------------------------------------------------


def test_in_a_crowd_the_rules_hold_and_every_request_is_accounted_for() -> None:
    line, draws = Line(places=2, most_waiting=12), random.Random(0)
    guard, running, faults, outcomes = threading.Lock(), [], [], []

    def visit(person: int, plan: list[tuple[str, float, bool]]) -> None:
        for question, seconds, gives_up in plan:
            outcome = "done"
            try:
                with line.turn(person, [question], seconds, lambda wait, gives_up=gives_up: stop_if(gives_up)):
                    mine = (person, question, seconds >= 1)
                    with guard:
                        if len(running) >= 2:
                            faults.append("three turns at once")
                        faults.extend(
                            f"{mine} beside {other}"
                            for other in running
                            if other[0] == person or other[1] == question or (other[2] and mine[2])
                        )
                        running.append(mine)
                    time.sleep(0.002)
                    with guard:
                        running.remove(mine)
            except Busy:
                outcome = "refused"
            except KeyboardInterrupt:
                outcome = "cancelled"
            outcomes.append(outcome)

    def stop_if(gives_up: bool) -> None:
        if gives_up:
            raise KeyboardInterrupt

    def plan() -> list[tuple[str, float, bool]]:
        return [(f"q{draws.randrange(8)}", draws.choice((SHORT, LONG)), draws.random() < 0.2) for _ in range(25)]

    threads = [threading.Thread(target=visit, args=(k % 12, plan())) for k in range(24)]  # two tabs each
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not faults
    counts = line.counts()
    assert counts.pop("open") == 0
    assert counts.pop("asked") == 24 * 25 == len(outcomes) == sum(counts.values())
    for outcome, count in counts.items():
        assert count == outcomes.count(outcome)
