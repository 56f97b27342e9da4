"""Gradient attributions: how the score of a class answers to each pixel, colour by colour.

With x the picture in [0, 1] and s the target's logit, the gradient ∂s/∂x (Simonyan, Vedaldi & Zisserman, *Deep Inside
Convolutional Networks*, 2014) is what all others start from. Guided backpropagation (Springenberg et al., *Striving for
Simplicity*, 2015) and the deconvnet (Zeiler & Fergus, *Visualizing and Understanding Convolutional Networks*, ECCV
2014) change what goes back through ReLUs, by `vizcore.relu_rules`.

Values are raw, in pixel space and signed: normalisation lies inside of what is differentiated.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vizcore.records import (
    Attribution,
    BadParameter,
    Heatmap,
    Model,
    Progress,
    UnsupportedModel,
    check_pixels,
    check_target,
    check_whole,
)
from vizcore.relu_rules import RULES, Rule, at_relus

BASELINES = ("black", "grey", "mean")
SAMPLES, NOISE = 32, 0.15
POINTS = 8  # of Gauss and Legendre in each piece of the way
COMPLETE, COMPLETE_BY_PIECE = 0.005, 0.03  # what may be missing of the change of the score, and of those of all pieces
MOST_STEPS = 1024


@dataclass(frozen=True)
class AttributionMethod:
    """One row of the family. ``unit`` says what a value is, ``weakness`` what to beware of."""

    title: str
    reference: str
    formula: str
    unit: str
    reading: str
    weakness: str


def attribution(
    model: Model,
    pixels: Tensor,
    target: int,
    method: str = "gradient",
    *,
    baseline: str = "black",
    steps: int | None = None,
    samples: int = SAMPLES,
    noise: float = NOISE,
    seed: int = 0,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Attribution:
    """What each pixel of one picture, ``pixels`` (1, 3, H, W) in [0, 1], has to do with the logit of ``target``.

    ``values`` are (3, H, W), signed, positive where a larger value (gradient) or the value that is there (the others)
    raises the score; guided ones have no unit. ``integrated_gradients`` goes from ``baseline`` ("black", "grey", which
    is 0.5, or "mean", the model's own); its values add up to the change of the score, and a note says how nearly. With
    ``steps`` it takes so many of Gauss and Legendre; without, 8 in each piece of the way, and a piece whose values miss
    the score's change there is halved, until all together miss 0.5 % or 1,024 steps are taken. ``smooth_grad``
    averages over ``samples`` pictures with normal noise of the standard deviation ``noise`` times the range of the
    picture, drawn from ``seed``.

    Cost: one pass forth and back, one a step or a sample for these two, ``batch_size`` pictures at a time.
    Raises BadParameter, and UnsupportedModel where the net does not allow the method: where its score is
    not differentiable, or has no ReLU for a rule to change.
    """
    if method not in ATTRIBUTION_METHODS:
        raise BadParameter(f"method is {method!r}; it must be one of {', '.join(ATTRIBUTION_METHODS)}.")
    check_pixels(pixels, one=True)
    pixels = pixels.to(torch.promote_types(pixels.dtype, torch.float32))
    target = check_target(model, target)
    check_whole("batch_size", batch_size, 1, 4096)
    ask = _Gradients(model, target, batch_size, progress)
    params: dict[str, Any] = {}
    notes: list[str] = []
    if method == "integrated_gradients":
        params |= {"baseline": baseline, "steps": steps if steps is None else check_whole("steps", steps, 1, 10_000)}
        values, gap = _integrated(ask, pixels, _baseline(model, pixels, baseline), steps)
        notes.append(f"The values add up to the change of the score from the baseline on, but for {100 * gap:.2g} %.")
    elif method == "smooth_grad":
        if not isinstance(noise, (int, float)) or not 0 <= noise <= 10:
            raise BadParameter(f"noise is {noise!r}; it must be 0 to 10 times the range of the picture.")
        params |= {"samples": check_whole("samples", samples, 1, 10_000), "noise": noise, "seed": seed}
        values = _smooth(ask, pixels, samples, noise, check_whole("seed", seed, 0, 2**63 - 1))
    else:
        values = ask.of(pixels, rule=RULES.get(method))
        if method == "gradient_x_input":
            values = values * pixels.to(values)
    if not torch.isfinite(values).all():
        raise UnsupportedModel(
            f"{ATTRIBUTION_METHODS[method].title} of {model.title} gives NaN or infinity for class {target}."
        )
    if not bool(values.any()):
        notes.append("The map is 0 everywhere: the score does not change with the picture here.")
    return Attribution(
        values=values[0].float().cpu().numpy(),
        method=method,
        model_name=model.name,
        target=target,
        score=ask.score(pixels),
        params=params,
        notes=tuple(notes),
    )


def guided_grad_cam(guided: Attribution, heat: Heatmap) -> Attribution:
    """Guided Grad-CAM (Selvaraju et al., ICCV 2017): guided backpropagation times Grad-CAM, pixel by pixel.

    ``guided`` is the first, by `attribution`, and ``heat`` the second, by `vizcore.cam.cam`, of the same class; its
    values (h, w) are scaled up bilinearly. Costs no pass. Raises BadParameter where they are not what they should be.
    """
    asked = guided.method, heat.method, heat.model_name, heat.target
    if asked != ("guided_backpropagation", "grad_cam", guided.model_name, guided.target):
        raise BadParameter(
            f"guided is {guided.method} for class {guided.target} of {guided.model_name}, and heat {heat.method} for "
            f"class {heat.target} of {heat.model_name}; they must be guided_backpropagation and grad_cam of one class."
        )
    coarse = torch.from_numpy(heat.values)[None, None]
    fine = F.interpolate(coarse, size=guided.values.shape[1:], mode="bilinear", align_corners=False)[0]  # (1, H, W)
    return replace(
        guided,
        values=guided.values * fine.numpy(),
        method="guided_grad_cam",
        params={**guided.params, "layer": heat.layer},
        notes=tuple(dict.fromkeys((*guided.notes, *heat.notes))),
    )


class _Gradients:
    """Gradients of the target's logit with respect to pixels, counted by ``progress`` against what is planned."""

    def __init__(self, model: Model, target: int, batch_size: int, progress: Progress | None) -> None:
        self.model, self.target, self.batch_size, self._progress = model, target, batch_size, progress
        self.planned, self.done = 1, 0

    def of(self, pixels: Tensor, rule: Rule | None = None) -> Tensor:
        """(N, 3, H, W) float64, of N pictures that are handed in at once."""
        with torch.inference_mode(False), torch.enable_grad(), self.model.lock:
            pixels = pixels.detach().clone().requires_grad_()
            with at_relus(self.model, rule) if rule else nullcontext():
                scores = self.model.logits(pixels)
                score = scores[:, check_target(self.model, self.target, scores.shape[1])].sum()
                if not score.requires_grad:
                    raise UnsupportedModel(
                        f"The score of {self.model.title} does not depend on the picture in a differentiable way."
                    )
                (gradient,) = torch.autograd.grad(score, pixels)
        self.done += len(pixels)
        if self._progress:
            self._progress(self.done, max(self.planned, self.done))
        return gradient.double()

    def weighted(self, pictures: Callable[[int, int], Tensor], weights: Tensor) -> Tensor:
        """Σ weights_k · gradient_k (1, 3, H, W); ``pictures`` gives those from one number up to another."""
        total: Tensor | None = None
        for start in range(0, len(weights), self.batch_size):
            stop = min(start + self.batch_size, len(weights))
            part = torch.einsum("k,kchw->chw", weights[start:stop], self.of(pictures(start, stop)))[None]
            total = part if total is None else total + part
        assert total is not None
        return total

    def score(self, pixels: Tensor) -> float:
        with torch.no_grad():
            return float(self.model.logits(pixels)[0, self.target])


def _baseline(model: Model, pixels: Tensor, name: str) -> Tensor:
    if name not in BASELINES:
        raise BadParameter(f"baseline is {name!r}; it must be one of {', '.join(BASELINES)}.")
    if name == "mean":
        mean = torch.tensor(model.mean, dtype=pixels.dtype)
        return mean.expand(3).view(1, 3, 1, 1).expand_as(pixels)
    return torch.full_like(pixels, 0.5 if name == "grey" else 0.0)


def _integrated(ask: _Gradients, pixels: Tensor, start: Tensor, steps: int | None) -> tuple[Tensor, float]:
    """(x − b) · ∫ ∂s/∂x along the line from b to x (Sundararajan, Taly & Yan 2017), and the share that is missing of
    s(x) − s(b), which it ought to add up to.

    That it adds up holds for each piece of the way as well, and the scores at its ends cost two passes: so it is known
    where the score bends, and only there are more steps taken.
    """
    way = pixels - start
    ask.planned = steps or MOST_STEPS

    def score(place: float) -> float:
        return ask.score(start + place * way)

    def over(low: float, high: float, points: int) -> Tensor:
        places, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(points))
        places = low + (places + 1) / 2 * (high - low)  # from [−1, 1]

        def on_the_way(first: int, last: int) -> Tensor:
            return start + places[first:last, None, None, None].to(pixels) * way

        return way.double() * ask.weighted(on_the_way, weights * (high - low) / 2)

    def piece(low: float, high: float, at_low: float, at_high: float) -> _Piece:
        values = over(low, high, POINTS)
        missing = at_high - at_low - float(values.sum())
        return _Piece(-abs(missing), low, high, at_low, at_high, missing, values)

    at_start, at_end = score(0.0), score(1.0)
    change = max(abs(at_end - at_start), 1e-12)
    if steps:
        values = over(0.0, 1.0, steps)
    else:
        pieces = [piece(0.0, 1.0, at_start, at_end)]
        while ask.done + 2 * POINTS <= MOST_STEPS:
            missing = sum(one.missing for one in pieces)
            if abs(missing) <= COMPLETE * change and -sum(one.gap for one in pieces) <= COMPLETE_BY_PIECE * change:
                break
            worst = heapq.heappop(pieces)
            middle = (worst.low + worst.high) / 2
            at_middle = score(middle)
            heapq.heappush(pieces, piece(worst.low, middle, worst.at_low, at_middle))
            heapq.heappush(pieces, piece(middle, worst.high, at_middle, worst.at_high))
        values = torch.stack([one.values for one in pieces]).sum(0)
    return values, abs(float(values.sum()) - (at_end - at_start)) / change


