"""A net taken apart: every layer in order of execution, with what it costs and what it sees.

The questions that a textbook asks of a drawing, answered on the net that is loaded: how large is what comes out, how
many numbers were learned, how many multiplications does a picture take, how much memory, and how much of the picture
does one unit see. Shapes are held twice, by the formula ⌊(in + 2p − d(k − 1) − 1) / s⌋ + 1 and as they ran (Dumoulin &
Visin, "A guide to convolution arithmetic for deep learning", 2016); receptive fields are those of `vizcore.fields`
(Araujo, Norris & Sim, Distill 2019). Multiply-adds are those of convolutions and dense layers, without biases, as
everybody counts them.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from vizcore.fields import MAPS, Field, Window
from vizcore.records import Model
from vizcore.runs import Run, runs_of

BYTES = 4  # of an activation in float32
COUNTED_BY_SLIDES = ("convolution", "pooling", "dense")
Pair = tuple[float, float]


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """One layer of a net as it ran; pairs are (rows, columns).

    ``name`` is dotted, ``run`` counts the runs of one module. An operation that is no module (``is_module`` False) has
    the name of the module in whose ``forward`` it stands. ``family`` is one of `operations.FAMILIES`. Shapes are
    without N; ``by_formula`` is () where no formula says it. ``windows`` is None where nothing slides over maps.
    ``tensors`` are the shapes of its own parameters by name; ``parameters`` does not count again what ran before.
    ``sees`` is what its cells read of the picture, None where it does not give one tensor made of it.
    """

    name: str
    run: int
    kind: str
    family: str
    is_module: bool
    shape_in: tuple[int, ...]
    by_formula: tuple[int, ...]
    shape: tuple[int, ...]
    windows: tuple[Window, Window] | None
    groups: int
    tensors: Mapping[str, tuple[int, ...]]
    parameters: int
    multiply_adds: int
    sees: Field | None = field(repr=False)

    @property
    def title(self) -> str:
        """What a person calls it: unlike the name, it is there once."""
        title = self.name if self.is_module else f"{self.name or 'the net'}: {self.kind}"
        return f"{title or 'the net'} (run {self.run})" if self.run > 1 else title or "the net"

    @property
    def activations(self) -> int:
        """How many numbers come out for one picture."""
        return math.prod(self.shape) if self.shape else 0

    @property
    def memory(self) -> int:
        """Bytes of these in float32."""
        return BYTES * self.activations

    @property
    def agrees(self) -> bool:
        """Whether the shape is what the formula says; so it is where there is none."""
        return self.by_formula in ((), self.shape)

    @property
    def is_map(self) -> bool:
        """Whether its units lie at places, (C, h, w)."""
        return len(self.shape) == 3 and (self.sees is None or self.sees.axes == MAPS)

    @property
    def known(self) -> bool:
        """Whether the three below are what a unit does see, not a bound."""
        return self.sees is not None and self.sees.known

    @property
    def receptive_field(self) -> tuple[int, int]:
        """Pixels that one unit sees, by the recurrences: it may be larger than the picture. (0, 0): it sees nothing."""
        return (self.sees.rows.extent, self.sees.columns.extent) if self.sees else (0, 0)

    @property
    def jump(self) -> Pair:
        """Pixels from one unit to the next; 0 where all see the same."""
        return (self.sees.rows.jump, self.sees.columns.jump) if self.sees else (0.0, 0.0)

    @property
    def centre(self) -> Pair:
        """Where the first unit looks, (row, column): the middle of what it sees; 0 is the middle of the first pixel."""
        return (self.sees.rows.centre, self.sees.columns.centre) if self.sees else (0.0, 0.0)

    @property
    def formulas(self) -> tuple[str, ...]:
        """The size of a map with the numbers filled in, rows and columns; none where nothing slides."""
        if not self.windows or len(self.shape_in) != 3:
            return ()
        return tuple(window.formula(size) for window, size in zip(self.windows, self.shape_in[1:], strict=True))

    def flat(self) -> dict[str, str | int | float | bool]:
        """One line of a table; "" where there is nothing to say."""
        rows, columns = self.windows or (None, None)

        def pair(one: object, other: object) -> str:
            return (
                f"{one:g}"
                if one == other and isinstance(one, float)
                else f"{one}"
                if one == other
                else f"{one} × {other}"
            )

        return {
            "layer": self.title,
            "kind": self.kind,
            "family": self.family,
            "kernel": f"{rows.kernel} × {columns.kernel}" if rows and columns else "",
            "stride": pair(rows.stride, columns.stride) if rows and columns else "",
            "padding": _padding(rows, columns) if rows and columns else "",
            "dilation": pair(rows.dilation, columns.dilation) if rows and columns else "",
            "groups": self.groups if self.family == "convolution" else "",
            "shape by formula": " × ".join(map(str, self.by_formula)),
            "shape as run": " × ".join(map(str, self.shape)),
            "parameters": self.parameters,
            "multiply-adds": self.multiply_adds,
            "activations": self.activations,
            "memory in bytes": self.memory,
            "receptive field": " × ".join(map(str, self.receptive_field)) if self.known else "",
            "sees the whole picture": (self.known or "at most") if self.sees and self.sees.is_whole else False,
            "jump": pair(*self.jump) if self.is_map and self.known else "",
            "centre": ", ".join(f"{place:g}" for place in self.centre) if self.known else "",
        }


def _padding(rows: Window, columns: Window) -> str:
    """One number where all four sides are alike, two for rows and columns, else all four."""
    if rows.before == rows.behind and columns.before == columns.behind:
        return f"{rows.before}" if rows.before == columns.before else f"{rows.before} × {columns.before}"
    return f"{rows.before}+{rows.behind} × {columns.before}+{columns.behind}"


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The layers of a net, for one picture of ``input_shape`` (C, H, W). ``parameters`` are all that the net holds,
    each counted once; ``idle`` those of modules that did not run."""

    model_name: str
    input_shape: tuple[int, int, int]
    layers: tuple[LayerFacts, ...]
    parameters: int

    @property
    def idle(self) -> int:
        return self.parameters - sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activations(self) -> int:
        """The picture and what comes out of every layer, each number once."""
        return math.prod(self.input_shape) + sum(layer.activations for layer in self.layers)

    @property
    def activations_of_slides(self) -> int:
        """As the slides of CS231n count them: the picture, convolutions, poolings and dense layers, each number once.

        An activation then overwrites what it reads. For VGG-16 the lines of their table add up to 15.2 million; the
        24 million written below it, and so the 93 MB, are a known mistake (cs231n.github.io, issue 88).
        """
        counted = (layer.activations for layer in self.layers if layer.family in COUNTED_BY_SLIDES)
        return math.prod(self.input_shape) + sum(counted)

    @property
    def largest(self) -> LayerFacts:
        """The layer with the most parameters, the first of several."""
        return max(self.layers, key=lambda layer: layer.parameters)

    @property
    def busiest(self) -> LayerFacts:
        """The layer with the most multiply-adds, the first of several."""
        return max(self.layers, key=lambda layer: layer.multiply_adds)

    @property
    def widest(self) -> LayerFacts:
        """The layer out of which the most numbers come, the first of several."""
        return max(self.layers, key=lambda layer: layer.activations)


