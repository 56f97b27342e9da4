"""The warp that a net learnt: which part of the picture a spatial transformer reads, and what it makes of it.

Jaderberg, Simonyan, Zisserman & Kavukcuoglu, *Spatial Transformer Networks*, NeurIPS 2015: six numbers θ, computed from
the picture itself, take each place (x, y) of a new picture to the place θ · (x, y, 1) of the old one, where it is read.
A layer that does this says so by an attribute of its class, ``warps_by``, the name of the layer inside it that gives
the six numbers; it is the first thing that the net does with the picture.

What the net computes behind that layer lies in the new picture. `laid_back` takes it to the old one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from vizcore.hooks import find_layer, trace
from vizcore.records import BadParameter, Heatmap, Model, UnsupportedModel, check_pixels, check_whole

OUTLINE, UPPER_EDGE = (0, 229, 255), (255, 149, 0)  # in no grey picture


@dataclass(frozen=True, eq=False)
class Warp:
    """How one picture is read: ``before`` (C, H, W) and ``after`` (C, h, w) as the net saw them, float32, white 1.

    ``matrix`` (2, 3) float32 takes (x, y, 1) in ``after`` to (x, y) in ``before``, both from -1 to 1 between the outer
    edges, x to the right and y down. ``layer`` is the one that warps.
    """

    matrix: np.ndarray
    before: np.ndarray
    after: np.ndarray
    model_name: str
    layer: str

    @property
    def corners(self) -> np.ndarray:
        """(4, 2) where the corners of ``after`` are read, (x, y) in pixels from the upper left corner of ``before``:
        its upper left, upper right, lower right and lower left."""
        places = np.array([(-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1)]) @ self.matrix.T  # (4, 2) in [-1, 1]
        return (places + 1) / 2 * (self.before.shape[2], self.before.shape[1])

    @property
    def in_pixels(self) -> np.ndarray:
        """(2, 2) the step in ``before`` for a step of one pixel in ``after``: by columns, to the right and down."""
        (h, w), (height, width) = self.after.shape[1:], self.before.shape[1:]
        return self.matrix[:, :2] * np.array([[width], [height]]) / (w, h)

    @property
    def degrees(self) -> float:
        """How far the picture is turned, clockwise positive, -180 to 180: the rotation nearest to the warp."""
        step = self.in_pixels
        return -math.degrees(math.atan2(step[1, 0] - step[0, 1], step[0, 0] + step[1, 1]))

    @property
    def mirrors(self) -> bool:
        return bool(np.linalg.det(self.in_pixels) < 0)

    @property
    def zoom(self) -> float:
        """How many pixels of ``after`` a pixel of ``before`` is wide, on average over the directions."""
        area = abs(float(np.linalg.det(self.in_pixels)))
        return math.inf if area == 0 else area**-0.5


def warping_layer(model: Model) -> str | None:
    """The layer that warps the picture, or None where there is none. No forward pass."""
    modules = model.net.named_modules()
    return next((name for name, module in modules if name and hasattr(type(module), "warps_by")), None)


def is_behind_warp(model: Model, layer: str | None) -> bool:
    """Whether maps of ``layer`` lie in the picture after the warp; None stands for the picture before."""
    warping = warping_layer(model)
    return layer is not None and warping is not None and not layer.startswith(f"{warping}.")


def learned_warp(model: Model, pixels: torch.Tensor) -> Warp:
    """How ``model`` reads one picture, RGB ``pixels`` (1, 3, H, W) in [0, 1]. One forward pass.

    Raises UnsupportedModel for a net that reads every picture as it is.
    """
    check_pixels(pixels, one=True)
    layer = warping_layer(model)
    if layer is None:
        raise UnsupportedModel(f"{model.title} has no layer that warps the picture: it reads every picture as it is.")
    inside = f"{layer}.{find_layer(model, layer).warps_by}"
    with trace(model, [layer, inside]) as seen:
        model.logits(pixels)
        if seen[inside].numel() != 6:
            raise UnsupportedModel(
                f"The layer “{inside}” of {model.title} gives {seen[inside].numel()} numbers; a warp is drawn from the "
                "six of an affine map."
            )
        matrix = seen[inside].view(2, 3).float().cpu().numpy()
        before, after = (
            (picture[0].float().cpu().numpy() * np.array(model.std, np.float32)[:, None, None])
            + np.array(model.mean, np.float32)[:, None, None]
            for picture in (model.normalise(pixels), seen[layer])
        )
    return Warp(matrix, before, after, model.name, layer)


def laid_back(values: np.ndarray, warp: Warp) -> np.ndarray:
    """``values`` (h, w) by place in the picture after the warp, such as a heatmap, by place in the one before: (H, W).

    Read bilinearly, float32; 0 where the net did not look. Raises UnsupportedModel where the warp flattens the picture
    to a line, from which there is no way back.
    """
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        raise BadParameter(f"values is {values.dtype} of the shape {values.shape}; it must be floating-point, (h, w).")
    if warp.zoom > 1e6:
        raise UnsupportedModel(f"The layer “{warp.layer}” flattens this picture to a line: there is no way back.")
    back = np.linalg.inv(np.vstack([warp.matrix, (0, 0, 1)]))[:2]
    size = [1, 1, *warp.before.shape[1:]]
    grid = F.affine_grid(torch.from_numpy(back).float()[None], size, align_corners=False)  # (1, H, W, 2)
    map_ = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None, None]
    spread = F.grid_sample(map_, grid, padding_mode="border", align_corners=False)[0, 0]
    return torch.where((grid[0].abs() <= 1).all(-1), spread, 0).numpy()


def by_place(model: Model, pixels: torch.Tensor, heat: Heatmap) -> np.ndarray:
    """The values (h, w) of a heatmap by place in the picture, RGB ``pixels`` (1, 3, H, W) in [0, 1]: as they are, but
    behind a learned warp, where they are taken back through it for a forward pass."""
    return laid_back(heat.values, learned_warp(model, pixels)) if is_behind_warp(model, heat.layer) else heat.values


def outlined(warp: Warp, least: int = 336) -> np.ndarray:
    """The picture before, enlarged to ``least`` pixels or more, and the part of it that is read, uint8 (h, w, 3).

    The part is a quadrilateral; what becomes its upper edge is drawn in orange. Where it reaches beyond the picture,
    grey is laid around it, by at most half of its side.
    """
    pixels = as_picture(warp.before, check_whole("least", least, 1, 8192))
    height, width = pixels.shape[:2]
    corners = warp.corners * (width / warp.before.shape[2])
    most = np.array([width, height]) / 2
    beyond = np.maximum(-corners, corners - 2 * most).max(0)  # (to the sides, up and down)
    room = np.where(beyond >= 1, np.minimum(np.ceil(beyond) + 4, most), 0).astype(int)
    canvas = Image.new("RGB", (width + 2 * int(room[0]), height + 2 * int(room[1])), (128, 128, 128))
    canvas.paste(Image.fromarray(pixels), (int(room[0]), int(room[1])))
    points = [tuple(map(float, point)) for point in corners + room]
    draw = ImageDraw.Draw(canvas)
    draw.line([*points[1:], points[0]], fill=OUTLINE, width=4, joint="curve")
    draw.line(points[:2], fill=UPPER_EDGE, width=6)
    return np.array(canvas)


def as_picture(values: np.ndarray, least: int = 336) -> np.ndarray:
    """A picture of a warp, (C, h, w) with 0 black and 1 white, as uint8 (h', w', 3): each value a square."""
    pixels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    if pixels.shape[2] != 3:
        pixels = pixels[:, :, :1].repeat(3, 2)
    factor = -(-least // min(pixels.shape[:2]))
    return pixels.repeat(factor, 0).repeat(factor, 1)
