"""Occlusion sensitivity: how far the score falls when a part of the picture is hidden.

Zeiler & Fergus (*Visualizing and Understanding Convolutional Networks*, ECCV 2014, section 4.2) slide a grey square
over the picture and watch the class's score. Along each axis windows start at 0, stride, 2·stride, … up to the first
that reaches the border, where it is clipped. The drop of a window is the score of the picture minus the score with
the window hidden; the value of a pixel is the mean of the drops of the windows that cover it. Positive = evidence for
the class.

Others average differently (Captum clips, others sum): the mean keeps the unit, a difference of scores. And others run
the whole net for each window; here only what the window can change is computed (`vizcore.incremental`), to the same
numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vizcore.baselines import BASELINES as BASELINES
from vizcore.baselines import filling_of
from vizcore.incremental import Variants
from vizcore.records import (
    BadParameter,
    Heatmap,
    Model,
    Progress,
    check_pixels,
    check_target,
    check_whole,
)
from vizcore.regions import Region, Span
from vizcore.scores import SCORES as SCORES
from vizcore.scores import check_score, scores_of

MAX_WINDOWS = 100_000
LEVELS = (4, 2, 1)  # every fourth window of the grid first, then every second, then all


def occlusion(
    model: Model,
    pixels: Tensor,
    target: int,
    window: int | tuple[int, int] = 32,
    stride: int | tuple[int, int] = 16,
    *,
    baseline: str | Tensor = "mean",
    score: str = "logit",
    batch_size: int | None = None,
    progress: Progress | None = None,
    partial: Callable[[Unfinished], None] | None = None,
) -> Heatmap:
    """Occlusion sensitivity of ``target`` for one picture, ``pixels`` (1, 3, H, W) in [0, 1].

    ``window`` and ``stride`` are in pixels of ``pixels``: one int or (height, width). ``baseline`` replaces the window:
    ``"mean"`` of the picture by channel, ``"black"``, ``"white"``, ``"blur"`` (Gaussian, σ = a sixteenth of the shorter
    side), or a tensor of the shape of ``pixels``. ``score`` is ``"logit"`` or ``"probability"``. ``batch_size`` windows
    go through the net together; None chooses by the memory that they take.

    Returns values (H, W): mean drop of the score, positive = evidence; 0 where no window reaches (stride > window).
    Cost: at most one forward pass a window, by the architecture a half to a tenth of it. ``progress`` counts windows.
    Before each call of it ``partial`` is given the map so far; windows then come coarse to fine, which takes longer.
    Raises BadParameter; more than MAX_WINDOWS windows are refused.
    """
    return occlusion_of(
        model,
        pixels,
        [target],
        window,
        stride,
        baseline=baseline,
        score=score,
        batch_size=batch_size,
        progress=progress,
        partial=partial,
    )[0]


def occlusion_of(
    model: Model,
    pixels: Tensor,
    targets: Sequence[int],
    window: int | tuple[int, int] = 32,
    stride: int | tuple[int, int] = 16,
    *,
    baseline: str | Tensor = "mean",
    score: str = "logit",
    batch_size: int | None = None,
    progress: Progress | None = None,
    partial: Callable[[Unfinished], None] | None = None,
) -> tuple[Heatmap, ...]:
    """`occlusion` of several classes for the price of one: a forward pass answers for all."""
    question = _Question.of(model, pixels, targets, window, stride, baseline, score)
    if batch_size is not None:
        check_whole("batch_size", batch_size, 1, 4096)
    grid = question.grid
    variants = Variants(model, question.pixels)
    whole = question.scores(variants.logits)[0]  # (T,)
    empty = question.heatmaps(whole)
    if variants.why_whole:
        note = f"Every window took a pass of the whole net, which could not be taken apart: {variants.why_whole}."
        empty = tuple(replace(heat, notes=(*heat.notes, note)) for heat in empty)
    drops = np.full((len(targets), len(grid.region)), np.nan)
    start, done, work = time.perf_counter(), 0, 0

    def so_far() -> Unfinished:
        saved = 1 - work / (done * variants.whole_work) if variants.whole_work else 0.0
        return Unfinished(empty, grid, drops.copy(), done / (time.perf_counter() - start), saved)

    # Windows side by side go through together for less: coarse to fine only where somebody looks on.
    for level in grid.levels() if partial else [np.arange(drops.shape[1])]:
        for numbers, logits in variants.answers(grid.region[level], question.filling, batch_size=batch_size):
            drops[:, level[numbers]] = (whole - question.scores(logits)).T.cpu().numpy()
            done += len(numbers)
            work += variants.work(grid.region[level[numbers]])
            if partial:
                partial(so_far())
            if progress:
                progress(done, drops.shape[1])
    return so_far().heatmaps()


def estimate_occlusion(
    model: Model,
    pixels: Tensor,
    targets: Sequence[int],
    window: int | tuple[int, int] = 32,
    stride: int | tuple[int, int] = 16,
    *,
    baseline: str | Tensor = "mean",
    score: str = "logit",
) -> tuple[Heatmap, ...]:
    """What `occlusion_of` would give if the scores were linear in the pixels: a window's drop is then the sum of
    (x - baseline) · ∂score/∂x over its pixels.

    One forward pass, and one backward for each class, whatever the number of windows. Good for a first look and no
    more: a hidden window is a large change, over which no network is linear. The maps say ``"occlusion_estimate"`` for
    their method. Raises as `occlusion` does.
    """
    question = _Question.of(model, pixels, targets, window, stride, baseline, score)
    down, across = question.grid.covers
    with torch.inference_mode(False), torch.enable_grad():
        shown = question.pixels.clone().requires_grad_()
        scores = question.scores(model.logits(shown))[0]  # (T,)
        gradients = [torch.autograd.grad(one, shown, retain_graph=True)[0] for one in scores]
    estimated = []
    for heat, gradient in zip(question.heatmaps(scores.detach()), gradients, strict=True):
        change = ((question.pixels - question.filling) * gradient)[0].sum(0).double().cpu().numpy()  # (H, W)
        values = mean_drops(down.T @ change @ across, question.grid)
        note = "Estimate from one gradient; no window was hidden yet."
        estimated.append(replace(heat, method="occlusion_estimate", values=values, notes=(note, *heat.notes)))
    return tuple(estimated)


@dataclass(frozen=True, eq=False)
class Unfinished:
    """What is known before all windows were hidden: ``drops`` (T, windows), NaN where not yet.

    ``windows_a_second`` so far; ``saved`` is the share of a whole net's multiplications that were not needed, 0 to 1.
    """

    empty: tuple[Heatmap, ...]
    grid: Grid
    drops: np.ndarray
    windows_a_second: float
    saved: float

    @property
    def done(self) -> int:
        return int((~np.isnan(self.drops[0])).sum())

    @property
    def total(self) -> int:
        return self.drops.shape[1]

    @cached_property
    def known(self) -> np.ndarray:
        """(H, W) share of the windows over each pixel that were hidden, 0 to 1; 1 where there is none."""
        down, across = self.grid.covers
        known = ~np.isnan(self.drops[0]).reshape(len(self.grid.rows), -1)
        covers = down.sum(1)[:, None] * across.sum(1)
        return np.divide(down @ known @ across.T, covers, out=np.ones(self.grid.size), where=covers > 0)

    @property
    def exact(self) -> float:
        """The share of the pixels whose value is final, 0 to 1."""
        return float((self.known == 1).mean())

    def heatmaps(self) -> tuple[Heatmap, ...]:
        """A map for each class, of the windows that were hidden: 0 where none was."""
        shape = len(self.grid.rows), len(self.grid.columns)
        notes: tuple[str, ...] = ()
        if self.done < self.total:
            exact, partly = round(100 * self.exact), round(100 * (self.known > 0).mean())
            rest = ", the rest shows 0" if partly < 100 else ""
            notes = (
                f"Stopped early: {self.done:,} of {self.total:,} windows were hidden. {exact}\u00a0% of the picture is "
                f"exact, {partly - exact}\u00a0% the mean of fewer windows{rest}.",
            )
        return tuple(
            replace(heat, values=mean_drops(drops.reshape(shape), self.grid), notes=(*notes, *heat.notes))
            for heat, drops in zip(self.empty, self.drops, strict=True)
        )

    def over(self, estimates: Sequence[Heatmap]) -> tuple[Heatmap, ...]:
        """`heatmaps` with ``estimates``, as `estimate_occlusion` gives them, where no window was hidden yet."""
        return tuple(
            replace(heat, values=np.where(self.known > 0, heat.values, estimate.values))
            for heat, estimate in zip(self.heatmaps(), estimates, strict=True)
        )


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the windows lie: ``rows`` and ``columns`` are their first pixels; ``size`` (H, W) of the picture."""

    size: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]

    @cached_property
    def rows(self) -> list[int]:
        return starts(self.size[0], self.window[0], self.stride[0])

    @cached_property
    def columns(self) -> list[int]:
        return starts(self.size[1], self.window[1], self.stride[1])

    @cached_property
    def region(self) -> Region:
        """All windows, row by row."""
        tops = np.repeat(self.rows, len(self.columns))
        lefts = np.tile(self.columns, len(self.rows))
        (height, width), (high, wide) = self.size, self.window
        return Region(
            Span(tops, np.minimum(tops + high, height), height), Span(lefts, np.minimum(lefts + wide, width), width)
        )

    @cached_property
    def covers(self) -> tuple[np.ndarray, np.ndarray]:
        """Which pixels of a column or row each window covers, (H, rows) and (W, columns), 0 or 1."""
        # Which pixels a window covers is a product of which rows and which columns it covers.
        down, across = (
            (np.arange(n)[:, None] >= np.array(at)) & (np.arange(n)[:, None] < np.array(at) + length)
            for n, at, length in zip(self.size, (self.rows, self.columns), self.window, strict=True)
        )
        return down.astype(float), across.astype(float)

    def levels(self) -> Iterator[np.ndarray]:
        """Numbers of windows, coarse to fine; each window once."""
        down, across = np.divmod(np.arange(len(self.region)), len(self.columns))
        rest = np.ones(len(self.region), bool)
        for step in LEVELS:
            level = rest & (down % step == 0) & (across % step == 0)
            rest &= ~level
            if level.any():
                yield np.flatnonzero(level)


