"""The formulas by which a net computes one number from others: activations, norms, sums; each on plain floats.

A row of `POINTWISE` takes a number x and what torch's function of that name takes besides, tensors already reduced to
the number that counts at this place, and gives a `Formula`: what it is called, how it is written, the numbers in it by
name, and what comes out in double precision. `BINARY` are the operators that join two numbers.

Norms: Ioffe & Szegedy 2015 (batch), Ba et al. 2016 (layer), Wu & He 2018 (group), Ulyanov et al. 2016 (instance),
Krizhevsky et al. 2012 (local response). Variances are of the whole group, divided by its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from vizcore.records import UnsupportedModel

Index = tuple[int, ...]


class Formula(NamedTuple):
    """``text`` holds names in braces; ``numbers`` gives each its value, x first; ``value`` is what comes out."""

    title: str
    text: str
    numbers: tuple[tuple[str, float], ...]
    value: float


def _of(title: str, text: str, x: float, value: float, **numbers: float) -> Formula:
    return Formula(title, text, (("x", x), *((name, float(one)) for name, one in numbers.items())), value)


# -- activations: the arguments are those of torch.nn.functional -----------------------------------------------------


def _relu(x: float, *_: Any, **__: Any) -> Formula:
    return _of("ReLU", "max(0, {x})", x, max(x, 0.0))


def _relu6(x: float, *_: Any, **__: Any) -> Formula:
    return _of("ReLU6", "min(max(0, {x}), 6)", x, min(max(x, 0.0), 6.0))


def _hardtanh(x: float, min_val: float = -1.0, max_val: float = 1.0, *_: Any, **__: Any) -> Formula:
    name = "ReLU6" if (min_val, max_val) == (0, 6) else "Hard tanh"
    return _clamp(x, min_val, max_val)._replace(title=name)


def _clamp(x: float, min: float | None = None, max: float | None = None, **_: Any) -> Formula:
    low, high = -math.inf if min is None else float(min), math.inf if max is None else float(max)
    value = sorted((low, x, high))[1] if low <= high else high
    numbers = {name: one for name, one in (("low", low), ("high", high)) if math.isfinite(one)}
    text = {(): "{x}", ("low",): "max({low}, {x})", ("high",): "min({x}, {high})"}.get(
        tuple(numbers), "min(max({low}, {x}), {high})"
    )
    return _of("Clamp", text, x, value, **numbers)


def _sigmoid(x: float, *_: Any, **__: Any) -> Formula:
    return _of("Sigmoid", "1 / (1 + exp(−{x}))", x, _logistic(x))


def _tanh(x: float, *_: Any, **__: Any) -> Formula:
    return _of("Tanh", "tanh({x})", x, math.tanh(x))


def _silu(x: float, *_: Any, **__: Any) -> Formula:
    return _of("SiLU", "{x} / (1 + exp(−{x}))", x, x * _logistic(x))


def _gelu(x: float, approximate: str = "none") -> Formula:
    if approximate == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return _of("GELU", "½ · {x} · (1 + tanh(√(2/π) · ({x} + 0.044715 · {x}³)))", x, x * (1 + math.tanh(inner)) / 2)
    return _of("GELU", "½ · {x} · (1 + erf({x} / √2))", x, x * (1 + math.erf(x / math.sqrt(2))) / 2)


def _hardswish(x: float, *_: Any, **__: Any) -> Formula:
    return _of("Hard swish", "{x} · min(max(0, {x} + 3), 6) / 6", x, x * min(max(x + 3, 0.0), 6.0) / 6)


def _hardsigmoid(x: float, *_: Any, **__: Any) -> Formula:
    return _of("Hard sigmoid", "min(max(0, {x} + 3), 6) / 6", x, min(max(x + 3, 0.0), 6.0) / 6)


def _leaky_relu(x: float, negative_slope: float = 0.01, *_: Any, **__: Any) -> Formula:
    text = "{x}, as it is not negative" if x >= 0 else "{slope} · {x}"
    return _of("Leaky ReLU", text, x, x if x >= 0 else negative_slope * x, slope=negative_slope)


def _prelu(x: float, weight: float) -> Formula:
    return _leaky_relu(x, weight)._replace(title="PReLU")


def _elu(x: float, alpha: float = 1.0, *_: Any, **__: Any) -> Formula:
    text = "{x}, as it is not negative" if x >= 0 else "{alpha} · (exp({x}) − 1)"
    return _of("ELU", text, x, x if x >= 0 else alpha * math.expm1(x), alpha=alpha)


def _selu(x: float, *_: Any, **__: Any) -> Formula:
    alpha, times = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017
    text = "{scale} · {x}" if x >= 0 else "{scale} · {alpha} · (exp({x}) − 1)"
    return _of("SELU", text, x, times * (x if x >= 0 else alpha * math.expm1(x)), alpha=alpha, scale=times)


def _softplus(x: float, beta: float = 1.0, threshold: float = 20.0) -> Formula:
    value = x if beta * x > threshold else float(np.logaddexp(0, beta * x)) / beta
    return _of("Softplus", "ln(1 + exp({beta} · {x})) / {beta}", x, value, beta=beta)


def _mish(x: float, *_: Any, **__: Any) -> Formula:
    return _of("Mish", "{x} · tanh(ln(1 + exp({x})))", x, x * math.tanh(float(np.logaddexp(0, x))))


def _threshold(x: float, threshold: float, value: float, *_: Any, **__: Any) -> Formula:
    text = "{x}, as it is above {threshold}" if x > threshold else "{value}, as {x} is not above {threshold}"
    found = x if x > threshold else value
    return Formula("Threshold", text, (("x", x), ("threshold", threshold), ("value", value)), found)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


# -- norms -----------------------------------------------------------------------------------------------------------


def _batch_norm(
    x: float,
    running_mean: float | None,
    running_var: float | None,
    weight: float | None = None,
    bias: float | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Formula:
    if running_mean is None or running_var is None:
        raise UnsupportedModel(
            "This batch norm keeps no statistics, and takes those of the whole map: one number depends on all of them. "
            "Its arithmetic is not written out here."
        )
    return normalised("Batch norm", x, running_mean, running_var, weight, bias, eps)


def normalised(
    title: str, x: float, mean: float, variance: float, gamma: float | None, beta: float | None, eps: float
) -> Formula:
    """(x − mean) / √(variance + eps), times γ and plus β where there are such."""
    value, text = (x - mean) / math.sqrt(variance + eps), "({x} − {mean}) / √({variance} + {eps})"
    numbers = {"mean": mean, "variance": variance, "eps": eps}
    if gamma is not None:
        value, text, numbers["γ"] = value * gamma, text + " · {γ}", gamma
    if beta is not None:
        value, text, numbers["β"] = value + beta, text + " + {β}", beta
    return _of(title, text, x, value, **numbers)


def local_response(x: float, neighbours: np.ndarray, size: int, alpha: float, beta: float, k: float) -> Formula:
    """x / (k + alpha · Σ of the squares of the neighbouring channels / size) to the power of beta."""
    total = float(np.square(neighbours).sum())
    text = "{x} / ({k} + {alpha} · {squares} / {size})^{beta}"
    value = x / (k + alpha * total / size) ** beta
    return _of("Local response norm", text, x, value, k=k, alpha=alpha, squares=total, size=size, beta=beta)


# By the numbers of the picture at hand: ``maps`` without N, in which x stands at ``index``


def _group(
    x: float, maps: np.ndarray, index: Index, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Formula:
    group = maps.reshape(num_groups, -1)[index[0] * num_groups // len(maps)]
    gamma, beta = (None if one is None else float(one[index[0]]) for one in (weight, bias))
    return normalised("Group norm", x, float(group.mean()), float(group.var()), gamma, beta, eps)


def _layer(
    x: float,
    maps: np.ndarray,
    index: Index,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Formula:
    depth = maps.ndim - len(normalized_shape)
    group = maps[index[:depth]]
    gamma, beta = (None if one is None else float(one[index[depth:]]) for one in (weight, bias))
    return normalised("Layer norm", x, float(group.mean()), float(group.var()), gamma, beta, eps)


def _instance(
    x: float,
    maps: np.ndarray,
    index: Index,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Formula:
    group = maps[index[0]]
    mean = float(group.mean() if use_input_stats else running_mean[index[0]])
    variance = float(group.var() if use_input_stats else running_var[index[0]])
    gamma, beta = (None if one is None else float(one[index[0]]) for one in (weight, bias))
    return normalised("Instance norm", x, mean, variance, gamma, beta, eps)


def _local_response(
    x: float, maps: np.ndarray, index: Index, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Formula:
    first = index[0] - size // 2
    neighbours = maps[max(first, 0) : first + size, index[1], index[2]]
    return local_response(x, neighbours, size, alpha, beta, k)


POINTWISE: dict[str, Callable[..., Formula]] = {
    "relu": _relu,
    "relu6": _relu6,
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "clamp_min": lambda x, min: _clamp(x, min),
    "clamp_max": lambda x, max: _clamp(x, None, max),
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "silu": _silu,
    "gelu": _gelu,
    "hardswish": _hardswish,
    "hardsigmoid": _hardsigmoid,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "elu": _elu,
    "selu": _selu,
    "softplus": _softplus,
    "mish": _mish,
    "threshold": _threshold,
    "batch_norm": _batch_norm,
}

NORMS: dict[str, Callable[..., Formula]] = {
    "group_norm": _group,
    "layer_norm": _layer,
    "instance_norm": _instance,
    "local_response_norm": _local_response,
}


# -- two numbers -----------------------------------------------------------------------------------------------------

# name: (title, sign, whether torch names the operands the other way round, what comes out)
BINARY: dict[str, tuple[str, str, bool, Callable[[float, float], float]]] = {
    "add": ("Sum", "+", False, lambda a, b: a + b),
    "sub": ("Difference", "−", False, lambda a, b: a - b),
    "rsub": ("Difference", "−", True, lambda a, b: a - b),
    "mul": ("Product", "·", False, lambda a, b: a * b),
    "div": ("Quotient", "/", False, lambda a, b: a / b),
}


def joined(name: str, a: float, b: float, *, follows_first: bool, alpha: float = 1.0) -> Formula:
    """Two operands in the order in which torch takes them; x is the one that is followed, y the other one.

    ``alpha`` is what torch multiplies the second operand with before adding.
    """
    title, sign, swapped, compute = BINARY[name]
    b = alpha * b
    x, y = (a, b) if follows_first else (b, a)
    first_is_x = follows_first != swapped
    text = f"{{x}} {sign} {{y}}" if first_is_x else f"{{y}} {sign} {{x}}"
    return _of(title, text, x, compute(b, a) if swapped else compute(a, b), y=y)
