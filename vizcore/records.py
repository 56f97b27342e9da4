"""The records that cross a boundary, and the errors that the app shows as they are.

Everything here is frozen: a record is made by the one function that knows how, and only read
afterwards. Sizes are written n, c, h, w and shapes (N, C, H, W).

Two arguments mean the same everywhere and are documented once, here:

* ``model``: a `Model`, one loaded network. The raw ``torch.nn.Module`` is always called ``net``.
* ``progress``: a `Progress`, called as ``progress(done, total)`` in the caller's thread after each
  piece of work. It may raise to cancel: the exception passes through, and the model is left as it was.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Progress = Callable[[int, int], None]

VIEWS = ("signed", "absolute")  # of an attribution, which has a number for each colour of a pixel
GREY_FROM_RGB = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as in Pillow's convert("L")


class LensError(Exception):
    """A refusal in one sentence: what was received, what is allowed, what to do."""


class LayerNotFound(LensError, LookupError):
    """No layer of that name, or none that the method can use."""


class UnsupportedModel(LensError):
    """The network cannot do what was asked, or answered with something that is not (N, K) finite numbers."""


class BadImage(LensError, ValueError):
    """The file or array is not a picture that can be shown to a network."""


class BadWeights(LensError):
    """A weights file is missing, damaged, or does not belong to the architecture."""


class BadParameter(LensError, ValueError):
    """An argument is out of its range."""


@dataclass(frozen=True, eq=False)
class Model:
    """One loaded network with all that is needed to show it a picture.

    ``net`` is in eval mode with frozen parameters. ``input_size`` is (H, W) in pixels; ``mean`` and
    ``std`` are by channel, for pixels in [0, 1] (one number each: a grey net). ``layers`` maps the roles
    ``first_conv``, ``cam``, ``features`` and ``classifier`` to dotted names of ``net.named_modules()``.
    ``crop_pct`` and ``interpolation`` say how the net's evaluation pictures were cut (`images.prepare`).
    ``lock`` is held by whoever runs or hooks the net. ``weights`` says where the weights come from;
    None means untrained.
    """

    name: str
    net: nn.Module = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    input_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layers: Mapping[str, str]
    lock: Any = field(default_factory=threading.RLock, repr=False)
    device: torch.device | str = "cpu"
    title: str = ""
    weights: str | None = None
    crop_pct: float = 1.0
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", MappingProxyType(dict(self.layers)))
        if not self.title:
            object.__setattr__(self, "title", self.name)

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the parameters (float32 for a net without any)."""
        return next((p.dtype for p in self.net.parameters() if p.is_floating_point()), torch.float32)

    def logits(self, pixels: Tensor, *, rows: int | None = None) -> Tensor:
        """Scores before any softmax, (N, K), of RGB ``pixels`` in [0, 1], shape (N, 3, H, W).

        Converts to grey where the net is grey, and normalises, inside: gradients and baselines live in
        pixel space. Runs in eval mode whatever the mode of ``net``, which comes back as it was. One forward
        pass, under ``lock``. ``rows`` is how many rows to expect where a layer replaced by `hooks.trace` changes N.
        Raises BadParameter on another shape and UnsupportedModel when the net
        does not answer with (N, K) finite numbers.
        """
        check_pixels(pixels)
        weight = next(self.net.parameters(), None)
        if weight is not None and weight.is_meta:
            raise UnsupportedModel(f"{self.title} has no weights in memory (device “meta”): load them first.")
        with self.evaluating():
            output = self.net(self.normalise(pixels))
        return self.checked(output, len(pixels) if rows is None else rows)

    def checked(self, output: object, rows: int) -> Tensor:
        """``output`` if it is finite scores (N, K) of as many ``rows``, else UnsupportedModel."""
        if not isinstance(output, Tensor):
            raise UnsupportedModel(
                f"{self.title} answers with a {type(output).__name__}; CNN Lens needs one tensor of scores, "
                "(N, K). Wrap the net so that forward() returns that tensor."
            )
        if output.ndim != 2 or len(output) != rows:
            raise UnsupportedModel(
                f"{self.title} answers with the shape {tuple(output.shape)}; CNN Lens needs scores of the "
                f"shape (N, K), here ({rows}, K)."
            )
        if not torch.isfinite(output).all():
            raise UnsupportedModel(
                f"{self.title} answered with NaN or infinity. Its weights may be damaged, or the picture may "
                "be far from what it was trained on."
            )
        return output

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Hold ``lock`` with every module in eval mode; each comes back as it was."""
        with self.lock:
            training = [module for module in self.net.modules() if module.training]
            for module in training:
                module.training = False
            try:
                yield
            finally:
                for module in training:
                    module.training = True

    def twin(self) -> Model:
        """The same net with modules and a lock of its own, and the same tensors: for a second thread, or a change.

        Takes no memory to speak of, as parameters and buffers are shared; hooks that stand on the net are copied.
        """
        with self.lock:
            tensors = [*self.net.parameters(), *self.net.buffers()]
            net = copy.deepcopy(self.net, {id(tensor): tensor for tensor in tensors})  # known: not copied
        return replace(self, net=net, lock=threading.RLock())

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixel space to what the net's first layer receives: grey where wanted, (x - mean) / std."""
        pixels = pixels.to(self.device, self.dtype)
        if len(self.mean) == 1:
            luma = torch.tensor(GREY_FROM_RGB, device=self.device, dtype=self.dtype).view(1, 3, 1, 1)
            pixels = (pixels * luma).sum(1, keepdim=True)  # (N, 1, H, W)
        mean = torch.tensor(self.mean, device=self.device, dtype=self.dtype).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=self.device, dtype=self.dtype).view(1, -1, 1, 1)
        return (pixels - mean) / std


