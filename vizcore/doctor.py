"""What a network that somebody brings is like: how it answers, what it needs, which methods work on it, and why not.

A weights file says nothing of the pictures that it was made with, and a network may be built in ways that hide what it
computes: activations in place, one module for several, functions in place of modules, a softmax inside. All of it is
looked at in passes of one picture and said in sentences. A method works if a small run of it did. At the end stands the
proof that the examination changed nothing: a digest of all numbers, modes, flags and hooks, before and after.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vizcore.activations import activation_maps
from vizcore.anatomy import anatomy
from vizcore.arithmetic import explain_unit
from vizcore.attribution import ATTRIBUTION_METHODS, attribution
from vizcore.cam import CAM_METHODS, cam
from vizcore.embedding import extract_features
from vizcore.filters import filters
from vizcore.hooks import layer_for, list_layers, watch_runs
from vizcore.records import LensError, Model, Progress, check_pixels, probabilities

GOOD, NOTICE, FAULT = "good", "notice", "fault"
LISTED = 5
SIZE, NORMALISATION = "input size", "normalisation"  # what a weights file does not say
SWING = 0.1  # of a probability, that a guess may be wrong by before it is worth a notice
# Pairs of (mean, std), the same for each channel unless they are by channel
USUAL: dict[int, dict[str, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    3: {
        "of ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "to −1 … 1": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        "none, 0 … 1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    },
    1: {"of MNIST": ((0.1307,), (0.3081,)), "to −1 … 1": ((0.5,), (0.5,)), "none, 0 … 1": ((0.0,), (1.0,))},
}
FUNCTIONS = {
    *("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "tanh"),
    *("hardtanh", "hardswish", "hardsigmoid", "softplus", "threshold"),
}


@dataclass(frozen=True)
class Finding:
    """One thing about a network: ``state`` is "good", "notice" (worth knowing) or "fault" (something will not work)."""

    subject: str
    state: str
    sentence: str


@dataclass(frozen=True)
class Normalisation:
    """How the picture is answered if pixels are normalised so: the top class, its probability, 0 to 1, and that of the
    class that is the top one as the network is set up."""

    title: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    top: int
    chance: float
    chance_of_first: float


@dataclass(frozen=True)
class Verdict:
    """Whether a method works on the network and the picture; if not, ``reason`` is its refusal."""

    title: str
    works: bool
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """The whole examination. ``before`` and ``after`` are SHA-256 digests of all that it could have changed.

    The first of ``normalisations`` is the one that the network is set up with; there are none where it gives no answer.
    """

    model_name: str
    findings: tuple[Finding, ...]
    normalisations: tuple[Normalisation, ...]
    verdicts: tuple[Verdict, ...]
    before: str
    after: str

    @property
    def unchanged(self) -> bool:
        return self.before == self.after

    @property
    def swing(self) -> float:
        """Between the least and the largest probability of the top class, over the usual normalisations; 0 to 1."""
        chances = [one.chance_of_first for one in self.normalisations]
        return max(chances) - min(chances) if chances else 0.0


def examine(
    model: Model,
    pixels: Tensor,
    *,
    guessed: Collection[str] = (SIZE, NORMALISATION),
    progress: Progress | None = None,
) -> Report:
    """Examine ``model`` on one picture, ``pixels`` (1, 3, H, W) in [0, 1].

    ``guessed`` names what is known of the architecture only, and not of this network: its SIZE, its NORMALISATION.
    Costs about forty passes, in which the lock is held; ``progress`` counts the methods that are tried. What the
    network does wrong is in the report and is not raised; BadParameter is, for other pixels.
    """
    check_pixels(pixels, one=True)
    with model.lock:
        before = state_of(model)
        seen = _watch(model, pixels)
        answers = _answers(model, pixels, seen)
        findings = (
            *_of_numbers(model),
            *_of_modules(model, seen),
            answers,
            _of_input(model, SIZE in guessed),
            *_of_normalisation(model, found := _normalisations(model, pixels, answers), NORMALISATION in guessed),
        )
        trials, verdicts = tuple(_trials(model, pixels, found)), list[Verdict]()
        for title, trial in trials:
            if progress:
                progress(len(verdicts), len(trials))
            verdicts.append(_tried(model, title, trial))
        return Report(model.name, findings, found, tuple(verdicts), before, state_of(model))


def state_of(model: Model) -> str:
    """A SHA-256 over every parameter and buffer, its gradient and flag, and every module's mode and hooks."""
    digest = hashlib.sha256()
    for name, tensor in (*model.net.named_parameters(), *model.net.named_buffers()):
        grad = None if tensor.grad is None else tensor.grad.sum().item()
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape), tensor.requires_grad, grad)).encode())
        if not tensor.is_meta:
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    for name, module in model.net.named_modules():
        hooks = [
            len(vars(module).get(kind, ())) for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
        ]
        digest.update(repr((name, type(module).__name__, module.training, hooks)).encode())
    return digest.hexdigest()


