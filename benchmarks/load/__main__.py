"""Thirty students and one small server, measured: prints what was wanted and what was reached.

Each repeat starts the server anew. Steady crowds of each size come one after another; then a crowd of the size that
the aims speak of asks the same question at once, uploads at once, comes and goes in three waves, and is cut off. What
each person was shown is judged between the crowds, so that judging takes no processor from the server. In the end two
real browsers stand among a crowd, and leave pictures of the line in build/screenshots.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.load import shapes
from benchmarks.load.answers import Page, Verdict, judge_all
from benchmarks.load.person import CLASSES, MIX, PAUSE
from benchmarks.load.server import Held, Server, running_server
from benchmarks.load.shapes import Crowd, high, jain, own_heatmaps
from benchmarks.load.witness import witnessed
from benchmarks.timing import Options, columns, figure, machine

AIM = 30  # people that the aims speak of
APART = 1000  # between the numbers of two crowds: nobody's photo was seen before
MOST_LINES = 10  # of each kind of what went wrong


@dataclass
class Repeat:
    """What one start of the server met. ``waves``: what it held before them, and after each of three."""

    crowds: list[Crowd] = field(default_factory=list)
    same: Crowd | None = None
    computations: int = 0
    uploads: Crowd | None = None
    waves: list[Held] = field(default_factory=list)
    idle: float = float("nan")
    verdict: Verdict = field(default_factory=Verdict)
    complaints: list[str] = field(default_factory=list)

    @property
    def every_crowd(self) -> list[Crowd]:
        return [*self.crowds, *filter(None, (self.same, self.uploads))]

    @property
    def aimed_at(self) -> Crowd:
        """The steady crowd that the aims speak of, or the largest below it."""
        return max(self.crowds, key=lambda crowd: (crowd.count <= AIM, min(crowd.count, AIM)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 5, 15, 30, 45], help="sizes of steady crowds")
    parser.add_argument("--seconds", type=float, default=45.0, help="that a steady crowd stays")
    parser.add_argument("--repeats", type=int, default=3, help="starts of the server; the medians are shown")
    parser.add_argument("--no-browsers", action="store_true", help="leave out the two witnesses")
    options = parser.parse_args()
    print(f"{machine(Options(quick=False, busy=False), 'streamlit', 'torch', 'websockets')}\n{mix()}", flush=True)
    start = time.monotonic()
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as judges:
        repeats = [measure(options.clients, options.seconds, number, judges, say) for number in range(options.repeats)]
    print(f"\n{len(repeats)} starts of the server, {(time.monotonic() - start) / 60:.0f} min\n\n{report(repeats)}")
    print("\n".join(failures(repeats)), flush=True)
    if not options.no_browsers:
        print("\n".join(look_at_the_line()))


def say(what: str) -> None:
    print(f"… {what}", flush=True)


def mix() -> str:
    """What people do, and how long they look."""
    parts = ", ".join(f"{what} {share} %" for what, share in MIX.items())
    return f"What people do: {parts}. Between two deeds they look for {PAUSE[0]:g} to {PAUSE[1]:g} s, log-normal."


def measure(
    sizes: list[int], seconds: float, number: int, judges: Executor, tell: Callable[[str], None] = lambda what: None
) -> Repeat:
    """One start of the server, and all shapes. ``number`` makes its photos new."""
    with tempfile.TemporaryDirectory() as home, running_server(Path(home)) as server:
        return asyncio.run(_measure(server, sizes, seconds, number, judges, tell))


async def _measure(
    server: Server, sizes: list[int], seconds: float, number: int, judges: Executor, tell: Callable[[str], None]
) -> Repeat:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * max(sizes)))  # each has one that fetches
    result, many = Repeat(), min(AIM, max(sizes))
    first = iter(range((100 * number + 1) * APART, (100 * number + 99) * APART, APART))

    def judge(pages: Iterable[Page]) -> None:
        result.verdict += judge_all(pages, judges)

    for size in sizes:
        result.crowds.append(crowd := await shapes.steady(server, size, seconds, next(first)))
        judge(crowd.pages)
        tell(f"{size} people: {dict(crowd.outcomes())}; {result.verdict.compared} pictures compared so far")
    result.same, result.computations = await shapes.everyone_runs(server, many, next(first), list(CLASSES[:2]))
    tell(f"one question from {many}: computed {result.computations} times")
    result.uploads = await shapes.everyone_uploads(server, many, next(first))
    tell(f"{many} uploads at once: {high(own_heatmaps(result.uploads)):.1f} s")
    judge([*result.same.pages, *result.uploads.pages])
    result.waves, pages = await shapes.waves(server, many, next(first))
    tell(f"waves: {result.waves}")
    judge(pages)
    result.idle = await shapes.all_killed(server, many, next(first))
    tell(f"cut off: idle after {result.idle:.0f} s")
    result.complaints = server.complaints()
    return result


def look_at_the_line() -> list[str]:
    """What two browsers saw of the line, in a line each."""
    with tempfile.TemporaryDirectory() as home, running_server(Path(home)) as server:
        return asyncio.run(witnessed(server, 90_000))


# ---- the tables ------------------------------------------------------------------------------------------


def report(repeats: list[Repeat]) -> str:
    """The aims and what was reached, and each size of a steady crowd by itself."""
    sizes = [crowd.count for crowd in repeats[0].crowds]
    return "\n".join(
        [
            columns(("what", "wanted", "reached"), aims(repeats)),
            "\nSteady crowds. Seconds are 95th percentiles; server and clients: their shares of all processors.\n",
            columns(tuple(COLUMNS), (line_of(repeats, place) for place in range(len(sizes)))),
        ]
    )


def aims(repeats: list[Repeat]) -> list[tuple[str, str, str]]:
    def of_each(value: Callable[[Repeat], float], unit: str = " s") -> str:
        return spread([value(repeat) for repeat in repeats], unit)

    def of_aim(value: Callable[[Crowd], np.ndarray]) -> str:
        return of_each(lambda repeat: high(value(repeat.aimed_at)))

    def after_waves(part: str, unit: str = "", since: int = 0) -> str:
        return of_each(lambda repeat: getattr(repeat.waves[-1], part) - getattr(repeat.waves[since], part), unit)

    wrong, compared = sum(len(r.verdict.wrong) for r in repeats), sum(r.verdict.compared for r in repeats)
    deeds = sum((crowd.outcomes() for r in repeats for crowd in r.every_crowd), Counter[str]())
    turns = Counter(line["outcome"] for r in repeats for crowd in r.every_crowd for line in crowd.journal)
    many, crowd = f"N = {repeats[0].aimed_at.count}", repeats[0].uploads.count if repeats[0].uploads else 0
    times = ", ".join(str(repeat.computations) for repeat in repeats)
    return [
        ("wrong or another person's picture", "0 of 10,000", f"{wrong} of {compared:,}"),
        ("what people asked = done + cancelled + refused", "exactly", sum_of(deeds)),
        ("turns in the line = done + cancelled + refused", "exactly", sum_of(turns)),
        (f"same question from {crowd} at once, computed", "once", times),
        (f"page opened while work runs, its title, {many}", "≤ 1 s", of_aim(lambda crowd: crowd.titled())),
        ("  all of the page, with what it computes", "", of_aim(lambda crowd: crowd.opened())),
        (f"cached result, {many}", "≤ 0.5 s", of_aim(lambda crowd: crowd.seconds(known=True))),
        (f"Grad-CAM of one's own photo, {many}", "≤ 3 s", of_aim(own_heatmaps)),
        (f"  uploaded by {crowd} at once", "", of_each(lambda repeat: high(own_heatmaps(repeat.uploads)))),
        (f"fairness: Jain index of waits for a turn, {many}", "≥ 0.9", of_each(lambda r: r.aimed_at.fairness, "")),
        ("  of what people waited, each deed by the mean of its kind", "", of_each(lambda r: r.aimed_at.evenness, "")),
        (f"  of the waits of {crowd} who upload at once", "", of_each(lambda r: jain(own_heatmaps(r.uploads)), "")),
        ("cancelled: until the page is there again", "≤ 2 s", of_each(lambda r: high(cancels(r)))),
        (f"memory after three waves of {crowd}, third − first", "< 50 MB", after_waves("memory", " MB", since=1)),
        ("threads after the waves − before", "± 2", after_waves("threads")),
        ("open files after − before", "± 2", after_waves("files")),
        ("temporary files after − before", "± 2", after_waves("temporary")),
        ("all cut off at once: idle after", "≤ 10 s", of_each(lambda repeat: repeat.idle)),
    ]


COLUMNS: dict[str, Callable[[Crowd], str | float]] = {
    "people": lambda crowd: str(crowd.count),
    "deeds": lambda crowd: len(crowd.deeds),
    "not done": lambda crowd: len(crowd.deeds) - crowd.outcomes()["done"],
    "title": lambda crowd: high(crowd.titled()),
    "whole page": lambda crowd: high(crowd.opened()),
    "cached": lambda crowd: high(crowd.seconds(known=True)),
    "own Grad-CAM": lambda crowd: high(own_heatmaps(crowd)),
    "occlusion": lambda crowd: high(crowd.seconds(what="run occlusion")),
    "fairness": lambda crowd: crowd.fairness,
    "evenness": lambda crowd: crowd.evenness,
    "server %": lambda crowd: 100 * crowd.theirs,
    "clients %": lambda crowd: 100 * crowd.ours,
}


def line_of(repeats: list[Repeat], place: int) -> tuple[str, ...]:
    """The medians of the steady crowds at that place."""
    crowds = [repeat.crowds[place] for repeat in repeats]
    cells = [[value(crowd) for crowd in crowds] for value in COLUMNS.values()]
    return tuple(cell[0] if isinstance(cell[0], str) else middle(cell) for cell in cells)  # type: ignore[arg-type]


def failures(repeats: list[Repeat]) -> list[str]:
    """What went wrong, in words."""
    wrong = [line for repeat in repeats for line in repeat.verdict.wrong]
    complaints = [line for repeat in repeats for line in repeat.complaints]
    lost = [f"{crowd.count} people: {deed}" for r in repeats for crowd in r.every_crowd for deed in crowd.unaccounted()]
    return [*wrong[:MOST_LINES], *complaints[:MOST_LINES], *lost[:MOST_LINES]]


def cancels(repeat: Repeat) -> np.ndarray:
    return np.array([deed.seconds for crowd in repeat.crowds for deed in crowd.deeds if deed.outcome == "cancelled"])


def middle(values: Iterable[float]) -> str:
    found = [value for value in values if np.isfinite(value)]
    return figure(float(np.median(found))) if found else "–"


def spread(values: Iterable[float], unit: str) -> str:
    """The median, with the lowest and the highest."""
    found = [value for value in values if not np.isnan(value)]
    if not found:
        return "not met"
    more = f" ({figure(min(found))} to {figure(max(found))})" if len(found) > 1 else ""
    return f"{figure(float(np.median(found)))}{unit}{more}"


def sum_of(ends: Counter[str]) -> str:
    """ "120 = 110 + 6 + 4", and what is in none of the three."""
    other = {outcome: count for outcome, count in ends.items() if outcome not in shapes.ENDINGS}
    parts = " + ".join(f"{ends[outcome]:,}" for outcome in shapes.ENDINGS)
    return f"{ends.total():,} = {parts}" + (f", and {other}" if other else "")


if __name__ == "__main__":
    main()
