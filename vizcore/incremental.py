"""Answers of a net to many variants of one picture, each changed in one rectangle, without computing the rest again.

Outside the receptive field of the change every map is what it is for the picture itself. So the picture's own maps are
computed once and kept; for a variant only the part of each map that can change is computed, from a crop of the kept map
with the changed part of the map before set in (Nakandala, Kumar & Papakonstantinou, "Incremental and Approximate
Inference for Faster Occlusion-Based Deep CNN Explanations", SIGMOD 2019). Nothing is approximated. Where a part nears
the whole map, or an operation is not local, the rest runs on whole maps; where the net cannot be traced, all of it does.

Several variants go through together, their parts at one size. Maps lie in memory channels last, normalisation is folded
into the kernels, and the kernels are packed once in the way that the processor wants them. So sums are rounded in
another order than the net itself would: answers agree to about 1e-6 of the largest logit in float32.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vizcore.graph import (
    AVERAGE_POOL,
    CONVOLUTION,
    MAX_POOL,
    PAD,
    Call,
    Parameter,
    Pictures,
    Result,
    Step,
    Untraceable,
    fill,
    leaves,
    steps_of,
)
from vizcore.records import Model
from vizcore.regions import Region, Span, union

WHOLE = 0.8  # of a map: a part as large as this is not worth the cropping
AGREES = 1e-4  # of the largest logit: how far the graph's answer to the picture may be from the net's own
BATCHES = (8, 4, 16)  # variants at once, to choose from by measuring
BATCH_BYTES = 150 * 2**20  # of maps, that a batch may hold at a time
HEAVY = 2**22  # numbers in the dense layers: more of them are read from memory for many variants at once
HEAD_BATCH = 64


@dataclass(frozen=True, eq=False)
class Part:
    """What a step gives for n variants: ``values`` (n, …), of maps the cells of ``region``; None where it is no map."""

    values: Tensor
    region: Region | None


def _plain(method):
    """Neither differentiable nor marked as inference, whatever the caller's mode."""

    @wraps(method)
    def run(*args, **kwargs):
        with torch.inference_mode(False), torch.no_grad():
            return method(*args, **kwargs)

    return run


