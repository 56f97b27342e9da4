"""Adversarial pictures: a change too small to see that changes the answer.

With x the picture, y its class and L the cross-entropy of the net's answer, the fast gradient sign method (Goodfellow,
Shlens & Szegedy, *Explaining and Harnessing Adversarial Examples*, ICLR 2015) shows x + ε · sign(∂L/∂x). Projected
gradient descent (Madry et al., *Towards Deep Learning Models Resistant to Adversarial Attacks*, ICLR 2018) takes many
such steps from a random start, each brought back to within ε of x. Towards a class t, one goes down L of t instead. No
pixel changes by more than ε, nor leaves [0, 1].

Only signs count, and by s the logits, ∂L/∂x has those of the gradient of log Σ_{k≠y} exp(s_k) − s_y: that one is
followed, as it does not vanish where the net is so sure that the probability rounds to 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vizcore.records import (
    BadParameter,
    Model,
    Progress,
    UnsupportedModel,
    check_pixels,
    check_target,
    check_whole,
)

ATTACKS: Mapping[str, str] = {"fgsm": "Fast gradient sign method", "pgd": "Projected gradient descent"}
LADDER = tuple(n / 255 for n in (0.25, 0.5, 1, 2, 4, 8, 16))  # in steps of eight bits


@dataclass(frozen=True, eq=False)
class Adversarial:
    """A picture made to change the answer: ``pixels`` (1, 3, H, W) in [0, 1], of which ``original`` it was made.

    ``before`` and ``after`` (K,) float32 are the logits of the two. ``target`` is the class to get away from, or where
    ``params["towards"]`` is one, the class to get to is that. ``params`` holds every option needed to compute it again.
    """

    original: Tensor
    pixels: Tensor
    before: np.ndarray
    after: np.ndarray
    method: str
    model_name: str
    target: int
    params: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def perturbation(self) -> np.ndarray:
        """(3, H, W) float32, what was added, signed: at most ε in size."""
        return (self.pixels.double() - self.original.double())[0].float().cpu().numpy()

    @property
    def fooled(self) -> bool:
        """Whether the change did it: the net's answer was ``target`` and no longer is, or now is ``towards`` and was
        not. A net with one logit answers with its class where that is above 0."""
        return not self._reached(self.before) and self._reached(self.after)

    def _reached(self, logits: np.ndarray) -> bool:
        towards = self.params["towards"]
        return not _answers(logits, self.target) if towards is None else _answers(logits, towards)


def attack(
    model: Model,
    pixels: Tensor,
    target: int,
    *,
    method: str = "fgsm",
    epsilon: float = 2 / 255,
    steps: int = 10,
    step_size: float | None = None,
    towards: int | None = None,
    random_start: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Adversarial:
    """Change one picture, ``pixels`` (1, 3, H, W) in [0, 1], by at most ``epsilon`` a number, so that the answer is no
    longer ``target``, or is ``towards``.

    ``"fgsm"`` takes one step of the size ``epsilon``. ``"pgd"`` takes ``steps`` of ``step_size``, by default 2.5 ·
    epsilon / steps as Madry et al. do, from a picture with uniform noise within ``epsilon`` drawn from ``seed``, or
    with ``random_start=False`` from the picture; these options mean nothing to FGSM. The last picture is handed back,
    whether it fooled the net or not. It is float32 or finer: in eight bits it is another.

    Cost: two passes, and one forth and back a step; ``progress`` counts steps. Raises BadParameter, and
    UnsupportedModel where the scores are not differentiable.
    """
    if method not in ATTACKS:
        raise BadParameter(f"method is {method!r}; it must be one of {', '.join(ATTACKS)}.")
    check_pixels(pixels, one=True)
    if pixels.min() < 0 or pixels.max() > 1:
        raise BadParameter(
            f"pixels go from {float(pixels.min()):g} to {float(pixels.max()):g}; they must be in [0, 1]."
        )
    _check_size("epsilon", epsilon)
    if step_size is not None:
        _check_size("step_size", step_size)
    check_whole("steps", steps, 1, 10_000)
    check_whole("seed", seed, 0, 2**63 - 1)
    pixels = pixels.detach().to(model.device, torch.promote_types(pixels.dtype, torch.float32))
    before = _logits(model, pixels)
    target = check_target(model, target, len(before))
    aim = target if towards is None else check_target(model, towards, len(before))
    if towards == target and len(before) > 1:
        raise BadParameter(f"towards is {towards!r}, the target itself; it must be another class, or None.")
    shown, params = pixels, {"epsilon": epsilon, "towards": towards}
    if method == "fgsm":
        steps, step_size = 1, epsilon
    else:
        step_size = 2.5 * epsilon / steps if step_size is None else step_size
        params |= {"steps": steps, "step_size": step_size, "random_start": random_start, "seed": seed}
        if random_start:
            generator = torch.Generator().manual_seed(seed)
            noise = torch.rand(pixels.shape, generator=generator, dtype=torch.float64).to(pixels)
            shown = pixels + epsilon * (2 * noise - 1)
    low, high = _around(pixels, epsilon)
    shown = shown.clamp(low, high)
    for step in range(steps):
        away = _gradient(model, shown, aim).sign()
        shown = (shown + step_size * (away if towards is None else -away)).clamp(low, high)
        if progress:
            progress(step + 1, steps)
    found = Adversarial(pixels, shown, before, _logits(model, shown), method, model.name, target, params)
    return replace(found, notes=_notes(found))


def least_epsilon(
    model: Model,
    pixels: Tensor,
    target: int,
    *,
    ladder: Sequence[float] = LADDER,
    progress: Progress | None = None,
    **options: Any,
) -> Adversarial:
    """The picture of the smallest ε of the rising ``ladder`` whose `attack` fools the net; where none does, that of
    the largest, which a note says.

    ``options`` are those of `attack` but for ``epsilon``. Cost: an `attack` a rung, up to the first that does it;
    ``progress`` counts rungs, and reports the last of them as soon as one does. Raises what `attack` does.
    """
    rungs = list(ladder)
    for epsilon in rungs:
        _check_size("ladder", epsilon)
    if not rungs or any(low >= high for low, high in pairwise(rungs)):
        raise BadParameter(f"ladder is {ladder!r}; it must be one or more sizes, each larger than the one before.")
    for number, epsilon in enumerate(rungs, 1):
        found = attack(model, pixels, target, epsilon=epsilon, **options)
        if progress:
            progress(len(rungs) if found.fooled else number, len(rungs))
        if found.fooled:
            return found
    note = f"No change of up to {_size(rungs[-1])} of a pixel's range did it."
    return replace(found, notes=(*found.notes, note))


def _check_size(name: str, value: float) -> None:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise BadParameter(
            f"{name} is {value!r}; it must be a number from 0 to 1, the range of a pixel, as in 2 / 255."
        )


def _around(pixels: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The lowest and the highest numbers within ``epsilon`` of ``pixels`` and in [0, 1], none too far by rounding."""
    wide = pixels.double()
    low, high = (wide - epsilon).to(pixels), (wide + epsilon).to(pixels)
    low = torch.where(wide - low.double() > epsilon, torch.nextafter(low, pixels), low)
    high = torch.where(high.double() - wide > epsilon, torch.nextafter(high, pixels), high)
    return low.clamp(min=0), high.clamp(max=1)


