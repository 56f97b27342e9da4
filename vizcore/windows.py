"""What one output of a convolution, a dense layer or a pooling reads: its window, what it weighs it with, and the sum.

Output i of an axis reads the inputs i · stride − padding + dilation · (0, 1, …, kernel − 1); those outside are padding
(Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016). A dense layer is a convolution whose
kernel is as large as the map that it reads (Long et al. 2015); a mean is one whose weights are all the same.

A row of `READERS` takes what torch's function of that name takes, the maps as float64 without N, and the index of the
output, and gives a `Window`; None where it is used in a way that is not written out here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vizcore.formulas import Index


@dataclass(frozen=True, eq=False)
class Window:
    """``patch`` and ``kernel`` (C, kh, kw) float64, cell for cell; ``total`` is what they give before any bias.

    ``channels`` (C,), ``rows`` (kh,) and ``columns`` (kw,) are places in ``maps`` (channels, H, W), of which the layer
    reads; ``inside`` (kh, kw) is False where a place is padding. ``kind`` is one of KINDS. The kernel of a maximum is 1
    where it was found and 0 elsewhere, that of an Lp norm of order ``order`` 1 everywhere.
    """

    kind: str
    patch: np.ndarray
    kernel: np.ndarray
    inside: np.ndarray
    channels: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    maps: np.ndarray
    total: float
    bias: float | None = None
    order: float = 0.0

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the map that is read."""
        return self.maps.shape[1], self.maps.shape[2]

    @property
    def products(self) -> np.ndarray:
        """(C, kh, kw) patch times kernel, cell by cell."""
        return self.patch * self.kernel


KINDS = {
    "convolution": "Sum of the products",
    "dense": "Sum of the products",
    "maximum": "Largest of the window",
    "mean": "Mean of the window",
    "norm": "Norm of the window",
    "sampled": "Mean of the four nearest, the nearer the more",
    "given": "Taken as it is",
}


def pair(value: Any) -> tuple[int, int]:
    """One whole number for both axes, or one each (rows, columns)."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    return (int(values[0]), int(values[-1]))


def places(index: int, kernel: int, stride: int, padding: int, dilation: int) -> np.ndarray:
    """(kernel,) the inputs of one axis that output ``index`` reads; negative or beyond the end is padding."""
    return index * stride - padding + dilation * np.arange(kernel)


def read(
    maps: np.ndarray, channels: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The cells (C, kh, kw) of ``maps`` at these places, 0 where there is none, and (kh, kw) where there is one."""
    height, width = maps.shape[1:]
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    picked = maps[np.ix_(channels, rows.clip(0, height - 1), columns.clip(0, width - 1))]  # (C, kh, kw)
    return np.where(inside, picked, 0.0), inside


def given(value: float) -> Window:
    """A number that is not taken apart."""
    one, zero = np.full((1, 1, 1), value), np.zeros(1, int)
    return Window("given", one, np.ones((1, 1, 1)), np.ones((1, 1), bool), zero, zero, zero, one, value)


def without_padding(window: Window, before: tuple[int, int], size: tuple[int, int]) -> Window:
    """The same window on the map as it was before ``before`` rows and columns, and others behind, were laid around."""
    rows, columns = window.rows - before[0], window.columns - before[1]
    real = ((rows >= 0) & (rows < size[0]))[:, None] & ((columns >= 0) & (columns < size[1]))
    maps = window.maps[:, before[0] : before[0] + size[0], before[1] : before[1] + size[1]]
    return replace(window, rows=rows, columns=columns, maps=maps, inside=window.inside & real)


# -- convolution and dense layer -------------------------------------------------------------------------------------


