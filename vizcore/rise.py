"""RISE: which parts of a picture the score of a class needs to see, by random masks.

Petsiuk, Das & Saenko (*RISE: Randomized Input Sampling for Explanation of Black-box Models*, BMVC 2018) show the net
the picture x through N random masks M and average the masks, each weighted by the score s that it leaves:

    S(pixel) = 1 / (E[M] · N) · Σ_i s(x ⊙ M_i) · M_i(pixel)

so that a pixel's value estimates the mean score of the masked pictures in which that pixel is seen. Nothing is asked of
the net but its answers. A mask is a small grid of zeros and ones, enlarged bilinearly to one cell more than the picture
has each way, and cut out at a random place (section 3.2).

Ours also says how much of the map is chance: each value is a mean over random masks, so it has a standard error, and
part of what the map shows would look otherwise with other masks. At the rim the enlarged grid is continued by its
outermost values; the authors' code mirrors it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from vizcore.baselines import filling_of
from vizcore.records import BadParameter, Heatmap, Model, Progress, check_pixels, check_target, check_whole
from vizcore.scores import check_score, scores_of

MAX_MASKS = 100_000


def rise(
    model: Model,
    pixels: Tensor,
    target: int,
    *,
    masks: int = 2000,
    cells: int | tuple[int, int] = 7,
    share: float = 0.5,
    baseline: str | Tensor = "black",
    score: str = "probability",
    seed: int = 0,
    batch_size: int = 8,
    progress: Progress | None = None,
    partial: Callable[[Unfinished], None] | None = None,
) -> Heatmap:
    """RISE of ``target`` for one picture, ``pixels`` (1, 3, H, W) in [0, 1].

    ``masks`` are made from grids of ``cells`` × ``cells``, or (rows, columns), of which each cell is seen with the
    probability ``share``; they are drawn from ``seed`` one after the other, so that more masks go on with the same
    series. What a mask hides shows ``baseline``: ``"black"`` as in the paper, ``"mean"`` of the picture by channel,
    ``"white"``, ``"blur"``, or a tensor of the shape of ``pixels``. ``score`` is ``"probability"`` as in the paper, or
    ``"logit"``.

    Returns values (H, W) in the unit of the score: its mean where the pixel is seen. Where a pixel does not matter that
    is not 0 but the mean over all masks, which ``notes`` say, with the standard error and how much of what the map
    shows is chance. Cost: one forward pass a mask. ``progress`` counts masks; before each call of it ``partial`` is
    given the map so far. Raises BadParameter.
    """
    return rise_of(
        model,
        pixels,
        [target],
        masks=masks,
        cells=cells,
        share=share,
        baseline=baseline,
        score=score,
        seed=seed,
        batch_size=batch_size,
        progress=progress,
        partial=partial,
    )[0]


def above_mean(heat: Heatmap) -> Heatmap:
    """A map of `rise` less its mean: all of it lies above 0, and the differences would not be seen in its colours."""
    mean = heat.values.mean()
    note = f"The colours show what lies above and below the mean of the map, {mean:.2g}."
    return replace(heat, values=heat.values - mean, notes=(*heat.notes, note))


def rise_of(
    model: Model,
    pixels: Tensor,
    targets: Sequence[int],
    *,
    masks: int = 2000,
    cells: int | tuple[int, int] = 7,
    share: float = 0.5,
    baseline: str | Tensor = "black",
    score: str = "probability",
    seed: int = 0,
    batch_size: int = 8,
    progress: Progress | None = None,
    partial: Callable[[Unfinished], None] | None = None,
) -> tuple[Heatmap, ...]:
    """`rise` of several classes for the price of one: a forward pass answers for all."""
    check_pixels(pixels, one=True)
    targets = [check_target(model, target) for target in targets]
    masks = check_whole("masks", masks, 1, MAX_MASKS)
    check_whole("batch_size", batch_size, 1, 4096)
    check_score(score)
    size = (pixels.shape[2], pixels.shape[3])
    grid = _grid(cells, size)
    series = random_masks(size, grid, share, seed)
    pixels = pixels.detach().to(model.device, model.dtype)
    filling = filling_of(pixels, baseline)

    def scores(shown: Tensor) -> np.ndarray:
        with torch.no_grad():
            return scores_of(model, model.logits(shown), targets, score).cpu().numpy()  # (n, T)

    params = {
        "masks": masks,
        "cells": grid,
        "share": share,
        "seed": int(seed),
        "score": score,
        "baseline": baseline if isinstance(baseline, str) else "given",
    }
    empty = tuple(
        Heatmap(np.zeros(size, np.float32), "rise", model.name, None, target, float(whole), params)
        for target, whole in zip(targets, scores(pixels)[0], strict=True)
    )
    so_far = Unfinished(empty, 0, *np.zeros((2, len(targets))), *np.zeros((2, len(targets), *size)))
    while so_far.done < masks:
        drawn = np.stack(list(islice(series, min(batch_size, masks - so_far.done))))  # (n, H, W)
        seen = torch.from_numpy(drawn)[:, None].to(pixels)
        so_far = so_far.with_more(drawn, scores(filling + seen * (pixels - filling)))
        if partial:
            partial(so_far)
        if progress:
            progress(so_far.done, masks)
    return so_far.heatmaps()


def random_masks(
    size: tuple[int, int], cells: int | tuple[int, int] = 7, share: float = 0.5, seed: int = 0
) -> Iterator[np.ndarray]:
    """The endless series of RISE's masks for pictures of ``size`` (H, W): each (H, W) float64, 0 (hidden) to 1 (seen).

    At every pixel their mean is ``share``. Raises BadParameter.
    """
    grid = _grid(cells, size)
    check_whole("seed", seed, 0, 2**63 - 1)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise BadParameter(f"share is {share!r}; it must be a number above 0 and up to 1: how much of a mask is seen.")
    return _series(size, grid, share, seed)


def _series(size: tuple[int, int], grid: tuple[int, int], share: float, seed: int) -> Iterator[np.ndarray]:
    draws = np.random.default_rng(seed)
    cell = [-(-side // count) for side, count in zip(size, grid, strict=True)]
    # Bilinear is linear along each axis in turn: a mask is down · grid · acrossᵀ.
    down, across = (_enlarging(count, (count + 1) * pixels) for count, pixels in zip(grid, cell, strict=True))
    while True:
        kept = (draws.random(grid) < share).astype(float)
        top, left = (int(draws.integers(pixels)) for pixels in cell)
        yield down[top : top + size[0]] @ kept @ across[left : left + size[1]].T  # (H, W)


def _enlarging(cells: int, pixels: int) -> np.ndarray:
    """(pixels, cells) weights of linear interpolation, with cells and pixels as areas; constant beyond the centres."""
    centres = (np.arange(pixels) + 0.5) * cells / pixels - 0.5
    return np.stack([np.interp(centres, np.arange(cells), one) for one in np.eye(cells)], axis=1)


@dataclass(frozen=True, eq=False)
class Unfinished:
    """What is known after ``done`` masks, as sums over them, float64.

    ``scores`` (T,) of the scores; ``spreads`` (T,) of squared score times variance of the mask over the picture;
    ``sums`` (T, H, W) of score times mask, and ``squares`` (T, H, W) of the squares of that.
    """

    empty: tuple[Heatmap, ...]
    done: int
    scores: np.ndarray
    spreads: np.ndarray
    sums: np.ndarray
    squares: np.ndarray

    def with_more(self, masks: np.ndarray, scores: np.ndarray) -> Unfinished:
        """After ``masks`` (n, H, W) more, whose ``scores`` are (n, T)."""
        return Unfinished(
            self.empty,
            self.done + len(masks),
            self.scores + scores.sum(0),
            self.spreads + masks.var((1, 2)) @ scores**2,
            self.sums + np.tensordot(scores.T, masks, 1),
            self.squares + np.tensordot(scores.T**2, masks**2, 1),
        )

    @property
    def total(self) -> int:
        return self.empty[0].params["masks"]

    @cached_property
    def values(self) -> np.ndarray:
        """(T, H, W) the maps so far."""
        return self.sums / (self.done * self._share)

    @cached_property
    def standard_errors(self) -> np.ndarray:
        """(T, H, W) of the values: how far another seed would move them. Infinite after one mask."""
        if self.done < 2:
            return np.full_like(self.sums, np.inf)
        spread = self.squares / self._share**2 - self.done * self.values**2
        return np.sqrt(np.maximum(spread, 0) / (self.done * (self.done - 1)))

    @cached_property
    def noise(self) -> np.ndarray:
        """(T,) variance over the picture that other masks would put elsewhere. Infinite after one mask.

        Of the map less its mean: maps that differ by a constant show the same.
        """
        if self.done < 2:
            return np.full(len(self.empty), np.inf)
        spread = self.spreads / self._share**2 - self.done * self.values.var((1, 2))
        return np.maximum(spread, 0) / (self.done * (self.done - 1))

    @property
    def chance(self) -> np.ndarray:
        """(T,) share of the variance of the map over the picture that is `noise`, 0 to 1; 0 where it is constant."""
        shown = self.values.var((1, 2))
        varies = shown > 1e-12 * np.square(self.values).mean((1, 2))  # more than by rounding
        return np.minimum(np.divide(self.noise, shown, out=np.zeros_like(shown), where=varies), 1)

    def heatmaps(self) -> tuple[Heatmap, ...]:
        """A map for each class, of the masks so far."""
        stopped: tuple[str, ...] = ()
        if self.done < self.total:
            stopped = (f"Stopped early: {self.done:,} of {self.total:,} masks were drawn.",)
        means = self.scores / self.done
        parts = zip(self.empty, self.values, self.standard_errors, self.chance, means, strict=True)
        return tuple(
            replace(
                heat,
                values=values.astype(np.float32),
                notes=(
                    *stopped,
                    f"Estimated from {self.done:,} random masks: the standard error of a value is {errors.mean():.2g} "
                    f"on average, and chance makes about {round(100 * chance)}\u00a0% of the map's variance over the "
                    "picture.",
                    f"What does not matter shows the mean score of the masked pictures, {mean:.2g}, not 0.",
                ),
            )
            for heat, values, errors, chance, mean in parts
        )

    @property
    def _share(self) -> float:
        return self.empty[0].params["share"]


def _grid(cells: int | tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """``cells`` as (rows, columns), or BadParameter."""
    if isinstance(cells, (tuple, list)) and len(cells) != 2:
        raise BadParameter(f"cells is {cells!r}; it must be one whole number or (rows, columns).")
    rows, columns = cells if isinstance(cells, (tuple, list)) else (cells, cells)
    return check_whole("cells (rows)", rows, 1, size[0]), check_whole("cells (columns)", columns, 1, size[1])
