"""The arithmetic behind one number of a net: what a unit read, what it weighed it with, and what came
of it, step by step.

A unit is one place of one channel of one layer. From it the calculation is followed back, through activation, norm and
sums, to the convolution, dense layer or pooling that read a window of some map; and then done again by hand: in double
precision, from the numbers that are shown, with no operation of torch. Beside each step stands what the network has
there; the two differ by rounding only. (Goodfellow, Bengio & Courville, *Deep Learning*, 2016, section 9.1: what nets
call a convolution is a cross-correlation, Σ patch · kernel.)

Layers pad, normalise and activate inside themselves, and are followed by others that do: neither makes a difference
here, since functions are read and not modules (`vizcore.recording`). Where a calculation begins with something that is
not written out (grid_sample, softmax, …), its number is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vizcore.formulas import BINARY, NORMS, POINTWISE, Formula, joined
from vizcore.hooks import trace
from vizcore.recording import Operation, Recording, Value, substituted
from vizcore.records import LayerNotFound, Model, UnsupportedModel, check_pixels, check_whole
from vizcore.trail import At, Link, aligned, back, handed_on, numbers_read, onward
from vizcore.windows import KINDS, READERS, Window, as_maps, given, without_padding

TOLERANCE = 1e-5  # of the largest number of the layer: float32 adds up thousands of products with about 1e-6


class Stage(NamedTuple):
    """A step of the calculation. ``text`` is the formula with names in braces, ``numbers`` what these stand for.

    ``value`` is by hand, ``network`` what the net has there (None: torch does this step and the next as one);
    ``layer`` the dotted name of the module whose parameters are used, "" where there are none.
    """

    title: str
    text: str
    numbers: tuple[tuple[str, float], ...]
    value: float
    network: float | None
    layer: str


@dataclass(frozen=True, eq=False)
class UnitArithmetic:
    """One unit taken apart: ``patch`` and ``kernel`` (C, kh, kw) float64, cell for cell, and what became of them.

    ``unit`` is (channel, row, column) in ``layer``. ``kind``, one of `windows.KINDS`, says what read the window:
    ``reader`` is the layer with its kernel, "" where it has none. ``channels`` (C,), ``rows`` (kh,) and ``columns``
    (kw,) are places in the maps that are read; ``inside`` (kh, kw) is False on padding. ``read_map`` (H, W) float32 is
    the one of these maps that contributes most. ``from_picture``: they are the picture, as the net sees it. The first
    ``own`` of the ``stages`` lead to the unit, the others are what the net does with it next. ``scale`` is the largest
    magnitude in the layer.
    """

    model_name: str
    layer: str
    unit: tuple[int, int, int]
    kind: str
    reader: str
    patch: np.ndarray
    kernel: np.ndarray
    inside: np.ndarray
    channels: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    read_map: np.ndarray
    from_picture: bool
    order: float
    stages: tuple[Stage, ...]
    own: int
    scale: float

    @property
    def products(self) -> np.ndarray:
        """(C, kh, kw) patch times kernel, cell by cell."""
        return self.patch * self.kernel

    @property
    def channel_sums(self) -> np.ndarray:
        """(C,) what each input channel contributes."""
        return self.products.sum((1, 2))

    @property
    def strongest(self) -> int:
        """Which of ``channels`` contributes most, whatever the sign."""
        return int(np.abs(self.channel_sums).argmax())

    @property
    def read_size(self) -> tuple[int, int]:
        """(H, W) of the maps that are read."""
        return self.read_map.shape[0], self.read_map.shape[1]

    @property
    def by_hand(self) -> float:
        return self.stages[self.own - 1].value

    @property
    def network(self) -> float:
        found = self.stages[self.own - 1].network
        return float("nan") if found is None else found

    @property
    def agrees(self) -> bool:
        """Whether both are the same but for rounding, TOLERANCE of ``scale``."""
        return abs(self.by_hand - self.network) <= TOLERANCE * self.scale


def explain_unit(
    model: Model, pixels: Tensor, layer: str, channel: int, row: int = 0, column: int = 0
) -> UnitArithmetic:
    """The calculation of one number of ``layer`` for one picture ``pixels`` (1, 3, H, W) in [0, 1].

    A layer without maps has only channels. Two forward passes. Raises LayerNotFound for an unknown layer or one with
    neither maps nor a vector, BadParameter for a place outside of it, UnsupportedModel where nothing can be said.
    """
    check_pixels(pixels, one=True)
    first, output, network = _pass(model, pixels, layer)
    unit = _unit(model, layer, output.shape, channel, row, column)
    at = At(output, (0, *unit) if len(output.shape) == 4 else (0, unit[0]))
    start, before = back(first.results, at)
    links = [*before, *onward(first.results, at)]
    after, _, _ = _pass(model, pixels, layer, numbers_read(first.results, start, links))
    work = _Work(after, {id(p): name.rpartition(".")[0] for name, p in _tensors(model)}, pixels.shape[2:])
    window, reader, stages = work.begin(start)
    own = len(stages) + len(before)
    if not before and window.kind == "given":
        operation = after.results[start.value.number].operation
        raise UnsupportedModel(
            f"The layer “{layer}” of {model.title} does {operation.name if operation else 'what'!r}, whose arithmetic "
            "is not written out here. Choose a convolution, a pooling, a norm, an activation or a dense layer."
        )
    for link in links:
        stages.append(work.stage(link, stages[-1].value))
    # What moved the number after the last step left it as it is: its place in the layer has the same number.
    stages[own - 1] = stages[own - 1]._replace(network=float(network[at.index]))
    strongest = int(np.abs(window.products.sum((1, 2))).argmax())
    return UnitArithmetic(
        model_name=model.name,
        layer=layer,
        unit=unit,
        kind=window.kind,
        reader=reader,
        patch=window.patch,
        kernel=window.kernel,
        inside=window.inside,
        channels=window.channels,
        rows=window.rows,
        columns=window.columns,
        read_map=window.maps[window.channels[strongest]].astype(np.float32),
        from_picture=work.reads_picture(start, window),
        order=window.order,
        stages=tuple(stages),
        own=own,
        scale=float(np.abs(network).max()),
    )


def _pass(
    model: Model, pixels: Tensor, layer: str, wanted: frozenset[int] = frozenset()
) -> tuple[Recording, Value, np.ndarray]:
    """One pass written down: the number of what comes out of ``layer``, and the numbers in it."""
    found: list[Value] = []
    recording = Recording(wanted)
    picture = pixels.detach().clone()

    def note(output: Tensor) -> Tensor:
        found.append(recording.value_of(output))
        return output

    with trace(model, (layer,), replace={layer: note}) as seen:
        recording.begin(picture)
        with recording:
            model.logits(picture)
        return recording, found[-1], _array(seen[layer])


def _unit(
    model: Model, layer: str, shape: tuple[int, ...], channel: int, row: int, column: int
) -> tuple[int, int, int]:
    if len(shape) not in (2, 4):
        raise LayerNotFound(
            f"The layer “{layer}” of {model.title} gives {' × '.join(map(str, shape[1:]))} numbers, neither maps nor a "
            "vector. Choose a layer inside of it, or before."
        )
    _, channels, height, width = (*shape, 1, 1)[:4]
    return (
        check_whole("channel", channel, 0, channels - 1),
        check_whole("row", row, 0, height - 1),
        check_whole("column", column, 0, width - 1),
    )


# -- by hand ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Work:
    """The tensors of a pass, and the calculation done with them: ``names`` are of layers, by the id of a parameter."""

    recording: Recording
    names: dict[int, str]
    size: tuple[int, ...]

    def begin(self, start: At) -> tuple[Window, str, list[Stage]]:
        """The window that was read, the layer whose kernel read it, and the stages up to the first number."""
        operation = self.recording.results[start.value.number].operation
        network = self._number(start)
        window = self._window(operation, start) if operation and operation.name in READERS else None
        if operation is None or window is None:
            return given(network), "", [Stage(KINDS["given"], "{x}", (("x", network),), network, network, "")]
        reader = self._layer(operation)
        only = network if window.bias is None else None
        stages = [Stage(KINDS[window.kind], "", (), window.total, only, reader)]
        if window.bias is not None:
            value = window.total + window.bias
            numbers = ("x", window.total), ("bias", window.bias)
            stages.append(Stage("Bias", "{x} + {bias}", numbers, value, network, reader))
        return window, reader, stages

    def _window(self, operation: Operation, start: At) -> Window | None:
        source = operation.sources[0]
        maps = np.asarray(_array(self.recording.values[source.number])[0], np.float64)
        given = substituted((operation.args, operation.kwargs), lambda value: self.recording.values[value.number])
        args, kwargs = _besides(replace(operation, args=given[0], kwargs=given[1]), _array)
        window = READERS[operation.name](maps, start.index, *args, **kwargs)
        before = handed_on(self.recording.results, source)
        if window is None or before is None or len(before.sources[0].shape) != 4:
            return window
        _, channels, height, width = before.sources[0].shape
        in_a_row = before.name in ("flatten", "view", "reshape", "squeeze")
        if in_a_row and window.kind == "dense" and len(window.patch) == channels * height * width:
            return as_maps(window, (channels, height, width))
        if before.name == "pad":
            sides = before.args[1] if len(before.args) > 1 else before.kwargs["pad"]
            left, _, top, _ = (*sides, 0, 0, 0)[:4]
            if min(left, top) < 0:  # cut off, rather
                return window
            return without_padding(window, (top, left), (height, width))
        return window

    def stage(self, link: Link, x: float) -> Stage:
        """One operation on the number ``x``, which is by hand; the other numbers are the net's."""
        operation, network = link.operation, self._number(link.after)
        if operation.name in BINARY:
            formula = self._joined(link, x)
        elif operation.name in NORMS:
            formula = self._normalised(link, x)
        else:
            channel = link.before.index[1]
            args, kwargs = _besides(operation, lambda tensor: float(tensor.reshape(-1)[channel % tensor.numel()]))
            formula = POINTWISE[operation.name](x, *args, **kwargs)
        return Stage(*formula[:4], network, self._layer(operation))

    def _joined(self, link: Link, x: float) -> Formula:
        operation = link.operation
        operands = [
            *operation.args[:2],
            *(operation.kwargs[name] for name in ("input", "other") if name in operation.kwargs),
        ]
        first = operands[0] == link.before.value
        other = operands[1] if first else operands[0]
        if isinstance(other, Value):
            y = self._number(At(other, aligned(link.after.index, other.shape)))
        elif isinstance(other, Tensor):
            y = float(other[aligned(link.after.index, tuple(other.shape))])
        else:
            y = float(other)
        a, b = (x, y) if first else (y, x)
        formula = joined(operation.name, a, b, follows_first=first, alpha=float(operation.kwargs.get("alpha", 1)))
        branch = isinstance(other, Value) and operation.name == "add"
        return formula._replace(title="Sum with another branch") if branch else formula

    def _normalised(self, link: Link, x: float) -> Formula:
        """Norms by the numbers of the picture at hand: mean and variance of the group to which the unit belongs."""
        operation, index = link.operation, link.before.index
        maps = np.asarray(_array(self.recording.values[link.before.value.number])[0], np.float64)
        args, kwargs = _besides(operation, lambda tensor: tensor)
        return NORMS[operation.name](x, maps, index[1:], *args, **kwargs)

    def reads_picture(self, start: At, window: Window) -> bool:
        """Whether the window lies in what the net was shown: nothing read a window before, and the size is the same."""
        before = self.recording.results[: start.value.number]
        untouched = not any(result.operation and result.operation.name in READERS for result in before)
        return untouched and window.kind not in ("given", "dense") and window.size == self.size

    def _number(self, at: At) -> float:
        return float(self.recording.values[at.value.number][at.index])

    def _layer(self, operation: Operation) -> str:
        given = (*operation.args, *operation.kwargs.values())
        return next((self.names[id(one)] for one in given if id(one) in self.names), "")


def _besides(operation: Operation, reduced: Any) -> tuple[list[Any], dict[str, Any]]:
    """What a function was given besides the maps: tensors ``reduced``, and the maps left out."""
    args = [reduced(one) if isinstance(one, Tensor) else one for one in operation.args]
    kwargs = {name: reduced(one) if isinstance(one, Tensor) else one for name, one in operation.kwargs.items()}
    if "input" in kwargs:
        del kwargs["input"]
        return args, kwargs
    return args[1:], kwargs


def _tensors(model: Model) -> Iterator[tuple[str, Tensor]]:
    yield from model.net.named_buffers()
    yield from model.net.named_parameters()


def _array(tensor: Tensor) -> np.ndarray:
    """A tensor as an array, without a copy where NumPy knows its type."""
    tensor = tensor.detach().cpu()
    return (tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()).numpy()
