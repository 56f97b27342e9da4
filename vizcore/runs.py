"""Each layer of a net as it ran: in which order, on what, what it computed, and which pixels its cells read.

One pass, in which every operation that reaches torch's dispatcher is seen, and belongs to the innermost module that
runs at that time. So padding inside of a module, sums, concatenations and activations that are no modules are not
missed. The pass is one of a copy whose tensors have no memory, so that it costs milliseconds; a net that cannot be
run so (it asks for numbers) is run itself, on a picture of its mean colour.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from vizcore.fields import FLAT, LAST, MAPS, Field, Window, union_of_fields
from vizcore.graph import CONVOLUTION, NORM, leaves, replica
from vizcore.hooks import watch_runs
from vizcore.operations import (
    ADAPTIVE,
    FAMILIES,
    MOVES_NOTHING,
    NORMS,
    PADDINGS,
    aten,
    axes_behind,
    family_of,
    multiply_adds,
    padded,
    readings,
    shape_of,
    windows_of,
)
from vizcore.records import Model


@dataclass(eq=False)
class Run:
    """One layer as it ran, written by `runs_of` alone.

    ``name`` is the dotted name of the module. Where ``module`` is None, an operation of no module of its own: ``kind``
    is then what torch calls it, and ``name`` the module in whose ``forward`` it stands. What only holds layers is none
    (``is_layer``) and has a shape and what it ``sees``, and nothing else. ``family`` is one of
    `operations.FAMILIES`: of all that it does, what stands first there.

    ``shape_in`` and ``shape`` are without N, and () where that is not one tensor. ``by_formula`` is the shape by
    arithmetic from what was read, () where there is no formula. ``windows`` (rows, columns) and ``groups`` are given
    where one convolution or one pooling runs in it, with what is padded before. ``sees``: what the cells of the result
    read of the picture, ``is_map`` whether they lie at places, (C, h, w).
    """

    name: str
    kind: str
    module: nn.Module | None = None
    is_layer: bool = True
    shape_in: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    by_formula: tuple[int, ...] = ()
    windows: tuple[Window, Window] | None = None
    groups: int = 1
    multiply_adds: int = 0
    family: str = "other"
    sees: Field | None = None
    sliding: int = field(default=0, repr=False)  # how many convolutions and poolings run in it

    @property
    def is_map(self) -> bool:
        return len(self.shape) == 3 and (self.sees is None or self.sees.axes == MAPS)


def runs_of(model: Model) -> tuple[Run, ...]:
    """All of ``model.net`` that runs, in the order in which it starts to, on one picture of its own input size.

    A layer is a module that holds no others or has parameters of its own, or an operation that computes something
    outside of these. The modules that only hold layers are there too. What runs twice is there twice. The first call
    of a process takes two seconds, in which torch imports what it needs for tensors without memory.
    """
    shape = (1, len(model.mean), *model.input_size)
    try:
        with model.lock:
            copied = replace(model, net=replica(model.net), lock=RLock(), device="meta")
        return _record(copied, torch.empty(shape, dtype=model.dtype, device="meta"))
    except Exception:  # whatever a net may raise where it finds no numbers
        return _record(model, torch.zeros(shape, dtype=model.dtype, device=model.device))


def _record(model: Model, picture: Tensor) -> tuple[Run, ...]:
    recorder = _Recorder(picture)
    watched = watch_runs(model, recorder.start, recorder.end)
    with model.evaluating(), watched, torch.inference_mode(False), torch.no_grad(), recorder:
        model.net(picture)
    return tuple(recorder.runs)


class _Recorder(TorchDispatchMode):
    """Writes down what runs on the picture, and hands on from tensor to tensor what their cells read of it."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.runs: list[Run] = []
        self._open: list[Run] = []  # the modules that run now, the innermost last
        self._fields: Any = WeakTensorKeyDictionary()
        self._fields[picture] = Field.of_pixels((picture.shape[2], picture.shape[3]))
        self._padded: Any = WeakTensorKeyDictionary()  # in which run a tensor was padded, and how far

    def start(self, name: str, module: nn.Module, args: tuple[object, ...]) -> None:
        given = next((one for one in leaves(args) if isinstance(one, Tensor)), None)
        shape = tuple(given.shape[1:]) if given is not None else ()
        run = Run(name, type(module).__name__, module, _is_layer(module), shape, by_formula=shape)
        self._open.append(run)
        self.runs.append(run)

    def end(self, name: str, module: nn.Module, output: object) -> None:
        run = self._open.pop()
        if isinstance(output, Tensor):
            run.shape, run.sees = tuple(output.shape[1:]), self._fields.get(output)
            if run.sees and isinstance(module, nn.Linear) and output.ndim == 4:  # whatever it was made of
                self._fields[output] = run.sees = replace(run.sees.over(*output.shape[1:3]), axes=LAST)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(one): one for one in leaves((args, kwargs or {})) if isinstance(one, Tensor)}
        sources = [tensor for tensor in given.values() if tensor in self._fields]
        if func is NORM and args[0].is_meta and not args[5]:  # torch's own way to a shape that stays takes long
            output = (torch.empty_like(args[0]), None, None)
        else:
            output = func(*args, **(kwargs or {}))
        results = [one for one in leaves(output) if isinstance(one, Tensor)]
        if sources and results and self._open:
            self._note(func, args, sources, results)
        return output

    def _note(self, func: Any, args: tuple[Any, ...], sources: list[Tensor], results: list[Tensor]) -> None:
        output, run = results[0], self._open[-1]
        if not run.is_layer:
            run = self._run_of_its_own(func, sources)
        self._note_windows(run, func, args, output)
        run.by_formula = shape_of(func, args, sources, output)
        run.multiply_adds += multiply_adds(func, args, output)
        run.family = min(run.family, family_of(func, args, sources), key=FAMILIES.index)
        fields = [self._field(func, args, sources, result) for result in results]
        for result, found in zip(results, fields, strict=True):
            self._fields[result] = found
        if not run.module:
            run.shape, run.sees = tuple(output.shape[1:]), fields[0]

    def _run_of_its_own(self, func: Any, sources: list[Tensor]) -> Run:
        """An operation in a module that is no layer: one that computes something is a layer itself."""
        name = func.overloadpacket.__name__.strip("_").removesuffix("_with_indices")
        run = Run(self._open[-1].name, name, shape_in=tuple(sources[0].shape[1:]))
        is_view = not func._schema.is_mutable and any(one.alias_info for one in func._schema.returns)
        if not is_view and func not in MOVES_NOTHING:
            self.runs.append(run)
        return run

    def _note_windows(self, run: Run, func: Any, args: tuple[Any, ...], output: Tensor) -> None:
        windows = windows_of(func, args)
        if windows:
            of, sides = self._padded.get(args[0], (None, windows))
            if of is run:
                windows = padded(windows[0], sides[0]), padded(windows[1], sides[1])
        if func in PADDINGS:
            self._padded[output] = run, windows
        if (windows or func in ADAPTIVE) and (func not in PADDINGS or not run.sliding):
            run.windows = None if run.sliding else windows
            run.groups = args[8] if func is CONVOLUTION else 1
            run.sliding += func not in PADDINGS

    def _field(self, func: Any, args: tuple[Any, ...], sources: list[Tensor], output: Tensor) -> Field:
        """What the cells of ``output`` read: by its axes of rows and columns, or all of it as one."""
        fields = [self._fields[source] for source in sources]
        pairs = list(zip(fields, sources, strict=True))
        first, source = next((pair for pair in pairs if pair[0].size != (1, 1)), pairs[0])  # one cell lies anywhere
        if all(one.axes == first.axes or one.size == (1, 1) for one in fields):
            is_map = first.axes == MAPS and output.ndim > 2
            if is_map and len(fields) == 1 and (found := readings(func, args, output)):
                return first.over(*source.shape[-2:]).through(*found)
            axes = axes_behind(func, args, first, source, output)
            if axes and (output.ndim > 2 or axes == FLAT):
                height, width = first.size if axes == FLAT else (output.shape[axis] for axis in axes)
                return replace(union_of_fields([one.over(height, width) for one in fields]), axes=axes)
        whole = union_of_fields([one.gathered() for one in fields])
        told = output.ndim < 3 or output.shape[-2:] == (1, 1) or (func in NORMS and not _norm_of_rows(func, args))
        return replace(whole, known=whole.known and told)


def _norm_of_rows(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether it is done to the last axis alone, which may be of columns or of channels."""
    return func is aten.native_layer_norm.default and len(args[1]) == 1


def channels_last(model: Model) -> frozenset[str]:
    """The modules out of which maps (h, w, C) come, as dense layers inside a convolutional net need them."""
    return frozenset(run.name for run in runs_of(model) if run.module and len(run.shape) == 3 and not run.is_map)


def _is_layer(module: nn.Module) -> bool:
    return not any(True for _ in module.children()) or any(True for _ in module.parameters(recurse=False))
