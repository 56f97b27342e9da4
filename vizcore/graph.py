"""A net as a graph: what it computes, written down once as tensor operations in the order in which they run.

The net runs once on tensors without memory (device "meta"), and every operation that reaches torch's dispatcher is
written down: whatever the modules are called, in place or not, padded by themselves or not. No other thread notices.
(torch.fx would patch ``nn.Module`` for the whole process while it traces, under the feet of every other net, and needs
to be told of each module that computes with shapes.) What depends on the numbers in a picture cannot be written down,
and raises `Untraceable`.

Each step says what it reads of its sources: a neighbourhood of each cell (``reach``: convolution, pooling), only the
cell itself (``pointwise``: activations, sums, concatenation by channel), or all there is. Batch normalisation,
activation and zero padding are written into the convolution that they belong to.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vizcore.records import Model
from vizcore.regions import Reach

aten = torch.ops.aten
CONVOLUTION = aten.convolution.default
MAX_POOL = aten.max_pool2d_with_indices.default
AVERAGE_POOL = aten.avg_pool2d.default
NORM = aten.native_batch_norm.default
PAD = aten.constant_pad_nd.default
CAT = aten.cat.default
ADD = aten.add.Tensor
IDENTITIES = (aten.detach.default, aten.alias.default, aten.clone.default)
MORE_POINTWISE = (NORM, aten.hardswish.default, aten._prelu_kernel.default)  # torch's own tag lacks them

# A prime: a multiple of it among the arguments can only come from the number of pictures. And what is larger than any
# number of cells is a slice without an end.
PICTURES = 1_000_000_007
ENDLESS = 2**62
MOST_STEPS = 10_000
# Operations that give one tensor for each part of an axis, and where they say which; 0 where they do not
AXIS_OF = {aten.unbind.int: 1, aten.split.Tensor: 2, aten.split_with_sizes.default: 2}


class Untraceable(Exception):
    """The net does what a graph cannot tell. Not meant for people: whoever asked runs the net itself instead."""


@dataclass(frozen=True)
class Result:
    """Stands for what a step gives, by its number; 0 is what goes into the net."""

    step: int


@dataclass(frozen=True)
class Pictures:
    """Stands for the number of pictures, ``times`` over."""

    times: int


@dataclass(frozen=True)
class Parameter:
    """Stands for a parameter or buffer of the net, by its dotted name."""

    name: str


@dataclass(frozen=True, eq=False)
class Call:
    """An operation of torch and its arguments, in which the classes above stand for numbers not known yet."""

    operation: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(leaf.step for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Result)))


@dataclass(frozen=True, eq=False)
class Step:
    """A `Call` in its place: the numbers of its ``sources``, the ``shape`` of its result without N.

    At most one of ``reach`` (rows, columns) and ``pointwise`` is given, where the sources are maps. To the result of a
    convolution ``norm`` is done, the second of two sources added (``adds``), and ``activation`` done; in this order.
    """

    call: Call
    sources: tuple[int, ...]
    shape: tuple[int, ...]
    reach: tuple[Reach, Reach] | None = None
    pointwise: bool = False
    norm: Call | None = None
    adds: bool = False
    activation: Call | None = None

    @property
    def is_local(self) -> bool:
        return self.reach is not None or self.pointwise

    @property
    def is_map(self) -> bool:
        return len(self.shape) == 3

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of a result that is maps."""
        return self.shape[1], self.shape[2]


def leaves(argument: Any) -> Iterator[Any]:
    """What stands in an argument, however deep in lists, dictionaries and calls."""
    if isinstance(argument, (list, tuple)):
        for one in argument:
            yield from leaves(one)
    elif isinstance(argument, dict):
        yield from leaves(list(argument.values()))
    elif isinstance(argument, Call):
        yield from leaves((argument.args, argument.kwargs))
    else:
        yield argument


def fill(argument: Any, value_of: Callable[[Any], Any]) -> Any:
    """``argument`` with each leaf replaced by ``value_of`` it, and each inner `Call` by its outcome."""
    if isinstance(argument, (list, tuple)):
        return [fill(one, value_of) for one in argument]
    if isinstance(argument, dict):
        return {name: fill(one, value_of) for name, one in argument.items()}
    if isinstance(argument, Call):
        return argument.operation(*fill(argument.args, value_of), **fill(argument.kwargs, value_of))
    return value_of(argument)


