"""Occlusion as the pages show it: an estimate at once, then exact values, from a run that may be stopped; its speed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from app_pages import common, views
from app_pages.heatmap_cells import Known
from vizcore.heatmaps import usual_options
from vizcore.occlusion import Unfinished, count_windows, estimate_occlusion, occlusion_of
from vizcore.records import Heatmap, Progress

ESTIMATE_PASSES = 2.5  # what a forward and a backward pass cost, measured in forward passes
PREPARING = 1.0  # seconds: more than it takes to see what a window can change, which is done once for a network
LEAST_GAIN = 3.0  # over a pass for each window, of most networks
WINDOWS = ("window", "windows")


@dataclass(frozen=True)
class Speed:
    """Of a run: ``windows`` hidden in ``seconds``, after ``preparing`` seconds, for so many ``classes`` together.

    ``saved`` is the share, 0 to 1, of the work of a pass for each window.
    """

    classes: int
    windows: int
    seconds: float
    preparing: float
    saved: float

    @classmethod
    def of(cls, run: Unfinished, seconds: float) -> Speed:
        """``run`` took ``seconds`` in all."""
        hiding = run.done / run.windows_a_second
        return cls(len(run.empty), run.done, hiding, max(seconds - hiding, 0.0), run.saved)

    def __str__(self) -> str:
        together = f" for {self.classes} classes at once" if self.classes > 1 else ""
        words = [
            f"{common.counted(self.windows, WINDOWS)} in {measured(self.seconds)}{together}",
            f"{views.number(self.windows / self.seconds)} a second",
            f"{100 * self.saved:.0f}\u00a0% of the work saved",
        ]
        if self.preparing >= 1:
            words.append(f"after {measured(self.preparing)} of preparing the network")
        return ", ".join(words)


@dataclass(frozen=True)
class Stopped:
    """What a run left that was stopped: its map, which says so in its notes."""

    heat: Heatmap
    speed: Speed


@dataclass(frozen=True)
class Occlusion:
    """One question: how far scores fall when windows of the picture are hidden. Options as in `vizcore.occlusion`."""

    here: common.Chosen
    window: int
    stride: int
    baseline: str = "mean"
    score: str = "logit"

    @classmethod
    def usual(cls, here: common.Chosen) -> Occlusion:
        """A seventh of the picture hidden, half a window on each time: 32 and 16 of 224."""
        return cls(here, **usual_options(here.model, "occlusion"))

    @property
    def options(self) -> dict[str, Any]:
        return {"window": self.window, "stride": self.stride, "baseline": self.baseline, "score": self.score}

    @property
    def windows(self) -> int:
        return count_windows(self.here.model.input_size, self.window, self.stride)

    def key(self, target: int) -> tuple[object, ...]:
        return views.heat_key(self.here, "occlusion", target, None, *self.options.values())

    def exact(self, target: int) -> Heatmap | None:
        """The map, where all windows were hidden before. Raises the refusal where it was refused."""
        return common.recall(self.key(target))

    def stopped(self, target: int) -> Stopped | None:
        """What the run left that came farthest."""
        return common.recall(("stopped", *self.key(target)))

    def estimate(self, target: int) -> Heatmap | None:
        return common.recall(self._estimate_key(target))

    def best(self, target: int) -> Known | None:
        """The best that is known: the exact map, what a stopped run left, the estimate."""
        if exact := self.exact(target):
            speed = common.recall(("speed", *self.key(target)))
            return Known(exact, str(speed or measured(common.results().seconds(self.key(target)))), "exact")
        if stopped := self.stopped(target):
            return Known(stopped.heat, str(stopped.speed), "stopped early")
        if estimate := self.estimate(target):
            return Known(estimate, f"{common.results().seconds(self._estimate_key(target)):.2f} s", "estimate")
        return None

    def missing(self, targets: Iterable[int]) -> list[int]:
        """The classes whose exact map is not known."""
        return [target for target in targets if common.results().get(self.key(target)) is None]

    def to_estimate(self, targets: Iterable[int], besides: float = 0.0) -> list[int]:
        """The classes of which nothing is known yet, where their estimates need no button, ``besides`` seconds of
        computing that needs none either."""
        held = common.results().get
        missing = [target for target in self.missing(targets) if not self.stopped(target)]
        unknown = [target for target in missing if held(self._estimate_key(target)) is None]
        return unknown if besides + self.seconds_to_estimate(unknown) <= common.AT_ONCE else []

    def seconds_to_estimate(self, targets: Sequence[int]) -> float:
        return ESTIMATE_PASSES * len(targets) * views.seconds_a_pass(self.here)

    def estimates(self, targets: Iterable[int]) -> tuple[Heatmap, ...]:
        """The estimates of several classes, known from now on."""
        keys = {target: self._estimate_key(target) for target in targets}
        return common.known_each(
            keys,
            lambda still_open: estimate_occlusion(self.here.model, self.here.view.pixels, still_open, **self.options),
        )

    def over_estimates(self, so_far: Unfinished) -> dict[int, Heatmap]:
        """What a run knows so far, by class; where it knows nothing yet, the estimate."""
        targets = [heat.target for heat in so_far.empty]
        return dict(zip(targets, so_far.over(self.estimates(targets)), strict=True))

    def price(self) -> str:
        """By the speed of the last run with such windows; before there was one, at most a pass for each."""
        return common.price(self.windows, self.seconds, of=WINDOWS, bound=not common.recall(self._rate))

    @property
    def seconds(self) -> float:
        """About so long a run takes; before there was one, at most."""
        rate = common.recall(self._rate)
        return self.windows / rate if rate else self.windows * views.seconds_a_pass(self.here) + PREPARING

    def compute(
        self, targets: Sequence[int], progress: Progress, show: Callable[[Unfinished], None] | None = None
    ) -> tuple[Heatmap, ...]:
        """The exact maps, in one run for all classes, known from now on. Where it is stopped, what it had is kept."""
        return common.known_each(
            {target: self.key(target) for target in targets},
            lambda still_open: self._run(still_open, progress, show),
            self.seconds if common.recall(self._rate) else self.seconds / LEAST_GAIN,
        )

    def _estimate_key(self, target: int) -> tuple[object, ...]:
        return ("estimate", *self.key(target)[1:])

    @property
    def _rate(self) -> tuple[object, ...]:
        return ("windows a second", self.here.model.title, self.window, self.stride)

    def _run(
        self, targets: list[int], progress: Progress, show: Callable[[Unfinished], None] | None
    ) -> tuple[Heatmap, ...]:
        start, last = time.perf_counter(), None

        def keep(so_far: Unfinished) -> None:
            nonlocal last
            last = so_far
            if show:
                show(so_far)

        try:
            return occlusion_of(
                self.here.model, self.here.view.pixels, targets, **self.options, progress=progress, partial=keep
            )
        finally:  # Streamlit stops a run with an exception that is no Exception
            if last:
                self._keep(targets, last, time.perf_counter() - start)

    def _keep(self, targets: list[int], last: Unfinished, seconds: float) -> None:
        """Keep what a run came to. The map of all windows is exact, however its run ended."""
        store, speed = common.results(), Speed.of(last, seconds)
        store.put(self._rate, last.windows_a_second, seconds)
        for target, heat in zip(targets, last.heatmaps(), strict=True):
            key = self.key(target)
            if last.done == last.total:
                store.put(key, heat, seconds)
                store.put(("speed", *key), speed, seconds)
                continue
            before = self.stopped(target)
            if before is None or before.speed.windows < last.done:
                store.put(("stopped", *key), Stopped(heat, speed), seconds)


def measured(seconds: float) -> str:
    """A duration that is known, to two digits."""
    return f"{seconds:.{2 if seconds < 1 else 1}f} s" if seconds < 10 else common.duration(seconds)


def words_of(run: Unfinished) -> str:
    """How fast a run is, and how far it came."""
    return " · ".join(
        (
            f"{views.number(run.windows_a_second)} windows a second",
            f"{100 * run.saved:.0f}\u00a0% of the work saved",
            f"exact for {math.floor(100 * run.exact)}\u00a0% of the picture",
        )
    )