# ---- one pass, watched ---------------------------------------------------------------------------------------


@dataclass
class _Seen:
    """What a pass showed: how often each module ran, and activations that no module of their own called."""

    runs: Counter[str] = field(default_factory=Counter)
    functions: Counter[str] = field(default_factory=Counter)
    output: object = None
    refusal: str = ""


class _Calls(TorchFunctionMode):
    """Tells ``called`` the name of every function of torch that runs in this thread."""

    def __init__(self, called: Callable[[str], None]) -> None:
        super().__init__()
        self._called = called

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._called(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


def _watch(model: Model, pixels: Tensor) -> _Seen:
    seen, inside = _Seen(), [model.net]
    if refusal := _no_pass(model):
        seen.refusal = refusal
        return seen

    def start(name: str, module: nn.Module, args: object) -> None:
        seen.runs[name] += 1
        inside.append(module)

    def end(name: str, module: nn.Module, output: object) -> None:
        inside.pop()

    def called(function: str) -> None:
        if function.rstrip("_") in FUNCTIONS and not _is_activation(inside[-1]):
            seen.functions[function.rstrip("_")] += 1

    try:
        with watch_runs(model, start, end), model.evaluating(), torch.no_grad(), _Calls(called):
            seen.output = model.net(model.normalise(pixels))
    except Exception as error:  # somebody else's forward() may raise anything
        seen.refusal = _words(model, error)
    return seen


def _no_pass(model: Model) -> str:
    """Why the net cannot be run, or nothing."""
    if any(parameter.is_meta for parameter in model.net.parameters()):
        return f"{model.title} has no weights in memory (device “meta”): load them first."
    if hasattr(model.net, "_orig_mod") or isinstance(model.net, torch.jit.ScriptModule):
        return f"{model.title} is compiled and does not show its layers. Hand over the plain module (net._orig_mod)."
    return ""


def _is_activation(module: nn.Module) -> bool:
    return type(module).__module__ == "torch.nn.modules.activation"


# ---- findings --------------------------------------------------------------------------------------------------


def _of_numbers(model: Model) -> Iterator[Finding]:
    modules = list(model.net.modules())
    training = sum(module.training for module in modules)
    if training:
        words = (
            f"{training} of its {len(modules)} modules are in training mode. Passes run in evaluation mode, and each "
        )
        yield Finding("Mode", NOTICE, f"{words}module comes back as it was.")
    else:
        yield Finding("Mode", GOOD, f"All {len(modules)} modules are in evaluation mode.")
    tensors = dict([*model.net.named_parameters(), *model.net.named_buffers()])
    count = sum(parameter.numel() for parameter in model.net.parameters())
    kinds = {str(parameter.dtype).removeprefix("torch.") for parameter in model.net.parameters()}
    yield Finding("Parameters", GOOD, f"{count:,} numbers of the type {', '.join(sorted(kinds)) or 'none'}.")
    real = {name: tensor for name, tensor in tensors.items() if not tensor.is_meta}
    broken = [name for name, tensor in real.items() if not torch.isfinite(tensor).all()]
    if broken:
        yield Finding(
            "NaN and infinity",
            FAULT,
            f"{len(broken)} of {len(real)} tensors hold NaN or infinity ({_listed(broken)}): the answers mean nothing, "
            "and maps are refused. Training may have diverged; take an earlier checkpoint.",
        )
    else:
        yield Finding("NaN and infinity", GOOD, f"All {len(real)} tensors hold finite numbers.")


def _of_modules(model: Model, seen: _Seen) -> Iterator[Finding]:
    modules = dict(model.net.named_modules())
    in_place = [name for name, module in modules.items() if getattr(module, "inplace", False) is True]
    words = f"{_counted(len(in_place), 'module')} overwriting what came in ({_listed(in_place)}). What comes out of a "
    yield _unless_none("In-place activations", in_place, f"{words}layer is copied first, so maps are right.", GOOD)
    if seen.refusal:
        return
    again = [name for name, count in seen.runs.items() if count > 1 and name]
    words = (
        f"{_counted(len(again), 'module')} running more than once in a pass ({_listed(again)}): not to be chosen as a "
    )
    yield _unless_none("Reused modules", again, f"{words}layer, for what comes out is not one thing.", NOTICE)
    calls = [f"{name} {count} ×" for name, count in seen.functions.most_common()]
    words = (
        f"{_counted(seen.functions.total(), 'activation')} called as functions ({_listed(calls)}): no layer to choose. "
    )
    yield _unless_none(
        "Functional activations", calls, f"{words}The module around them is one, where there is any.", NOTICE
    )


def _unless_none(subject: str, found: list[str], sentence: str, state: str) -> Finding:
    return Finding(subject, state, sentence) if found else Finding(subject, GOOD, "None.")


def _answers(model: Model, pixels: Tensor, seen: _Seen) -> Finding:
    """The finding about the head: one tensor (N, K), logits, as many as there are names."""
    if seen.refusal:
        return Finding("Answer", FAULT, seen.refusal)
    try:
        scores = model.checked(seen.output, 1)
        with torch.no_grad():
            scores = torch.cat([scores, model.logits(torch.full_like(pixels, 0.5))]).double()
    except Exception as error:
        return Finding("Answer", FAULT, _words(model, error))
    count = scores.shape[1]
    if count != len(model.labels):
        return Finding(
            "Answer", FAULT, f"{count} scores for {len(model.labels)} class names. Give a name for each class."
        )
    inside = bool((scores >= 0).all() and (scores <= 1).all())
    if count == 1:
        words = "It lies between 0 and 1: a sigmoid may be inside already, and then probabilities are drawn together."
        return Finding(
            "Answer", NOTICE, f"One score; its sigmoid is shown as the probability. {words if inside else ''}".strip()
        )
    if inside and torch.allclose(scores.sum(1), torch.ones(2, dtype=torch.float64), atol=1e-4):
        return Finding(
            "Answer",
            NOTICE,
            f"{count:,} numbers that sum to 1: a softmax is inside already. The probabilities shown are softened a "
            "second time, and gradients are those of probabilities. Take it off, so that the net answers with logits.",
        )
    if inside:
        return Finding(
            "Answer",
            NOTICE,
            f"{count:,} numbers between 0 and 1 that do not sum to 1: a sigmoid may be inside, one question for each "
            "class. The softmax that is shown here is then no probability; the order of the classes holds.",
        )
    if torch.allclose(scores.exp().sum(1), torch.ones(2, dtype=torch.float64), atol=1e-4):
        return Finding(
            "Answer", GOOD, f"{count:,} logarithms of probabilities: as good as logits, their softmax is the same."
        )
    return Finding("Answer", GOOD, f"{count:,} logits, one for each class.")


def _of_input(model: Model, guessed: bool) -> Finding:
    first = dict(model.net.named_modules()).get(model.layers.get("first_conv", ""))
    height, width = model.input_size
    shown = f"pictures are cut to {width} × {height} pixels (width × height)"
    if guessed:
        shown += ", guessed from the architecture: a weights file does not say it"
    if not isinstance(first, nn.Conv2d):
        return Finding("Input", NOTICE, f"No first convolution is named; {shown}.")
    size = " × ".join(map(str, reversed(first.kernel_size)))
    kernels = f"{first.out_channels} kernels of {size}, step {first.stride[0]}"
    if first.in_channels != len(model.mean):
        return Finding(
            "Input",
            FAULT,
            f"The first convolution reads {first.in_channels} channels; mean and standard deviation are given for "
            f"{len(model.mean)}.",
        )
    colours = {1: "1 channel, grey", 3: "3 channels, red, green and blue"}.get(first.in_channels, "")
    return Finding("Input", GOOD, f"{colours or f'{first.in_channels} channels'}; {shown}. First come {kernels}.")


def _normalisations(model: Model, pixels: Tensor, answers: Finding) -> tuple[Normalisation, ...]:
    if answers.state == FAULT:
        return ()
    own = (model.mean, model.std)
    others = USUAL.get(len(model.mean), {})
    usual = [("as set up", own), *(item for item in others.items() if not _alike(item[1], own))]
    found: list[Normalisation] = []
    for title, (mean, std) in usual:
        try:
            with torch.no_grad():
                chances = probabilities(replace(model, mean=mean, std=std).logits(pixels))[0]
        except Exception:  # the answers are examined for themselves
            continue
        top = int(chances.argmax())
        first = found[0].top if found else top
        found.append(Normalisation(title, mean, std, top, float(chances[top]), float(chances[first])))
    return tuple(found)


def _of_normalisation(model: Model, found: tuple[Normalisation, ...], guessed: bool) -> Iterator[Finding]:
    if not found:
        return
    mean, std = (", ".join(f"{number:.4g}" for number in numbers) for numbers in (model.mean, model.std))
    origin = "guessed from the architecture: a weights file does not say them" if guessed else "as given"
    low, high = (pick(one.chance_of_first for one in found) for pick in (min, max))
    swing = (
        f"With other usual values, the probability of the top class, “{model.labels[found[0].top]}”, would be anything "
        f"from {100 * low:.1f} to {100 * high:.1f} %."
    )
    state = NOTICE if guessed and high - low > SWING else GOOD
    yield Finding("Normalisation", state, f"Mean {mean}, standard deviation {std}, {origin}. {swing}")


def _alike(one: tuple[tuple[float, ...], ...], other: tuple[tuple[float, ...], ...]) -> bool:
    return all(abs(a - b) < 0.01 for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def _words(model: Model, error: Exception) -> str:
    """A refusal as it is; what somebody else's forward() may raise, in a sentence."""
    if isinstance(error, LensError):
        return str(error)
    return f"{model.title} stopped in the middle of a pass with {type(error).__name__}: {str(error)[:300]}"


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'s' * (count != 1)}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")


# ---- methods -----------------------------------------------------------------------------------------------------


class _EnoughError(Exception):
    """A method that takes many passes came through the first."""


def _enough(done: int, total: int) -> None:
    raise _EnoughError


def _trials(
    model: Model, pixels: Tensor, found: tuple[Normalisation, ...]
) -> Iterator[tuple[str, Callable[[], object]]]:
    """A small run of each method."""
    target = found[0].top if found else 0
    yield "Filters", lambda: filters(model)
    yield "Anatomy", lambda: anatomy(model)
    yield "Activation maps", lambda: activation_maps(model, pixels, layer_for(model, "cam", None))
    for name, method in CAM_METHODS.items():
        stop = _enough if method.needs == "passes" else None
        yield (
            method.title,
            lambda name=name, stop=stop: cam(model, pixels, target, name, batch_size=1, progress=stop),  # type: ignore[misc]
        )
    for name, row in ATTRIBUTION_METHODS.items():
        yield (
            row.title,
            lambda name=name: attribution(model, pixels, target, name, steps=1, samples=1),  # type: ignore[misc]
        )
    # These ask the net for nothing but its answers to more pictures
    yield "Occlusion", lambda: model.logits(torch.zeros_like(pixels))
    yield "Super-pixels and RISE", lambda: model.logits(torch.zeros_like(pixels))
    yield "Hide", lambda: model.logits(torch.zeros_like(pixels))
    yield "Arithmetic", lambda: explain_unit(model, pixels, _first_layer(model), 0)
    yield "Embedding", lambda: extract_features(model, pixels)


def _first_layer(model: Model) -> str:
    return model.layers.get("first_conv") or list_layers(model)[0].name


def _tried(model: Model, title: str, trial: Callable[[], object]) -> Verdict:
    try:
        with torch.no_grad():
            trial()
    except _EnoughError:
        return Verdict(title, True)
    except Exception as error:  # somebody else's forward() may raise anything
        return Verdict(title, False, _words(model, error))
    return Verdict(title, True)
