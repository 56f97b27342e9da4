"""Super-pixel ablation: how far the score falls when a patch of like colour is hidden.

The picture is cut along its own edges into super-pixels (Achanta et al., *SLIC Superpixels Compared to State-of-the-art
Superpixel Methods*, TPAMI 2012), and each is replaced by a baseline in turn. The value of a pixel is the drop of its
super-pixel: the score of the picture minus the score with that super-pixel hidden. Positive = evidence for the class.
It is occlusion (Zeiler & Fergus, ECCV 2014) with windows that follow what is in the picture; on super-pixels of this
kind LIME (Ribeiro, Singh & Guestrin, *“Why Should I Trust You?”*, KDD 2016) fits a linear model to many hidden at
once, here each is hidden alone.

The drop is of the whole super-pixel and not divided by its area: a large one has more to hide. A super-pixel is no
rectangle, but lies in one: outside of what that rectangle can change, nothing is computed (`vizcore.incremental`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vizcore.baselines import filling_of
from vizcore.incremental import Variants
from vizcore.records import BadParameter, Heatmap, Model, Progress, check_pixels, check_target, check_whole
from vizcore.regions import Region, Span
from vizcore.scores import check_score, scores_of

SEGMENTS = 50
MAX_SEGMENTS = 100_000
MASKS = 2**24  # bytes: masks that are held at once


def superpixels(pixels: Tensor, count: int = SEGMENTS, compactness: float = 10.0, sigma: float = 1.0) -> np.ndarray:
    """Cut one picture, ``pixels`` (1, 3, H, W) in [0, 1], into about ``count`` patches of like colour, by SLIC.

    Returns labels (H, W), whole numbers from 0 without gaps; each label is one connected patch. ``compactness`` weighs
    nearness against likeness in colour (CIELAB): higher gives squarer patches. ``sigma``, in pixels, smooths
    the picture before. Takes a tenth of a second for 224 × 224 pixels. Raises BadParameter.
    """
    check_pixels(pixels, one=True)
    check_whole("count", count, 1, pixels.shape[2] * pixels.shape[3])
    if not _is_number(compactness) or not 0 < compactness < np.inf:
        raise BadParameter(f"compactness is {compactness!r}; it must be a number above 0. 10 is usual.")
    if not _is_number(sigma) or not 0 <= sigma < np.inf:
        raise BadParameter(f"sigma is {sigma!r}; it must be a number of pixels, 0 or more.")
    from skimage.segmentation import slic  # takes a second to import

    photo = pixels[0].detach().permute(1, 2, 0).double().cpu().numpy()  # (H, W, 3)
    return _consecutive(
        slic(photo, n_segments=count, compactness=compactness, sigma=sigma, start_label=0, channel_axis=-1)
    )


def superpixel_ablation(
    model: Model,
    pixels: Tensor,
    target: int,
    segments: int | np.ndarray = SEGMENTS,
    *,
    baseline: str | Tensor = "mean",
    score: str = "logit",
    batch_size: int | None = None,
    progress: Progress | None = None,
    partial: Callable[[Unfinished], None] | None = None,
) -> Heatmap:
    """Drop of the score of ``target`` when a super-pixel of ``pixels`` (1, 3, H, W) in [0, 1] is hidden, each in turn.

    ``segments`` says how the picture is cut: labels (H, W), whole numbers, where equal ones are hidden together; or
    about how many `superpixels` is to make. ``baseline`` replaces the super-pixel: ``"mean"`` of the
    picture by channel, ``"black"``, ``"white"``, ``"blur"``, or a tensor of the shape of ``pixels``. ``score`` is
    ``"logit"`` or ``"probability"``. ``batch_size`` super-pixels go through the net together; None chooses by memory.

    Returns values (H, W): the drop of the pixel's super-pixel, positive = evidence, in the unit of the score. Cost: at
    most one forward pass a super-pixel. ``progress`` counts super-pixels; before each call of it ``partial`` is given
    the map so far. Raises BadParameter; more than MAX_SEGMENTS super-pixels are refused.
    """
    return superpixel_ablation_of(
        model,
        pixels,
        [target],
        segments,
        baseline=baseline,
        score=score,
        batch_size=batch_size,
        progress=progress,
        partial=partial,
    )[0]


def superpixel_ablation_of(
    model: Model,
    pixels: Tensor,
    targets: Sequence[int],
    segments: int | np.ndarray = SEGMENTS,
    *,
    baseline: str | Tensor = "mean",
    score: str = "logit",
    batch_size: int | None = None,
    progress: Progress | None = None,
    partial: Callable[[Unfinished], None] | None = None,
) -> tuple[Heatmap, ...]:
    """`superpixel_ablation` of several classes for the price of one: a forward pass answers for all."""
    check_pixels(pixels, one=True)
    pixels = pixels.detach()
    targets = [check_target(model, target) for target in targets]
    check_score(score)
    if batch_size is not None:
        check_whole("batch_size", batch_size, 1, 4096)
    filling = filling_of(pixels, baseline)
    labels = _labels(pixels, segments)
    params = {
        "segments": "given" if isinstance(segments, np.ndarray) else int(segments),
        "baseline": baseline if isinstance(baseline, str) else "given",
        "score": score,
    }
    variants = Variants(model, pixels)
    whole = scores_of(model, variants.logits, targets, score)[0]  # (T,)
    region = _boxes(labels)
    notes: tuple[str, ...] = (
        f"The picture is cut into {len(region):,} super-pixels; each value is the drop of a whole one.",
    )
    if variants.why_whole:
        notes += (f"Each took a pass of the whole net, which could not be taken apart: {variants.why_whole}.",)
    zeros = np.zeros(labels.shape, np.float32)
    empty = tuple(
        Heatmap(zeros, "superpixel_ablation", model.name, None, target, float(one), params, notes)
        for target, one in zip(targets, whole, strict=True)
    )
    drops, done = np.full((len(targets), len(region)), np.nan), 0
    for some in _chunks(region, labels.size):
        masks = torch.from_numpy(labels == some[:, None, None])  # (n, H, W)
        for numbers, logits in variants.answers(region[some], filling, masks, batch_size):
            drops[:, some[numbers]] = (whole - scores_of(model, logits, targets, score)).T.cpu().numpy()
            done += len(numbers)
            if partial:
                partial(Unfinished(empty, labels, drops.copy(), done))
            if progress:
                progress(done, len(region))
    return Unfinished(empty, labels, drops, done).heatmaps()


@dataclass(frozen=True, eq=False)
class Unfinished:
    """What is known after ``done`` super-pixels: ``drops`` (T, super-pixels), NaN where not yet; ``labels`` (H, W)."""

    empty: tuple[Heatmap, ...]
    labels: np.ndarray
    drops: np.ndarray
    done: int

    @property
    def total(self) -> int:
        return self.drops.shape[1]

    def heatmaps(self) -> tuple[Heatmap, ...]:
        """A map for each class; 0 where a super-pixel was not hidden yet."""
        stopped: tuple[str, ...] = ()
        if self.done < self.total:
            stopped = (f"Stopped early: {self.done:,} of {self.total:,} super-pixels were hidden; the others show 0.",)
        return tuple(
            replace(heat, values=np.nan_to_num(drops)[self.labels].astype(np.float32), notes=(*stopped, *heat.notes))
            for heat, drops in zip(self.empty, self.drops, strict=True)
        )


def _labels(pixels: Tensor, segments: int | np.ndarray) -> np.ndarray:
    """Labels (H, W) from 0 without gaps, or BadParameter."""
    size = (pixels.shape[2], pixels.shape[3])
    if not isinstance(segments, np.ndarray):
        labels = superpixels(pixels, check_whole("segments", segments, 1, size[0] * size[1]))
    elif segments.shape != size or not np.issubdtype(segments.dtype, np.integer):
        raise BadParameter(
            f"segments is {segments.dtype} of the shape {segments.shape}; it must be whole numbers of the shape "
            f"{size}, as `superpixels` gives them, or how many to make."
        )
    else:
        labels = _consecutive(segments)
    if (count := labels.max() + 1) > MAX_SEGMENTS:
        raise BadParameter(f"segments are {count:,}; at most {MAX_SEGMENTS:,} are hidden. Use fewer, larger ones.")
    return labels


def _consecutive(labels: np.ndarray) -> np.ndarray:
    """The same patches, numbered from 0 without gaps."""
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def _boxes(labels: np.ndarray) -> Region:
    """The smallest rectangle about each label."""

    def span(places: np.ndarray, size: int) -> Span:
        first, last = np.full(labels.max() + 1, size), np.zeros(labels.max() + 1, int)
        np.minimum.at(first, labels, places)
        np.maximum.at(last, labels, places + 1)
        return Span(first, last, size)

    places = np.indices(labels.shape)
    return Region(span(places[0], labels.shape[0]), span(places[1], labels.shape[1]))


def _chunks(region: Region, pixels: int) -> Iterator[np.ndarray]:
    """Numbers of super-pixels, neighbours together, as many at a time as their masks have room."""
    size = max(1, MASKS // pixels)
    order = region.order()
    return (order[start : start + size] for start in range(0, len(order), size))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
