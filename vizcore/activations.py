"""Activation maps: what one layer answers to one picture.

The oldest look inside a CNN (Zeiler & Fergus, *Visualizing and Understanding Convolutional Networks*, ECCV 2014;
Yosinski et al., *Understanding Neural Networks Through Deep Visualization*, 2015): each channel of a layer is a small
picture of where its feature was found. Values are what comes out of the named module, before anything in place
changes it.
"""

from __future__ import annotations

from torch import Tensor

from vizcore.hooks import require_maps, trace
from vizcore.records import ActivationMaps, Model, check_pixels


def activation_maps(model: Model, pixels: Tensor, layer: str) -> ActivationMaps:
    """The maps (C, h, w) of ``layer``, a dotted name, for one picture ``pixels`` (1, 3, H, W) in [0, 1].

    Raw float32: signed behind a convolution or a batch norm, at least 0 behind a ReLU. One forward pass.
    Raises LayerNotFound for an unknown layer or one whose output is not maps.
    """
    return activation_maps_of(model, pixels, (layer,))[0]


def activation_maps_of(model: Model, pixels: Tensor, layers: tuple[str, ...]) -> tuple[ActivationMaps, ...]:
    """`activation_maps` of several layers from one forward pass."""
    check_pixels(pixels, one=True)
    with trace(model, layers) as seen:
        model.logits(pixels)
        outputs = [require_maps(model, layer, seen[layer]) for layer in layers]
        return tuple(
            ActivationMaps(output[0].float().cpu().numpy(), model.name, layer)
            for layer, output in zip(layers, outputs, strict=True)
        )
