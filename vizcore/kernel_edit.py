"""A kernel of a net changed, and the net run again: which classes and maps hang on these few numbers?

What is changed is a copy of the net that shares all other numbers with it, so that it costs no memory and the net
itself stays as it is. One kernel taken out by itself is the ablation of Zeiler & Fergus (2014, section 4.3); changing
it by hand asks more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from vizcore.hooks import find_layer, require_maps, trace
from vizcore.records import BadParameter, LayerNotFound, Model, check_pixels, check_whole


@dataclass(frozen=True, eq=False)
class KernelEdit:
    """What a changed kernel changes: ``scores`` (2, K) are logits and ``maps`` (2, h, w) those of ``channel`` in
    ``layer``, before and after; ``kernels`` (2, C, kh, kw) likewise. All float32, raw."""

    model_name: str
    layer: str
    channel: int
    kernels: np.ndarray
    maps: np.ndarray
    scores: np.ndarray


def with_kernel(model: Model, layer: str, channel: int, kernel: np.ndarray) -> Model:
    """A copy of ``model`` in which the kernel (C, kh, kw) of one output ``channel`` of a convolution is another.

    The copy shares every other tensor with the net, and has a lock of its own. Raises LayerNotFound where ``layer`` is
    no two-dimensional convolution, and BadParameter for another shape, or numbers that are not finite.
    """
    module = find_layer(model, layer)
    if not isinstance(module, nn.Conv2d):
        raise LayerNotFound(
            f"The layer “{layer}” of {model.title} is a {type(module).__name__}; only kernels of two-dimensional "
            "convolutions can be changed."
        )
    if "weight" not in dict(module.named_parameters(recurse=False)):
        raise LayerNotFound(
            f"The kernels of “{layer}” of {model.title} are computed from other numbers at each pass (weight or "
            "spectral norm), and cannot be changed by themselves."
        )
    check_whole("channel", channel, 0, module.out_channels - 1)
    shape = tuple(module.weight.shape[1:])
    kernel = np.asarray(kernel, np.float64)
    if kernel.shape != shape or not np.isfinite(kernel).all():
        raise BadParameter(f"kernel has the shape {kernel.shape}; it must be {shape}, of finite numbers.")
    edited = replace(model.twin(), title=f"{model.title} (edited)")
    weight = module.weight.detach().clone()
    weight[channel] = torch.from_numpy(kernel).to(weight)
    edited.net.get_submodule(layer).weight = nn.Parameter(weight, requires_grad=False)
    return edited


def edit_kernel(model: Model, pixels: Tensor, layer: str, channel: int, kernel: np.ndarray) -> KernelEdit:
    """Run the net as it is and with the kernel (C, kh, kw) of ``channel`` of ``layer`` changed, on ``pixels``
    (1, 3, H, W) in [0, 1]. Two forward passes. Raises as `with_kernel`."""
    check_pixels(pixels, one=True)
    edited = with_kernel(model, layer, channel, kernel)
    found = [_run(one, pixels, layer, channel) for one in (model, edited)]
    kernels, maps, scores = (np.stack(pair) for pair in zip(*found, strict=True))
    return KernelEdit(model.name, layer, channel, kernels, maps, scores)


def _run(model: Model, pixels: Tensor, layer: str, channel: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The kernel (C, kh, kw), its map (h, w), and the logits (K,)."""
    with trace(model, (layer,)) as seen:
        logits = model.logits(pixels)
        kernel = model.net.get_parameter(f"{layer}.weight")[channel]
        parts = kernel, require_maps(model, layer, seen[layer])[0, channel], logits[0]
        return tuple(part.detach().float().cpu().numpy().copy() for part in parts)  # type: ignore[return-value]
