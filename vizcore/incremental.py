"""Answers of a net to many variants of one picture, each changed in one rectangle, without computing the rest again.

Outside the receptive field of the change every map is what it is for the picture itself. So the picture's own maps are
computed once and kept; for a variant only the part of each map that can change is computed, from a crop of the kept map
with the changed part of the map before set in (Nakandala, Kumar & Papakonstantinou, "Incremental and Approximate
Inference for Faster Occlusion-Based Deep CNN Explanations", SIGMOD 2019). Nothing is approximated. Where a part nears
the whole map, or an operation is not local, the rest runs on whole maps; where the net cannot be traced, all of it
does.

Several variants go through together, their parts at one size. Sums are taken in another order than the net itself
would, and so rounded differently: answers agree to about 1e-5 of the largest logit in float32, or closer.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vizcore.graph import Step, Untraceable, steps_of
from vizcore.kernels import Window, kernel_of
from vizcore.records import Model
from vizcore.regions import Region, union
from vizcore.workspace import Workspace

WHOLE = 0.8  # of a map: a part as large as this is not worth the cropping
AGREES = 1e-4  # of the largest logit: how far the graph's answer to the picture may be from the net's own
BATCHES = (32, 16, 8)  # variants at once, to choose from by measuring: the large ones first, see order() of a region
# Bytes: of a net's numbers and maps, and of a batch. The allocator holds back several times what the largest
# step of a batch takes, as measured on the nets of the catalogue.
MEMORY = 520 * 2**20
HELD_BACK = 5.5
# More weights than this of dense layers are read from memory once for many batches: so many variants wait, or so long.
HEAVY = 2**22
HEAD_BATCH, HEAD_SECONDS = 128, 1.0
TRIALS = 2  # of each size of a batch: first times mislead

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def _plain(function: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Neither differentiable nor marked as inference, whatever the caller's mode."""

    @wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        with torch.inference_mode(False), torch.no_grad():
            return function(*args, **kwargs)

    return run


