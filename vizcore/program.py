"""The graph of a net with its numbers and with the maps of one picture, run for variants of the picture.

What changes of each map is worked out from the graph (`regions`); that part alone is computed, from a crop of the kept
map with the changed part of the map before set in. Where a part nears the whole map, or an operation is not local, the
rest runs on whole maps.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vizcore.graph import Step, Untraceable, steps_of
from vizcore.kernels import Room, Window, kernel_of
from vizcore.records import Model
from vizcore.regions import Region, union
from vizcore.workspace import Workspace

WHOLE = 0.8  # of a map: a part as large as this is not worth the cropping
KERNELS = 300 * 2**20  # bytes, as far as there is a choice between forms of a kernel
MAPS = 150 * 2**20  # bytes: with more the net is run itself


class Undefined(Exception):
    """A variant gives NaN: the net itself has to say what it makes of that."""


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
        self._refuse_large_maps(model)
        with model.lock:
            tensors = dict([*model.net.named_parameters(), *model.net.named_buffers()])
            room = Room(KERNELS - sum(_bytes(tensor) for tensor in tensors.values() if tensor.ndim == 4))
            self.kernels = [kernel_of(step, tensors, seen.device, self._workspace, room) for step in self.steps]
        self._last_use = {source: number for number, step in enumerate(self.steps) for source in step.sources}
        self._cut = self._find_cut()
        self.head_weights = sum(kernel.weights for kernel in self.kernels[self._cut + 1 :])
        self._maps: dict[int, Tensor] = {0: seen}
        self._padded: dict[tuple[int, tuple[int, ...], float], Tensor] = {}
        whole = Region.whole(1, (height, width))
        self.logits = self.head(self.body(seen, whole, keep=True))
        self.whole_work = self.work(whole)
        self.bytes = sum(kernel.bytes for kernel in self.kernels) + sum(map(_bytes, self._maps.values()))

    @property
    def nbytes(self) -> int:
        """All that is held now: numbers, maps, and what is kept for the next run."""
        maps = map(Tensor.untyped_storage, (*self._maps.values(), *self._padded.values()))
        storages = {storage.data_ptr(): storage for storage in maps}
        held = sum(storage.nbytes() for storage in storages.values())  # a map and its padded form share one
        return held + sum(kernel.bytes for kernel in self.kernels) + self._workspace.nbytes

    def _refuse_large_maps(self, model: Model) -> None:
        """The maps that a pass keeps, counted before it is made."""
        read = {source for step in self.steps if not step.pointwise for source in step.sources}
        size = torch.finfo(model.dtype).bits // 8
        if (total := size * sum(math.prod(self.steps[source].shape) for source in read)) > MAPS:
            raise Untraceable(f"its maps of one picture take {total / 2**20:.0f} MB, more than are kept")

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
        parts = {0: Part(_defined(values).contiguous(memory_format=torch.channels_last), region)}
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
        with self._lock:  # of the workspace
            return self._head(values)

    def _head(self, values: Tensor) -> Tensor:
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
            return Part(_defined(kernel(*values, count=count)), region)
        others = [
            self._at(source, part, region, f"added {number}")
            for number, (source, part) in enumerate(zip(step.sources[1:], parts[1:], strict=True))
        ]
        if region.is_whole:
            return Part(kernel.on_whole(self._whole(step.sources[0], parts[0]), *others), region)
        padding = kernel.padding(self.steps[step.sources[0]].size)
        starts, size = region.read(kernel.reach)
        if not any(padding) and parts[0].region and parts[0].region.is_at(starts, size):
            return Part(kernel.on_crop(parts[0].values, region, *others), region)
        crop = self._crop(step.sources[0], parts[0], starts, size, padding, kernel.outside, "crop")
        return Part(kernel.on_crop(crop, region, *others), region)

    def _whole(self, source: int, part: Part) -> Tensor:
        """A step's whole result."""
        if part.region is None or part.region.is_whole:
            return part.values
        return self._at(source, part, Region.whole(len(part.values), self.steps[source].size))

    def _at(self, source: int, part: Part, region: Region, place: str = "") -> Tensor:
        """A step's map at the cells of ``region``; where it has to be cropped, in that ``place`` of the workspace."""
        assert part.region is not None
        starts = region.rows.start, region.columns.start
        if part.region.is_at(starts, region.size):
            return part.values
        return self._crop(source, part, starts, region.size, place=place)

    def _crop(
        self,
        source: int,
        part: Part,
        starts: tuple[np.ndarray, np.ndarray],
        size: tuple[int, int],
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        outside: float = 0.0,
        place: str = "",
    ) -> Tensor:
        """(n, C, h, w) of a step's map from ``starts`` on: the picture's own, with the changed part set in.

        Starts may be negative, and crops go beyond the border, by as much as ``padding``: (left, right, top, bottom).
        They lie in that ``place`` of the workspace, where one is named.
        """
        assert part.region is not None
        kept = self._kept(source, padding, outside)
        rows = (starts[0] + padding[2])[:, None] + np.arange(size[0])
        columns = (starts[1] + padding[0])[:, None] + np.arange(size[1])
        cells = torch.from_numpy((rows[:, :, None] * kept.shape[3] + columns[:, None, :]).ravel()).to(kept.device)
        by_cell = kept.permute(0, 2, 3, 1).view(-1, kept.shape[1])  # (H · W, C), no copy
        out = self._workspace.take(place, (len(cells), by_cell.shape[1]), by_cell) if place else None
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


def _defined(values: Tensor) -> Tensor:
    """``values`` where none is NaN: oneDNN's ReLU would make 0 of it, torch's keeps it."""
    if torch.isnan(values).any():
        raise Undefined
    return values


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
