"""What is sent back through ReLUs in place of the gradient, wherever a ReLU is called.

With R what comes back to a ReLU of f, its gradient hands on [f > 0] R. The deconvnet (Zeiler & Fergus, *Visualizing and
Understanding Convolutional Networks*, ECCV 2014) hands on [R > 0] R, guided backpropagation (Springenberg et al.,
*Striving for Simplicity*, 2015) [f > 0] [R > 0] R. Not by hooks on modules, which miss the functional ReLUs and leave
the plain gradient where a net has no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from vizcore.records import Model, UnsupportedModel

Rule = Callable[[Tensor, Tensor], Tensor]  # what goes back, by what comes back and where the ReLU let it through


def guided(back: Tensor, passed: Tensor) -> Tensor:
    return F.relu(back) * passed


def deconvnet(back: Tensor, passed: Tensor) -> Tensor:
    return F.relu(back)


RULES: Mapping[str, Rule] = {"guided_backpropagation": guided, "deconvnet": deconvnet}


class _Ruled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, low: float, high: float, rule: Rule) -> Tensor:
        ctx.rule = rule
        ctx.save_for_backward((given > low) & (given < high))
        return given.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, back: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (passed,) = ctx.saved_tensors
        return ctx.rule(back, passed), None, None, None


def _bounds(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float, float] | None:
    """From where to where a call is a ReLU: 0 to infinity, or 0 to 6; None where it is none."""
    if function in (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_):
        return 0.0, float("inf")
    if function is F.relu6:
        return 0.0, 6.0
    if function in (F.hardtanh, F.hardtanh_):
        low = kwargs.get("min_val", args[1] if len(args) > 1 else -1.0)
        high = kwargs.get("max_val", args[2] if len(args) > 2 else 1.0)
        return (float(low), float(high)) if low == 0 else None
    if function in (torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_, torch.clamp_min, Tensor.clamp_min):
        low = kwargs.get("min", args[1] if len(args) > 1 else None)
        high = kwargs.get("max", args[2] if len(args) > 2 else None)
        plain = isinstance(low, (int, float)) and low == 0 and (high is None or isinstance(high, (int, float)))
        return (0.0, float("inf") if high is None else float(high)) if plain else None
    return None


def _is_in_place(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    place = {F.relu: 1, F.relu6: 1, F.hardtanh: 3}.get(function)
    asked = place is not None and len(args) > place and bool(args[place])
    return asked or bool(kwargs.get("inplace")) or getattr(function, "__name__", "").endswith("_")


class AtRelus(TorchFunctionMode):
    """While it lasts, every ReLU that this thread calls sends back what the rule says."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self._rule, self.met = rule, 0

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = args[0] if args else kwargs.get("input")
        bounds = _bounds(function, args, kwargs)
        if bounds is None or not isinstance(given, Tensor) or not given.requires_grad:
            return function(*args, **kwargs)
        self.met += 1
        answer = _Ruled.apply(given, *bounds, self._rule)  # type: ignore[no-untyped-call]
        return given.copy_(answer) if _is_in_place(function, args, kwargs) else answer


@contextmanager
def at_relus(model: Model, rule: Rule) -> Iterator[AtRelus]:
    """A pass of ``model`` under a ``rule``, counting the ReLUs it has ``met``; UnsupportedModel where it met none."""
    with AtRelus(rule) as relus:
        yield relus
    if not relus.met:
        raise UnsupportedModel(
            f"This method changes what goes back through ReLUs, and {model.title} calls none: its map would be the "
            "plain gradient. Take a method that is made for any net, such as “gradient”."
        )
