"""Activation maximisation: the picture that a channel, a unit, a direction or a class answers to most.

Erhan, Bengio, Courville & Vincent, *Visualizing Higher-Layer Features of a Deep Network*, 2009, climb along the
gradient of an activation with respect to the picture. Left alone, that ends in noise. As in Olah, Mordvintsev &
Schubert, *Feature Visualization*, Distill 2017, the picture is therefore kept by its waves, divided by their frequency,
in colours that vary as they do in photos, and is turned, resized and moved a little before each look. DeepDream
(Mordvintsev, Olah & Tyka, *Inceptionism*, 2015) is the same climb from a photo.

The net is borrowed for one step at a time: the runs of others go in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vizcore.hooks import find_layer, layer_for, require_maps, trace
from vizcore.records import (
    GREY_FROM_RGB,
    BadParameter,
    Model,
    Progress,
    UnsupportedModel,
    check_pixels,
    check_target,
    check_whole,
)

# Of red, green and blue in [0, 1]: the covariance in each of the five colour photos of models.samples, averaged, and
# divided so that the mean of the three variances is 1. `make_covariance` in tests/reference_maximisation.py makes it.
COLOUR_COVARIANCE = (
    (1.0931, 0.8652, 0.7126),
    (0.8652, 0.9596, 0.8971),
    (0.7126, 0.8971, 0.9473),
)
MIDDLE = "middle"
MOST_PICTURES, LONGEST, MOST_STEPS = 8, 4096, 100_000
TURN, RESIZE, MOVE = 10.0, 0.1, 1 / 14  # degrees, share of the size, share of each side
FIRST_NOISE = (0.01, 0.1, 1.0)  # of the waves a run starts from; the next where the first leaves a ReLU without slope
FAINTEST = 1 / 512  # how near to black and white a picture to start from may come: half a step of 8 bits
OCTAVE = 1.4

Partial = Callable[[np.ndarray], None]


@dataclass(frozen=True)
class Objective:
    """What is to be large.

    ``Objective("blocks.2", channel=5)`` is the mean of that map; with ``unit``, (row, column) in the map or "middle",
    the value at that place. ``direction`` in place of the channel, one number a channel of any length but 0, is the dot
    product with the unit vector along it. ``Objective("blocks.2")`` alone is the mean square of all values, which
    DeepDream raises. ``Objective(target=281)`` is the logit of a class.
    """

    layer: str | None = None
    channel: int | None = None
    unit: tuple[int, int] | str | None = None
    direction: tuple[float, ...] | None = field(default=None, repr=False)
    target: int | None = None

    def __post_init__(self) -> None:
        if (self.layer is None) == (self.target is None):
            raise BadParameter(
                f"layer is {self.layer!r} and target is {self.target!r}; an objective takes one of the two: a layer "
                "to look at, or a class."
            )
        inside = (self.channel, self.direction, self.unit)
        if self.target is not None and inside != (None, None, None):
            raise BadParameter("channel, direction and unit belong to a layer; leave them out with a target.")
        if self.channel is not None and self.direction is not None:
            raise BadParameter("channel and direction are both given; an objective takes one of the two.")
        if self.unit is not None and self.channel is None and self.direction is None:
            raise BadParameter(f"unit is {self.unit!r} of no channel; give a channel or a direction as well.")
        if self.direction is not None:
            numbers = np.asarray(self.direction, np.float64)
            length = float(np.linalg.norm(numbers))
            if numbers.ndim != 1 or not math.isfinite(length) or length == 0:
                raise BadParameter(
                    f"direction has the shape {numbers.shape} and the length {length:.3g}; it must be one finite "
                    "number a channel, not all of them 0."
                )
            object.__setattr__(self, "direction", tuple(float(number) for number in numbers / length))

    def of(self, answer: Tensor) -> Tensor:
        """Its value (N,), from what the layer answers to N pictures, (N, C, h, w) or (N, C); from logits for a class.

        BadParameter where there is no such channel, place or class.
        """
        if self.target is not None:
            check_whole("target", self.target, 0, answer.shape[1] - 1)
            return answer[:, self.target]
        maps = answer if answer.ndim == 4 else answer[:, :, None, None]
        channels, rows, columns = maps.shape[1:]
        if self.channel is not None:
            chosen = maps[:, check_whole("channel", self.channel, 0, channels - 1)]  # (N, h, w)
        elif self.direction is not None:
            if len(self.direction) != channels:
                raise BadParameter(
                    f"direction has {len(self.direction)} numbers; the layer “{self.layer}” has {channels} channels, "
                    "and it takes one for each."
                )
            chosen = torch.einsum("c,nchw->nhw", torch.tensor(self.direction).to(maps), maps)
        else:
            chosen = maps.square().mean(1)
        if self.unit is None:
            return chosen.mean((1, 2))
        row, column = self._place(rows, columns)
        return chosen[:, row, column]

    def _place(self, rows: int, columns: int) -> tuple[int, int]:
        if self.unit == MIDDLE:
            return rows // 2, columns // 2
        if not isinstance(self.unit, tuple) or len(self.unit) != 2:
            raise BadParameter(f"unit is {self.unit!r}; it must be (row, column) or {MIDDLE!r}.")
        return check_whole("row", self.unit[0], 0, rows - 1), check_whole("column", self.unit[1], 0, columns - 1)


@dataclass(frozen=True, eq=False)
class Maximised:
    """``pictures`` (N, 3, H, W) float32 in [0, 1], and ``values`` (N,) float32 of the objective, for them as they are.

    ``history`` (steps,) float32 is the mean over the pictures at each step, for what the net was shown then: turned and
    moved. ``params`` hold every option needed to make the pictures again, but for a photo to start from.
    """

    pictures: np.ndarray
    values: np.ndarray
    history: np.ndarray
    objective: Objective
    model_name: str
    params: Mapping[str, Any] = field(default_factory=dict)


def maximise(
    model: Model,
    objective: Objective,
    *,
    size: tuple[int, int] | None = None,
    steps: int = 128,
    rate: float = 0.006,
    count: int = 1,
    diversity: float = 1.0,
    decorrelated: bool = True,
    transforms: bool = True,
    seed: int = 0,
    start: Tensor | None = None,
    progress: Progress | None = None,
    partial: Partial | None = None,
) -> Maximised:
    """The ``count`` (1 to 8) pictures of ``size`` (H, W), the model's own if None, that raise ``objective``.

    From faint noise drawn from ``seed``, or from ``start`` (count, 3, H, W) in [0, 1], Adam takes ``steps`` steps of
    ``rate`` on the waves of the picture. ``decorrelated`` lets colours vary as they do in photos; ``transforms`` turns
    what the net is shown by up to 10°, resizes it by up to 10 % and moves it by up to a fourteenth of its sides, anew
    at each step. Where there are several, ``diversity`` (0 or more) is how much the mean cosine between the Gram
    matrices of two of them counts against the objective's own size; for a class, at the layer "cam" of the model.
    Leave ``transforms`` out for a unit that reads fewer pixels than the moves are wide: it looks elsewhere each time.
    ``partial`` is handed the pictures (count, 3, H, W) float32 after each step.

    Cost: a pass forth and back a step for each picture, up to the layer only. The lock is free between steps.
    Raises BadParameter, LayerNotFound, and UnsupportedModel where the objective does not depend on the picture, or has
    no slope for the pictures it started from, as a channel whose ReLU never opens.
    """
    check_whole("count", count, 1, MOST_PICTURES)
    check_whole("steps", steps, 0, MOST_STEPS)
    _check_number("diversity", diversity, 0, 100)
    if start is not None:
        check_pixels(start)
        if len(start) != count or size not in (None, tuple(start.shape[2:])):
            raise BadParameter(
                f"start has the shape {tuple(start.shape)}; it must be ({count}, 3, H, W), of the size that is asked."
            )
        size = start.shape[2], start.shape[3]
    size = size or model.input_size
    if not isinstance(size, tuple) or len(size) != 2:
        raise BadParameter(f"size is {size!r}; it must be (height, width) in pixels.")
    size = (check_whole("height", size[0], 1, LONGEST), check_whole("width", size[1], 1, LONGEST))
    climb = _Climb(model, objective, steps, rate, transforms, seed, progress, partial, diversity * (count > 1))
    _check_objective(model, objective, size)
    with torch.inference_mode(False), torch.no_grad():
        canvas = _canvas_for(model, size, decorrelated)
        waves = climb.first_waves(canvas, count) if start is None else canvas.waves(start)
        pictures = canvas.pictures(climb.up(canvas, waves, steps))
    params = {"size": size, "steps": steps, "count": count, "diversity": diversity, "decorrelated": decorrelated}
    return climb.finished(pictures, params)


def dream(
    model: Model,
    pixels: Tensor,
    objective: Objective,
    *,
    octaves: int = 3,
    steps: int = 16,
    rate: float = 0.003,
    transforms: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
    partial: Partial | None = None,
) -> Maximised:
    """DeepDream: the photo ``pixels`` (1, 3, H, W) in [0, 1], changed so that ``objective`` rises, such as
    ``Objective("blocks.3")``: whatever the layer sees in it already.

    The same climb as `maximise`, of ``steps`` steps in each of ``octaves`` (1 to 8) sizes, the smallest first, each 1.4
    times the one before. What a size has added to the photo is enlarged and laid over the next; the pictures handed to
    ``partial`` grow accordingly. Cost and errors are those of `maximise`. A class, or a layer behind a dense one, of a
    net that takes pictures of one size only can be had in one octave.
    """
    check_pixels(pixels, one=True)
    check_whole("octaves", octaves, 1, 8)
    check_whole("steps", steps, 0, MOST_STEPS)
    check_whole("seed", seed, 0, 2**63 - 1)
    climb = _Climb(model, objective, octaves * steps, rate, transforms, seed, progress, partial)
    height, width = pixels.shape[2:]
    sizes = [(math.ceil(height / OCTAVE**k), math.ceil(width / OCTAVE**k)) for k in reversed(range(octaves))]
    _check_objective(model, objective, sizes[0])
    with torch.inference_mode(False), torch.no_grad():
        added = torch.zeros(1, 3, *sizes[0])
        for size in sizes:
            canvas = _canvas_for(model, size, decorrelated=True)
            photo = canvas.levels(F.interpolate(pixels.clone(), size, mode="bilinear", antialias=True))
            enlarged = F.interpolate(added.to(photo), size, mode="bilinear")
            waves = climb.up(canvas, canvas.split(photo + enlarged), steps)
            added = canvas.joined(waves) - photo
        pictures = canvas.pictures(waves)
    return climb.finished(pictures, {"octaves": octaves, "steps": steps})


def values_of(model: Model, objective: Objective, pixels: Tensor, *, batch_size: int = 8) -> np.ndarray:
    """The objective's value (N,) float32 for pictures as they are, ``pixels`` (N, 3, H, W) in [0, 1].

    What photos reach, beside which to hold what `maximise` does. A pass a picture, ``batch_size`` at a time.
    """
    check_pixels(pixels)
    check_whole("batch_size", batch_size, 1, 4096)
    with torch.no_grad():
        values = [objective.of(_answer(model, objective, part)[0]) for part in pixels.split(batch_size)]
    return torch.cat(values).float().cpu().numpy()


# -- the picture and its waves ---------------------------------------------------------------------------------------


def frequencies(height: int, width: int) -> Tensor:
    """(h, w//2 + 1) float64 cycles a pixel of each wave that `torch.fft.rfft2` gives, the constant one counted as one
    cycle in the longer side."""
    down, across = torch.fft.fftfreq(height, dtype=torch.float64), torch.fft.rfftfreq(width, dtype=torch.float64)
    return torch.hypot(down[:, None], across[None]).clamp(min=1 / max(height, width))


def colour_mixture() -> Tensor:
    """(3, 3) float64: the symmetric square root of COLOUR_COVARIANCE. It gives independent numbers that covariance."""
    sizes, axes = torch.linalg.eigh(torch.tensor(COLOUR_COVARIANCE, dtype=torch.float64))
    return axes * sizes.sqrt() @ axes.T


@dataclass(frozen=True, eq=False)
class Canvas:
    """Pictures of ``size`` (H, W) as what is climbed on: ``waves`` (N, C, H, W//2 + 1, 2), all of one weight.

    The waves, real and imaginary parts last, are divided by their frequency and added up to planes (N, C, H, W), which
    ``mixture`` (3, C) makes red, green and blue; the logistic function of these *levels* is the picture.
    """

    size: tuple[int, int]
    mixture: Tensor

    def pictures(self, waves: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1]."""
        return torch.sigmoid(self.joined(waves))

    def waves(self, pictures: Tensor) -> Tensor:
        """The waves of which pictures consist; black and white come back as half a step of 8 bits beside them."""
        return self.split(self.levels(pictures))

    def levels(self, pictures: Tensor) -> Tensor:
        if self.mixture.shape[1] == 1:
            grey = torch.einsum("c,nchw->nhw", torch.tensor(GREY_FROM_RGB).to(pictures), pictures)
            pictures = grey[:, None].expand(-1, 3, -1, -1)
        return torch.logit(pictures.to(self.mixture), FAINTEST)

    def joined(self, waves: Tensor) -> Tensor:
        spread = torch.view_as_complex(waves) / frequencies(*self.size).to(waves)
        planes = torch.fft.irfft2(spread, s=self.size, norm="ortho")  # (N, C, H, W)
        return torch.einsum("dc,nchw->ndhw", self.mixture, planes)

    def split(self, levels: Tensor) -> Tensor:
        planes = torch.einsum("cd,ndhw->nchw", torch.linalg.pinv(self.mixture), levels)
        waves = torch.fft.rfft2(planes, norm="ortho") * frequencies(*self.size).to(planes)
        return torch.view_as_real(waves)

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """Waves whose parts are independent, of mean 0 and variance 1."""
        shape = (count, self.mixture.shape[1], self.size[0], self.size[1] // 2 + 1, 2)
        return torch.randn(shape, generator=generator, dtype=self.mixture.dtype)


def _canvas_for(model: Model, size: tuple[int, int], decorrelated: bool) -> Canvas:
    mixture = colour_mixture() if decorrelated else torch.eye(3)
    if len(model.mean) == 1:  # what is not grey, such a net does not see
        mixture = torch.ones(3, 1)
    return Canvas(size, mixture.to(torch.float64 if model.dtype == torch.float64 else torch.float32))


def moved(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """``pictures`` (N, 3, H, W), each turned, resized and moved by chance about its middle; the border is mirrored."""
    height, width = pictures.shape[2:]
    drawn = 2 * torch.rand(len(pictures), 4, generator=generator, dtype=torch.float64) - 1  # (N, 4) in [-1, 1]
    angle, scale = torch.deg2rad(TURN * drawn[:, 0]), 1 + RESIZE * drawn[:, 1]
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    # Where each place is read, both from -1 to 1: a turn of pixels is a turn of these only in a square.
    across = torch.stack([cos, -sin * height / width, 2 * MOVE * drawn[:, 2]], 1)
    down = torch.stack([sin * width / height, cos, 2 * MOVE * drawn[:, 3]], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid.to(pictures), padding_mode="reflection", align_corners=False)


# -- the climb -------------------------------------------------------------------------------------------------------


def likeness(answer: Tensor) -> Tensor:
    """The mean cosine between the Gram matrices of two pictures, of N (2 or more): 1 where all textures are one.

    ``answer`` is (N, C, h, w) or (N, C). The matrix of a picture holds the products of its channels, over all places.
    """
    flat = answer.flatten(2) if answer.ndim == 4 else answer[:, :, None]  # (N, C, places)
    grams = F.normalize(torch.einsum("ncp,ndp->ncd", flat, flat).flatten(1), dim=1)
    count = len(grams)
    return ((grams @ grams.T).sum() - grams.square().sum()) / (count * (count - 1))


@dataclass
class _Climb:
    """Steps of Adam along the slope of one objective, counted over all canvases on which it goes."""

    model: Model
    objective: Objective
    steps: int
    rate: float
    transforms: bool
    seed: int
    progress: Progress | None
    partial: Partial | None
    diversity: float = 0.0
    history: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_whole("seed", self.seed, 0, 2**63 - 1)
        _check_number("rate", self.rate, 1e-6, 10)
        self.generator = torch.Generator().manual_seed(self.seed)

    def first_waves(self, canvas: Canvas, count: int) -> Tensor:
        """Noise, so faint that the picture is all but grey; less faint where the net has no slope there."""
        for strength in FIRST_NOISE:
            waves = strength * canvas.noise(count, self.generator)
            if self.slope(waves, canvas.pictures).gradient.flatten(1).any(1).all():
                break
        return waves

    def up(self, canvas: Canvas, waves: Tensor, steps: int) -> Tensor:
        """``waves`` after so many steps of Adam (Kingma & Ba 2015)."""
        first, second = torch.zeros_like(waves), torch.zeros_like(waves)

        def shown(waves: Tensor) -> Tensor:
            pictures = canvas.pictures(waves)
            return moved(pictures, self.generator) if self.transforms else pictures

        for step in range(1, steps + 1):
            here = self.slope(waves, shown)
            if step == 1 and not here.gradient.any():
                raise UnsupportedModel(
                    f"The objective is {here.value:.3g} and no small change of the picture changes it: a ReLU may be "
                    "shut, or full. Choose a layer before it, another channel, or start from a photo."
                )
            first = 0.9 * first + 0.1 * here.gradient
            second = 0.999 * second + 0.001 * here.gradient.square()
            length = (second / (1 - 0.999**step)).sqrt() + 1e-12
            waves = waves + self.rate * first / (1 - 0.9**step) / length
            self.history.append(here.value)
            if self.partial:
                self.partial(canvas.pictures(waves).float().cpu().numpy())
            if self.progress:
                self.progress(len(self.history), self.steps)
        return waves

    def slope(self, waves: Tensor, shown: Callable[[Tensor], Tensor]) -> _Slope:
        """How what is raised answers to ``waves``, when the net looks at the pictures that ``shown`` makes of them."""
        waves = waves.detach().requires_grad_()
        with torch.enable_grad(), self.model.lock:
            answer, textures = _answer(self.model, self.objective, shown(waves), textures=bool(self.diversity))
            value = self.objective.of(answer).mean()
            raised = value - self.diversity * value.detach().abs() * likeness(textures) if self.diversity else value
            if not raised.requires_grad:
                raise UnsupportedModel(
                    f"What {self.model.title} answers does not depend on the picture in a differentiable way."
                )
            (gradient,) = torch.autograd.grad(raised, waves, allow_unused=True)
        if gradient is None or not torch.isfinite(gradient).all():
            raise UnsupportedModel(f"The gradient of {self.model.title} holds NaN or infinity, or there is none.")
        return _Slope(float(value.detach()), gradient)

    def finished(self, pictures: Tensor, params: Mapping[str, Any]) -> Maximised:
        own = {"rate": self.rate, "transforms": self.transforms, "seed": self.seed}
        return Maximised(
            pictures=pictures.float().cpu().numpy(),
            values=values_of(self.model, self.objective, pictures),
            history=np.array(self.history, np.float32),
            objective=self.objective,
            model_name=self.model.name,
            params={**params, **own},
        )


class _Slope(NamedTuple):
    value: float
    gradient: Tensor


class _Reached(Exception):
    """Ends a pass at a layer. What lies behind it costs time and memory, and may want pictures of one size."""


def _answer(model: Model, objective: Objective, pictures: Tensor, textures: bool = False) -> tuple[Tensor, Tensor]:
    """What the objective is read from, and the maps by which ``textures`` are told apart: the same, but for a class."""
    differentiable = pictures.requires_grad
    if objective.layer is None and not textures:
        logits = model.logits(pictures)
        return logits, logits
    if objective.layer is None:
        layer = layer_for(model, "cam", None)
        with trace(model, [layer], grad=differentiable) as seen, torch.set_grad_enabled(differentiable):
            return model.logits(pictures), seen[layer]

    reached: list[Tensor] = []

    def stop(output: Tensor) -> Tensor:
        reached.append(output)
        raise _Reached

    with (
        suppress(_Reached),
        trace(model, [], grad=differentiable, replace={objective.layer: stop}),
        torch.set_grad_enabled(differentiable),
    ):
        model.logits(pictures)
    return reached[0], reached[0]


# -- what is handed in -----------------------------------------------------------------------------------------------


def _check_objective(model: Model, objective: Objective, size: tuple[int, int]) -> None:
    """Refuse what the net cannot be asked, by passes of black pictures: one of its own size, one of ``size``."""
    if not isinstance(objective, Objective):
        raise BadParameter(f"objective is a {type(objective).__name__}; it must be an Objective.")
    with torch.no_grad():
        if objective.layer is None:
            check_target(model, objective.target)  # type: ignore[arg-type]
        else:
            find_layer(model, objective.layer)
            with trace(model, [objective.layer]) as seen:
                model.logits(torch.zeros(1, 3, *model.input_size))
                output = seen[objective.layer]
                if output.ndim != 2:
                    require_maps(model, objective.layer, output)
        try:
            answer, _ = _answer(model, objective, torch.zeros(1, 3, *size))
        except RuntimeError as error:
            if size == model.input_size:
                raise
            raise BadParameter(
                f"size is {size[0]} × {size[1]}; {model.title} takes no pictures of that size, as far as it is asked. "
                f"Its own is {model.input_size[0]} × {model.input_size[1]}."
            ) from error
        objective.of(answer)


def _check_number(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise BadParameter(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}.")
