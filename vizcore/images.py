"""Photo -> what the network sees, and back on to the photo.

`prepare` cuts from a photo what the network sees, exactly as the network's evaluation pictures were cut, and says where
that part lies in the photo, as a box (left, top, right, bottom) in pixels of the photo. `overlay` lays a heatmap back
on that box. Photos are read in `vizcore.photos` and colours made in `vizcore.colour`; their names can be imported from
here too.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from vizcore.colour import Montage, Scale, as_floats, colour_bar, colour_table, montage, tiles, to_colours
from vizcore.photos import (
    MAX_ASPECT,
    MAX_BYTES,
    MAX_PIXELS,
    MIN_SIDE,
    Photo,
    check_photo,
    open_photo,
    read_image,
    reduced_size,
)
from vizcore.records import BadParameter, Heatmap, Model, Progress, check_pixels, check_whole

__all__ = [
    "MAX_ASPECT",
    "MAX_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE",
    "Box",
    "Montage",
    "Photo",
    "Pictures",
    "Scale",
    "View",
    "check_photo",
    "colour_bar",
    "frame",
    "in_batches",
    "montage",
    "open_photo",
    "overlay",
    "prepare",
    "read_image",
    "thumbnail",
    "tiles",
    "to_colours",
    "to_jpeg",
    "to_png",
]

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the photo; right and bottom are outside
Pictures = Sequence[np.ndarray] | Tensor  # uint8 (H, W, 3) of any sizes each, or a float tensor (N, 3, H, W) in [0, 1]


@dataclass(frozen=True, eq=False)
class View:
    """What the network sees: ``pixels`` float32 (1, 3, h, w) in [0, 1]; ``box``, where that lies in the photo."""

    pixels: Tensor
    box: Box


def prepare(photo: np.ndarray, model: Model) -> View:
    """What the network sees of a photo, uint8 (H, W, 3): resized, and its middle cut out.

    The shorter side becomes ``input_size / crop_pct`` (rounded down), and the middle of ``input_size`` is kept, as in
    timm's and torchvision's transforms for evaluation, to the bit. Of a strip longer than MAX_ASPECT only the part that
    is kept is resampled, so that it costs no more; that is the same but for rounding.
    """
    photo = check_photo(photo)
    height, width = photo.shape[:2]
    resample = _find_resampling(model.interpolation)
    target = (math.floor(model.input_size[0] / model.crop_pct), math.floor(model.input_size[1] / model.crop_pct))
    if target[0] == target[1]:  # torchvision rounds the longer side down, timm for other shapes to the nearest
        short = min(height, width)
        resized = (int(target[0] * height / short), int(target[0] * width / short))
    else:
        ratio = min(height / target[0], width / target[1])
        resized = (round(height / ratio), round(width / ratio))
    h, w = model.input_size
    top, left = round((resized[0] - h) / 2), round((resized[1] - w) / 2)
    down, across = height / resized[0], width / resized[1]  # pixels of the photo to one of the resized
    part = (left * across, top * down, (left + w) * across, (top + h) * down)
    image = Image.fromarray(photo)
    if max(resized) <= MAX_ASPECT * min(resized):
        image = image.resize(resized[::-1], resample).crop((left, top, left + w, top + h))
    else:
        image = image.resize((w, h), resample, box=part)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].contiguous().float() / 255  # (1, 3, h, w)
    box = [round(side) for side in part]
    return View(pixels, (box[0], box[1], max(box[2], box[0] + 1), max(box[3], box[1] + 1)))


def in_batches(pictures: Pictures, model: Model, batch_size: int, progress: Progress | None) -> Iterator[Tensor]:
    """The pixels (b, 3, h, w) of at most ``batch_size`` pictures at a time, so that no more are held than these.

    Photos are cut by `prepare`, a tensor is handed on as it is. ``progress`` counts the pictures, and is called when
    the next batch is asked for. Raises BadParameter for an empty set, or one that is none.
    """
    if isinstance(pictures, Tensor):
        check_pixels(pictures)
    elif isinstance(pictures, np.ndarray) and pictures.ndim != 4:
        raise BadParameter(
            f"pictures is one array of the shape {pictures.shape}; it must be a list of arrays (H, W, 3), or one array "
            "(N, H, W, 3)."
        )
    if not len(pictures):
        raise BadParameter("pictures is empty; bring at least one picture.")
    for start in range(0, len(pictures), batch_size):
        batch = pictures[start : start + batch_size]
        if not isinstance(batch, Tensor):
            batch = torch.cat([prepare(photo, model).pixels for photo in batch])  # (b, 3, h, w)
        yield batch
        if progress is not None:
            progress(start + len(batch), len(pictures))


def overlay(
    photo: np.ndarray,
    heat: Heatmap | np.ndarray,
    box: Box,
    *,
    scale: Scale | None = None,
    colormap: str | None = None,
    alpha: float = 0.5,
    solid: bool = False,
) -> np.ndarray:
    """A heatmap (h, w) laid over the part ``box`` of a photo (H, W, 3), as uint8 (H, W, 3).

    The raw values are resampled bilinearly to the box and coloured on ``scale`` (by default the map's own, see
    `Scale.of`). The colour covers the photo the more, the farther a value is from zero: by ``alpha`` at the end
    of the scale, by nothing at zero, so that what carries no evidence stays a photo; where ``solid``, by ``alpha``
    everywhere: a map with a number for each pixel is not to be read through a photo. Under the colour the photo turns
    grey, so that every hue is the heatmap's. What lies outside the box the network did not see: it is grey and pale.
    """
    photo = check_photo(photo)
    left, top, right, bottom = _check_box(box, photo)
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float, np.floating)) or not 0 <= alpha <= 1:
        raise BadParameter(f"alpha is {alpha!r}; it must be a number from 0 (only the photo) to 1 (solid colour).")
    values = as_floats(heat)
    if values.ndim != 2 or 0 in values.shape:
        raise BadParameter(f"The heatmap has the shape {values.shape}; it must be (h, w).")
    scale = scale or Scale.of(values)
    table = colour_table(scale.signed, colormap).astype(np.float32)
    grid = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]  # (1, 1, h, w)
    spread = F.interpolate(grid, size=(bottom - top, right - left), mode="bilinear", align_corners=False)
    positions = scale.positions(spread[0, 0].numpy())  # (bottom - top, right - left)
    picture = _pale_outside(photo, box)
    for start in range(0, bottom - top, 256):  # rows at a time: the blend is in float32
        place = positions[start : start + 256]
        strength = np.ones_like(place) if solid else np.abs(2 * place - 1) if scale.signed else place
        weight = (alpha * np.sqrt(strength))[..., None]
        colours = table[np.rint(place * np.float32(len(table) - 1)).astype(np.uint8)]
        under = picture[top + start : min(top + start + 256, bottom), left:right]
        grey = np.asarray(Image.fromarray(under).convert("L"))[..., None]
        muted = under + np.minimum(1, 2 * weight) * (grey.astype(np.float32) - under)
        under[:] = np.rint(muted + weight * (colours - muted))
    return picture


def frame(photo: np.ndarray, box: Box) -> np.ndarray:
    """The photo with the box drawn on it, white beside black, and what is outside grey and pale, uint8 (H, W, 3)."""
    photo = check_photo(photo)
    left, top, right, bottom = _check_box(box, photo)
    image = Image.fromarray(_pale_outside(photo, box))
    line = max(1, round(min(photo.shape[:2]) / 200))
    draw = ImageDraw.Draw(image)
    draw.rectangle((left, top, right - 1, bottom - 1), outline="white", width=line)
    if min(right - left, bottom - top) > 4 * line:
        draw.rectangle((left + line, top + line, right - 1 - line, bottom - 1 - line), outline="black", width=line)
    return np.array(image)


def to_png(picture: np.ndarray) -> bytes:
    """A picture, uint8 (H, W, 3) or (H, W), as a PNG file, without loss and without metadata.

    Packed the fast way: for photos under a map half the time of Pillow's usual level, and files 10 % larger.
    """
    return _encode(picture, "PNG", compress_level=1)


def to_jpeg(picture: np.ndarray, quality: int = 90) -> bytes:
    """A photo, uint8 (H, W, 3) or (H, W), as a JPEG file without metadata; never for maps, whose colours it bends."""
    return _encode(picture, "JPEG", quality=check_whole("quality", quality, 1, 100))


def thumbnail(picture: np.ndarray, side: int) -> np.ndarray:
    """The picture reduced so that its longer side has at most ``side`` pixels; never enlarged. uint8 (h, w, 3)."""
    check_whole("side", side, 1, 100_000)
    picture = check_photo(picture)
    size = reduced_size((picture.shape[1], picture.shape[0]), side)
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _find_resampling(name: str) -> Image.Resampling:
    if name.upper() not in Image.Resampling.__members__:
        known = ", ".join(f"“{known.lower()}”" for known in Image.Resampling.__members__)
        raise BadParameter(f"The model's interpolation is {name!r}; it must be one of {known}.")
    return Image.Resampling[name.upper()]


def _check_box(box: Any, photo: np.ndarray) -> Box:
    """``box`` as four whole numbers that mark at least one pixel of the photo, or BadParameter."""
    height, width = photo.shape[:2]
    try:
        left, top, right, bottom = (int(side) for side in box)
    except (TypeError, ValueError):
        raise BadParameter(f"box is {box!r}; it must be four numbers (left, top, right, bottom).") from None
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise BadParameter(
            f"box is {box!r}; it must be (left, top, right, bottom) within this photo of {width} × {height} pixels."
        )
    return left, top, right, bottom


def _pale_outside(photo: np.ndarray, box: Box) -> np.ndarray:
    """A copy of the photo that is grey and of half the contrast outside of the box."""
    left, top, right, bottom = box
    grey = np.asarray(Image.fromarray(photo).convert("L")) // 2 + 64
    picture = np.repeat(grey[:, :, None], 3, axis=2)
    picture[top:bottom, left:right] = photo[top:bottom, left:right]
    return picture


def _encode(picture: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(check_photo(picture)).save(file, kind, **options)
    return file.getvalue()
