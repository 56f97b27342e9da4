"""Occlusion sensitivity: how far the score falls when a part of the picture is hidden.

Zeiler & Fergus (*Visualizing and Understanding Convolutional Networks*, ECCV 2014, section 4.2) slide a grey square
over the picture and watch the class's score. Along each axis windows start at 0, stride, 2·stride, … up to the first
that reaches the border, where it is clipped. The drop of a window is the score of the picture minus the score with
the window hidden; the value of a pixel is the mean of the drops of the windows that cover it. Positive = evidence for
the class.

Others average differently (Captum clips, others sum): the mean keeps the unit, a difference of scores.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vizcore.records import (
    BadParameter,
    Heatmap,
    Model,
    Progress,
    check_pixels,
    check_target,
    check_whole,
    probabilities,
)

BASELINES = ("mean", "black", "white", "blur")
SCORES = ("logit", "probability")
MAX_WINDOWS = 100_000


def occlusion(
    model: Model,
    pixels: Tensor,
    target: int,
    window: int | tuple[int, int] = 32,
    stride: int | tuple[int, int] = 16,
    *,
    baseline: str | Tensor = "mean",
    score: str = "logit",
    batch_size: int = 8,
    progress: Progress | None = None,
    partial: Callable[[Heatmap], None] | None = None,
) -> Heatmap:
    """Occlusion sensitivity of ``target`` for one picture, ``pixels`` (1, 3, H, W) in [0, 1].

    ``window`` and ``stride`` are in pixels of ``pixels``: one int or (height, width). ``baseline`` replaces the window:
    ``"mean"`` of the picture by channel, ``"black"``, ``"white"``, ``"blur"`` (Gaussian, σ = a sixteenth of the shorter
    side), or a tensor of the shape of ``pixels``. ``score`` is ``"logit"`` or ``"probability"``.

    Returns values (H, W): mean drop of the score, positive = evidence; 0 where no window reaches (stride > window).
    Cost: one forward pass a window, ``batch_size`` at a time. ``partial`` is given the map so far before each call of
    ``progress``. Raises BadParameter; more than MAX_WINDOWS windows are refused.
    """
    check_pixels(pixels, one=True)
    pixels = pixels.detach()
    height, width = pixels.shape[2:]
    windows = _pair("window", window, (height, width))
    strides = _pair("stride", stride, (height, width))
    check_whole("batch_size", batch_size, 1, 4096)
    if score not in SCORES:
        raise BadParameter(f"score is {score!r}; it must be one of {', '.join(SCORES)}.")
    target = check_target(model, target)
    filling = _filling(pixels, baseline)
    rows, columns = starts(height, windows[0], strides[0]), starts(width, windows[1], strides[1])
    count = len(rows) * len(columns)
    if count > MAX_WINDOWS:
        raise BadParameter(
            f"window {windows} and stride {strides} make {count:,} windows on {height} × {width} pixels; at most "
            f"{MAX_WINDOWS:,} are computed. Use a larger stride."
        )

    def score_of(batch: Tensor) -> Tensor:
        with torch.no_grad():
            logits = model.logits(batch)
            check_target(model, target, logits.shape[1])
            return (logits if score == "logit" else probabilities(logits))[:, target].double()

    whole = score_of(pixels)[0]
    drops = torch.full((count,), torch.nan, dtype=torch.float64)
    notes = ("The stride is larger than the window: pixels between windows were never hidden and show 0.",)

    def heatmap() -> Heatmap:
        return Heatmap(
            values=mean_drops(drops.view(len(rows), len(columns)).numpy(), (rows, columns), windows, (height, width)),
            method="occlusion",
            model_name=model.name,
            layer=None,
            target=target,
            score=float(whole),
            params={
                "window": windows,
                "stride": strides,
                "baseline": baseline if isinstance(baseline, str) else "given",
                "score": score,
            },
            notes=notes if strides[0] > windows[0] or strides[1] > windows[1] else (),
        )

    places = [(top, left) for top in rows for left in columns]
    for first in range(0, count, batch_size):
        some = places[first : first + batch_size]
        batch = pixels.repeat(len(some), 1, 1, 1)
        for hidden, (top, left) in zip(batch, some, strict=True):
            area = (slice(None), slice(top, top + windows[0]), slice(left, left + windows[1]))
            hidden[area] = filling[0][area]
        drops[first : first + len(some)] = (whole - score_of(batch)).cpu()
        if partial:
            partial(heatmap())
        if progress:
            progress(first + len(some), count)
    return heatmap()


def starts(size: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one axis: 0, stride, …, up to the first window that reaches the border."""
    last = -(-max(size - window, 0) // stride)
    return [n * stride for n in range(last + 1) if n * stride < size]


def count_windows(size: tuple[int, int], window: int | tuple[int, int], stride: int | tuple[int, int]) -> int:
    """How many windows, and so forward passes, `occlusion` needs on a picture of ``size`` (H, W)."""
    windows, strides = _pair("window", window, size), _pair("stride", stride, size)
    return len(starts(size[0], windows[0], strides[0])) * len(starts(size[1], windows[1], strides[1]))


def mean_drops(
    drops: np.ndarray, places: tuple[list[int], list[int]], window: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Drops of the windows (rows, columns) to pixels (H, W) float32; windows not known yet (NaN) do not count."""
    # Which pixels a window covers is a product of which rows and which columns it covers.
    down, across = (
        (np.arange(n)[:, None] >= np.array(at)) & (np.arange(n)[:, None] < np.array(at) + length)
        for n, at, length in zip(size, places, window, strict=True)
    )
    known = ~np.isnan(drops)
    total = down.astype(float) @ np.where(known, drops, 0.0) @ across.T.astype(float)  # (H, W)
    covers = down.astype(float) @ known.astype(float) @ across.T.astype(float)
    return np.divide(total, covers, out=np.zeros(size), where=covers > 0).astype(np.float32)


def _pair(name: str, value: int | tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    if isinstance(value, (tuple, list)) and len(value) != 2:
        raise BadParameter(f"{name} is {value!r}; it must be one whole number or (height, width).")
    high, wide = value if isinstance(value, (tuple, list)) else (value, value)
    return (
        check_whole(f"{name} (height)", high, 1, size[0]),
        check_whole(f"{name} (width)", wide, 1, size[1]),
    )


def _filling(pixels: Tensor, baseline: str | Tensor) -> Tensor:
    """What the windows show instead of the picture, (1, 3, H, W)."""
    if isinstance(baseline, Tensor):
        if baseline.shape != pixels.shape or not baseline.is_floating_point() or not torch.isfinite(baseline).all():
            raise BadParameter(
                f"baseline is a {baseline.dtype} tensor of the shape {tuple(baseline.shape)}; it must be finite "
                f"numbers in [0, 1] of the shape of pixels, {tuple(pixels.shape)}."
            )
        return baseline.detach().to(pixels)
    if not isinstance(baseline, str) or baseline not in BASELINES:
        got = repr(baseline) if isinstance(baseline, str) else f"a {type(baseline).__name__}"
        raise BadParameter(f"baseline is {got}; it must be one of {', '.join(BASELINES)}, or a tensor.")
    if baseline == "mean":
        return pixels.mean((2, 3), keepdim=True).expand_as(pixels)
    if baseline == "black":
        return torch.zeros_like(pixels)
    if baseline == "white":
        return torch.ones_like(pixels)
    return _blurred(pixels)


def _blurred(pixels: Tensor) -> Tensor:
    sigma = min(pixels.shape[2:]) / 16
    reach = int(3 * sigma) + 1  # beyond three sigma a Gaussian is under 1 % of its peak
    bell = torch.exp(-torch.arange(-reach, reach + 1, dtype=torch.float64).square() / (2 * sigma**2))
    bell = (bell / bell.sum()).to(pixels)
    padded = F.pad(pixels, (reach, reach, reach, reach), mode="replicate")
    across = F.conv2d(padded, bell.view(1, 1, 1, -1).expand(3, -1, -1, -1), groups=3)
    return F.conv2d(across, bell.view(1, 1, -1, 1).expand(3, -1, -1, -1), groups=3)  # (1, 3, H, W)