class _Piece(NamedTuple):
    """A part of the way, from ``low`` to ``high``, and what its ``values`` miss of the change of the score there. In
    order of ``gap``, minus the size of that: the worst comes first."""

    gap: float
    low: float
    high: float
    at_low: float
    at_high: float
    missing: float
    values: Tensor


def _smooth(ask: _Gradients, pixels: Tensor, samples: int, noise: float, seed: int) -> Tensor:
    """The mean gradient of pictures with noise (Smilkov et al., *SmoothGrad*, 2017)."""
    deviation = noise * float(pixels.max() - pixels.min())
    generator = torch.Generator().manual_seed(seed)

    def noisy(first: int, last: int) -> Tensor:
        # One by one: torch draws other numbers for several at once.
        drawn = [torch.randn(pixels.shape, generator=generator) for _ in range(first, last)]
        return pixels + deviation * torch.cat(drawn).to(pixels)

    ask.planned = samples
    return ask.weighted(noisy, torch.full((samples,), 1 / samples, dtype=torch.float64))


ATTRIBUTION_METHODS: Mapping[str, AttributionMethod] = MappingProxyType(
    {
        "gradient": AttributionMethod(
            "Gradient",
            "Simonyan, Vedaldi & Zisserman, Deep Inside Convolutional Networks, 2014",
            r"\partial s/\partial x",
            "score per unit of a pixel",
            "How the score would answer to a small change of each pixel.",
            "Noisy: the score bends sharply between neighbouring pictures, and saturated evidence has no slope.",
        ),
        "gradient_x_input": AttributionMethod(
            "Gradient × input",
            "Shrikumar et al., Not Just a Black Box, 2016",
            r"x \odot \partial s/\partial x",
            "score",
            "What each pixel would contribute if the net were linear around the picture.",
            "Black pixels get 0, whatever they mean.",
        ),
        "integrated_gradients": AttributionMethod(
            "Integrated gradients",
            "Sundararajan, Taly & Yan, Axiomatic Attribution for Deep Networks, ICML 2017",
            r"(x - b) \odot \int_0^1 \partial s/\partial x\,(b + \alpha (x - b))\,d\alpha",
            "score",
            "What each pixel adds on the way from the baseline to the picture; all together, the change of the score.",
            "Depends on the baseline: what has its colour gets 0.",
        ),
        "smooth_grad": AttributionMethod(
            "SmoothGrad",
            "Smilkov et al., SmoothGrad: removing noise by adding noise, 2017",
            r"\mathbb{E}_{\varepsilon}\,\partial s/\partial x\,(x + \varepsilon)",
            "score per unit of a pixel",
            "The gradient, averaged over pictures with a little noise.",
            "The noise is a choice: with much of it, it is the gradient of other pictures.",
        ),
        "guided_backpropagation": AttributionMethod(
            "Guided backpropagation",
            "Springenberg et al., Striving for Simplicity, ICLR Workshop 2015",
            r"R^{l} = [f^{l} > 0]\,[R^{l+1} > 0]\,R^{l+1}",
            "no unit",
            "Fine edges of whatever excites the net.",
            "Hardly depends on the class or on the weights of later layers: it draws the edges of the picture again.",
        ),
        "deconvnet": AttributionMethod(
            "Deconvnet",
            "Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014",
            r"R^{l} = [R^{l+1} > 0]\,R^{l+1}",
            "no unit",
            "What is sent back by the filters, wherever it is positive.",
            "Ignores which ReLUs were active; without the switches of max pooling it hardly depends on the picture.",
        ),
    }
)
GUIDED_GRAD_CAM = AttributionMethod(
    "Guided Grad-CAM",
    "Selvaraju et al., Grad-CAM, ICCV 2017",
    r"\text{guided} \odot \text{bilinear}(\text{Grad-CAM})",
    "no unit",
    "The fine edges of guided backpropagation, where Grad-CAM sees the class.",
    "The edges are the picture's. What it says of the class is Grad-CAM, and no finer than that.",
)
