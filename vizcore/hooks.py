"""Seeing inside a net without leaving a trace: the only place that registers hooks.

`trace` borrows a net for one or more forward passes. Inside the ``with``, what came out of each named layer is
there to read, to differentiate or to replace; afterwards the net is exactly as before, whatever happened.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vizcore.records import Layer, LayerNotFound, Model, UnsupportedModel

Replacement = Callable[[Tensor], Tensor]


class Trace(Mapping[str, Tensor]):
    """What came out of each layer in the latest forward pass, by dotted name, in order of execution."""

    def __init__(self, model: Model, wanted: tuple[str, ...]) -> None:
        self._model, self._wanted = model, wanted
        self._outputs: dict[str, Tensor] = {}

    def __getitem__(self, layer: str) -> Tensor:
        if layer not in self._outputs:
            inner = [name for name, _ in self._model.net.named_modules() if name.startswith(f"{layer}.")]
            held = f" It holds {', '.join(f'“{name}”' for name in inner[:6])}." if inner else ""
            raise LayerNotFound(
                f"The layer “{layer}” of {self._model.title} did not run in the forward pass: it only holds others, "
                f"or is not used. Choose a layer that runs.{held}"
            )
        return self._outputs[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._wanted)

    def __len__(self) -> int:
        return len(self._wanted)


@contextmanager
def trace(
    model: Model,
    layers: Iterable[str],
    *,
    grad: bool = False,
    replace: Mapping[str, Replacement] | None = None,
) -> Iterator[Trace]:
    """Borrow the net: record what comes out of ``layers`` in each forward pass run inside the ``with``.

    The recorded tensor is what the module returned, before anything in place changes it. With ``grad`` the pass
    is plain up to the first of ``layers`` and differentiable after it, so that ``torch.autograd.grad`` of a score
    with respect to ``seen[layer]`` costs only what follows that layer; without, nothing is differentiable. (From the
    pixels on, where they require gradients and the pass runs in a ``with torch.enable_grad()`` of its own.)
    ``replace`` maps a layer to a function of its output; what the function returns goes on instead.

    Holds ``model.lock`` throughout, never writes ``.grad``, and leaves hooks, modes, flags and buffers as
    they were on any exit. Raises LayerNotFound for a name that the net lacks or that did not run, and
    UnsupportedModel for a layer that runs more than once a pass or does not return one tensor.
    """
    if hasattr(model.net, "_orig_mod") or isinstance(model.net, torch.jit.ScriptModule):
        raise UnsupportedModel(
            f"{model.title} is compiled, and a compiled net does not show its layers. Hand over the plain module "
            "(of a torch.compile result: net._orig_mod)."
        )
    replace = dict(replace or {})
    wanted = tuple(dict.fromkeys((*layers, *replace)))
    modules = {name: find_layer(model, name) for name in wanted}
    seen = Trace(model, wanted)

    def start_pass(module: nn.Module, args: tuple[object, ...]) -> None:
        seen._outputs.clear()
        torch.set_grad_enabled(grad and any(isinstance(given, Tensor) and given.requires_grad for given in args))

    def watch(name: str) -> Callable[[nn.Module, tuple[object, ...], object], object]:
        def hook(module: nn.Module, args: tuple[object, ...], output: object) -> object:
            if name in seen._outputs:
                raise UnsupportedModel(
                    f"The layer “{name}” runs more than once in a pass of {model.title}, so what comes out of it is "
                    "not one thing. Choose a layer that runs once."
                )
            if not isinstance(output, Tensor):
                raise UnsupportedModel(
                    f"The layer “{name}” of {model.title} returns a {type(output).__name__}, not one tensor."
                )
            if any(output is given for given in args):
                output = output.clone()  # handed through, as by Identity: what follows may still change its source
            if name in replace:
                output = replace[name](output)
            if grad and not output.requires_grad:
                # What precedes the layer needs no graph: it starts here. Leaving no_grad in `trace` puts
                # the caller's mode back.
                torch.set_grad_enabled(True)
                output = output.detach().requires_grad_()
            seen._outputs[name] = output
            # A copy goes on, so that an in-place ReLU behind the layer changes the copy.
            return output.clone()

        return hook

    with model.lock, torch.inference_mode(False), torch.no_grad():
        handles = [model.net.register_forward_pre_hook(start_pass)]
        try:
            handles += [module.register_forward_hook(watch(name)) for name, module in modules.items()]
            yield seen
            for name in wanted:
                seen[name]
        finally:
            for handle in handles:
                handle.remove()
            seen._outputs.clear()


def find_layer(model: Model, name: str) -> nn.Module:
    """The module at a dotted name, or LayerNotFound with the nearest names."""
    modules = dict(model.net.named_modules())
    if isinstance(name, str) and name and name in modules:
        return modules[name]
    near = difflib.get_close_matches(str(name), [known for known in modules if known], n=3, cutoff=0.3)
    listed = ", ".join(f"“{known}”" for known in near or list(modules)[1:6])
    raise LayerNotFound(f"{model.title} has no layer {name!r}. {'The nearest are' if near else 'It has'} {listed}.")


def layer_for(model: Model, role: str, layer: str | None) -> str:
    """``layer``, or where it is None the one that plays ``role``; LayerNotFound where the model names none."""
    if layer is not None:
        return layer
    if role in model.layers:
        return model.layers[role]
    raise LayerNotFound(f"{model.title} names no layer for “{role}”. Say which with layer=…, a dotted name.")


def list_layers(model: Model) -> tuple[Layer, ...]:
    """Every layer that runs exactly once a pass and returns one tensor, in the order in which they finish.

    Those out of which maps with channels last come are left out: rows would pass for channels. One forward pass of a
    black picture of the model's own input size, and one without numbers where a layer may be such a one.
    """
    ran: list[Layer] = []
    suspects: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, args: object, output: object) -> None:
            if isinstance(module, (nn.Linear, nn.LayerNorm)) and isinstance(output, Tensor) and output.ndim == 4:
                suspects.append(name)
            shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
            ran.append(Layer(name, type(module).__name__, shape))

        return hook

    with model.lock, torch.no_grad():
        handles = []
        try:
            handles += [m.register_forward_hook(watch(name)) for name, m in model.net.named_modules() if name]
            model.logits(torch.zeros(1, 3, *model.input_size))
        finally:
            for handle in handles:
                handle.remove()
    names, left_out = [layer.name for layer in ran], frozenset[str]()
    if suspects:
        from vizcore.runs import channels_last  # which stands on this file

        left_out = channels_last(model)
    return tuple(layer for layer in ran if layer.shape and names.count(layer.name) == 1 and layer.name not in left_out)


@contextmanager
def watch_runs(
    model: Model,
    start: Callable[[str, nn.Module, tuple[object, ...]], None],
    end: Callable[[str, nn.Module, object], None],
) -> Iterator[None]:
    """Be told of every module that runs, "" being the net itself: what it is given as it starts, what it returns.

    For whoever has to know inside of which module something happens. Holds ``model.lock`` throughout; changes nothing,
    and the hooks are gone after any exit.
    """

    def starts(name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        return lambda module, args: start(name, module, args)

    def ends(name: str) -> Callable[[nn.Module, object, object], None]:
        return lambda module, args, output: end(name, module, output)

    with model.lock:
        handles = []
        try:
            for name, module in model.net.named_modules():
                handles.append(module.register_forward_pre_hook(starts(name)))
                handles.append(module.register_forward_hook(ends(name)))
            yield
        finally:
            for handle in handles:
                handle.remove()


def map_layers(model: Model) -> tuple[Layer, ...]:
    """The layers of `list_layers` whose output is maps, (C, h, w)."""
    return tuple(layer for layer in list_layers(model) if len(layer.shape) == 3)


def require_maps(model: Model, layer: str, output: Tensor) -> Tensor:
    """``output`` (N, C, h, w) as it is, or LayerNotFound listing layers that do have maps."""
    if output.ndim == 4 and type(find_layer(model, layer)) not in (nn.Linear, nn.LayerNorm):  # with channels last
        return output
    names = [known.name for known in map_layers(model)]
    shown = ", ".join(f"“{name}”" for name in names[-8:])
    raise LayerNotFound(
        f"The layer “{layer}” of {model.title} gives {' × '.join(map(str, output.shape[1:]))} numbers, not maps. "
        f"Layers with maps are, from the last: {shown or 'none'}."
    )


def stages(model: Model, layers: tuple[Layer, ...] | None = None) -> tuple[Layer, ...]:
    """The net in a strip: its outermost layers with maps, opened where one of them holds most of the net.

    ``layers`` is what `map_layers` gave, where it is at hand already. Maps of 1 × 1 are left out.
    """
    layers = tuple(layer for layer in layers or map_layers(model) if layer.shape[1:] != (1, 1))
    inside = Counter(layer.name.split(".")[0] for layer in layers)
    opened = {name for name, count in inside.items() if count > len(layers) / 2}  # such as VGG's "features"

    def is_stage(name: str) -> bool:
        parts = name.split(".")
        return len(parts) == (2 if parts[0] in opened else 1)

    return tuple(layer for layer in layers if is_stage(layer.name))