def _conv2d(
    maps: np.ndarray,
    index: Index,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Window | None:
    if maps.ndim != 3:
        return None
    channel, *place = index[-3:]
    kernel = np.asarray(weight[channel], np.float64)  # (C, kh, kw)
    sizes, stride, dilation = kernel.shape[1:], pair(stride), pair(dilation)
    if padding == "same":  # the odd cell behind
        padding = [(d * (k - 1)) // 2 for d, k in zip(dilation, sizes, strict=True)]
    padding = (0, 0) if padding == "valid" else pair(padding)
    first = channel // (len(weight) // groups) * len(kernel)
    channels = first + np.arange(len(kernel))
    rows, columns = (places(place[a], sizes[a], stride[a], padding[a], dilation[a]) for a in (0, 1))
    patch, inside = read(maps, channels, rows, columns)
    total = float((patch * kernel).sum())
    own = None if bias is None else float(bias[channel])
    return Window("convolution", patch, kernel, inside, channels, rows, columns, maps, total, own)


def _linear(x: np.ndarray, index: Index, weight: np.ndarray, bias: np.ndarray | None = None) -> Window:
    values = x[index[1:-1]]  # (n,): without N, and of several rows the one of this output
    kernel = np.asarray(weight[index[-1]], np.float64)
    zero, everything = np.zeros(1, int), np.ones((1, 1), bool)
    shape = (len(values), 1, 1)
    total = float(values @ kernel)
    return Window(
        "dense",
        values.reshape(shape),
        kernel.reshape(shape),
        everything,
        np.arange(len(values)),
        zero,
        zero,
        values.reshape(shape),
        total,
        None if bias is None else float(bias[index[-1]]),
    )


def as_maps(window: Window, shape: tuple[int, int, int]) -> Window:
    """The window of a dense layer that reads maps (C, h, w) laid out in one row, as the maps that they are."""
    count, height, width = shape
    return replace(
        window,
        patch=window.patch.reshape(shape),
        kernel=window.kernel.reshape(shape),
        inside=np.ones((height, width), bool),
        channels=np.arange(count),
        rows=np.arange(height),
        columns=np.arange(width),
        maps=window.patch.reshape(shape),
    )


def _grid_sample(
    maps: np.ndarray,
    index: Index,
    grid: np.ndarray,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Window | None:
    """Bilinear: the four cells around the place that ``grid`` (N, h, w, 2) names, right and down from −1 to 1."""
    if maps.ndim != 3 or mode != "bilinear" or padding_mode != "zeros":
        return None
    weights, found = [], []
    for size, place in zip(maps.shape[1:], np.asarray(grid[0][index[-2:]], np.float64)[::-1], strict=True):
        cell = (place + 1) / 2 * (size - 1) if align_corners else ((place + 1) * size - 1) / 2
        first = math.floor(cell)
        found.append(first + np.arange(2))
        weights.append(np.array([first + 1 - cell, cell - first]))
    channels = np.array([index[-3]])
    patch, inside = read(maps, channels, *found)
    kernel = np.outer(*weights)[None]
    return Window("sampled", patch, kernel, inside, channels, found[0], found[1], maps, float((patch * kernel).sum()))


# -- pooling ---------------------------------------------------------------------------------------------------------


def _max_pool2d(
    maps: np.ndarray,
    index: Index,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Window | None:
    return _pooled(maps, index, _strided(index, kernel_size, stride, padding, dilation), _largest)


def _avg_pool2d(
    maps: np.ndarray,
    index: Index,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Window | None:
    rows, columns = _strided(index, kernel_size, stride, padding, 1)
    if divisor_override:
        divisor = divisor_override
    elif count_include_pad:  # padding counts, but not what a window rounded up reads behind it
        (down, across), (height, width) = pair(padding), maps.shape[1:]
        divisor = int((rows < height + down).sum() * (columns < width + across).sum())
    else:
        divisor = int(((rows >= 0) & (rows < maps.shape[1])).sum() * ((columns >= 0) & (columns < maps.shape[2])).sum())
    return _pooled(maps, index, (rows, columns), lambda patch, inside: _mean(patch, inside, divisor))


def _lp_pool2d(
    maps: np.ndarray, index: Index, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Window | None:
    if not math.isfinite(norm_type):
        return None

    def norm(patch: np.ndarray, inside: np.ndarray) -> dict[str, Any]:
        times = inside.size / inside.sum()  # torch: the mean over what is there, times the whole window
        total = max(float((patch**norm_type).sum()) * times, 0.0) ** (1 / norm_type)
        return {"kind": "norm", "kernel": np.ones_like(patch), "total": total, "order": float(norm_type)}

    return _pooled(maps, index, _strided(index, kernel_size, stride, 0, 1), norm)


def _adaptive_avg_pool2d(maps: np.ndarray, index: Index, output_size: Any) -> Window | None:
    return _pooled(maps, index, _shared_out(maps, index, output_size), _mean)


def _adaptive_max_pool2d(
    maps: np.ndarray, index: Index, output_size: Any, return_indices: bool = False
) -> Window | None:
    return _pooled(maps, index, _shared_out(maps, index, output_size), _largest)


def _over_maps(finish: Callable[..., dict[str, Any]]) -> Callable[..., Window | None]:
    """`torch.mean` and `torch.amax`, where they go over the whole of each map."""

    def reader(maps: np.ndarray, index: Index, dim: Any = None, keepdim: bool = False, **_: Any) -> Window | None:
        axes = {axis % 4 for axis in (dim if isinstance(dim, (tuple, list)) else (dim,)) if axis is not None}
        if maps.ndim != 3 or axes != {2, 3}:
            return None
        whole = np.arange(maps.shape[1]), np.arange(maps.shape[2])
        return _pooled(maps, (0, index[1], 0, 0), whole, finish)

    return reader


def _strided(index: Index, kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[np.ndarray, np.ndarray]:
    kernel, padding, dilation = pair(kernel), pair(padding), pair(dilation)
    steps = kernel if stride is None or stride == [] else pair(stride)
    rows, columns = (places(index[a - 2], kernel[a], steps[a], padding[a], dilation[a]) for a in (0, 1))
    return rows, columns


def _shared_out(maps: np.ndarray, index: Index, output_size: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the share of each output: from ⌊i · H / out⌋ up to ⌈(i + 1) · H / out⌉."""
    wanted = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    found = []
    for place, out, size in zip(index[-2:], wanted, maps.shape[1:], strict=True):
        out = size if out is None else out
        found.append(np.arange(place * size // out, -(-(place + 1) * size // out)))
    return found[0], found[1]


def _pooled(
    maps: np.ndarray, index: Index, places: tuple[np.ndarray, np.ndarray], finish: Callable[..., dict[str, Any]]
) -> Window | None:
    if maps.ndim != 3:
        return None
    channels = np.array([index[-3]])
    patch, inside = read(maps, channels, *places)  # (1, kh, kw)
    return Window(
        patch=patch,
        inside=inside,
        channels=channels,
        rows=places[0],
        columns=places[1],
        maps=maps,
        **finish(patch, inside),
    )


def _largest(patch: np.ndarray, inside: np.ndarray) -> dict[str, Any]:
    kernel = np.zeros_like(patch)
    kernel.flat[np.where(inside, patch[0], -np.inf).argmax()] = 1.0
    return {"kind": "maximum", "kernel": kernel, "total": float((patch * kernel).sum())}


def _mean(patch: np.ndarray, inside: np.ndarray, divisor: int | None = None) -> dict[str, Any]:
    kernel = np.full_like(patch, 1 / (divisor or patch.size))
    return {"kind": "mean", "kernel": kernel, "total": float(patch.sum() / (divisor or patch.size))}


READERS: dict[str, Callable[..., Window | None]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "grid_sample": _grid_sample,
    "max_pool2d": _max_pool2d,
    "max_pool2d_with_indices": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "lp_pool2d": _lp_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "adaptive_max_pool2d": _adaptive_max_pool2d,
    "adaptive_max_pool2d_with_indices": _adaptive_max_pool2d,
    "mean": _over_maps(_mean),
    "amax": _over_maps(_largest),
}
