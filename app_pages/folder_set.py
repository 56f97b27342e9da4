"""What the page Set asks of a whole set of pictures: answers, the class of each folder, and heatmaps in rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app_pages import common, views
from app_pages.exciting import SECONDS_TO_MAKE
from app_pages.patches import as_shown
from app_pages.picture_map import Atlas, atlas_of, cut
from app_pages.picture_sets import PictureChoice
from vizcore.cam import cam
from vizcore.heatmaps import FORTH_AND_BACK
from vizcore.images import Scale, overlay, prepare, to_png
from vizcore.predictions import NO_CLASS, ClassMapping, Evaluation, Predictions, class_mapping, evaluate, predict
from vizcore.records import Model
from vizcore.warp import is_behind_warp, laid_back, learned_warp

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

MOST_GIVEN = 8  # folders without a class that can be given one on the page: each has all classes to choose from
MOST_NAMED = 12  # folders in one sentence
TILE = 168  # pixels, at least, of a picture with its heatmap
BLEND = 0.6
THUMBNAIL = 130  # pixels of the page, its width
WIDE = 168  # the same, of a picture with a heatmap


@dataclass(frozen=True, eq=False)
class Answered:
    """What the net answers to every picture of a set, and the thumbnails of these."""

    predictions: Predictions
    atlas: Atlas


@dataclass(frozen=True, eq=False)
class Folders:
    """The set as the page has it: ``mapping`` as `class_mapping` and whoever looks say, ``given`` what they said."""

    here: common.Chosen
    pictures: PictureChoice
    mapping: ClassMapping
    given: tuple[tuple[str, int], ...]

    @property
    def key(self) -> tuple[object, ...]:
        return self.here.model.title, self.pictures.key

    @property
    def names(self) -> tuple[str, ...]:
        return self.mapping.folders

    def rows(self, folder: str) -> np.ndarray:
        """Numbers of the pictures in ``folder``."""
        return np.flatnonzero(np.array(self.pictures.labels, object) == folder)

    def class_of(self, folder: str) -> int:
        """The class it is named after or was given, NO_CLASS where there is none."""
        return int(self.mapping.classes[self.names.index(folder)])

    def evaluation(self, answered: Answered) -> Evaluation:
        return evaluate(answered.predictions, self.pictures.labels, self.mapping)

    def target(self, folder: str, answered: Answered | None) -> int:
        """The class of ``folder``, or where it has none the one that its pictures are answered with most."""
        known = self.class_of(folder)
        if known != NO_CLASS:
            return known
        assert answered is not None, "the answers are asked for first where a folder has no class"
        return self.evaluation(answered).target(folder)

    def label(self, target: int) -> str:
        """The name of a class; where others have the same name, with its number."""
        name = str(self.mapping.labels[target])
        return name if self.mapping.labels.count(name) == 1 else f"{name} ({target})"

    @property
    def imports(self) -> tuple[str, ...]:
        return self.pictures.imports

    @property
    def script(self) -> str:
        """Python that makes ``pictures``, ``folders`` and ``mapping``."""
        lines = [
            self.pictures.script,
            f"folders = {self.pictures.folders}",
            "mapping = class_mapping(sorted(set(folders)), model.labels)",
            *(f"mapping = mapping.with_class({name!r}, {k})  # {self.label(k)!r}" for name, k in self.given),
        ]
        return "\n".join(lines)


def choose_classes(here: common.Chosen, pictures: PictureChoice) -> Folders:
    """The class of each folder: by its name, or as somebody says; what has none is said."""
    mapping = class_mapping(sorted(set(pictures.labels)), here.model.labels)
    open_ones = [name for name, k in zip(mapping.folders, mapping.classes, strict=True) if k == NO_CLASS]
    given: list[tuple[str, int]] = []
    if open_ones:
        with st.expander(f"{len(open_ones)} of {len(mapping.folders)} folders have no class: give them one"):
            _say_why(mapping)
            labels = list(dict.fromkeys(map(str, here.model.labels)))
            places = st.columns(4, gap="small")
            for number, folder in enumerate(open_ones[:MOST_GIVEN]):
                name = sha256(f"{here.model.title}\n{folder}".encode()).hexdigest()[:8]
                chosen = places[number % 4].selectbox(
                    common.plain(folder) or "(no folder)",
                    labels,
                    index=None,
                    key=f"means_{name}",
                    bind="query-params",
                    placeholder="No class",
                )
                if chosen is not None:
                    given.append((folder, here.model.labels.index(chosen)))
            if others := open_ones[MOST_GIVEN:]:
                given += _given_in_lines(here, others)
    for folder, k in given:
        mapping = mapping.with_class(folder, k)
    return Folders(here, pictures, mapping, tuple(given))


def _given_in_lines(here: common.Chosen, others: Sequence[str]) -> list[tuple[str, int]]:
    """What is said of the folders that have no box of their own; a line that says nothing is answered."""
    lines: str = st.text_area(
        f"The other {len(others)}, a line each",
        key="means_others",
        bind="query-params",
        placeholder=f"{others[0]} = {here.model.labels[0]}",
        help="The folder, an equals sign, and the name or the number of a class.",
    )
    given: dict[str, int] = {}
    for line in filter(str.strip, lines.splitlines()):
        folder, equals, name = (part.strip() for part in line.rpartition("="))
        found = class_mapping([name], here.model.labels).candidates[0]
        if not found and name.isdecimal() and int(name) < len(here.model.labels):
            found = (int(name),)
        if not equals:
            st.warning(common.plain(f"“{name}” says nothing of a folder: write folder = class."))
        elif folder not in others:
            st.warning(common.plain(f"“{folder}” is none of {', '.join(others[:MOST_NAMED])}."))
        elif folder in given:
            st.warning(common.plain(f"“{folder}” stands in two lines; the first holds."))
        elif len(found) != 1:
            what = "the name of several classes" if found else "no class"
            st.warning(common.plain(f"“{name}” is {what} of {here.model.title}."))
        else:
            given[folder] = found[0]
    return list(given.items())


def _say_why(mapping: ClassMapping) -> None:
    if mapping.unmatched:
        st.markdown(
            f"Named after none of the network's {len(mapping.labels):,} classes: **{named(mapping.unmatched)}**. Their "
            "pictures are answered, but counted neither right nor wrong until you say what they show."
        )
    for folder, labels in mapping.ambiguous.items():
        st.markdown(common.plain(f"“{folder}” is the name of several classes: {', '.join(labels)}."))


def named(folders: Sequence[str]) -> str:
    """Folders in a sentence, safe for Markdown."""
    more = f" and {len(folders) - MOST_NAMED} more" if len(folders) > MOST_NAMED else ""
    return common.plain(", ".join(f"“{name}”" for name in folders[:MOST_NAMED])) + more


# -- answers ---------------------------------------------------------------------------------------------------------


def recalled(folders: Folders) -> Answered | None:
    found: Answered | None = common.recall(("answers", *folders.key))
    return found


def answers_of(folders: Folders) -> Answered:
    """Known, or computed now with a bar."""
    here, pictures = folders.here, folders.pictures

    def compute() -> Answered:
        gathered = gather(pictures)
        with common.running("Asking the network", "pictures") as progress:
            predictions = predict(here.model, gathered, progress=progress)
        return Answered(predictions, atlas_of(gathered))

    return common.known(("answers", *folders.key), compute, seconds_of(folders, len(pictures)))


def gather(pictures: PictureChoice, why: str = "") -> Sequence[np.ndarray]:
    """All of them; ``why`` tells two bars of one run apart."""
    with common.running(f"Gathering the pictures{why}") as progress:
        return pictures.load(progress)


def seconds_of(folders: Folders, passes: int) -> float:
    """Of so many passes, and of gathering the set."""
    return passes * views.seconds_a_pass(folders.here) + len(folders.pictures) * SECONDS_TO_MAKE


def asked_for_answers(folders: Folders, why: str = "") -> Answered | None:
    """Known, or after their price was shown and the button pressed."""
    found = recalled(folders)
    if found is not None:
        return found
    count = len(folders.pictures)
    price = f"{why}{count:,} pictures: {common.price(count, seconds_of(folders, count))}"
    return answers_of(folders) if views.asked("Predict", "answers of the set", price) else None


# -- heatmaps --------------------------------------------------------------------------------------------------------


def heat_of(model: Model, picture: np.ndarray, target: int, method: str) -> np.ndarray:
    """One heatmap (h, w), raw, by place in what the net is shown."""
    pixels = prepare(picture, model).pixels
    heat = cam(model, pixels, target, method)
    if is_behind_warp(model, heat.layer):
        return laid_back(heat.values, learned_warp(model, pixels))
    return heat.values


def heats_of(
    folders: Folders, pictures: Sequence[np.ndarray], targets: Sequence[int], method: str, what: str
) -> np.ndarray:
    """(n, h, w), a map for each picture and its target, with a bar."""
    found = []
    with common.running(what, "pictures") as progress:
        for picture, target in zip(pictures, targets, strict=True):
            found.append(heat_of(folders.here.model, picture, target, method))
            progress(len(found), len(pictures))
    return np.stack(found)


def seconds_of_heats(folders: Folders, count: int) -> float:
    return count * FORTH_AND_BACK * views.seconds_a_pass(folders.here)


def heat_call(folders: Folders, pixels: str, target: str, method: str) -> str:
    """The Python of `heat_of`, from names."""
    call = f"cam(model, {pixels}, {target}, {method!r}).values"
    return f"laid_back({call}, learned_warp(model, {pixels}))" if imports_of_warp(folders) else call


def imports_of_warp(folders: Folders) -> tuple[str, ...]:
    """What the Python of a heatmap needs besides, where the net warps its picture before it looks."""
    model = folders.here.model
    if not is_behind_warp(model, model.layers["cam"]):
        return ()
    return ("from vizcore.warp import laid_back, learned_warp",)


def as_seen(here: common.Chosen, picture: np.ndarray) -> np.ndarray:
    """What the net is shown of a picture, uint8 (H, W, 3), small ones with each pixel a square."""
    pixels = prepare(picture, here.model).pixels[0].permute(1, 2, 0).numpy()
    seen = as_shown(here, np.rint(255 * pixels).astype(np.uint8)[None])[0]
    factor = -(-TILE // min(seen.shape[:2]))
    return seen.repeat(factor, 0).repeat(factor, 1)


def overlaid(here: common.Chosen, picture: np.ndarray, heat: np.ndarray, scale: Scale) -> np.ndarray:
    """A heatmap over what the net saw of the picture, uint8 (H, W, 3)."""
    seen = as_seen(here, picture)
    return overlay(seen, heat, (0, 0, seen.shape[1], seen.shape[0]), scale=scale, alpha=BLEND)


def laid(here: common.Chosen, picture: np.ndarray, heat: np.ndarray, scale: Scale) -> bytes:
    return to_png(overlaid(here, picture, heat, scale))


# -- pictures in a row -----------------------------------------------------------------------------------------------


def row_of_tiles(count: int, width: int) -> list[DeltaGenerator]:
    """Places of one width beside each other, as many in a row as there is room for: on a phone two or three."""
    row = st.container(horizontal=True, gap="small")
    return [row.container(width=width) for _ in range(count)]


def show_tiles(folders: Folders, atlas: Atlas, rows: np.ndarray, words: Callable[[int], str], key: str) -> None:
    """Thumbnails of ``rows``, each with its words and a button that makes it the current picture."""
    thumbnails = cut(atlas, [int(row) for row in rows])
    places = row_of_tiles(len(rows), THUMBNAIL)
    for place, thumbnail, row in zip(places, thumbnails, map(int, rows), strict=True):
        with place:
            views.show_picture(to_png(_in_squares(thumbnail)), words(row))
            st.caption(common.plain(words(row)))
            open_button(folders, row, key)


def open_button(folders: Folders, row: int, key: str) -> None:
    name = folders.pictures.names[row]
    words = common.plain(f"{name}: make it the current picture, on every page.")
    if st.button("Open", key=f"open {key} {row}", icon=":material/open_in_full:", help=words):
        st.session_state["pending"] = folders.pictures.picture(row)
        st.rerun()


def _in_squares(picture: np.ndarray) -> np.ndarray:
    factor = -(-96 // min(picture.shape[:2]))
    return picture.repeat(factor, 0).repeat(factor, 1)