def mean_drops(drops: np.ndarray, grid: Grid) -> np.ndarray:
    """Drops of the windows (rows, columns) to pixels (H, W) float32; windows not known yet (NaN) do not count."""
    down, across = grid.covers
    known = ~np.isnan(drops)
    total = down @ np.where(known, drops, 0.0) @ across.T  # (H, W)
    covers = down @ known.astype(float) @ across.T
    return np.divide(total, covers, out=np.zeros(grid.size), where=covers > 0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Question:
    """The arguments of `occlusion`, checked."""

    model: Model
    pixels: Tensor
    targets: list[int]
    grid: Grid
    filling: Tensor
    score: str
    baseline: str

    @classmethod
    def of(
        cls,
        model: Model,
        pixels: Tensor,
        targets: Sequence[int],
        window: int | tuple[int, int],
        stride: int | tuple[int, int],
        baseline: str | Tensor,
        score: str,
    ) -> _Question:
        check_pixels(pixels, one=True)
        pixels = pixels.detach()
        size = (pixels.shape[2], pixels.shape[3])
        grid = Grid(size, _pair("window", window, size), _pair("stride", stride, size))
        check_score(score)
        targets = [check_target(model, target) for target in targets]
        filling = filling_of(pixels, baseline)
        if (count := len(grid.rows) * len(grid.columns)) > MAX_WINDOWS:
            raise BadParameter(
                f"window {grid.window} and stride {grid.stride} make {count:,} windows on {size[0]} × {size[1]} "
                f"pixels; at most {MAX_WINDOWS:,} are computed. Use a larger stride."
            )
        return cls(model, pixels, targets, grid, filling, score, baseline if isinstance(baseline, str) else "given")

    def scores(self, logits: Tensor) -> Tensor:
        """(N, K) logits to (N, T) scores of the targets, float64."""
        return scores_of(self.model, logits, self.targets, self.score)

    def heatmaps(self, scores: Tensor) -> tuple[Heatmap, ...]:
        """A map of zeros for each target, whose ``scores`` (T,) of the whole picture are given."""
        window, stride = self.grid.window, self.grid.stride
        gaps: tuple[str, ...] = ()
        if stride[0] > window[0] or stride[1] > window[1]:
            gaps = ("The stride is larger than the window: pixels between windows were never hidden and show 0.",)
        options = {"window": window, "stride": stride, "baseline": self.baseline, "score": self.score}
        zeros = np.zeros(self.grid.size, np.float32)
        return tuple(
            Heatmap(zeros, "occlusion", self.model.name, None, target, float(score), options, gaps)
            for target, score in zip(self.targets, scores, strict=True)
        )


def starts(size: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one axis: 0, stride, …, up to the first window that reaches the border."""
    last = -(-max(size - window, 0) // stride)
    return [n * stride for n in range(last + 1) if n * stride < size]


def count_windows(size: tuple[int, int], window: int | tuple[int, int], stride: int | tuple[int, int]) -> int:
    """How many windows `occlusion` hides on a picture of ``size`` (H, W)."""
    grid = Grid(size, _pair("window", window, size), _pair("stride", stride, size))
    return len(grid.rows) * len(grid.columns)


def _pair(name: str, value: int | tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    if isinstance(value, (tuple, list)) and len(value) != 2:
        raise BadParameter(f"{name} is {value!r}; it must be one whole number or (height, width).")
    high, wide = value if isinstance(value, (tuple, list)) else (value, value)
    return (
        check_whole(f"{name} (height)", high, 1, size[0]),
        check_whole(f"{name} (width)", wide, 1, size[1]),
    )