@dataclass(frozen=True)
class Layer:
    """One module of a net as it ran: dotted ``name``, class name ``kind``, output ``shape`` without N."""

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def size(self) -> str:
        """The shape in words: "1280 × 7 × 7"."""
        return " × ".join(str(n) for n in self.shape)


@dataclass(frozen=True, eq=False)
class Scores:
    """What a net answers to one picture: ``values`` (K,) float32, logits; ``labels``, the names of the classes."""

    values: np.ndarray
    model_name: str
    labels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Heatmap:
    """Evidence for ``target`` by place: ``values`` (h, w) float32, raw, at the method's own resolution.

    ``score`` is the target's score on the picture (a logit unless ``params`` says otherwise). ``params``
    holds every option needed to compute it again; ``notes`` are sentences for the reader.
    """

    values: np.ndarray
    method: str
    model_name: str
    layer: str | None
    target: int
    score: float
    params: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Attribution:
    """What each number of the picture has to do with ``target``: ``values`` (3, H, W) float32, raw, signed.

    ``score`` is the target's logit on the picture, ``params`` hold every option needed to compute it again, and
    ``notes`` are sentences for the reader.
    """

    values: np.ndarray
    method: str
    model_name: str
    target: int
    score: float
    params: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def signed(self) -> np.ndarray:
        """(H, W) sum over the colours: for and against the class."""
        return self.values.sum(axis=0)

    @property
    def absolute(self) -> np.ndarray:
        """(H, W) largest magnitude over the colours, at least 0: how much, whatever the sign (Simonyan et al. 2014)."""
        return np.abs(self.values).max(axis=0)

    def heatmap(self, view: str = "signed") -> Heatmap:
        """One number a pixel, ``"signed"`` or ``"absolute"``, to be shown and measured as other heatmaps are."""
        if view not in VIEWS:
            raise BadParameter(f"view is {view!r}; it must be one of {', '.join(VIEWS)}.")
        values, params = getattr(self, view), {**self.params, "view": view}
        return Heatmap(values, self.method, self.model_name, None, self.target, self.score, params, self.notes)


