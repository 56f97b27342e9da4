"""The steps of a graph bound to the numbers of a net: what runs on maps, whole or cropped.

Maps lie in memory channels last, batch normalisation is folded into the kernel before it, and on a CPU kernels are
packed once in the way in which its convolutions want them. A bias, an addition and an activation behind a convolution
are done in the same stroke, while the numbers are at hand. There oneDNN's ReLU makes 0 of NaN, where torch keeps it:
who runs these steps does not show them any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vizcore.graph import (
    AVERAGE_POOL,
    CONVOLUTION,
    MAX_POOL,
    NORM,
    PAD,
    Call,
    Parameter,
    Pictures,
    Result,
    Step,
    fill,
    leaves,
)
from vizcore.regions import Region
from vizcore.winograd import Winograd
from vizcore.workspace import Workspace

aten = torch.ops.aten

# oneDNN's names of activations that it does within a convolution, and the numbers that torch leaves out
FUSED: dict[Any, tuple[str, tuple[float, ...]]] = {
    aten.relu.default: ("relu", ()),
    aten.hardtanh.default: ("hardtanh", (-1.0, 1.0)),
    aten.silu.default: ("swish", ()),
}
FUSED_BEHIND_SUM = (aten.relu.default,)


@dataclass
class Room:
    """How many bytes kernels may take beyond the net's own size."""

    bytes: int

    def taken(self, count: int) -> bool:
        """Whether there was room for ``count``."""
        if count > self.bytes:
            return False
        self.bytes -= count
        return True


class Kernel:
    """An operation with its numbers: of whole results, or of maps cell by cell.

    ``bytes`` are of what it holds beside the net's own numbers, ``copies`` how many maps of the size of its result it
    takes to compute one.
    """

    bytes, copies = 0, 4

    def __init__(self, call: Call, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        def number_of(leaf: Any) -> Any:
            if isinstance(leaf, torch.device):  # where the net was traced
                return device
            return tensors[leaf.name] if isinstance(leaf, Parameter) else leaf

        self.operation, self.sources = call.operation, call.sources
        self.args: list[Any]
        self.kwargs: dict[str, Any]
        self.args, self.kwargs = fill((call.args, call.kwargs), number_of)
        self.weights = sum(leaf.numel() for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor))

    def work(self, cells: int) -> int:
        """Multiplications by weights, for as many cells of the result."""
        return self.weights

    def __call__(self, *values: Tensor, count: int) -> Tensor:
        """The result for ``values`` of its sources, of ``count`` pictures."""
        given = dict(zip(self.sources, values, strict=True))

        def value_of(leaf: Any) -> Any:
            if isinstance(leaf, Result):
                return given[leaf.step]
            return leaf.times * count if isinstance(leaf, Pictures) else leaf

        args, kwargs = fill((self.args, self.kwargs), value_of)
        answer = self.operation(*args, **kwargs)
        return answer[0] if self.operation in (NORM, MAX_POOL) else answer  # the rest serves training


