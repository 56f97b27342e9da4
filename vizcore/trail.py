"""From a number of a net back to the window that it was read from, and on to what the net does with it next.

On the way lie norms, activations and sums, which have formulas, and functions that only put numbers elsewhere. A trail
knows which number of which tensor stands at each step; the numbers themselves it does not need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch

from vizcore.formulas import BINARY, NORMS, POINTWISE, Index
from vizcore.recording import Operation, Result, Value, substituted

# Functions that hand on what they get; and such that only put it elsewhere, among other things
SAME = {
    *("clone", "contiguous", "detach", "alias", "to", "float", "double", "type_as", "requires_grad"),
    *("dropout", "dropout2d", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "identity"),
}
MOVES = {
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "expand", "repeat"),
    *("permute", "transpose", "swapaxes", "movedim", "t", "getitem", "select", "narrow", "chunk", "split", "unbind"),
    *("cat", "stack", "pad", "channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "roll", "flip"),
}


@dataclass(frozen=True)
class At:
    """One number: its place ``index`` (with N) in a tensor."""

    value: Value
    index: Index


@dataclass(frozen=True, eq=False)
class Link:
    """An operation on the way, the number it reads (``before``) and the number it gives (``after``)."""

    operation: Operation
    before: At
    after: At


def back(results: list[Result], at: At) -> tuple[At, list[Link]]:
    """From a number to the one that was read from a window, or that nothing is known of; and what lies between."""
    links: list[Link] = []
    while operation := results[at.value.number].operation:
        if operation.name in MOVES or operation.name in SAME:
            source = _origin(results, at)
        else:
            source = _followed(operation, at)
            if source:
                links.append(Link(operation, source, at))
        if not source:
            break
        at = source
    return at, links[::-1]


def _followed(operation: Operation, at: At) -> At | None:
    """What an operation with a formula read: of two branches that meet, the one that was computed last.

    Only if it is as large as what comes out: a gate, one number a channel, is not followed.
    """
    if operation.name not in (*POINTWISE, *NORMS, *BINARY):
        return None
    whole = [source for source in operation.sources if source.shape == at.value.shape]
    return At(max(whole, key=lambda source: source.number), at.index) if whole else None


def handed_on(results: list[Result], value: Value) -> Operation | None:
    """The operation that gave a tensor, whatever has handed it on since; None where it is not known."""
    operation = results[value.number].operation
    while operation and operation.sources and operation.name in SAME:
        operation = results[operation.sources[0].number].operation
    return operation if operation and operation.sources else None


def aligned(index: Index, shape: tuple[int, ...]) -> Index:
    """The index in a tensor of ``shape`` that is spread out to the one in which ``index`` is."""
    tail = index[len(index) - len(shape) :]
    return tuple(0 if size == 1 else place for place, size in zip(tail, shape, strict=True))


def _origin(results: list[Result], at: At) -> At | None:
    """Where a number was before it was put elsewhere; None for padding.

    Found by doing the same to a tensor in which each place has the number of the place.
    """
    result = results[at.value.number]
    operation = result.operation
    if not operation or not operation.sources:
        return None
    if operation.name in SAME:
        return At(operation.sources[0], at.index)
    starts: dict[Value, int] = {}
    for source in operation.sources:
        starts.setdefault(source, sum(prod(known.shape) for known in starts))
    args, kwargs = substituted(
        (operation.args, operation.kwargs),
        lambda value: torch.arange(prod(value.shape), dtype=torch.float64).reshape(value.shape) + starts[value],
    )
    if operation.name == "pad":
        args, kwargs = _padding_marked(args, kwargs)
    moved = operation.function(*args, **kwargs)
    flat = int((moved[result.part] if isinstance(moved, (tuple, list)) else moved)[at.index])
    for source, start in starts.items():
        if start <= flat < start + prod(source.shape):
            return At(source, tuple(int(i) for i in np.unravel_index(flat - start, source.shape)))
    return None


def _padding_marked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of `torch.nn.functional.pad` with −1, which is no place, for the value that is laid around."""
    mode = args[2] if len(args) > 2 else kwargs.get("mode", "constant")
    return (args[:3], {**kwargs, "value": -1.0}) if mode == "constant" else (args, kwargs)


def onward(results: list[Result], at: At) -> Iterator[Link]:
    """The norms and activations that come next, as long as nothing else is done with the number."""
    for number in range(at.value.number + 1, len(results)):
        operation = results[number].operation
        if operation is None or at.value not in operation.sources:
            continue
        after = At(Value(number, results[number].shape), at.index)
        if operation.name in POINTWISE or operation.name in NORMS:
            yield Link(operation, at, after)
        elif operation.name not in SAME:
            return
        at = after


def numbers_read(results: list[Result], start: At, links: list[Link]) -> frozenset[int]:
    """Numbers of the tensors that the calculation reads."""
    operations = [link.operation for link in links]
    if reading := results[start.value.number].operation:
        operations.append(reading)
    sources = {source.number for operation in operations for source in operation.sources}
    return frozenset({start.value.number, *(link.after.value.number for link in links), *sources})
