"""What each person ought to see: pictures of one's own, and the right answers, computed here by the library alone.

Every photo is a pattern of its own, so that whatever is computed of it, or drawn over it, is nobody else's. Which
picture on a page is which, its alternative text says. Those that do not depend on the photo (filters, scale bars) are
fetched and not compared.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import groupby

import numpy as np
import torch
from PIL import Image

from app_pages.common import PHOTO_SIDE, Chosen, pictures
from app_pages.views import METHOD_TITLES, as_seen, enlarged, framed, laid, shrink
from models import load_model
from models.samples import list_samples
from vizcore.activations import activation_maps_of
from vizcore.cam import cam
from vizcore.images import Scale, montage, open_photo, prepare
from vizcore.occlusion import estimate_occlusion, occlusion_of
from vizcore.records import Heatmap

SIZE = (360, 270)  # pixels, width × height: shown as it is, neither enlarged nor reduced
CLOSE = 1.0  # of 255, on average: two roundings of the same numbers; pictures of two people differ by 30 and more
METHODS = {title: name for name, title in METHOD_TITLES.items()}


@dataclass(frozen=True)
class OwnPhoto:
    """A photo file and the name that it is shown under."""

    title: str
    data: bytes

    @classmethod
    def of(cls, person: int, number: int) -> OwnPhoto:
        """A pattern of coarse patches around a colour of its own: no two are alike."""
        rng = np.random.default_rng((person, number))
        patches = np.clip(rng.integers(0, 256, 3) + rng.normal(0, 70, (6, 8, 3)), 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(patches).resize(SIZE, Image.Resampling.BILINEAR).save(file, "PNG")
        return cls(f"person {person} photo {number}.png", file.getvalue())

    @classmethod
    def sample(cls) -> OwnPhoto:
        """The picture that everybody finds at first."""
        first = next(sample for sample in list_samples() if not sample.grey)
        return cls(first.title, first.read())


@dataclass(frozen=True)
class Page:
    """What a finished page showed: the alternative texts of its pictures with their files, and what was chosen."""

    person: int
    photo: OwnPhoto
    model: str
    layer: str  # of the CAM methods on the page of heatmaps, of the maps on that of layers
    pictures: tuple[tuple[str, bytes], ...]
    stopped_early: bool = False


@dataclass
class Verdict:
    """How many pictures were compared, and a line for each wrong one."""

    compared: int = 0
    uncompared: int = 0
    wrong: tuple[str, ...] = ()

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(self.compared + other.compared, self.uncompared + other.uncompared, self.wrong + other.wrong)


def judge_all(pages: Iterable[Page], judges: Executor) -> Verdict:
    """`judge` in processes of their own, a person's pages in one."""
    mine = sorted(pages, key=lambda page: page.person)
    heaps = [tuple(heap) for _, heap in groupby(mine, key=lambda page: page.person)]
    return sum(judges.map(_judge_heap, heaps), Verdict())


def _judge_heap(pages: tuple[Page, ...]) -> Verdict:
    torch.set_num_threads(1)
    return sum(map(judge, pages), Verdict())


def judge(page: Page) -> Verdict:
    """Every picture of a page against the right one."""
    pictures().clear()  # what the server keeps of pictures is to be judged, and not to be leant on
    verdict = Verdict()
    for alt, data in page.pictures:
        who = f"person {page.person}, {page.photo.title}"
        if " laid over person " in alt and page.photo.title not in alt:
            verdict += Verdict(1, 0, (f"{who}: “{alt}” is of another photo",))
            continue
        row = tuple(other for other, _ in page.pictures if _row_of(other) == _row_of(alt))
        stopped = page.stopped_early and _row_of(alt) == "occlusion"  # who can say where a run was stopped?
        right = None if stopped else _is_right(page.model, page.photo, page.layer, alt, row, data)
        verdict += Verdict(0, 1) if right is None else Verdict(1, 0, () if right else (f"{who}: “{alt}” is wrong",))
    return verdict


@lru_cache(5000)
def _is_right(model: str, photo: OwnPhoto, layer: str, alt: str, row: tuple[str, ...], data: bytes) -> bool | None:
    wanted = right_picture(chosen(model, photo), alt, layer, row)
    return None if wanted is None else _same(wanted, data)


