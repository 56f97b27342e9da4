"""What more than one page shows: questions to `vizcore` through the store of results, and pictures with their scale."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import streamlit as st

from app_pages import common
from vizcore import activations, cam, filters, spectra
from vizcore.arithmetic import UnitArithmetic, explain_unit
from vizcore.heatmaps import BY_PIXEL, HEATMAP_METHODS, quantity_of, scale_of
from vizcore.hooks import stages
from vizcore.images import (
    Box,
    Montage,
    Scale,
    colour_bar,
    frame,
    montage,
    overlay,
    thumbnail,
    tiles,
    to_colours,
    to_jpeg,
    to_png,
)
from vizcore.kernel_edit import KernelEdit, edit_kernel
from vizcore.records import GREY_FROM_RGB, ActivationMaps, Filters, Heatmap, Layer, Progress, UnsupportedModel
from vizcore.warp import Warp, is_behind_warp, laid_back, learned_warp
from vizcore.words import describe

METHOD_TITLES = {name: row.title for name, row in HEATMAP_METHODS.items() if row.family != "pixel"}
PARTS_TITLES = {name: METHOD_TITLES[name] for name in ("superpixel_ablation", "rise")}
PIXELWISE_TITLES = {name: row.title for name, row in BY_PIXEL.items()}
PHOTO_LEAST, PHOTO_MOST = 336, 900  # pixels of the longer side of a photo on the page
PHOTO_LIVE = 450  # the same, of a picture that is drawn again and again while a run goes on
MOST_CLASSES = 6  # on one page, side by side
SHEET_WIDTH = 1120  # pixels of a montage: sharp on a projector, and light enough to send
MAP_SIDE = 112  # larger maps are averaged down on a sheet; one alone is shown whole


def layers_of(here: common.Chosen) -> tuple[Layer, ...]:
    """All layers with maps of the net looked at, in order of execution."""
    layers = common.layers_of(here.model.name, here.model.weights is None)
    return tuple(layer for layer in layers if len(layer.shape) == 3)


def all_layers_of(here: common.Chosen) -> tuple[Layer, ...]:
    """All layers that run once a pass, with maps or without, in order of execution."""
    return common.layers_of(here.model.name, here.model.weights is None)


def stages_of(here: common.Chosen) -> tuple[Layer, ...]:
    return stages(here.model, layers_of(here))


def seconds_a_pass(here: common.Chosen) -> float:
    return common.seconds_a_pass(here.model.name, here.model.weights is None)


def bank_of(here: common.Chosen, layer: str | None = None) -> Filters:
    return common.known(("filters", here.model.title, layer), lambda: filters.filters(here.model, layer))


def maps_of(here: common.Chosen, *layers: str) -> tuple[ActivationMaps, ...]:
    """The maps of several layers, of one pass."""
    return common.known(
        ("maps", here.model.title, here.digest, layers),
        lambda: activations.activation_maps_of(here.model, here.view.pixels, layers),
    )


def unit_of(here: common.Chosen, layer: str, channel: int, row: int, column: int) -> UnitArithmetic:
    """The calculation of one number of a layer."""
    return common.known(
        ("unit", here.model.title, here.digest, layer, channel, row, column),
        lambda: explain_unit(here.model, here.view.pixels, layer, channel, row, column),
    )


def edit_of(here: common.Chosen, layer: str, channel: int, kernel: np.ndarray) -> KernelEdit:
    """What changes with a kernel (C, kh, kw) of the net."""
    return common.known(
        ("kernel", here.model.title, here.digest, layer, channel, kernel.astype(np.float64).tobytes()),
        lambda: edit_kernel(here.model, here.view.pixels, layer, channel, kernel),
    )


def heat_of(
    here: common.Chosen,
    method: str,
    target: int,
    layer: str,
    progress: Progress | None = None,
    seconds: float | None = None,
) -> Heatmap:
    """A class-activation heatmap; ``seconds`` are those that it takes, where that is more than about a pass."""
    return common.known(
        heat_key(here, method, target, layer),
        lambda: cam.cam(here.model, here.view.pixels, target, method, layer, progress=progress),
        seconds,
    )


def heat_key(here: common.Chosen, method: str, target: int, layer: str | None, *options: object) -> tuple[object, ...]:
    return (method, here.model.title, here.digest, target, layer, *options)


def as_seen(here: common.Chosen, least: int = 224) -> np.ndarray:
    """The pixels that the net received, uint8, grey for a grey net; small ones enlarged, each pixel a square."""
    pixels = here.view.pixels[0].permute(1, 2, 0).numpy()  # (h, w, 3)
    if len(here.model.mean) == 1:
        pixels = np.repeat(pixels @ np.array(GREY_FROM_RGB, np.float32)[:, None], 3, axis=2)
    seen = np.rint(pixels * 255).astype(np.uint8)
    factor = -(-least // min(seen.shape[:2]))
    return seen.repeat(factor, 0).repeat(factor, 1)


def laid(here: common.Chosen, heat: Heatmap | np.ndarray, scale: Scale | None = None, blend: float = 0.6) -> bytes:
    """A heatmap or one map laid over the uncropped photo, as PNG: JPEG would bend the colours, and so the numbers."""
    photo, box = shown(here)
    solid = False
    if isinstance(heat, Heatmap):
        scale, solid = scale or scale_of(heat), is_by_pixel(heat)
        heat = in_place(here, heat.values, heat.layer)
    return common.drawn(_laid, photo, heat, box, scale or Scale.of(heat), 1.0 if solid else blend, solid)


def _laid(photo: np.ndarray, values: np.ndarray, box: Box, scale: Scale, blend: float, solid: bool = False) -> bytes:
    return to_png(overlay(photo, values, box, scale=scale, alpha=blend, solid=solid))


def is_by_pixel(heat: Heatmap) -> bool:
    """Whether a heatmap is that of an attribution: shown alone, for it cannot be read through the photo."""
    return heat.method in BY_PIXEL


def described(here: common.Chosen, heat: Heatmap) -> str:
    """A heatmap in words: where in what the network saw it is strong."""
    return str(describe(in_place(here, heat.values, heat.layer), quantity_of(heat)))


def live(here: common.Chosen, heat: Heatmap, scale: Scale, blend: float = 0.6) -> str:
    """As `laid`, but smaller, and an address that holds the picture itself: a file would be gone before it is fetched,
    as soon as the next one takes its place."""
    photo, box = shown(here, PHOTO_LIVE)
    picture = _laid(photo, heat.values, box, scale, blend)  # not to be kept: the next one is other
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def in_place(here: common.Chosen, values: np.ndarray, layer: str | None) -> np.ndarray:
    """Values (h, w) of a layer by place in the picture: behind a learned warp they are taken back through it."""
    return laid_back(values, warp_of(here)) if is_behind_warp(here.model, layer) else values


def warp_of(here: common.Chosen) -> Warp:
    """How a net with a spatial transformer reads the picture."""
    return common.known(("warp", here.model.title, here.digest), lambda: learned_warp(here.model, here.view.pixels))


def asked(label: str, key: str, price: str, place: Any = None) -> bool:
    """A button with its price beside it, gone as soon as it is pressed; in ``place``, which is empty, or here."""
    place = st.empty() if place is None else place
    line = place.container(horizontal=True, vertical_alignment="center")
    pressed = line.button(label, type="primary", icon=":material/play_arrow:", key=f"compute {key}")
    line.caption(f"{common.plain(price)}.")
    if pressed:
        place.empty()
    return bool(pressed)


def framed(here: common.Chosen) -> bytes:
    """The photo with a frame around what the network saw."""
    photo, box = shown(here)
    return common.drawn(_framed, photo, box, len(photo) > len(here.photo))


def _framed(photo: np.ndarray, box: Box, enlarged: bool) -> bytes:
    picture = frame(photo, box)
    return to_png(picture) if enlarged else to_jpeg(picture)


def shown(here: common.Chosen, most: int = PHOTO_MOST) -> tuple[np.ndarray, Box]:
    """The photo at the size of a page, and the box of what the network saw in it.

    Each pixel of a tiny photo is made a square, so that it stays sharp; a large one is reduced.
    """
    longer = max(here.photo.shape[:2])
    factor: float = -(-PHOTO_LEAST // longer)
    if factor > 1:
        photo = here.photo.repeat(int(factor), 0).repeat(int(factor), 1)
    else:
        photo = common.kept(("shown", here.digest, most), lambda: thumbnail(here.photo, most))
        factor = max(photo.shape[:2]) / longer
    left, top, right, bottom = (round(edge * factor) for edge in here.view.box)
    return photo, (left, top, min(right, photo.shape[1]), min(bottom, photo.shape[0]))


def summary_of(here: common.Chosen) -> Heatmap:
    """One map for a first look: Grad-CAM where the net averages its last maps, as Grad-CAM assumes, else HiResCAM."""
    layer = here.model.layers["cam"]
    try:
        heat_of(here, "cam", here.target, layer)
    except UnsupportedModel:
        return heat_of(here, "hires_cam", here.target, layer)
    return heat_of(here, "grad_cam", here.target, layer)


@dataclass(frozen=True, eq=False)
class Sheet:
    """A montage as a PNG ``file``; ``size`` is (height, width), and ``layout`` says what lies where, without pixels."""

    file: bytes
    size: tuple[int, int]
    layout: Montage

    @classmethod
    def of(cls, montage: Montage) -> Sheet:
        height, width = montage.picture.shape[:2]
        return cls(to_png(montage.picture), (height, width), replace(montage, picture=np.empty((0, 0, 3), np.uint8)))


def sheet(draw: Callable[..., Montage], *arguments: Any, **options: Any) -> Sheet:
    """A montage by ``draw``, made once for whoever asks for the same; see `common.drawn`."""
    return common.drawn(_sheet, draw, *arguments, **options)


def _sheet(draw: Callable[..., Montage], *arguments: Any, **options: Any) -> Sheet:
    return Sheet.of(draw(*arguments, **options))


def map_sheet(values: np.ndarray, scale: Scale | list[Scale], highlight: tuple[int, ...] = ()) -> Montage:
    """Maps (C, h, w) as one montage of about SHEET_WIDTH pixels, wider than high."""
    values = shrink(values)
    count, height, width = values.shape
    columns = count if count <= 8 else math.ceil(math.sqrt(1.6 * count))
    factor = max(1, (SHEET_WIDTH // columns - 2) // width)
    return montage(values, scale, columns=columns, tile=factor * min(height, width), gap=2, highlight=highlight)


def shrink(values: np.ndarray) -> np.ndarray:
    """Maps (C, h, w) averaged over whole blocks until no side is above MAP_SIDE."""
    block = -(-max(values.shape[1:]) // MAP_SIDE)
    if block == 1:
        return values
    c, h, w = values.shape
    h, w = h // block, w // block
    return values[:, : h * block, : w * block].reshape(c, h, block, w, block).mean((2, 4))


def filter_sheet(bank: Filters, order: np.ndarray, each: bool | None = None) -> Montage:
    """A first layer's kernels: as colours where they read red, green and blue, else in grey, zero in the middle. On one
    scale, or ``each`` on its own, which is usual for kernels that are large enough to be read."""
    if is_each(bank) if each is None else each:
        largest = np.abs(bank.values).max((1, 2, 3), keepdims=True)
        bank = replace(bank, values=bank.values / np.maximum(largest, np.finfo(np.float32).tiny))
    if bank.values.shape[1] == 3:
        pictures = np.rint(filters.as_rgb(bank)[order] * 255).astype(np.uint8)
    else:
        pictures = to_colours(bank.values[order, 0], Scale.of(bank.values, signed=True), "gray")
    return tiles(pictures, columns=sheet_columns(len(order)), tile=40, gap=3, gap_colour=(255, 255, 255))


def is_each(bank: Filters) -> bool:
    """Whether kernels are shown each on its own scale unless somebody chooses otherwise."""
    return min(bank.values.shape[2:]) >= spectra.LEAST


def sheet_columns(count: int) -> int:
    """Columns of a sheet twice as wide as high."""
    return math.ceil(math.sqrt(2 * count))


def enlarged(values: np.ndarray, scale: Scale, least: int = 336, colormap: str | None = None) -> bytes:
    """One map (h, w) as PNG, each value a square."""
    return common.drawn(_enlarged, values, scale, max(1, -(-least // max(values.shape))), colormap)


def _enlarged(values: np.ndarray, scale: Scale, factor: int, colormap: str | None) -> bytes:
    return to_png(to_colours(values, scale, colormap).repeat(factor, 0).repeat(factor, 1))


def show_picture(picture: bytes, alt: str, place: Any = st, width: Literal["stretch", "content"] = "stretch") -> None:
    """A picture file as it is: by itself Streamlit makes a JPEG of every one that is not transparent, which bends the
    colours of maps."""
    kind = "JPEG" if picture.startswith(b"\xff\xd8") else "PNG"
    place.image(picture, width=width, output_format=kind, alt=alt)


def show_scale(scale: Scale, unit: str, colormap: str | None = None) -> None:
    """A scale bar with its numbers."""
    with st.container(gap="xxsmall"):
        show_picture(
            common.drawn(_bar, scale, colormap),
            f"Colours from {number(scale.low)} on the left to {number(scale.high)} on the right",
        )
        row = st.container(horizontal=True, horizontal_alignment="distribute", gap="small")
        row.caption(common.plain(number(scale.low)), width="content")
        row.caption(common.plain(unit), width="content")
        row.caption(common.plain(number(scale.high)), width="content")


def show_classes(here: common.Chosen) -> None:
    """The five most probable classes, and the one looked at, as bars."""
    ranks = {int(k): rank for rank, k in enumerate(here.ranking, 1)}
    for k in dict.fromkeys((*map(int, here.ranking[:5]), here.target)):
        chance = float(here.chances[k])
        facts = f"{100 * chance:.1f} % · logit {number(float(here.scores[k]))}"
        st.progress(chance, text=f"{ranks[k]}\u2002**{common.plain(here.label(k))}** · {common.plain(facts)}")


def _bar(scale: Scale, colormap: str | None) -> bytes:
    return to_png(colour_bar(scale, width=512, height=10, colormap=colormap))


def number(value: float) -> str:
    """Three digits that count, and no more before the point than there are: 0.0123, 12.3, 6,531."""
    if value == 0:
        return "0"
    size = abs(value)
    text = f"{value:,.0f}" if 1000 <= size < 1e7 else f"{value:.3g}" if 1e-3 <= size < 1e7 else f"{value:.2e}"
    return text.replace("-", "−")