class Variants:
    """One picture, ``pixels`` (1, 3, H, W) in [0, 1], and what the net answers when a rectangle of it is changed.

    ``logits`` (1, K) are the answer to the picture as it is. Making one costs two forward passes: the net's own, and
    the graph's, whose maps are kept; memory for these, and for the kernels, up to four times as large in the form in
    which they are fast. Where the net could be traced (``is_traced``) it is not run again, and ``model.lock`` not held
    any more; who changes the net's numbers makes a new one.
    """

    @_plain
    def __init__(self, model: Model, pixels: Tensor) -> None:
        self._model, self._pixels = model, pixels
        self._pace = _PACES.setdefault(model.net, {})
        self.logits = model.logits(pixels)
        self._program = self._traced()

    def _traced(self) -> Program | None:
        """The net's program, or None where the net itself has to run."""
        try:
            program = Program(self._model, self._model.normalise(self._pixels))
        except Untraceable:
            return None
        # Whatever a net may do that its operations do not show is seen here.
        agrees = (program.logits - self.logits).abs().max() <= AGREES * self.logits.abs().max()
        return program if agrees else None

    @property
    def is_traced(self) -> bool:
        return self._program is not None

    @property
    def whole_work(self) -> int:
        """Multiplications by weights in a forward pass of the whole picture; 0 where the net is not traced."""
        return self._program.whole_work if self._program else 0

    def work(self, region: Region) -> int:
        """The same for the variants that change in ``region``, all of them together."""
        return self._program.work(region) if self._program else 0

    def least_work(self, region: Region) -> int:
        """What cannot be avoided without approximating: the same, of the cells alone that can change."""
        return self._program.least_work(region) if self._program else 0

    def answers(
        self, region: Region, filling: Tensor, masks: Tensor | None = None, batch_size: int | None = None
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Logits of the variants that show ``filling`` (1, 3, H, W) in ``region``, as they come, in an order that pays.

        Yields the numbers of some variants (m,) and their logits (m, K). ``masks`` (n, H, W), where given, say how far
        each pixel of the region shows the filling, 0 to 1. ``batch_size`` variants go through together; None chooses by
        measuring.
        """
        order = region.order()
        held: list[tuple[np.ndarray, Tensor]] = []
        done, since = 0, time.perf_counter()
        sizes = [batch_size] if batch_size else self._batch_sizes(region[order])
        while done < len(order):
            some = order[done : done + max(sizes, key=self._preference)]
            done += len(some)
            held.append((some, self._body(region[some], filling, None if masks is None else masks[some])))
            if done < len(order) and self._waits(sum(len(numbers) for numbers, _ in held), since):
                continue
            logits = self._head(torch.cat([values for _, values in held]))
            yield np.concatenate([numbers for numbers, _ in held]), logits
            held, since = [], time.perf_counter()

    def _waits(self, count: int, since: float) -> bool:
        """Whether the dense layers should wait for more than the ``count`` variants that came ``since`` then."""
        if self._program is None or self._program.head_weights <= HEAVY:
            return False
        return count < HEAD_BATCH and time.perf_counter() - since < HEAD_SECONDS

    @_plain
    def _body(self, region: Region, filling: Tensor, masks: Tensor | None) -> Tensor:
        """What goes into the dense layers; of a net that is run itself, the logits."""
        patches = self._patches(region, filling, masks)
        if self._program is None:
            return self._model.logits(self._set_in(patches, region))
        start = time.perf_counter()
        values = self._program.body(self._model.normalise(patches), region)
        if len(region) in BATCHES:
            paces = self._pace.setdefault(len(region), [])
            paces.append(self.work(region) / (time.perf_counter() - start))
            del paces[:-TRIALS]
        return values

    @_plain
    def _head(self, values: Tensor) -> Tensor:
        return self._model.checked(self._program.head(values), len(values)) if self._program else values

    def _batch_sizes(self, ahead: Region) -> list[int]:
        """Which of BATCHES fit for the variants ``ahead``, of which the first change most."""
        if self._program is None:
            return [BATCHES[-1]]
        room = (MEMORY - self._program.bytes) / HELD_BACK
        sizes = [size for size in BATCHES if self._program.most_bytes(ahead[:size]) <= room]
        return sizes or [max(1, int(room / self._program.most_bytes(ahead[:1])))]

    def _preference(self, size: int) -> tuple[bool, float]:
        """Sizes that were not tried first, then the fastest."""
        paces = self._pace.get(size, [])
        return len(paces) < TRIALS, max(paces, default=0.0)

    def _patches(self, region: Region, filling: Tensor, masks: Tensor | None) -> Tensor:
        """RGB pixels (n, 3, h, w) of the cells that are computed: the filling in the region, the picture beside it."""
        rows, columns = region.rows.cells, region.columns.cells  # (n, h), (n, w)
        inside = region.rows.holds(rows)[:, :, None] & region.columns.holds(columns)[:, None, :]
        share = torch.from_numpy(inside).to(self._pixels)  # (n, h, w)
        at = torch.from_numpy(rows)[:, :, None], torch.from_numpy(columns)[:, None, :]
        if masks is not None:
            share = share * masks[torch.arange(len(region))[:, None, None], *at].to(share)
        share = share[:, None]
        own, other = (tensor[0][:, *at].transpose(0, 1) for tensor in (self._pixels, filling))
        return torch.where(share == 1, other, own + share * (other - own))  # 0 and 1 are not rounded

    def _set_in(self, patches: Tensor, region: Region) -> Tensor:
        """Whole pictures (n, 3, H, W)."""
        pictures = self._pixels.repeat(len(patches), 1, 1, 1)
        (height, width), tops, lefts = region.size, region.rows.start, region.columns.start
        for picture, patch, top, left in zip(pictures, patches, tops, lefts, strict=True):
            picture[:, top : top + height, left : left + width] = patch
        return pictures


# Work a second of the latest batches of each size: measured once for a net, whatever the picture.
_PACES: WeakKeyDictionary[nn.Module, dict[int, list[float]]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Part:
    """What a step gives for n variants: ``values`` (n, …), of maps the cells of ``region``; None where it is no map."""

    values: Tensor
    region: Region | None


class Program:
    """The graph of a net with its numbers, and the maps of one picture; ``logits`` (1, K) is what it answers to it."""

    def __init__(self, model: Model, seen: Tensor) -> None:
        channels, height, width = seen.shape[1:]
        self.steps = steps_of(model, (channels, height, width))
        self._workspace, self._lock = Workspace(), threading.Lock()
        with model.lock:
            tensors = dict([*model.net.named_parameters(), *model.net.named_buffers()])
            self.kernels = [kernel_of(step, tensors, seen.device, self._workspace) for step in self.steps]
        self._last_use = {source: number for number, step in enumerate(self.steps) for source in step.sources}
        self._cut = self._find_cut()
        self.head_weights = sum(kernel.weights for kernel in self.kernels[self._cut + 1 :])
        self._maps: dict[int, Tensor] = {0: seen}
        self._padded: dict[tuple[int, tuple[int, ...], float], Tensor] = {}
        whole = Region.whole(1, (height, width))
        self.logits = self.head(self.body(seen, whole, keep=True))
        self.whole_work = self.work(whole)
        self.bytes = sum(kernel.bytes for kernel in self.kernels) + sum(map(_bytes, self._maps.values()))

    def _find_cut(self) -> int:
        """The step behind which the dense layers begin: nothing there reads what lies before it."""
        for number, step in enumerate(self.steps):
            if len(step.shape) == 1 and all(min(later.sources) >= number for later in self.steps[number + 1 :]):
                return number
        return len(self.steps) - 1

    def body(self, values: Tensor, region: Region, *, keep: bool = False) -> Tensor:
        """What goes into the dense layers, (n, …), for variants that show ``values`` (n, C, h, w), normalised, at
        ``region``; with ``keep`` all maps are kept that a crop may be taken from."""
        with self._lock:  # of the workspace
            return self._body(values, region, keep)

    def _body(self, values: Tensor, region: Region, keep: bool) -> Tensor:
        parts = {0: Part(values.contiguous(memory_format=torch.channels_last), region)}
        for number in range(1, self._cut + 1):
            step = self.steps[number]
            parts[number] = self._run(number, [parts[source] for source in step.sources], len(region))
            for source in step.sources:
                if keep and self.steps[source].is_map and not (step.pointwise and len(step.sources) == 1):
                    self._maps[source] = parts[source].values
            for source in set(step.sources):
                if self._last_use[source] == number:
                    del parts[source]
        return self._whole(self._cut, parts[self._cut])

    def head(self, values: Tensor) -> Tensor:
        """The logits (n, K) for what `body` gave."""
        results, count = {self._cut: values}, len(values)
        for number in range(self._cut + 1, len(self.steps)):
            kernel, read = self.kernels[number], [results[source] for source in self.steps[number].sources]
            results[number] = kernel.on_whole(*read) if isinstance(kernel, Window) else kernel(*read, count=count)
        return results[len(self.steps) - 1]

    def work(self, region: Region) -> int:
        """Multiplications by weights for the variants that change in ``region``."""
        return sum(
            len(region) * self.kernels[number].work(math.prod(part.size) if part else 1)
            for number, part in self._regions(region)
        )

    def least_work(self, region: Region) -> int:
        """The same of the cells that change, variant by variant, though more are computed."""
        found: dict[int, Region | None] = {0: region}
        total = 0
        for number, step in enumerate(self.steps[1:], 1):
            part = _behind(step, [found[source] for source in step.sources], len(region), whole=math.inf)
            found[number] = part
            cells = part.cells if part else np.ones(len(region), int)
            total += sum(self.kernels[number].work(int(count)) for count in cells)
        return total

    def most_bytes(self, region: Region) -> int:
        """What the largest step takes for the variants that change in ``region``."""
        numbers = (
            math.prod(part.size) * self.steps[number].shape[0] * self.kernels[number].copies
            for number, part in self._regions(region)
            if part
        )
        return self.logits.element_size() * len(region) * max(numbers, default=1)

    def _regions(self, region: Region) -> Iterator[tuple[int, Region | None]]:
        """What is computed of each step's result, without computing it."""
        found: dict[int, Region | None] = {0: region}
        for number, step in enumerate(self.steps[1:], 1):
            found[number] = _behind(step, [found[source] for source in step.sources], len(region))
            yield number, found[number]

    def _run(self, number: int, parts: list[Part], count: int) -> Part:
        step, kernel = self.steps[number], self.kernels[number]
        region = _behind(step, [part.region for part in parts], count)
        if not step.is_local or region is None:
            return Part(kernel(*map(self._whole, step.sources, parts), count=count), region)
        if not isinstance(kernel, Window):
            values = [self._at(source, part, region) for source, part in zip(step.sources, parts, strict=True)]
            return Part(kernel(*values, count=count), region)
        others = [self._at(source, part, region) for source, part in zip(step.sources[1:], parts[1:], strict=True)]
        if region.is_whole:
            return Part(kernel.on_whole(self._whole(step.sources[0], parts[0]), *others), region)
        padding = kernel.padding(self.steps[step.sources[0]].size)
        starts, size = region.read(kernel.reach)
        if not any(padding) and parts[0].region and parts[0].region.is_at(starts, size):
            return Part(kernel.on_crop(parts[0].values, region, *others), region)
        crop = self._crop(step.sources[0], parts[0], starts, size, padding, kernel.outside, self._workspace)
        return Part(kernel.on_crop(crop, region, *others), region)

    def _whole(self, source: int, part: Part) -> Tensor:
        """A step's whole result."""
        if part.region is None or part.region.is_whole:
            return part.values
        return self._at(source, part, Region.whole(len(part.values), self.steps[source].size))

    def _at(self, source: int, part: Part, region: Region) -> Tensor:
        """A step's map at the cells of ``region``."""
        assert part.region is not None
        starts = region.rows.start, region.columns.start
        if part.region.is_at(starts, region.size):
            return part.values
        return self._crop(source, part, starts, region.size)

    def _crop(
        self,
        source: int,
        part: Part,
        starts: tuple[np.ndarray, np.ndarray],
        size: tuple[int, int],
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        outside: float = 0.0,
        workspace: Workspace | None = None,
    ) -> Tensor:
        """(n, C, h, w) of a step's map from ``starts`` on: the picture's own, with the changed part set in.

        Starts may be negative, and crops go beyond the border, by as much as ``padding``: (left, right, top, bottom).
        With ``workspace`` they lie there until the next one.
        """
        assert part.region is not None
        kept = self._kept(source, padding, outside)
        rows = (starts[0] + padding[2])[:, None] + np.arange(size[0])
        columns = (starts[1] + padding[0])[:, None] + np.arange(size[1])
        cells = torch.from_numpy((rows[:, :, None] * kept.shape[3] + columns[:, None, :]).ravel()).to(kept.device)
        by_cell = kept.permute(0, 2, 3, 1).view(-1, kept.shape[1])  # (H · W, C), no copy
        out = workspace.take("crop", (len(cells), by_cell.shape[1]), by_cell) if workspace else None
        crop = torch.index_select(by_cell, 0, cells, out=out).view(len(rows), *size, -1).permute(0, 3, 1, 2)
        _set_in(crop, part.values, part.region.rows.start - starts[0], part.region.columns.start - starts[1])
        return crop

    def _kept(self, source: int, padding: tuple[int, int, int, int], outside: float) -> Tensor:
        """The picture's own map of a step with what lies beyond its border, channels last."""
        key = (source, padding, outside)
        if key not in self._padded:
            own = self._maps[source]
            padded = F.pad(own, padding, value=outside) if any(padding) else own
            self._padded[key] = padded = padded.contiguous(memory_format=torch.channels_last)
            left, top = padding[0], padding[2]
            # One copy is enough.
            self._maps[source] = padded[:, :, top : top + own.shape[2], left : left + own.shape[3]]
        return self._padded[key]


def _behind(step: Step, regions: list[Region | None], count: int, whole: float = WHOLE) -> Region | None:
    """What is computed of a step's result where ``regions`` of its sources change; None where it is no map.

    From a share of ``whole`` on that is the whole map.
    """
    changed = [region for region in regions if region]
    if not step.is_local or len(changed) < len(regions):
        return Region.whole(count, step.size) if step.is_map else None
    if whole <= 1 and all(region.is_whole for region in changed):  # cells of padding alone are wanted as well
        return Region.whole(count, step.size)
    if step.reach:
        changed[0] = changed[0].through(step.reach, step.size)
    region = union(changed)
    return Region.whole(count, step.size) if region.share >= whole else region


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _set_in(crops: Tensor, parts: Tensor, down: np.ndarray, right: np.ndarray) -> None:
    """Put ``parts`` (n, C, h, w) into ``crops`` (n, C, h', w') at (down, right), each (n,), as far as they lie inside.

    One copy for all neighbours that have it at the same place.
    """
    bounds = [0, *(np.flatnonzero(np.diff(down) | np.diff(right)) + 1).tolist(), len(down)]
    for first, last in pairwise(bounds):
        y, x = int(down[first]), int(right[first])
        target = crops[first:last, :, max(y, 0) : max(y + parts.shape[2], 0), max(x, 0) : max(x + parts.shape[3], 0)]
        top, left = max(-y, 0), max(-x, 0)
        target.copy_(parts[first:last, :, top : top + target.shape[2], left : left + target.shape[3]])