class Variants:
    """One picture, ``pixels`` (1, 3, H, W) in [0, 1], and what the net answers when a rectangle of it is changed.

    Making one costs two forward passes: the net's own, and the graph's whose maps are kept. ``logits`` (1, K) are the
    answer to the picture as it is. Where the net could be traced it is not run again, and its lock not held.
    """

    def __init__(self, model: Model, pixels: Tensor) -> None:
        self._model, self._pixels = model, pixels
        self._seconds: dict[int, float] = {}  # for a unit of work, by the size of a batch
        with torch.inference_mode(False), torch.no_grad():
            self.logits = model.logits(pixels)
            self._program = self._traced()

    def _traced(self) -> Program | None:
        """The net's program, or None where the net itself has to run."""
        seen = self._model.normalise(self._pixels)
        for again in (False, True):  # the net may have been rebuilt since it was traced
            try:
                program = Program(self._model, seen, again=again)
            except Untraceable:
                return None
            if (program.answer - self.logits).abs().max() <= AGREES * self.logits.abs().max():
                return program
        return None

    @property
    def is_traced(self) -> bool:
        return self._program is not None

    @property
    def whole_work(self) -> int:
        """Multiplications of a forward pass, as far as convolutions and dense layers go; 0 where it is not traced."""
        return self._program.whole_work if self._program else 0

    def work(self, region: Region) -> int:
        """Multiplications that variants changed in ``region`` take together."""
        return self._program.work(region) if self._program else 0

    def answers(
        self, region: Region, filling: Tensor, masks: Tensor | None = None, batch_size: int | None = None
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Logits of the variants that show ``filling`` (1, 3, H, W) in ``region``, as they come, in an order that pays.

        Yields the numbers of some variants (m,) and their logits (m, K). ``masks`` (n, H, W), where given, says how far
        each pixel of the region shows the filling, 0 to 1. ``batch_size`` variants go through together; None chooses by
        measuring.
        """
        order = region.order()
        held: list[tuple[np.ndarray, Tensor]] = []
        done = 0
        while done < len(order):
            size = batch_size or self._batch_size(region[order[done : done + BATCHES[0]]])
            some = order[done : done + size]
            done += len(some)
            held.append((some, self._body(region[some], filling, None if masks is None else masks[some])))
            count = sum(len(numbers) for numbers, _ in held)
            if self._is_heavy and count < HEAD_BATCH and done < len(order):
                continue
            logits = self._head(torch.cat([values for _, values in held]))
            yield np.concatenate([numbers for numbers, _ in held]), logits
            held = []

    @_plain
    def _body(self, region: Region, filling: Tensor, masks: Tensor | None) -> Tensor:
        """What goes into the dense layers, or the logits of a net that is run itself."""
        patches = self._patches(region, filling, masks)
        if self._program is None:
            return self._model.logits(self._set_in(patches, region))
        start = time.perf_counter()
        values = self._program.body(self._model.normalise(patches), region)
        self._clock(region, time.perf_counter() - start)
        return values

    @_plain
    def _head(self, values: Tensor) -> Tensor:
        return self._model.checked(self._program.head(values), len(values)) if self._program else values

    @property
    def _is_heavy(self) -> bool:
        return self._program is not None and self._program.is_heavy

    def _batch_size(self, region: Region) -> int:
        """The fastest of BATCHES that fits, each tried once; like work counts alike."""
        if self._program is None:
            return BATCHES[0]
        room = max(1, BATCH_BYTES * len(region) // self._program.most_bytes(region))
        untried = [size for size in BATCHES if size not in self._seconds]
        best = untried[0] if untried else min(BATCHES, key=self._seconds.__getitem__)
        return min(best, room)

    def _clock(self, region: Region, seconds: float) -> None:
        if len(region) in BATCHES:
            before = self._seconds.get(len(region), math.inf)
            self._seconds[len(region)] = min(before, seconds / self.work(region))

    def _patches(self, region: Region, filling: Tensor, masks: Tensor | None) -> Tensor:
        """RGB pixels (n, 3, h, w) of the cells that are computed: the filling in the region, the picture beside it."""
        (height, width), count = region.size, len(region)
        rows, columns = region.rows.start[:, None] + np.arange(height), region.columns.start[:, None] + np.arange(width)
        inside = region.rows.holds(rows)[:, :, None] & region.columns.holds(columns)[:, None, :]
        at = torch.from_numpy(rows)[:, :, None], torch.from_numpy(columns)[:, None, :]
        share = torch.from_numpy(inside).to(self._pixels)
        if masks is not None:
            share = share * masks[torch.arange(count)[:, None, None], at[0], at[1]].to(share)
        own, other = (tensor[0][:, at[0], at[1]].transpose(0, 1) for tensor in (self._pixels, filling))
        # Where a mask is 0 or 1 nothing is rounded.
        return torch.where(share[:, None] == 1, other, own + share[:, None] * (other - own))

    def _set_in(self, patches: Tensor, region: Region) -> Tensor:
        """Whole pictures (n, 3, H, W)."""
        pictures = self._pixels.repeat(len(patches), 1, 1, 1)
        for picture, patch, top, left in zip(pictures, patches, region.rows.start, region.columns.start, strict=True):
            picture[:, top : top + patch.shape[1], left : left + patch.shape[2]] = patch
        return pictures


class Program:
    """The steps of a net bound to its numbers, and the maps that they gave for one picture."""

    def __init__(self, model: Model, seen: Tensor, *, again: bool = False) -> None:
        channels, height, width = seen.shape[1:]
        self.steps = steps_of(model, (channels, height, width), again=again)
        with model.lock:
            tensors = dict([*model.net.named_parameters(), *model.net.named_buffers()])
            self.layers = [_layer(step, tensors) for step in self.steps]
        self._last_use = {source: number for number, step in enumerate(self.steps) for source in step.sources}
        # Behind this step nothing reads what lies before it: the dense layers.
        flat = (number for number, step in enumerate(self.steps) if len(step.shape) == 1)
        self.cut = next((n for n in flat if all(min(s.sources) >= n for s in self.steps[n + 1 :])), len(self.steps) - 1)
        self.is_heavy = sum(layer.numbers for layer in self.layers[self.cut + 1 :]) > HEAVY
        self._base: dict[int, Tensor] = {0: seen.contiguous(memory_format=torch.channels_last)}
        self._padded: dict[tuple[int, tuple[int, ...], float], Tensor] = {}
        self.answer = self.head(self.body(seen, Region.whole(1, (height, width)), keep=True))
        self.whole_work = self.work(Region.whole(1, (height, width)))
        needed = {
            s for step in self.steps for s in step.sources if step.reach or len(step.sources) > 1 or not step.pointwise
        }
        self._base = {n: value for n, value in self._base.items() if n in needed and self.steps[n].is_map}

    def body(self, values: Tensor, region: Region, *, keep: bool = False) -> Tensor:
        """What step ``cut`` gives for variants that are ``values`` (n, C, h, w), normalised, at ``region``."""
        values = values.contiguous(memory_format=torch.channels_last)
        parts = {0: Part(values, region)}
        for number in range(1, self.cut + 1):
            step = self.steps[number]
            parts[number] = self._run(number, [parts[source] for source in step.sources])
            if keep:
                self._base[number] = parts[number].values
            for source in step.sources:
                if self._last_use[source] == number:
                    del parts[source]
        return self._whole(self.cut, parts[self.cut])

    def head(self, values: Tensor) -> Tensor:
        """What the last step gives, (n, K), from what step ``cut`` gave."""
        results = {self.cut: values}
        for number in range(self.cut + 1, len(self.steps)):
            results[number] = self.layers[number](*(results[source] for source in self.steps[number].sources))
        return results[len(self.steps) - 1]

    def regions(self, region: Region) -> Iterator[tuple[int, Region | None]]:
        """What is computed of each step's result, as `body` and `head` do it."""
        found: dict[int, Region | None] = {0: region}
        for number, step in enumerate(self.steps[1:], 1):
            found[number] = _behind(step, [found[source] for source in step.sources], len(region))
            yield number, found[number]

    def work(self, region: Region) -> int:
        """Multiplications of convolutions and dense layers."""
        return sum(
            len(region) * self.layers[number].work(math.prod(part.size) if part else 1)
            for number, part in self.regions(region)
        )

    def most_bytes(self, region: Region) -> int:
        """Of the largest crop and the result computed from it, for all variants of ``region`` together."""
        sizes = (
            math.prod(part.size) * self.steps[number].shape[0] if part else math.prod(self.steps[number].shape)
            for number, part in self.regions(region)
        )
        return 2 * self._base[0].element_size() * len(region) * max(sizes)

    def _run(self, number: int, parts: list[Part]) -> Part:
        step, layer = self.steps[number], self.layers[number]
        region = _behind(step, [part.region for part in parts], len(parts[0].values))
        if not step.is_local:
            values = [self._whole(source, part) for source, part in zip(step.sources, parts, strict=True)]
            return Part(layer(*values), region)
        if isinstance(layer, Window):
            (part,), (source,) = parts, step.sources
            if region.is_whole:
                return Part(layer.on_whole(self._whole(source, part)), region)
            starts, size = region.read(step.reach)
            crop = self._crop(source, part, starts, size, layer.padding(self.steps[source].size), layer.outside)
            return Part(layer.on_crop(crop, region), region)
        values = [self._at(source, part, region) for source, part in zip(step.sources, parts, strict=True)]
        return Part(layer(*values), region)

    def _whole(self, source: int, part: Part) -> Tensor:
        if part.region is None:
            return part.values
        return self._at(source, part, Region.whole(len(part.values), self.steps[source].size))

    def _at(self, source: int, part: Part, region: Region) -> Tensor:
        """The map of a step at the cells of ``region``."""
        if part.region is region or (part.region.is_whole and region.is_whole) or part.region.same_place(region):
            return part.values
        return self._crop(source, part, (region.rows.start, region.columns.start), region.size, (0, 0, 0, 0), 0.0)

    def _crop(self, source, part, starts, size, padding, outside) -> Tensor:
        """(n, C, h, w) from ``starts`` on: the picture's own map, ``padding`` around it, with the changed part set in."""
        key = (source, padding, outside)
        if key not in self._padded:
            base = self._base[source]
            padded = F.pad(base, padding, value=outside) if any(padding) else base
            self._padded[key] = padded.contiguous(memory_format=torch.channels_last)
        base = self._padded[key]
        left, _, top, _ = padding
        count, (height, width) = len(starts[0]), size
        rows = (starts[0] + top)[:, None] + np.arange(height)
        columns = (starts[1] + left)[:, None] + np.arange(width)
        cells = torch.from_numpy((rows[:, :, None] * base.shape[3] + columns[:, None, :]).ravel())
        by_cell = base.permute(0, 2, 3, 1).view(-1, base.shape[1])  # (H·W, C), no copy
        crop = by_cell.index_select(0, cells).view(count, height, width, -1).permute(0, 3, 1, 2)
        _paste(crop, part, starts)
        return crop


def _paste(crop: Tensor, part: Part, starts) -> None:
    """Set the changed parts into ``crop``; one copy for neighbours that have them at the same place."""
    down = part.region.rows.start - starts[0]
    right = part.region.columns.start - starts[1]
    bounds = [0, *(np.flatnonzero(np.diff(down) | np.diff(right)) + 1).tolist(), len(down)]
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        y, x = int(down[first]), int(right[first])
        target = crop[
            first:last, :, max(y, 0) : max(y + part.values.shape[2], 0), max(x, 0) : max(x + part.values.shape[3], 0)
        ]
        top, left = max(-y, 0), max(-x, 0)
        target.copy_(part.values[first:last, :, top : top + target.shape[2], left : left + target.shape[3]])


def _behind(step: Step, regions: list[Region | None], count: int) -> Region | None:
    """What is computed of a step's result where ``regions`` of its sources change; None where it is no map."""
    maps = [region for region in regions if region]
    if not step.is_local or len(maps) < len(regions):
        return Region.whole(count, step.size) if step.is_map else None
    region = union(maps)
    if step.reach:
        region = region.through(step.reach, step.size)
    return Region.whole(count, step.size) if region.share >= WHOLE else region


class Layer:
    """One step bound to numbers: runs on whole maps, or cell by cell."""

    def __init__(self, step: Step, tensors: dict[str, Tensor]) -> None:
        def numbers_of(leaf: Any) -> Any:
            return tensors[leaf.name] if isinstance(leaf, Parameter) else leaf

        self.step = step
        self.order = step.call.sources
        self.args, self.kwargs = fill((step.call.args, step.call.kwargs), numbers_of)
        self.numbers = sum(leaf.numel() for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor))

    def work(self, cells: int) -> int:
        """Multiplications for as many cells of the result."""
        return self.numbers

    def __call__(self, *values: Tensor) -> Tensor:
        given = dict(zip(self.order, values, strict=True))
        count = len(values[0])

        def value_of(leaf: Any) -> Any:
            if isinstance(leaf, Result):
                return given[leaf.step]
            return leaf.times * count if isinstance(leaf, Pictures) else leaf

        args, kwargs = fill((self.args, self.kwargs), value_of)
        answer = self.step.call.operation(*args, **kwargs)
        return answer


