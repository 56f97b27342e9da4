"""One unit of a layer sent back to the pixels: which pattern of the picture it answers to.

All units of the layer but one are set to zero, and that one is sent back through the net to the picture (Zeiler &
Fergus, *Visualizing and Understanding Convolutional Networks*, ECCV 2014, section 2.1): filters transposed, what was
pooled back to where it came from, and at each ReLU a rule of `vizcore.relu_rules` in place of the gradient. The method
is that of `vizcore.attribution`; what is sent back is a unit instead of the logit of a class, and a 1, as Captum does,
where the paper sends the activation: values are to be multiplied with ``activation`` for the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from vizcore.hooks import require_maps, trace
from vizcore.records import BadParameter, Model, UnsupportedModel, check_pixels, check_whole
from vizcore.relu_rules import RULES, at_relus

PROJECTIONS: Mapping[str, str] = MappingProxyType(
    {"deconvnet": "Deconvnet", "guided_backpropagation": "Guided backpropagation", "gradient": "Gradient"}
)


@dataclass(frozen=True, eq=False)
class Projection:
    """``values`` (3, H, W) float32, raw, signed, of what a ``unit`` (channel, row, column) of ``layer`` sends back.

    Of the gradient, positive where a larger value of the pixel raises the unit; the others drop signals on the way, so
    that their sign promises nothing, and have no unit. ``activation`` is what the unit answers. ``notes`` are sentences
    for the reader.
    """

    values: np.ndarray
    method: str
    model_name: str
    layer: str
    unit: tuple[int, int, int]
    activation: float
    notes: tuple[str, ...] = ()


def projection(
    model: Model, pixels: Tensor, layer: str, channel: int, row: int, column: int, method: str = "deconvnet"
) -> Projection:
    """What the unit at ``row`` and ``column`` of a ``channel`` of ``layer`` sends back to ``pixels`` (1, 3, H, W).

    ``method`` is one of PROJECTIONS. 0 outside of the unit's receptive field (`vizcore.receptive_field.theoretical`).
    One pass forth, and one back from the layer on. Raises BadParameter, LayerNotFound for a layer without maps, and
    UnsupportedModel for a net without any ReLU, unless the method is the gradient, or where the unit does not depend
    on the picture in a differentiable way.
    """
    if method not in PROJECTIONS:
        raise BadParameter(f"method is {method!r}; it must be one of {', '.join(PROJECTIONS)}.")
    check_pixels(pixels, one=True)
    pixels = pixels.to(torch.promote_types(pixels.dtype, torch.float32))
    rule = RULES.get(method)
    met: list[int] = []  # ReLUs, when the layer is reached
    with at_relus(model, rule) if rule else nullcontext() as relus:

        def count(output: Tensor) -> Tensor:
            met.append(relus.met if relus else 0)
            return output

        with trace(model, [], grad=True, replace={layer: count}) as seen, torch.enable_grad():
            picture = pixels.detach().clone().requires_grad_()
            model.logits(picture)
            maps = require_maps(model, layer, seen[layer])
            unit = _checked((channel, row, column), tuple(maps.shape[1:]))
            answer = maps[(0, *unit)]
            (values,) = torch.autograd.grad(answer, picture, allow_unused=True)
    if values is None or not torch.isfinite(values).all():
        raise UnsupportedModel(
            f"The layer “{layer}” of {model.title} does not depend on the picture in a differentiable way, or its "
            "slope is NaN or infinity."
        )
    notes = []
    if rule and not met[0]:
        notes.append(f"No ReLU comes before “{layer}”: this is the plain gradient.")
    if not bool(values.any()):
        notes.append("The projection is 0 everywhere: nothing comes back from this unit.")
    return Projection(
        values=values[0].float().cpu().numpy(),
        method=method,
        model_name=model.name,
        layer=layer,
        unit=unit,
        activation=float(answer.detach()),
        notes=tuple(notes),
    )


def _checked(unit: tuple[int, int, int], shape: tuple[int, ...]) -> tuple[int, int, int]:
    """``unit`` as whole numbers, each a place in ``shape`` (C, h, w), or BadParameter."""
    channel, row, column = (
        check_whole(name, place, 0, size - 1)
        for name, place, size in zip(("channel", "row", "column"), unit, shape, strict=True)
    )
    return channel, row, column
