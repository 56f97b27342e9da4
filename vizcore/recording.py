"""What a net computes of one picture, written down in the words of `torch.nn.functional` while it runs.

Modules pad, normalise and activate inside themselves; what they are called does not tell. So every function of torch
that a pass calls is written down by its name with its arguments, whoever called it, and each tensor computed of the
picture gets a number. (`vizcore.graph` writes down what torch makes of it further below, without any numbers, to
compute less; here it is what a textbook would write, with the numbers, to be done again by hand.)

A pass holds only the tensors that were asked for: the first one finds out which, the second one keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

# One name for what Python's operators and torch's twins call the same
SAME_AS = {
    "iadd": "add",
    "radd": "add",
    "imul": "mul",
    "rmul": "mul",
    "multiply": "mul",
    "isub": "sub",
    "subtract": "sub",
    "idiv": "div",
    "itruediv": "div",
    "truediv": "div",
    "true_divide": "div",
    "divide": "div",
    "concat": "cat",
    "concatenate": "cat",
    "clip": "clamp",
}


@dataclass(frozen=True)
class Value:
    """Stands for a tensor computed of the picture, by its number in the order of computing; ``shape`` with N."""

    number: int
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Operation:
    """A function of torch and what it was given, in which a `Value` stands for each tensor that has a number."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def sources(self) -> tuple[Value, ...]:
        return tuple(leaf for leaf in _leaves((self.args, self.kwargs)) if isinstance(leaf, Value))


@dataclass(frozen=True, eq=False)
class Result:
    """What a number stands for: a tensor of ``shape``, the ``part`` of what ``operation`` gave (None: not known)."""

    shape: tuple[int, ...]
    operation: Operation | None = None
    part: int = 0


class Recording(TorchFunctionMode):
    """A ``with`` around a pass: what runs in this thread inside of it is written down in ``results``, by number.

    ``values`` holds copies of the tensors whose numbers are in ``wanted``, as they were when they were computed.
    The same pass gives the same numbers.
    """

    def __init__(self, wanted: Collection[int] = ()) -> None:
        super().__init__()
        self.results: list[Result] = []
        self.values: dict[int, Tensor] = {}
        self._wanted = frozenset(wanted)
        # A tensor that is changed in place is the same object with a new meaning, and its views have lost theirs:
        # torch counts the changes of both together, so the count tells.
        self._known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def begin(self, picture: Tensor) -> Value:
        """From now on, whatever is computed of ``picture`` is written down."""
        return self._numbered(picture, None)

    def value_of(self, tensor: Tensor) -> Value:
        """The number of a tensor, or a new one that says nothing of where it comes from."""
        with torch._C.DisableTorchFunction():
            number, version = self._known.get(tensor, (0, -1))
            if version == tensor._version:
                return Value(number, tuple(tensor.shape))
            return self._numbered(tensor, None)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        written = self._written(args), self._written(kwargs)  # now: the function may change what it is given
        output = func(*args, **kwargs)
        operation = Operation(_name_of(func), func, *written)
        if operation.sources:
            for part, one in enumerate(output if isinstance(output, (tuple, list)) else (output,)):
                if isinstance(one, Tensor):
                    self._numbered(one, operation, part)
        return output

    def _written(self, argument: Any) -> Any:
        if isinstance(argument, Tensor):
            return self.value_of(argument) if argument in self._known else argument
        if isinstance(argument, (tuple, list)):
            return type(argument)(map(self._written, argument)) if type(argument) in (tuple, list) else argument
        if isinstance(argument, dict):
            return {name: self._written(one) for name, one in argument.items()}
        return argument

    def _numbered(self, tensor: Tensor, operation: Operation | None, part: int = 0) -> Value:
        value = Value(len(self.results), tuple(tensor.shape))
        self.results.append(Result(value.shape, operation, part))
        self._known[tensor] = value.number, tensor._version
        if value.number in self._wanted:
            self.values[value.number] = tensor.detach().clone()
        return value


def _name_of(func: Any) -> str:
    name = getattr(func, "__name__", "").strip("_")
    return SAME_AS.get(name, name)


def _leaves(argument: Any) -> Iterator[Any]:
    if isinstance(argument, (tuple, list)):
        for one in argument:
            yield from _leaves(one)
    elif isinstance(argument, dict):
        yield from _leaves(list(argument.values()))
    else:
        yield argument


def substituted(argument: Any, value_of: Callable[[Value], Any]) -> Any:
    """``argument`` with each `Value` in it, however deep, replaced by ``value_of`` it."""
    if isinstance(argument, Value):
        return value_of(argument)
    if isinstance(argument, (tuple, list)) and type(argument) in (tuple, list):
        return type(argument)(substituted(one, value_of) for one in argument)
    if isinstance(argument, dict):
        return {name: substituted(one, value_of) for name, one in argument.items()}
    return argument