class Window(Layer):
    outside = 0.0

    def work(self, cells):
        return 0

    def __init__(self, step, tensors):
        super().__init__(step, tensors)
        self.prepare(tensors)

    def prepare(self, tensors):
        pass

    def padding(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        rows, columns = self.step.reach
        return (
            columns.before,
            columns.behind(size[1], self.step.size[1]),
            rows.before,
            rows.behind(size[0], self.step.size[0]),
        )

    def on_whole(self, values: Tensor) -> Tensor:
        padding = self.padding(values.shape[2:])
        if any(padding):
            values = F.pad(values, padding, value=self.outside)
        return self.on_crop(values, None)

    def on_crop(self, crop: Tensor, region) -> Tensor:
        raise NotImplementedError


class Pad(Window):
    @property
    def outside(self):
        return float(self.args[2]) if len(self.args) > 2 else 0.0

    def on_crop(self, crop, region):
        return crop


class MaxPool(Window):
    outside = -math.inf

    def on_crop(self, crop, region):
        kernel, stride, dilation = (
            self.args[1],
            (self.args[2:3] or [None])[0] or self.args[1],
            (self.args[4:5] or [1])[0],
        )
        return F.max_pool2d(crop, kernel, stride, 0, dilation)


class AveragePool(Window):
    def prepare(self, tensors):
        self.divisor = None

    def on_whole(self, values):
        if self.divisor is None:
            ones = torch.ones_like(values[:1, :1])
            kernel, stride = self.args[1], (self.args[2:3] or [None])[0] or self.args[1]
            real = F.avg_pool2d(F.pad(ones, self.padding(ones.shape[2:])), kernel, stride, 0, divisor_override=1)
            ratio = self.step.call.operation(ones, *self.args[1:], **self.kwargs)
            self.divisor = (real / ratio)[0, 0]
        return super().on_whole(values)

    def on_crop(self, crop, region):
        kernel, stride = self.args[1], (self.args[2:3] or [None])[0] or self.args[1]
        sums = F.avg_pool2d(crop, kernel, stride, 0, divisor_override=1)
        if region is None or region.is_whole:
            return sums / self.divisor
        rows = torch.from_numpy(region.rows.start[:, None] + np.arange(region.size[0]))
        columns = torch.from_numpy(region.columns.start[:, None] + np.arange(region.size[1]))
        return sums / self.divisor[rows[:, :, None], columns[:, None, :]][:, None]


class Convolution(Window):
    def prepare(self, tensors):
        _, weight, bias, self.stride, _, self.dilation, _, _, self.groups = self.args

        def numbers_of(leaf):
            return tensors[leaf.name] if isinstance(leaf, Parameter) else leaf

        weight64, bias64 = weight.double(), None if bias is None else bias.double()
        if self.step.norm:
            _, gain, shift, mean, variance, _, _, eps = fill(self.step.norm.args, numbers_of)
            factor = (variance.double() + eps).rsqrt()
            if gain is not None:
                factor = factor * gain.double()
            bias64 = (0 if bias64 is None else bias64) - mean.double()
            bias64 = bias64 * factor + (0 if shift is None else shift.double())
            weight64 = weight64 * factor.view(-1, 1, 1, 1)
        self.weight, self.bias = weight64.to(weight.dtype), None if bias64 is None else bias64.to(weight.dtype)
        self.per_cell = weight.numel()
        self.activation = self.step.activation
        self.tensors = tensors
        self.unary = _fused(self.activation)
        self.packed = None
        if self.weight.dtype == torch.float32 and self.weight.device.type == "cpu" and PACK:
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, [0, 0], self.stride, self.dilation, self.groups, None
            )
        else:
            self.weight = self.weight.contiguous(memory_format=torch.channels_last)

    def work(self, cells):
        return cells * self.per_cell

    def on_whole(self, values):
        before = [reach.before for reach in self.step.reach]
        natural = tuple(
            (n + 2 * reach.before - reach.extent) // reach.stride + 1
            for n, reach in zip(values.shape[2:], self.step.reach, strict=True)
        )
        return self._convolve(values, before) if natural == self.step.size else super().on_whole(values)

    def on_crop(self, crop, region):
        return self._convolve(crop, [0, 0])

    def _convolve(self, x, padding):
        if self.packed is not None:
            attr, scalars = self.unary or ("none", [])
            y = torch.ops.mkldnn._convolution_pointwise(
                x, self.packed, self.bias, padding, self.stride, self.dilation, self.groups, attr, scalars, ""
            )
            if self.unary:
                return y
        else:
            y = F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        if self.activation:
            return fill(
                self.activation,
                lambda leaf: (
                    y if isinstance(leaf, Result) else self.tensors[leaf.name] if isinstance(leaf, Parameter) else leaf
                ),
            )
        return y


PACK = True


def _fused(call):
    if call is None:
        return None
    name = call.operation
    if name is torch.ops.aten.relu.default:
        return "relu", []
    if name is torch.ops.aten.hardtanh.default:
        return "hardtanh", list(call.args[1:]) or [-1.0, 1.0]
    if name is torch.ops.aten.silu.default:
        return "swish", []
    return None


def _layer(step, tensors):
    kind = {CONVOLUTION: Convolution, MAX_POOL: MaxPool, AVERAGE_POOL: AveragePool, PAD: Pad}
    return kind[step.call.operation](step, tensors) if step.reach else Layer(step, tensors)