@dataclass(frozen=True)
class _Kept:
    """The graphs of a net by the shape of a picture, as long as it looks the same."""

    looks: tuple[Any, ...]
    graphs: dict[tuple[int, int, int], tuple[Step, ...]] = field(default_factory=dict)


_kept: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()


def steps_of(model: Model, shape: tuple[int, int, int]) -> tuple[Step, ...]:
    """The graph of ``model.net`` for normalised pictures of ``shape`` (C, H, W), step 0 being the input.

    Traced under ``model.lock``, and kept as long as the net is there and looks the same: its modules, and what they
    hold beside tensors. Holds no numbers of the net, only the names of its parameters. The first trace of a process
    takes two seconds, in which torch imports what it needs for tensors without memory. Raises Untraceable.
    """
    with model.lock:
        if any(module._forward_hooks or module._forward_pre_hooks for module in model.net.modules()):
            raise Untraceable("the net has hooks, which may change what it computes")
        looks = _looks(model.net)
        if model.net not in _kept or _kept[model.net].looks != looks:
            _kept[model.net] = _Kept(looks)
        graphs = _kept[model.net].graphs
        if shape not in graphs:
            graphs[shape] = _simplified(_Recorder(model.net).record(shape))
        return graphs[shape]


def _looks(net: nn.Module) -> tuple[Any, ...]:
    """What the operations of a net depend on, as far as its modules tell."""

    def is_plain(value: Any) -> bool:
        if isinstance(value, (tuple, list, dict)):
            return all(map(is_plain, value.values() if isinstance(value, dict) else value))
        return value is None or isinstance(value, (int, float, str, torch.dtype)) or callable(value)

    modules = [
        (name, type(module), [(key, repr(value)) for key, value in vars(module).items() if is_plain(value)])
        for name, module in net.named_modules()
    ]
    tensors = [*net.named_parameters(), *net.named_buffers()]
    return modules, [(name, tensor.shape, tensor.dtype) for name, tensor in tensors]


def replica(net: nn.Module) -> nn.Module:
    """A copy of the net whose tensors have no memory: the net itself is not run to be traced."""
    memo = {}
    for tensor in (*net.parameters(), *net.buffers()):
        stand_in = tensor.detach().to("meta")
        memo[id(tensor)] = nn.Parameter(stand_in, False) if isinstance(tensor, nn.Parameter) else stand_in
    try:
        replica = copy.deepcopy(net, memo)
    except Exception as error:  # a net may hold what cannot be copied
        raise Untraceable(str(error)) from error
    for module in replica.modules():
        module.training = False
    return replica