def _gradient(model: Model, pixels: Tensor, target: int) -> Tensor:
    """(1, 3, H, W): where the cross-entropy of ``target`` rises, by a positive factor."""
    with torch.inference_mode(False), torch.enable_grad():
        shown = pixels.detach().clone().requires_grad_()
        loss = margin(model.logits(shown)[0].double(), target)
        if not loss.requires_grad:
            raise UnsupportedModel(
                f"The scores of {model.title} do not depend on the picture in a differentiable way: there is no "
                "gradient to follow."
            )
        (gradient,) = torch.autograd.grad(loss, shown)
    if not torch.isfinite(gradient).all():
        raise UnsupportedModel(f"The gradient of {model.title} is NaN or infinite for class {target}.")
    return gradient


def margin(logits: Tensor, target: int) -> Tensor:
    """log Σ_{k≠target} exp(s_k) − s_target of logits (K,), −s of one: the logarithm of the odds against the class."""
    others = torch.cat([logits[:target], logits[target + 1 :]])
    return (others.logsumexp(0) if len(others) else 0.0) - logits[target]


def _logits(model: Model, pixels: Tensor) -> np.ndarray:
    with torch.no_grad():
        return model.logits(pixels)[0].float().cpu().numpy()


def _answers(logits: np.ndarray, target: int) -> bool:
    return bool(logits[0] > 0) if len(logits) == 1 else int(logits.argmax()) == target


def _notes(found: Adversarial) -> tuple[str, ...]:
    notes = []
    if found._reached(found.before):
        notes.append(
            "The net did not answer with this class before any change: there was nothing to fool."
            if found.params["towards"] is None
            else "The net answered with the class aimed at before any change: there was nothing to fool."
        )
    if found.params["epsilon"] and not found.perturbation.any():
        notes.append("Nothing changed: the gradient is 0 everywhere, so that no direction is known.")
    return tuple(notes)


def _size(epsilon: float) -> str:
    return f"{255 * epsilon:g}/255"