def right_picture(here: Chosen, alt: str, layer: str, row: tuple[str, ...]) -> bytes | None:
    """The file that belongs under this alternative text, beside those of its ``row``; None where it does not depend on
    the photo."""
    if alt.endswith("with a frame around the part that the network saw"):
        return framed(here)
    if alt == "The pixels that the network received":
        return _png(as_seen(here))
    if found := re.fullmatch(r"The 9 strongest activation maps of (.+)", alt):
        (maps,) = _maps(here, found[1])
        values = shrink(maps.values[maps.strengths.argsort()[::-1][:9]])
        return _png(montage(values, Scale.of(values), columns=3, gap=2, tile=56).picture)
    if found := re.fullmatch(r"(?:Activation map of channel|Channel) (\d+)( laid over the picture)?", alt):
        (maps,) = _maps(here, layer)
        values, scale = maps.values[int(found[1])], Scale.of(maps.values)
        return laid(here, values, scale) if found[2] else enlarged(values, scale)
    if alt == "Grad-CAM laid over the picture":
        return laid(here, _heat(here, "grad_cam", here.target, here.model.layers["cam"]))
    if alt == "Estimated occlusion laid over the picture":
        side = max(2, here.model.input_size[0] // 4)
        return laid(here, _estimate(here, here.target, side, side // 2))
    if " of " in alt and " laid over " in alt:
        heats = _heats(here, row, layer)
        return laid(here, heats[row.index(alt)], Scale.of(*heats))
    return None


@lru_cache(512)
def chosen(model_name: str, photo: OwnPhoto) -> Chosen:
    """What the sidebar says, for that net and photo and the class that the net answers."""
    model = _model(model_name)
    opened = open_photo(photo.data, max_side=PHOTO_SIDE)
    view = prepare(opened.pixels, model)
    with torch.no_grad():
        scores = model.logits(view.pixels)[0].float().numpy()
    top = int(np.argmax(scores))
    return Chosen(model, opened.pixels, opened.digest, photo.title, "", (), view, scores, scores, top)


@cache
def _model(title: str) -> object:
    from models import list_models

    return load_model(next(card.name for card in list_models() if title in (card.name, card.title)))


@lru_cache(32)
def _maps(here: Chosen, layer: str) -> tuple:
    return activation_maps_of(here.model, here.view.pixels, (layer,))


def _row_of(alt: str) -> str:
    """The row of the page of heatmaps: a method; occlusion and its estimate are one."""
    title = alt.split(" of ")[0]
    return "occlusion" if title in ("Occlusion", "Estimated occlusion") else title


def _heats(here: Chosen, row: tuple[str, ...], layer: str) -> list[Heatmap]:
    """The maps of a row, each by its alternative text: "Grad-CAM of velvet laid over person 3 photo 1.png"."""
    named = [alt.split(" laid over ")[0].partition(" of ") for alt in row]
    cells = [(title, here.model.labels.index(label)) for title, _, label in named]
    hidden = tuple(target for title, target in cells if title == "Occlusion")
    exact = dict(zip(hidden, _occlusion(here, hidden), strict=True)) if hidden else {}
    return [
        exact[target]
        if title == "Occlusion"
        else _estimate(here, target, *_window(here))
        if title == "Estimated occlusion"
        else _heat(here, METHODS[title], target, layer)
        for title, target in cells
    ]


@lru_cache(512)
def _heat(here: Chosen, method: str, target: int, layer: str) -> Heatmap:
    return cam(here.model, here.view.pixels, target, method, layer)


@lru_cache(512)
def _estimate(here: Chosen, target: int, window: int, stride: int) -> Heatmap:
    (heat,) = estimate_occlusion(here.model, here.view.pixels, [target], window=window, stride=stride)
    return heat


@lru_cache(512)
def _occlusion(here: Chosen, targets: tuple[int, ...]) -> tuple[Heatmap, ...]:
    window, stride = _window(here)
    return tuple(occlusion_of(here.model, here.view.pixels, list(targets), window=window, stride=stride))


def _window(here: Chosen) -> tuple[int, int]:
    """Window and stride as the page proposes them: 32 and 16 of 224."""
    shorter = min(here.model.input_size)
    return max(2, shorter // 7), max(1, shorter // 14)


def _same(wanted: bytes, data: bytes) -> bool:
    """Whether two files show the same; where ours was made a JPEG on the way, so is the right one."""
    if data == wanted:
        return True
    got = Image.open(io.BytesIO(data))
    if got.format == "JPEG" and wanted.startswith(b"\x89PNG"):
        file = io.BytesIO()
        Image.open(io.BytesIO(wanted)).save(file, "JPEG", quality=90)
        wanted = file.getvalue()
    ours, right = _pixels(data).astype(float), _pixels(wanted).astype(float)
    return ours.shape == right.shape and float(np.abs(ours - right).mean()) <= CLOSE


def _png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def _pixels(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))