class _Recorder(TorchDispatchMode):
    """Writes down what runs on tensors without memory that stand for pictures and parameters."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self._net = replica(net)
        self._steps: list[Step] = []
        # By id. A tensor changed in place is the same object with a new meaning; its views have lost theirs.
        self._meaning: dict[int, Any] = {}
        self._views: dict[int, list[Tensor]] = {}  # tensors that share memory, together
        self._alive: list[Any] = []  # else another tensor might be given the same id

    def record(self, shape: tuple[int, int, int]) -> list[Step]:
        tensors = [*self._net.named_parameters(), *self._net.named_buffers()]
        dtype = next((tensor.dtype for _, tensor in tensors if tensor.is_floating_point()), torch.float32)
        picture = torch.empty(PICTURES, *shape, dtype=dtype, device="meta")
        for name, tensor in tensors:
            self._meaning[id(tensor)] = Parameter(name)
        self._meaning[id(picture)] = Result(0)
        self._steps.append(Step(Call(operator.pos, ()), (), shape))
        try:
            with torch.inference_mode(False), torch.no_grad(), self:
                answer = self._net(picture)
        except Exception as error:  # whatever a net may raise where it finds no numbers
            raise Untraceable(str(error)) from error
        if not isinstance(answer, Tensor) or self._meaning.get(id(answer)) != Result(len(self._steps) - 1):
            raise Untraceable("what the net answers is not what it computed last")
        return self._steps

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags or func is aten.as_strided.default:
            raise Untraceable(f"{func} depends on chance or on the layout in memory")
        if (
            func in AXIS_OF
            and args[0].shape[:1] == (PICTURES,)
            and 0 in (*args, kwargs.get("dim", 0))[AXIS_OF[func] :][:1]
        ):
            raise Untraceable("the net takes the pictures apart")
        if len(self._steps) > MOST_STEPS:
            raise Untraceable("the net has more steps than any that is drawn up: it may take the pictures one by one")
        call = Call(_without_side_effect(func), tuple(map(self._written, args)), self._written(kwargs))
        # In evaluation the shape stays; torch's own way to that result takes milliseconds.
        evaluates = func is NORM and not args[5]
        output = (torch.empty_like(args[0]), None, None) if evaluates else func(*args, **kwargs)
        if func._schema.is_mutable:
            if output is not args[0]:
                raise Untraceable(f"{func} changes something else than its first argument")
            for tensor in self._views.get(id(output), []):
                self._meaning.pop(id(tensor), None)
        elif any(argument.alias_info for argument in func._schema.arguments):
            together = self._views.setdefault(id(args[0]), [args[0]])
            for view in output if isinstance(output, (list, tuple)) else [output]:
                together.append(view)
                self._views[id(view)] = together
        self._keep(call, output, args)
        return output

    def _written(self, argument: Any) -> Any:
        """An argument as it is written down."""
        if isinstance(argument, Tensor):
            if id(argument) not in self._meaning:
                raise Untraceable(
                    "a tensor comes from nowhere: it is neither computed from the picture nor a parameter"
                )
            return self._meaning[id(argument)]
        if isinstance(argument, (list, tuple)):
            return [self._written(one) for one in argument]
        if isinstance(argument, dict):
            return {name: self._written(one) for name, one in argument.items()}
        if isinstance(argument, int) and PICTURES // 2 < abs(argument) < ENDLESS:
            if argument % PICTURES:
                raise Untraceable(f"{argument} is neither a number of its own nor a multiple of the pictures")
            return Pictures(argument // PICTURES)
        return argument

    def _keep(self, call: Call, output: Any, args: tuple[Any, ...]) -> None:
        """Give what came out its meaning."""
        self._alive.append(output)
        if not call.sources:  # of parameters alone: no step, but part of the argument of one
            if any(isinstance(leaf, Pictures) for leaf in leaves(call)):
                raise Untraceable("a tensor is made for each picture, from nothing")
            if not isinstance(output, Tensor):
                raise Untraceable("parameters are taken apart")
            self._meaning[id(output)] = call
        elif call.operation in IDENTITIES:
            self._meaning[id(output)] = call.args[0]
        elif call.operation in (NORM, MAX_POOL):  # what they give besides serves training
            self._step(call, output[0], args)
        elif isinstance(output, Tensor):
            self._step(call, output, args)
        else:
            self._steps.append(Step(call, call.sources, ()))
            whole = Result(len(self._steps) - 1)
            for number, part in enumerate(output):
                self._step(Call(operator.getitem, (whole, number)), part, ())

    def _step(self, call: Call, output: Any, args: tuple[Any, ...]) -> None:
        if not isinstance(output, Tensor):
            raise Untraceable(f"{call.operation} gives no tensor")
        shape = tuple(output.shape[1:]) if output.ndim and output.shape[0] == PICTURES else ()
        step = Step(call, call.sources, shape)
        if len(shape) == 3 and all(len(self._steps[source].shape) == 3 for source in step.sources):
            if call.operation in REACHES:
                step = replace(step, reach=REACHES[call.operation](*args))
            else:
                step = replace(step, pointwise=_is_pointwise(call.operation, args, output))
        self._steps.append(step)
        self._meaning[id(output)] = Result(len(self._steps) - 1)


def _without_side_effect(func: Any) -> Any:
    """The operation that gives what ``func`` would, and leaves its arguments as they are."""
    if not func._schema.is_mutable:
        # Maps may lie in memory channels last, where a view is not always to be had.
        return torch.reshape if func in (aten.view.default, aten._unsafe_view.default) else func
    name = func.overloadpacket.__name__
    packet = getattr(aten, name.removesuffix("_"), None) if name.endswith("_") else None
    if packet is None or not hasattr(packet, func._overloadname):
        raise Untraceable(f"{func} changes its argument")
    return getattr(packet, func._overloadname)


# What each cell reads: (rows, columns), or None where that is not a neighbourhood. Arguments as torch's.


def _convolution(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, *_: Any):
    return None if transposed else _reaches(weight.shape[2:], stride, padding, dilation)


def _max_pool(x: Any, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False):
    return _reaches(kernel, stride or kernel, padding, dilation)


def _average_pool(x: Any, kernel: Any, stride: Any = (), padding: Any = 0, *_: Any):
    return _reaches(kernel, stride or kernel, padding, 1)


def _pad(x: Any, padding: Any, value: Any = 0):
    left, right, top, bottom = (*padding, 0, 0)[:4]
    if len(padding) > 4 or min(left, right, top, bottom) < 0:
        return None
    return Reach(before=top), Reach(before=left)


REACHES: dict[Any, Callable[..., tuple[Reach, Reach] | None]] = {
    CONVOLUTION: _convolution,
    MAX_POOL: _max_pool,
    AVERAGE_POOL: _average_pool,
    PAD: _pad,
}


def _reaches(kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[Reach, Reach]:
    kernel, stride, padding, dilation = (
        (given, given) if isinstance(given, int) else (*given, *given)[:2]
        for given in (kernel, stride, padding, dilation)
    )
    rows, columns = (Reach((kernel[axis] - 1) * dilation[axis] + 1, stride[axis], padding[axis]) for axis in (0, 1))
    return rows, columns


def _is_pointwise(operation: Any, args: tuple[Any, ...], output: Tensor) -> bool:
    """Whether each cell of ``output`` (N, C, H, W) depends on the same cell of the maps among ``args`` alone."""
    if operation is CAT:
        return args[1:] in ((1,), (-3,))
    if operation is NORM and args[5]:  # by the statistics of the pictures at hand
        return False
    if operation not in MORE_POINTWISE and torch.Tag.pointwise not in getattr(operation, "tags", ()):
        return False
    for tensor in (leaf for leaf in leaves(args) if isinstance(leaf, Tensor)):
        is_map = tensor.ndim == 4 and tensor.shape[0] == PICTURES and tensor.shape[2:] == output.shape[2:]
        by_channel = tensor.ndim == 0 or (tensor.ndim > 2 and tensor.shape[-2:] == (1, 1)) or operation is NORM
        if not is_map and not (by_channel and tensor.shape[:1] != (PICTURES,)):
            return False
    return True


def _simplified(steps: list[Step]) -> tuple[Step, ...]:
    """What is done beside a convolution and for it alone, written into it: padding, norm, sum and activation."""
    steps = list(steps)
    uses = Counter(source for step in steps for source in step.sources)
    gone: dict[int, int] = {}  # the number of a step that is no more, and of the one that gives its result

    def now(number: int) -> int:
        while number in gone:
            number = gone[number]
        return number

    for number, step in enumerate(steps):
        alone = [now(source) for source in step.sources if uses[source] == 1]
        convolutions = [source for source in alone if _is_open(steps[source])]
        if step.pointwise and len(step.sources) == 1 and convolutions:
            source = convolutions[0]
            if step.call.operation is not NORM:
                steps[source] = replace(steps[source], activation=step.call, shape=step.shape)
                gone[number] = source
            elif not steps[source].norm and not steps[source].adds:
                steps[source] = replace(steps[source], norm=step.call)
                gone[number] = source
        elif _is_sum(step) and all(steps[now(source)].shape == step.shape for source in step.sources):
            # Into the later one: it then takes the place of the sum, before which the other is known.
            if ready := [source for source in convolutions if not steps[source].adds]:
                source = max(ready)
                (other,) = (known for known in step.sources if now(known) != source)
                steps[number] = replace(steps[source], sources=(*steps[source].sources, other), adds=True)
                gone[source] = number
        elif step.reach and step.call.operation is CONVOLUTION and alone and _pads_zeros(steps[alone[0]]):
            pad = steps[alone[0]]
            assert pad.reach
            rows, columns = (
                replace(own, before=own.before + more.before) for own, more in zip(step.reach, pad.reach, strict=True)
            )
            steps[number] = replace(step, sources=pad.sources, reach=(rows, columns))
            gone[alone[0]] = pad.sources[0]
    kept = [number for number in range(len(steps)) if number not in gone]
    place = {number: index for index, number in enumerate(kept)}
    return tuple(
        replace(steps[number], sources=tuple(place[now(source)] for source in steps[number].sources)) for number in kept
    )


def _is_open(step: Step) -> bool:
    return step.call.operation is CONVOLUTION and step.reach is not None and step.activation is None


def _is_sum(step: Step) -> bool:
    return step.pointwise and step.call.operation is ADD and len(step.sources) == 2 and not step.call.kwargs


def _pads_zeros(step: Step) -> bool:
    return step.call.operation is PAD and step.reach is not None and step.call.args[2:] in ((), (0,), (0.0,))
