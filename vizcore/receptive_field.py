"""What one unit sees of the picture: what it could see, and what it does.

The theoretical receptive field is the rectangle of pixels that can change a unit at all, by the arithmetic of kernels,
strides and paddings (`vizcore.fields`). But the pixels in it do not count alike: of a picture, a unit's value changes
by its gradient with respect to each pixel, and that is strong in the middle and fades towards the border (Luo, Li,
Urtasun & Zemel, "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS 2016):
effective(y, x) = Σ_c |∂ unit / ∂ pixel(c, y, x)|. The paper averages over many pictures and random weights; here it is
the one picture and the net as it was trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vizcore.fields import Field
from vizcore.hooks import find_layer, trace
from vizcore.records import BadParameter, LayerNotFound, Model, check_pixels
from vizcore.runs import runs_of

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels that the net sees; right and bottom are outside


@dataclass(frozen=True, eq=False)
class EffectiveField:
    """How much each pixel moves one ``unit`` (channel, row, column), or (number,) of a vector, of ``layer``.

    ``values`` (H, W) float32, at least 0: change of the unit for a change of the pixel, over its colours, in pixels
    of [0, 1]. ``activation`` is what the unit answers.
    """

    values: np.ndarray
    model_name: str
    layer: str
    unit: tuple[int, ...]
    activation: float

    def area(self, share: float = 0.5) -> int:
        """The fewest pixels that hold ``share`` of the sum; 0 where no pixel counts."""
        if not 0 < share <= 1:
            raise BadParameter(f"share is {share!r}; it must be above 0 and at most 1.")
        strongest = np.sort(self.values, axis=None)[::-1].cumsum(dtype=np.float64)
        return int((strongest < share * strongest[-1]).sum()) + 1 if strongest[-1] > 0 else 0


def theoretical(model: Model, layer: str, unit: tuple[int, int]) -> Box:
    """The rectangle of pixels that the units of ``layer`` at ``unit`` (row, column) can see, within the picture.

    Exact: each of its sides is read, unless the net is one of which `vizcore.fields.Field` says that it is not known.
    One pass without numbers. Raises LayerNotFound for an unknown layer, one that has no maps or runs not just once.
    """
    return box_of(field_of(model, layer), unit)


def field_of(model: Model, layer: str) -> Field:
    """What all units of a ``layer`` with maps can see."""
    find_layer(model, layer)
    runs = [run for run in runs_of(model) if run.name == layer and run.module]
    if len(runs) == 1 and runs[0].sees and runs[0].is_map:
        return runs[0].sees.over(*runs[0].shape[1:])
    raise LayerNotFound(
        f"The layer “{layer}” of {model.title} has no units at places: it does not run just once, only holds others, "
        "or gives no maps. Choose one that hooks.map_layers lists."
    )


def box_of(field: Field, unit: tuple[int, int]) -> Box:
    """The rectangle of one unit (row, column) of a ``field`` as `field_of` gives it."""
    check_unit(unit, (len(field.rows.first), len(field.columns.first)))
    return field.box(*unit)


def check_unit(unit: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """BadParameter where there is no such unit in ``shape``."""
    if len(unit) != len(shape) or not all(0 <= place < size for place, size in zip(unit, shape, strict=False)):
        raise BadParameter(f"unit is {unit!r}; there are {' × '.join(map(str, shape))} units, counted from 0.")


def effective(model: Model, pixels: Tensor, layer: str, unit: tuple[int, ...]) -> EffectiveField:
    """How much each pixel of one picture ``pixels`` (1, 3, H, W) moves a ``unit`` of ``layer``.

    ``unit`` is (channel, row, column) of maps, or (number,) of a vector. One pass forward and one backward. All zeros
    where the unit does not react, such as one behind a ReLU that is shut.
    """
    check_pixels(pixels, one=True)
    with trace(model, [layer], grad=True) as seen, torch.enable_grad():
        picture = pixels.detach().clone().requires_grad_()
        model.logits(picture)
        check_unit(unit, tuple(seen[layer].shape[1:]))
        answer = seen[layer][(0, *unit)]
        (gradient,) = torch.autograd.grad(answer, picture, allow_unused=True)
    moved = torch.zeros_like(picture) if gradient is None else gradient
    values = moved[0].abs().sum(0).float().cpu().numpy()  # (H, W)
    return EffectiveField(values, model.name, layer, tuple(map(int, unit)), float(answer.detach()))