class Window(Kernel):
    """A step whose cells read a neighbourhood each; ``outside`` is what they find beyond the border."""

    outside = 0.0

    def __init__(self, step: Step, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        super().__init__(step.call, tensors, device)
        assert step.reach is not None
        self.step, self.reach = step, step.reach

    def work(self, cells: int) -> int:
        return 0

    def padding(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(left, right, top, bottom) cells that are read beyond the border of a map of ``size``."""
        (rows, columns), (height, width) = self.reach, self.step.size
        return columns.before, columns.behind(size[1], width), rows.before, rows.behind(size[0], height)

    def on_whole(self, values: Tensor, *others: Tensor) -> Tensor:
        """The whole result for whole maps."""
        padding = self.padding((values.shape[2], values.shape[3]))
        return self.on_crop(F.pad(values, padding, value=self.outside), None, *others)

    def on_crop(self, crop: Tensor, region: Region | None, *others: Tensor) -> Tensor:
        """The cells of ``region``, all where it is None, for what they read of the source, padding included."""
        raise NotImplementedError


class Pad(Window):
    def __init__(self, step: Step, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        super().__init__(step, tensors, device)
        self.outside = float(self.args[2]) if len(self.args) > 2 else 0.0

    def on_crop(self, crop: Tensor, region: Region | None, *others: Tensor) -> Tensor:
        return crop.clone()  # crops lie in memory that is used again


class MaxPool(Window):
    outside = -math.inf

    def __init__(self, step: Step, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        super().__init__(step, tensors, device)
        defaults: list[Any] = [(), 0, 1]  # which torch leaves out
        self.kernel, self.stride, _, self.dilation = [*self.args[1:5], *defaults[len(self.args) - 2 :]]

    def on_crop(self, crop: Tensor, region: Region | None, *others: Tensor) -> Tensor:
        return F.max_pool2d(crop, self.kernel, self.stride or self.kernel, 0, self.dilation)


class AveragePool(Window):
    """Sums, divided by what the step divides by: it differs along the border, by the many options there are for it."""

    def __init__(self, step: Step, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        super().__init__(step, tensors, device)
        self.kernel = self.args[1]
        self.stride = (self.args[2] if len(self.args) > 2 else ()) or self.kernel
        self.divisor: Tensor | None = None  # (H, W)

    def on_whole(self, values: Tensor, *others: Tensor) -> Tensor:
        if self.divisor is None:
            ones = torch.ones_like(values[:1, :1])
            means = self.operation(ones, *self.args[1:], **self.kwargs)
            padding = self.padding((ones.shape[2], ones.shape[3]))
            self.divisor = (self._sums(F.pad(ones, padding)) / means)[0, 0]
        return super().on_whole(values)

    def on_crop(self, crop: Tensor, region: Region | None, *others: Tensor) -> Tensor:
        assert self.divisor is not None
        if region is None:
            return self._sums(crop) / self.divisor
        rows, columns = (torch.from_numpy(span.cells) for span in (region.rows, region.columns))
        return self._sums(crop) / self.divisor[rows[:, :, None], columns[:, None, :]][:, None]

    def _sums(self, crop: Tensor) -> Tensor:
        return F.avg_pool2d(crop, self.kernel, self.stride, 0, divisor_override=1)


class Convolution(Window):
    """With what is done to its result: normalisation, the addition of another map, an activation; in this order."""

    def __init__(
        self, step: Step, tensors: Mapping[str, Tensor], device: torch.device, workspace: Workspace, room: Room
    ) -> None:
        super().__init__(step, tensors, device)
        _, weight, _, self.stride, _, self.dilation, _, _, self.groups = self.args
        weight, bias = self._folded(tensors, device)
        self.weights, self.bias = weight.numel(), bias
        self.activation = Kernel(step.activation, tensors, device) if step.activation else None
        # A kernel of one cell: a product of matrices.
        self.mixes = weight.shape[2:] == (1, 1) and self.groups == 1 and not any(reach.before for reach in self.reach)
        self.winograd: Winograd | None = None
        self.packed: Tensor | None = None
        if weight.dtype == torch.float32 and weight.device.type == "cpu":
            plain = self.groups == 1 and {*self.stride, *self.dilation} == {1}
            if plain and Winograd.pays(weight) and room.taken(3 * weight.numel() * weight.element_size()):
                self.winograd = Winograd(weight, bias, workspace)
            elif torch.backends.mkldnn.is_available():
                self.packed = self._packed(weight)
        self.copies = 5 if self.winograd else 4
        self.bytes = weight.numel() * weight.element_size() * (4 if self.winograd else 1)
        # One copy is enough.
        self.weight = None if self.winograd or self.packed is not None else weight
        self.args = []

    def _folded(self, tensors: Mapping[str, Tensor], device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the convolution and the normalisation behind it as one; each weight is rounded once."""
        weight, bias = self.args[1:3]
        if self.step.norm is None:
            return weight, bias
        _, gain, shift, mean, variance, _, _, eps = Kernel(self.step.norm, tensors, device).args
        factor = (variance.double() + eps).rsqrt() * (1 if gain is None else gain.double())  # (K,)
        moved = ((0 if bias is None else bias.double()) - mean.double()) * factor
        moved = moved + (0 if shift is None else shift.double())
        return weight * factor.to(weight).view(-1, 1, 1, 1), moved.to(weight)

    def _packed(self, weight: Tensor) -> Tensor:
        if self.mixes:
            return torch.ops.mkldnn._reorder_linear_weight(weight[:, :, 0, 0])
        layout = ([0, 0], self.stride, self.dilation, self.groups)
        return torch.ops.mkldnn._reorder_convolution_weight(weight, *layout, None)

    def work(self, cells: int) -> int:
        return cells * self.weights

    def on_whole(self, values: Tensor, *others: Tensor) -> Tensor:
        before = [reach.before for reach in self.reach]
        natural = tuple(
            (size + 2 * reach.before - reach.extent) // reach.stride + 1
            for size, reach in zip(values.shape[2:], self.reach, strict=True)
        )
        if natural == self.step.size and not self.winograd:  # it can pad by itself, without a copy
            return self._convolved(values, before, *others)
        return super().on_whole(values, *others)

    def on_crop(self, crop: Tensor, region: Region | None, *others: Tensor) -> Tensor:
        return self._convolved(crop, [0, 0], *others)

    def _convolved(self, values: Tensor, padding: list[int], *others: Tensor) -> Tensor:
        fuses = self.activation is None or self.activation.operation in (FUSED_BEHIND_SUM if others else FUSED)
        if self.packed is not None and fuses:
            return self._fused(values, padding, *others, activation=self.activation)
        if self.winograd:
            result = self.winograd(values)
        elif self.packed is not None:
            result = self._fused(values, padding, activation=None)
        else:
            assert self.weight is not None
            result = F.conv2d(values, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        for other in others:
            result += other
        if self.activation is None:
            return result
        if self.activation.operation is aten.relu.default:
            return result.relu_()
        return self.activation(result, count=len(result))

    def _fused(self, values: Tensor, padding: list[int], *others: Tensor, activation: Kernel | None) -> Tensor:
        """All of it as one operation of oneDNN, in the way in which torch's own compiler calls it."""
        name, bounds = None, []
        if activation:
            name, left_out = FUSED[activation.operation]
            bounds = [*activation.args[1:], *left_out[len(activation.args) - 1 :]]
        if self.mixes:
            return self._mixed(values[:, :, :: self.stride[0], :: self.stride[1]], *others, name=name, bounds=bounds)
        layout = (padding, self.stride, self.dilation, self.groups)
        operation = torch.ops.mkldnn._convolution_pointwise
        if others:
            return operation.binary(values, *others, self.packed, self.bias, *layout, "add", 1, name, bounds, "")
        return operation(values, self.packed, self.bias, *layout, name or "none", bounds, "")

    def _mixed(self, values: Tensor, *others: Tensor, name: str | None, bounds: list[float]) -> Tensor:
        """The same for a kernel of one cell: as a convolution oneDNN is four times slower with some sizes of maps."""
        count, _, height, width = values.shape
        cells, *added = (maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]) for maps in (values, *others))
        operation = torch.ops.mkldnn._linear_pointwise
        if added:
            result = operation.binary(cells, *added, self.packed, self.bias, "add")
            result = result.relu_() if name else result  # FUSED_BEHIND_SUM
        else:
            result = operation(cells, self.packed, self.bias, name or "none", bounds, "")
        return result.view(count, height, width, -1).permute(0, 3, 1, 2)


def kernel_of(
    step: Step, tensors: Mapping[str, Tensor], device: torch.device, workspace: Workspace, room: Room
) -> Kernel:
    """``step`` bound to ``tensors``, the parameters and buffers of the net by name, on the ``device`` of the net."""
    if step.reach is None:
        return Kernel(step.call, tensors, device)
    if step.call.operation is CONVOLUTION:
        return Convolution(step, tensors, device, workspace, room)
    kinds: dict[Any, type[Window]] = {MAX_POOL: MaxPool, AVERAGE_POOL: AveragePool, PAD: Pad}
    return kinds[step.call.operation](step, tensors, device)