@dataclass(frozen=True, eq=False)
class ActivationMaps:
    """What comes out of one layer for one picture: ``values`` (C, h, w) float32, raw."""

    values: np.ndarray
    model_name: str
    layer: str

    @property
    def means(self) -> np.ndarray:
        """(C,) mean of each channel."""
        return self.values.mean(axis=(1, 2))

    @property
    def maxima(self) -> np.ndarray:
        """(C,) largest value of each channel."""
        return self.values.max(axis=(1, 2))

    @property
    def zero_shares(self) -> np.ndarray:
        """(C,) share of exact zeros, 0 to 1."""
        return (self.values == 0).mean(axis=(1, 2))

    @property
    def strengths(self) -> np.ndarray:
        """(C,) root mean square: how strongly a channel responds, whatever the sign."""
        return np.sqrt(np.square(self.values, dtype=np.float64).mean(axis=(1, 2)))

    @property
    def dead(self) -> np.ndarray:
        """Indices of the channels that are zero everywhere for this picture."""
        return np.flatnonzero(~self.values.any(axis=(1, 2)))


@dataclass(frozen=True, eq=False)
class Filters:
    """The kernels of one convolution: ``values`` (N, C, kh, kw) float32, raw and signed.

    ``channel_names`` are "red", "green", "blue" where the input is the picture, else None.
    """

    values: np.ndarray
    model_name: str
    layer: str
    channel_names: tuple[str, ...] | None = None

    @property
    def norms(self) -> np.ndarray:
        """(N,) Euclidean length of each kernel."""
        return np.sqrt(np.square(self.values, dtype=np.float64).sum(axis=(1, 2, 3)))


@dataclass(frozen=True, eq=False)
class Embedding:
    """``points`` (n, 2) float32 of n pictures on a plane, in no unit, and how far to trust them.

    ``trustworthiness`` is 0 to 1 (Venna & Kaski 2001) over ``neighbours`` neighbours; ``kl_divergence`` is what
    t-SNE minimised, in nats, and None of other maps. ``params`` holds every option needed to compute it again.
    """

    points: np.ndarray
    kl_divergence: float | None
    trustworthiness: float
    neighbours: int
    params: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def check_pixels(pixels: Tensor, *, one: bool = False) -> None:
    """Refuse what is not RGB pixels (N, 3, H, W), floating point, finite; with ``one``, N must be 1."""
    if not isinstance(pixels, Tensor) or not pixels.is_floating_point():
        got = f"{pixels.dtype}" if isinstance(pixels, (Tensor, np.ndarray)) else type(pixels).__name__
        raise BadParameter(f"pixels is {got}; it must be a floating-point tensor in [0, 1], as images.prepare makes.")
    if pixels.ndim != 4 or pixels.shape[1] != 3 or 0 in pixels.shape:
        raise BadParameter(f"pixels has the shape {tuple(pixels.shape)}; it must be (N, 3, H, W) with N of 1 or more.")
    if one and len(pixels) != 1:
        raise BadParameter(f"pixels holds {len(pixels)} pictures; this takes one, of the shape (1, 3, H, W).")
    if not torch.isfinite(pixels).all():
        raise BadParameter("pixels holds NaN or infinity; it must be finite numbers in [0, 1].")


def check_target(model: Model, target: int, classes: int | None = None) -> int:
    """``target`` as a class index of ``model``, or BadParameter with the range."""
    classes = classes or len(model.labels)
    if isinstance(target, (bool, np.bool_)) or not isinstance(target, (int, np.integer)) or not 0 <= target < classes:
        raise BadParameter(f"target is {target!r}; it must be a class index of {model.title}, 0 to {classes - 1}.")
    return int(target)


def check_whole(name: str, value: int, low: int, high: int) -> int:
    """``value`` as a whole number from ``low`` to ``high``, or BadParameter naming the argument."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise BadParameter(f"{name} is {value!r}; it must be a whole number from {low} to {high}.")
    return int(value)


def check_number(name: str, value: float, low: float, high: float) -> float:
    """``value`` as a number from ``low`` to ``high``, or BadParameter naming the argument."""
    known = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not known or not low <= value <= high:
        raise BadParameter(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}.")
    return float(value)


def probabilities(logits: Tensor) -> Tensor:
    """Logits (N, K) to probabilities: softmax over classes, or the sigmoid where there is one logit."""
    return torch.sigmoid(logits) if logits.shape[1] == 1 else F.softmax(logits, dim=1)