def anatomy(model: Model) -> Anatomy:
    """Every layer of ``model`` in order of execution, on one picture of its own input size.

    One pass without numbers (`vizcore.runs`): milliseconds for small nets, a second for the deepest.
    """
    counted: set[int] = set()
    times: Counter[tuple[str, str]] = Counter()

    def facts(run: Run) -> LayerFacts:
        times[run.name, run.kind] += 1
        own = list(run.module.named_parameters(recurse=False)) if run.module else []
        new = {id(tensor): tensor.numel() for _, tensor in own if id(tensor) not in counted}
        counted.update(new)
        return LayerFacts(
            name=run.name,
            run=times[run.name, run.kind],
            kind=run.kind,
            family=run.family,
            is_module=run.module is not None,
            shape_in=run.shape_in,
            by_formula=run.by_formula,
            shape=run.shape,
            windows=run.windows,
            groups=run.groups,
            tensors={name: tuple(tensor.shape) for name, tensor in own},
            parameters=sum(new.values()),
            multiply_adds=run.multiply_adds,
            sees=run.sees,
        )

    layers = tuple(facts(run) for run in runs_of(model) if run.is_layer)
    height, width = model.input_size
    return Anatomy(model.name, (len(model.mean), height, width), layers, sum(p.numel() for p in model.net.parameters()))


def to_csv(facts: Anatomy) -> str:
    """The table as text, a line a layer, with a line of headings."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(facts.layers[0].flat()), lineterminator="\n")
    writer.writeheader()
    writer.writerows(layer.flat() for layer in facts.layers)
    return file.getvalue()
