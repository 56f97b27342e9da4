"""What an operation of torch does to maps, by arithmetic alone: where each cell reads, what comes out, what it costs.

An operation is one of torch's dispatcher, such as ``aten.convolution``, with its arguments; the last two axes of maps
are rows and columns. What is not listed here is not guessed at: it has no `readings`, no `shape_of`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vizcore.fields import FLAT, LAST, MAPS, Field, Reading, Window, adaptive
from vizcore.graph import AVERAGE_POOL, CAT, CONVOLUTION, IDENTITIES, MAX_POOL, MORE_POINTWISE, NORM, PAD

aten = torch.ops.aten
ADAPTIVE = (aten._adaptive_avg_pool2d.default, aten.adaptive_max_pool2d.default)
MIRRORS: dict[Any, Literal["reflect", "edge"]] = {
    aten.reflection_pad2d.default: "reflect",
    aten.replication_pad2d.default: "edge",
}
PADDINGS = (PAD, *MIRRORS)
AVERAGES = (aten.mean.dim, aten.sum.dim_IntList, aten.amax.default)
# Products of matrices, and which argument is the first of the two
PRODUCTS = {aten.addmm.default: 1, aten.mm.default: 0, aten.bmm.default: 0, aten.baddbmm.default: 1}
NORMS = (NORM, aten.native_group_norm.default, aten.native_layer_norm.default)
RESHAPES = (aten.view.default, aten._unsafe_view.default, aten.expand.default)
MOVES_NOTHING = (*IDENTITIES, *RESHAPES, aten._to_copy.default)
# The axes that an operation joins, splits, leaves out or sums over; where these are not the last two, cells stay
AXES: dict[Any, Callable[..., Sequence[int]]] = {
    CAT: lambda x, dim=0: [dim],
    aten.stack.default: lambda x, dim=0: [dim],
    aten.select.int: lambda x, dim, index: [dim],
    aten.slice.Tensor: lambda x, dim=0, *_: [dim],
    aten.unbind.int: lambda x, dim=0: [dim],
    aten.split.Tensor: lambda x, size, dim=0: [dim],
    aten.split_with_sizes.default: lambda x, sizes, dim=0: [dim],
    aten.unsqueeze.default: lambda x, dim: [dim],
    aten.squeeze.dim: lambda x, dim: [dim],
    aten.transpose.int: lambda x, one, other: [one, other],
    aten._softmax.default: lambda x, dim, half: [dim],
    aten.max.dim: lambda x, dim, *_: [dim],
    **dict.fromkeys(AVERAGES, lambda x, dims=(), *_: dims or (-1, -2)),
}
FAMILIES = ("convolution", "dense", "pooling", "normalisation", "join", "activation", "other")


def family_of(func: Any, args: tuple[Any, ...], sources: list[Tensor]) -> str:
    """What a textbook would call it, one of FAMILIES. ``sources`` are the tensors it reads that depend on the picture.

    "join" is a sum, a product or a concatenation of several. A pooling to the size that maps have already is "other".
    """
    if func is CONVOLUTION:
        return "convolution"
    if func in PRODUCTS:
        return "dense"
    if func in ADAPTIVE and tuple(args[1]) == tuple(args[0].shape[2:]):
        return "other"
    last = {sources[0].ndim - 2, sources[0].ndim - 1}
    if func in (MAX_POOL, AVERAGE_POOL, *ADAPTIVE) or (
        func in AVERAGES and last == {*axes_of(func, args, max(last) + 1)}
    ):
        return "pooling"
    if func in NORMS:
        return "normalisation"
    if func is CAT or (is_pointwise(func) and len(sources) > 1):
        return "join"
    return "activation" if is_pointwise(func) and func not in MOVES_NOTHING else "other"


def multiply_adds(func: Any, args: tuple[Any, ...], output: Tensor) -> int:
    """Of convolutions and of products of matrices, as everybody counts them: no biases, no sums, no norms."""
    if func is CONVOLUTION:
        maps = args[0] if args[6] else output  # transposed: each cell that is read is multiplied
        return maps.numel() * args[1][0].numel()
    if func in PRODUCTS:
        first, second = args[PRODUCTS[func] :][:2]
        return first.numel() * second.shape[-1]
    return 0


def is_pointwise(func: Any) -> bool:
    """Whether each number of the result depends on the same one of its sources alone. In place as well, where torch's
    tag may be missing."""
    packet = getattr(aten, func.overloadpacket.__name__.removesuffix("_"), None)
    twin = getattr(packet, func._overloadname, func)
    return any(one in MORE_POINTWISE or torch.Tag.pointwise in one.tags for one in (func, twin))


def axes_of(func: Any, args: tuple[Any, ...], count: int) -> list[int]:
    """The axes of `AXES`, of ``count`` in all, from 0 on."""
    return [axis % count for axis in AXES[func](*args)]


# Windows, as the arguments of an operation give them: rows and columns, or None where it has none


def windows_of(func: Any, args: tuple[Any, ...]) -> tuple[Window, Window] | None:
    """(rows, columns) of a convolution, a pooling or a padding of maps (N, C, h, w)."""
    return WINDOWS[func](*args) if func in WINDOWS and args[0].ndim == 4 else None


def _convolution(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, *_: Any):
    return None if transposed else _windows(weight.shape[2:], stride, padding, dilation)


def _max_pool(x: Any, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False):
    return _windows(kernel, stride or kernel, padding, dilation, ceil)


def _average_pool(x: Any, kernel: Any, stride: Any = (), padding: Any = 0, ceil: bool = False, *_: Any):
    return _windows(kernel, stride or kernel, padding, 1, ceil)


def _padding(x: Any, padding: Any, value: Any = 0):
    left, right, top, bottom = (*padding, 0, 0)[:4]
    return Window(before=top, behind=bottom), Window(before=left, behind=right)


WINDOWS: dict[Any, Callable[..., tuple[Window, Window] | None]] = {
    CONVOLUTION: _convolution,
    MAX_POOL: _max_pool,
    AVERAGE_POOL: _average_pool,
    **dict.fromkeys(PADDINGS, _padding),
}


def _windows(kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool = False) -> tuple[Window, Window]:
    given = [(one, one) if isinstance(one, int) else (*one, *one)[:2] for one in (kernel, stride, padding, dilation)]
    rows, columns = (Window(k, s, before=p, behind=p, dilation=d, ceil=ceil) for k, s, p, d in zip(*given, strict=True))
    return rows, columns


# Where cells read


def readings(func: Any, args: tuple[Any, ...], output: Tensor) -> tuple[Reading, Reading] | None:
    """What each row and each column of ``output`` reads of maps; None for what has no windows, nor cuts maps."""
    if func in ADAPTIVE:
        height, width = (adaptive(*sizes) for sizes in zip(args[0].shape[2:], output.shape[2:], strict=True))
        return height, width
    if func in MIRRORS:  # what is around the maps are cells of theirs
        rows, columns = (
            Reading(_mirrored(size, window, MIRRORS[func]), 1, 1, window.before)
            for size, window in zip(args[0].shape[2:], _padding(*args), strict=True)
        )
        return rows, columns
    if windows := windows_of(func, args):
        return windows[0].reading(output.shape[2]), windows[1].reading(output.shape[3])
    if func is aten.slice.Tensor and axes_of(func, args, output.ndim)[0] >= output.ndim - 2:
        return _cut(output, axes_of(func, args, output.ndim)[0], args[0].shape, *args[2:])
    return None


def _mirrored(size: int, window: Window, mode: Literal["reflect", "edge"]) -> np.ndarray:
    return np.pad(np.arange(size), (window.before, window.behind), mode)[:, None]


def _cut(
    output: Tensor, axis: int, shape: Sequence[int], start: int | None = None, stop: int | None = None, step: int = 1
) -> tuple[Reading, Reading]:
    cells = np.arange(shape[axis])[start:stop:step][:, None]
    cut = Reading(cells, 1, step, -int(cells[0, 0]))
    rows, columns = (Window().reading(size) for size in output.shape[-2:])
    return (cut, columns) if axis == output.ndim - 2 else (rows, cut)


def axes_behind(
    func: Any, args: tuple[Any, ...], field: Field, source: Tensor, output: Tensor
) -> tuple[int, int] | None:
    """The `Field.axes` of ``output`` where each cell reads only the same cell of ``source``; None where it does not.

    ``field`` is that of ``source``.
    """
    axes, count = field.axes, max(source.ndim, output.ndim)
    if func in RESHAPES:
        return _reshaped(field, source, output)
    if func in (aten.permute.default, aten.transpose.int):
        return _permuted(func, args, axes, source.ndim)
    if func in AXES:
        touched = [axis - count for axis in axes_of(func, args, count)]
        before = all(axis < min(axes) for axis in touched)
        keeps = before or (source.ndim == output.ndim and not {*touched} & {*axes})
    elif func is PAD:
        keeps = not any(sides for axis in axes for sides in args[1][-2 * axis - 2 : -2 * axis])
    elif func is NORM:
        keeps = not args[5]  # else mean and variance are those of the maps at hand, as in instance norm
    elif func is aten.native_layer_norm.default:  # of each cell alone, where only channels come last
        keeps = max(axes) < -len(args[1])
    elif func is aten.avg_pool3d.default:  # over channels, as local response normalisation does it, which pads them
        keeps = axes == MAPS and all(size == 1 for size in (*args[1][1:], *(args[2:] or args[1:])[0][1:]))
    elif func in PRODUCTS:
        keeps = axes == FLAT and args[PRODUCTS[func]] is source
    else:
        keeps = is_pointwise(func) or func in MOVES_NOTHING
    return axes if keeps else None


def _reshaped(field: Field, source: Tensor, output: Tensor) -> tuple[int, int] | None:
    if field.axes == MAPS:
        return MAPS if output.shape[-2:] == source.shape[-2:] else None
    if output.shape == source.shape:
        return field.axes
    if field.axes == LAST:  # as a dense layer does it before and after its product
        return FLAT if output.shape == (math.prod(source.shape[:-1]), source.shape[-1]) else None
    back = field.axes == FLAT and output.ndim == 4 and output.shape[1:] == (*field.size, source.shape[-1])
    return LAST if back else None


def _permuted(func: Any, args: tuple[Any, ...], axes: tuple[int, int], count: int) -> tuple[int, int] | None:
    """Of rows and columns that stay in this order."""
    order = list(range(count))
    if func is aten.transpose.int:
        one, other = axes_of(func, args, count)
        order[one], order[other] = other, one
    else:
        order = [axis % count for axis in args[1]]
    rows, columns = (order.index(axis + count) - count for axis in axes)
    return (rows, columns) if rows < columns else None


# Shapes by arithmetic


def shape_of(func: Any, args: tuple[Any, ...], sources: list[Tensor], output: Tensor) -> tuple[int, ...]:
    """The shape without N that comes out, by formula; () where there is none. ``output`` tells only how many axes."""
    shape = tuple(sources[0].shape[1:])
    if windows := windows_of(func, args):
        channels = args[1].shape[0] if func is CONVOLUTION else shape[0]
        return channels, *(window.size_of(size) for window, size in zip(windows, shape[1:], strict=True))
    if func in ADAPTIVE:
        return shape[0], *args[1]
    if func in PRODUCTS:
        return *shape[:-1], args[PRODUCTS[func] + 1].shape[-1]
    if func is CAT:
        (axis,) = axes_of(func, args, output.ndim)
        joined = sum(one.shape[axis] for one in args[0])
        return tuple(joined if place == axis else size for place, size in enumerate(shape, 1))
    if func in AVERAGES:
        axes, keeps = axes_of(func, args, len(shape) + 1), len(args) > 2 and args[2]
        return tuple(1 if place in axes else size for place, size in enumerate(shape, 1) if keeps or place not in axes)
    if func in RESHAPES:
        return (math.prod(shape),) if output.ndim == 2 else ()
    if func in NORMS or func in MOVES_NOTHING or is_pointwise(func):
        return tuple(np.broadcast_shapes(*(one.shape for one in sources)))[1:]
    return ()


def padded(window: Window, padding: Window) -> Window:
    """A window on what was padded before, as one on what it was."""
    return replace(window, before=window.before + padding.before, behind=window.behind + padding.behind)
