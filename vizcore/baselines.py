"""What stands in for a hidden part of a picture: the baseline.

None is neutral: to a network a black square is an object as well. So the choice belongs to the answer, and is named in
it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vizcore.records import BadParameter

BASELINES = ("mean", "black", "white", "blur")


def filling_of(pixels: Tensor, baseline: str | Tensor) -> Tensor:
    """The picture (1, 3, H, W) whose parts are shown in place of those of ``pixels``, of the same shape.

    ``baseline`` is ``"mean"`` (of ``pixels`` by channel), ``"black"``, ``"white"``, ``"blur"`` (Gaussian, σ = a
    sixteenth of the shorter side), or a tensor of the shape of ``pixels``. Raises BadParameter.
    """
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
