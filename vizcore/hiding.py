"""What the net answers when some of a picture is hidden, and the fewest cells whose hiding changes the answer.

`hide` answers for free masks. `smallest_hiding` cuts the picture into a grid and hides cell after cell, each time the
one that brings the answer nearest to its strongest rival, until the rival wins. Parts whose removal changes the
answer are an evidence counterfactual (Vermeire et al., *Explainable image classification with evidence counterfactual*,
Pattern Analysis and Applications 2022); to look for the smallest mask that makes the score of a class collapse is the
deletion game (Fong & Vedaldi, *Interpretable Explanations of Black Boxes by Meaningful Perturbation*, ICCV 2017).

Ours differs from both. Fong & Vedaldi descend the gradient of a smooth mask; here whole cells are hidden, and nothing
is differentiated. Vermeire et al. search best-first over sets of segments, by the drop of the class's score, and go
back to earlier sets; here no earlier set is taken up again, and the margin over the strongest rival counts, since that
is what an answer depends on. So it is greedy: what is found is small, and not proven to be the smallest. But cells that
turn out not to be needed are shown again, so that of the cells in the end each one is: minimal, if not minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vizcore.baselines import filling_of
from vizcore.incremental import Variants
from vizcore.records import (
    BadParameter,
    Model,
    Progress,
    UnsupportedModel,
    check_pixels,
    check_target,
    check_whole,
    probabilities,
)
from vizcore.regions import Region, Span

CELLS = 7  # rows and columns of the grid, as of the last maps of most nets
TOGETHER = 8  # variants at once: always as many, so that sums are rounded alike and steps do not change with the speed


def hide(
    model: Model,
    pixels: Tensor,
    mask: Tensor | np.ndarray,
    *,
    baseline: str | Tensor = "mean",
    variants: Variants | None = None,
) -> Hiding:
    """What the net answers to ``pixels`` (1, 3, H, W) in [0, 1] with some of them hidden.

    ``mask`` is True where a pixel is hidden: bool, (H, W), or (n, H, W) for n answers. ``baseline`` is what is shown
    there, as `baselines.filling_of` takes it. Cost: at most one forward pass a mask, less where it is small and the net
    local, and two to make ``variants``, `Variants` of the same model and pixels, where none are given. Raises
    BadParameter.
    """
    check_pixels(pixels, one=True)
    masks = _check_masks(mask, (pixels.shape[2], pixels.shape[3]))  # (n, H, W)
    filling = filling_of(pixels, baseline)
    variants = _check_variants(variants, model, pixels)
    logits = variants.logits.repeat(len(masks), 1)
    some = np.flatnonzero(masks.any((1, 2)))
    if len(some):
        shares = torch.from_numpy(masks[some])
        for numbers, answers in variants.answers(region_of(masks[some]), filling, shares):
            logits[some[numbers]] = answers
    return Hiding(
        mask=masks,
        whole=variants.logits[0].cpu().numpy(),
        logits=logits.cpu().numpy(),
        model_name=model.name,
        params={"baseline": baseline if isinstance(baseline, str) else "given"},
    )


def smallest_hiding(
    model: Model,
    pixels: Tensor,
    target: int | None = None,
    cells: int = CELLS,
    *,
    baseline: str | Tensor = "mean",
    variants: Variants | None = None,
    progress: Progress | None = None,
    partial: Callable[[SmallestHiding], None] | None = None,
) -> SmallestHiding:
    """A small set of cells of a ``cells`` × ``cells`` grid whose hiding changes the net's answer.

    ``target`` is the answer to be overturned: the top class of ``pixels`` (1, 3, H, W) in [0, 1], and None means that.
    It is overturned when another class has a higher logit. While it stands, the cell is hidden whose hiding lowers the
    margin most, the logit of ``target`` minus the highest other one. Then cells are shown again one by one, first the
    one with which the change is clearest, as long as the answer stays changed: of those left, none can be shown.
    Greedy: fewer cells may exist that do it too. Where nothing changes the answer, all cells end up hidden.

    Cost: two forward passes a step, and one variant for each cell that is tried, cells² in the first step and one less
    in each after it; a variant is a forward pass at most. ``variants`` of the same model and pixels save two passes.
    ``progress`` counts what was tried, of what there is at most to try; ``partial`` is given what is known after each
    step. Raises BadParameter, and UnsupportedModel for a net with one score.
    """
    check_pixels(pixels, one=True)
    size = (pixels.shape[2], pixels.shape[3])
    grid = CellGrid(size, check_whole("cells", cells, 1, min(size)))
    search = _Search(model, pixels.detach(), grid, filling_of(pixels, baseline), variants, progress)
    search.target = _check_answer(model, search.variants.logits, target)
    name = baseline if isinstance(baseline, str) else "given"

    def so_far() -> SmallestHiding:
        return SmallestHiding(
            moves=np.array([grid.place(number) for number in search.moves], int).reshape(-1, 2),
            hides=np.array(search.hides, bool),
            logits=np.stack(search.logits),
            target=search.target,
            model_name=model.name,
            size=size,
            params={"cells": grid.count, "baseline": name},
        )

    for step in (search.hide_one, search.show_one):
        while step():
            if partial:
                partial(so_far())
    return so_far()


@dataclass(frozen=True, eq=False)
class Hiding:
    """Answers to a picture with parts hidden: ``mask`` (n, H, W) bool, ``logits`` (n, K), ``whole`` (K,) with nothing
    hidden. ``params`` holds the baseline."""

    mask: np.ndarray
    whole: np.ndarray
    logits: np.ndarray
    model_name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shares(self) -> np.ndarray:
        """(n,) of the picture that each mask hides, 0 to 1."""
        return self.mask.mean((1, 2))

    @property
    def chances(self) -> np.ndarray:
        """(n, K) probabilities."""
        return _chances(self.logits)

    @property
    def whole_chances(self) -> np.ndarray:
        """(K,) probabilities with nothing hidden."""
        return _chances(self.whole[None])[0]


@dataclass(frozen=True, eq=False)
class SmallestHiding:
    """How the answer ``target`` was overturned, step by step.

    Step k hides the cell ``moves[k]``, (row, column) from the top left, or shows it again where ``hides[k]`` is False.
    ``moves`` (s, 2), ``hides`` (s,); ``logits`` (s + 1, K): of the whole picture, then after each step. ``size``
    (H, W) of the picture, in pixels of what the net sees; ``params`` holds the number of cells a side and the baseline.
    """

    moves: np.ndarray
    hides: np.ndarray
    logits: np.ndarray
    target: int
    model_name: str
    size: tuple[int, int]
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def grid(self) -> CellGrid:
        return CellGrid(self.size, self.params["cells"])

    @property
    def steps(self) -> int:
        return len(self.moves)

    def cells(self, steps: int | None = None) -> list[tuple[int, int]]:
        """The cells that are hidden after so many steps, by default all, in the order in which they were hidden."""
        hidden: list[tuple[int, int]] = []
        for (row, column), hides in zip(self.moves[:steps].tolist(), self.hides[:steps], strict=True):
            (hidden.append if hides else hidden.remove)((row, column))
        return hidden

    def mask(self, steps: int | None = None) -> np.ndarray:
        """(H, W) bool, True where the picture is hidden after so many steps."""
        return self.grid.mask(self.cells(steps))

    @property
    def answers(self) -> np.ndarray:
        """(s + 1,) the class answered, first to the whole picture. At a tie the target stands."""
        stands = self.logits[:, self.target] >= self.logits.max(1)
        return np.where(stands, self.target, self.logits.argmax(1))

    @property
    def changed(self) -> bool:
        return bool(self.answers[-1] != self.target)

    @property
    def chances(self) -> np.ndarray:
        """(s + 1, K) probabilities."""
        return _chances(self.logits)


@dataclass(frozen=True)
class CellGrid:
    """A picture of ``size`` (H, W) cut into ``count`` × ``count`` cells, as like in size as whole pixels allow."""

    size: tuple[int, int]
    count: int = CELLS

    @cached_property
    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Where rows and columns of cells begin, and the end of the last, (count + 1,) each."""
        high, wide = (np.arange(self.count + 1) * side // self.count for side in self.size)
        return high, wide

    @cached_property
    def region(self) -> Region:
        """All cells, row by row."""
        (rows, columns), (height, width) = self.edges, self.size
        tops, bottoms = (np.repeat(edges, self.count) for edges in (rows[:-1], rows[1:]))
        lefts, rights = (np.tile(edges, self.count) for edges in (columns[:-1], columns[1:]))
        return Region(Span(tops, bottoms, height), Span(lefts, rights, width))

    def place(self, number: int) -> tuple[int, int]:
        """(row, column) of a cell of `region`."""
        return divmod(int(number), self.count)

    def cell_at(self, y: float, x: float) -> tuple[int, int] | None:
        """(row, column) of the cell that holds a point, in pixels from the top left; None outside of the picture."""
        if not (0 <= y < self.size[0] and 0 <= x < self.size[1]):
            return None
        row, column = (
            int(np.searchsorted(edges, at, "right")) - 1 for edges, at in zip(self.edges, (y, x), strict=True)
        )
        return row, column

    def mask(self, cells: Sequence[tuple[int, int]]) -> np.ndarray:
        """(H, W) bool, True in each of ``cells``, (row, column)."""
        mask = np.zeros(self.size, bool)
        for row, column in cells:
            if not (0 <= row < self.count and 0 <= column < self.count):
                raise BadParameter(f"cells holds ({row}, {column}); rows and columns are 0 to {self.count - 1}.")
            (top, bottom), (left, right) = (
                edges[at : at + 2] for edges, at in zip(self.edges, (row, column), strict=True)
            )
            mask[top:bottom, left:right] = True
        return mask


def covered(pixels: Tensor, mask: Tensor | np.ndarray, baseline: str | Tensor = "mean") -> Tensor:
    """What the net is shown, (n, 3, H, W): ``pixels`` (1, 3, H, W) with the baseline where ``mask`` is True."""
    check_pixels(pixels, one=True)
    masks = torch.from_numpy(_check_masks(mask, (pixels.shape[2], pixels.shape[3])))[:, None].to(pixels.device)
    return torch.where(masks, filling_of(pixels, baseline), pixels)


def region_of(masks: np.ndarray) -> Region:
    """The smallest rectangles that hold what ``masks`` (n, H, W) hide; each hides something."""

    def span(hides: np.ndarray) -> Span:  # (n, cells of the axis)
        return Span(hides.argmax(1), hides.shape[1] - hides[:, ::-1].argmax(1), hides.shape[1])

    return Region(span(np.any(masks, axis=2)), span(np.any(masks, axis=1)))


class _Search:
    """The picture with the cells hidden so far, and the next step from there."""

    def __init__(
        self,
        model: Model,
        pixels: Tensor,
        grid: CellGrid,
        filling: Tensor,
        variants: Variants | None,
        progress: Progress | None,
    ) -> None:
        self.model, self.pixels, self.grid, self.filling, self.progress = model, pixels, grid, filling, progress
        self.variants = _check_variants(variants, model, pixels)  # of the picture as it is now
        self.hidden = np.zeros(grid.count**2, bool)
        self.target = self.last = 0
        self.moves: list[int] = []
        self.hides: list[bool] = []
        self.logits = [self.variants.logits[0].cpu().numpy()]
        self.tried = 0

    def hide_one(self) -> bool:
        """Hide the cell that lowers the margin most; False where the answer is overturned, or no cell is left."""
        if self.is_overturned or self.hidden.all():
            return False
        shown = np.flatnonzero(~self.hidden)
        most = self.tried + len(shown) * (len(shown) + 1) // 2
        self.turn(int(shown[self.tries(shown, self.filling, most).argmin()]))
        self.note()
        return True

    def show_one(self) -> bool:
        """Show the cell again without which the answer is most clearly overturned; False where each is needed."""
        hidden = np.flatnonzero(self.hidden)
        if not self.is_overturned or len(hidden) < 2:
            return False
        margins = self.tries(hidden, self.pixels, self.tried + len(hidden) * (len(hidden) + 1) // 2)
        if margins.min() >= 0:
            return False
        self.turn(int(hidden[margins.argmin()]))
        if not self.is_overturned:  # a tie but for rounding, and the net itself says so
            self.turn(int(hidden[margins.argmin()]))
            return False
        self.note()
        return True

    @property
    def is_overturned(self) -> bool:
        return bool(self.margins(self.variants.logits)[0] < 0)

    def tries(self, numbers: np.ndarray, filling: Tensor, most: int) -> np.ndarray:
        """The margins (m,) with ``filling`` in one of the cells, each in turn."""
        margins = np.empty(len(numbers))
        for some, logits in self.variants.answers(self.grid.region[numbers], filling, batch_size=TOGETHER):
            margins[some] = self.margins(logits)
            self.tried += len(some)
            if self.progress:
                self.progress(self.tried, most)
        return margins

    def turn(self, number: int) -> None:
        """Hide a cell, or show it again. The net itself answers, and what is tried next is small again."""
        self.hidden[number] = not self.hidden[number]
        self.last = number
        mask = torch.from_numpy(self.grid.mask([self.grid.place(int(n)) for n in np.flatnonzero(self.hidden)]))
        picture = torch.where(mask.to(self.pixels.device), self.filling, self.pixels)
        del self.variants  # their maps go before others come
        self.variants = Variants(self.model, picture)

    def note(self) -> None:
        """The last turn was a step."""
        self.moves.append(self.last)
        self.hides.append(bool(self.hidden[self.last]))
        self.logits.append(self.variants.logits[0].cpu().numpy())

    def margins(self, logits: Tensor) -> np.ndarray:
        """(n, K) to (n,): the target's logit minus the highest other one, float64."""
        scores = logits.double().cpu().numpy()
        others = np.delete(scores, self.target, axis=1)
        return scores[:, self.target] - others.max(1)


def _check_answer(model: Model, logits: Tensor, target: int | None) -> int:
    """The class to be overturned, or a refusal: there must be another, and it must be the answer."""
    if logits.shape[1] < 2:
        raise UnsupportedModel(f"{model.title} has one score: there is no other answer to turn it into.")
    top = int(logits[0].argmax())
    target = top if target is None else check_target(model, target, logits.shape[1])
    if logits[0, target] < logits[0, top]:
        raise BadParameter(
            f"target is {target}, but {model.title} answers class {top} to this picture: only its answer can be "
            "overturned. Leave target out."
        )
    return target


def _check_variants(variants: Variants | None, model: Model, pixels: Tensor) -> Variants:
    """``variants``, or new ones; BadParameter for those of another picture."""
    if variants and not variants.are_of(model, pixels):
        raise BadParameter("variants are of another picture or model; leave them out, or make Variants(model, pixels).")
    return variants or Variants(model, pixels)


def _check_masks(mask: Tensor | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``mask`` as (n, H, W) bool, or BadParameter."""
    if isinstance(mask, Tensor):
        mask = mask.detach().cpu().numpy()
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape[-2:] != size or mask.ndim not in (2, 3):
        got = f"{mask.dtype} of the shape {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise BadParameter(
            f"mask is {got}; it must be bool, True where a pixel is hidden, of the shape {size}, or (n, H, W)."
        )
    return mask.reshape(-1, *size)


def _chances(logits: np.ndarray) -> np.ndarray:
    return probabilities(torch.from_numpy(logits)).numpy()
