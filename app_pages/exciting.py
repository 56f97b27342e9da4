"""Pictures that excite a channel most: the patches of a set that did it, and what the unit sends back to each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import streamlit as st
import torch

from app_pages import clickable, common, picture_sets, takeaway, views
from app_pages.patches import Seen, as_shown, coloured, cut, framed, largest, scale_of, sheet_of, words
from app_pages.picture_sets import PictureChoice
from vizcore.export import to_figure
from vizcore.heatmaps import FORTH_AND_BACK
from vizcore.images import prepare
from vizcore.projection import PROJECTIONS, projection
from vizcore.records import LensError
from vizcore.strongest import StrongestPatches, strongest_patches

SECONDS_TO_MAKE = 0.02  # a picture of a set, about: measured
WORDS = {
    "deconvnet": "the deconvnet: positive signals only, back through the filters",
    "guided_backpropagation": "guided backpropagation: positive signals only, and only through ReLUs that were open",
    "gradient": "the plain gradient: how the activation answers to each pixel",
}
TITLE = "Pictures that excite channel {} of {} most"


@dataclass(frozen=True, eq=False)
class Exciting:
    """All that the panel shows of one ``channel`` of ``layer``, to be taken away: see `StrongestPatches`, and
    ``projections`` (k, 3, H, W) by the ``method``, raw; where there are none, (0, 3, H, W)."""

    pictures: np.ndarray
    names: tuple[str, ...]
    activations: np.ndarray
    places: np.ndarray
    boxes: np.ndarray
    projections: np.ndarray
    method: str
    model_name: str
    layer: str
    channel: int
    count: int


@dataclass(frozen=True, eq=False)
class Sent:
    """The projections of k patches, ``values`` (k, 3, H, W) float32, and the ``notes`` that hold for all of them."""

    values: np.ndarray
    notes: tuple[str, ...]


def show(here: common.Chosen, layer: str, channel: int) -> None:
    st.markdown("**Pictures that excite it most**: of many pictures, the nine to which the channel answers most.")
    pictures = picture_sets.choose(here)
    if pictures is None:
        return
    try:
        found = ranked(here, pictures, layer)
        if found is None:
            return
        show_dead(found, channel)
        seen = seen_of(here, pictures, found.of(channel))
        show_seen(here, pictures, seen)
    except LensError as refusal:
        st.info(common.plain(str(refusal)), icon=":material/block:")


# -- what is computed ------------------------------------------------------------------------------------------------


def ranked(here: common.Chosen, pictures: PictureChoice, layer: str) -> StrongestPatches | None:
    """The strongest of all channels: known, or after their price was shown and the button pressed."""
    key = ranked_key(here, pictures, layer)
    found: StrongestPatches | None = common.recall(key)
    if found is not None:
        return found
    seconds = len(pictures) * (views.seconds_a_pass(here) + SECONDS_TO_MAKE)
    if not views.asked("Find them", "exciting", f"{len(pictures):,} pictures: {common.price(len(pictures), seconds)}"):
        return None

    def compute() -> StrongestPatches:
        with common.running("Gathering the pictures") as progress:
            gathered = pictures.load(progress)
        with common.running("Showing the pictures to the network", "pictures") as progress:
            return strongest_patches(here.model, gathered, layer, progress=progress)

    return common.known(key, compute, seconds)


def ranked_key(here: common.Chosen, pictures: PictureChoice, layer: str) -> tuple[object, ...]:
    return "strongest", here.model.title, pictures.key, layer


def seen_of(here: common.Chosen, pictures: PictureChoice, found: StrongestPatches) -> Seen:
    def compute() -> Seen:
        seen = []
        with common.running("Gathering the strongest", "pictures") as progress:
            for done, number in enumerate(found.pictures[0], 1):
                pixels = prepare(pictures.picture(int(number)).photo.pixels, here.model).pixels[0]
                seen.append(np.rint(255 * pixels.permute(1, 2, 0).numpy()).astype(np.uint8))
                progress(done, found.pictures.shape[1])
        return Seen(found, np.stack(seen))

    key = ("strongest seen", here.model.title, pictures.key, found.layer, int(found.channels[0]))
    return common.known(key, compute, found.pictures.shape[1] * SECONDS_TO_MAKE)


def projected(here: common.Chosen, pictures: PictureChoice, seen: Seen, method: str) -> Sent | None:
    """Known, or at once where that takes a moment, or after price and button."""
    found = seen.found
    channel, count = int(found.channels[0]), len(seen.pixels)
    key = ("projections", here.model.title, pictures.key, found.layer, channel, method)
    known: Sent | None = common.recall(key)
    if known is not None:
        return known
    seconds = count * FORTH_AND_BACK * views.seconds_a_pass(here)
    if seconds > common.AT_ONCE:
        price = common.price(count, seconds, of=("pass forth and back", "passes forth and back"), bound=True)
        if not views.asked("Send them back", "projections", price):
            return None

    def compute() -> Sent:
        sent = []
        with common.running("Sending them back", "pictures") as progress:
            for done, (pixels, (row, column)) in enumerate(zip(seen.pixels, found.places[0], strict=True), 1):
                picture = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
                sent.append(projection(here.model, picture, found.layer, channel, row, column, method))
                progress(done, count)
        notes = tuple(note for note in sent[0].notes if all(note in one.notes for one in sent))
        return Sent(np.stack([one.values for one in sent]), notes)

    return common.known(key, compute, seconds)


# -- what is shown ---------------------------------------------------------------------------------------------------


def show_dead(found: StrongestPatches, channel: int) -> None:
    dead, count = found.dead, len(found.channels)
    if channel in dead:
        value = views.number(float(found.lowest[found.channels == channel][0]))
        st.info(
            f"Channel {channel} is dead in this set: it answers {value} to every place of every picture. What follows "
            "is the first of the pictures, not the strongest.",
            icon=":material/info:",
        )
    if len(dead):
        st.caption(f"{len(dead)} of {count} channels answer the same to every place of these {found.count} pictures.")


def show_seen(here: common.Chosen, pictures: PictureChoice, seen: Seen) -> None:
    row = st.container(horizontal=True, gap="large")
    with row:
        method = choose_method()
        number = choose_number(len(seen.pixels))
    left, right = st.columns(2, gap="medium")
    layer, channel = seen.found.layer, int(seen.found.channels[0])
    key = f"{here.model.title} {pictures.key} {layer} {channel}"
    with left:
        sheet = views.sheet(sheet_of, cut(seen, as_shown(here, seen.pixels)), words(seen), number)
        show_sheet(sheet, f"The {len(seen.pixels)} patches that excite channel {channel} of {layer} most", f"of {key}")
        st.caption(words_for_patches(seen))
    sent: Sent | None = None
    with right:
        try:
            sent = projected(here, pictures, seen, method)
        except LensError as refusal:
            st.info(common.plain(str(refusal)), icon=":material/block:")
        if sent:
            scale = scale_of(sent.values)
            sheet = views.sheet(sheet_of, cut(seen, coloured(sent.values, scale)), words(seen), number)
            show_sheet(sheet, f"{PROJECTIONS[method]} projections of these patches", f"back of {key}")
            views.show_scale(scale, "sent back, by colour; one scale", "gray")
            st.caption(f"What the unit sends back to the pixels of each patch, by {WORDS[method]}. Mid-grey is 0.")
            for note in sent.notes:
                st.caption(common.plain(note))
    show_one(here, pictures, seen, number)
    how_to_read()
    offer(here, pictures, seen, sent.values if sent else None, method)


def choose_method() -> str:
    return st.segmented_control(
        "Sent back by",
        list(PROJECTIONS),
        default="deconvnet",
        required=True,
        key="projection",
        format_func=PROJECTIONS.__getitem__,
        bind="query-params",
        help="How the activation is traced back to the pixels. The first two change what goes through ReLUs.",
    )


def choose_number(count: int) -> int:
    """Which of the patches is shown in its picture, from 0."""
    if st.session_state.get("excited", 1) > count:
        st.session_state["excited"] = 1
    chosen = st.segmented_control(
        "Show in its picture",
        list(range(1, count + 1)),
        default=1,
        required=True,
        key="excited",
        bind="query-params",
        help="1 is the strongest. A click on a patch chooses it too.",
    )
    return int(chosen) - 1


def show_sheet(sheet: views.Sheet, alt: str, key: str) -> None:
    def choose(down: float, right: float) -> None:
        height, width = sheet.size
        tile = sheet.layout.index_at(int(right * width), int(down * height))
        if tile is not None:
            st.session_state["excited"] = tile + 1

    clickable.show(sheet.file, sheet.size, alt, f"patches {key}", choose, cursor="pointer")


def show_one(here: common.Chosen, pictures: PictureChoice, seen: Seen, number: int) -> None:
    """One of the pictures, with a frame around the patch."""
    left, right = st.columns([1, 2], gap="medium")
    found, row = seen.found, int(seen.found.pictures[0, number])
    name = pictures.names[row]
    with left:
        views.show_picture(framed(here, seen, number), f"{name}, with a frame around patch {number + 1}")
    with right:
        place_row, place_column = found.places[0, number]
        st.markdown(
            f"**Number {number + 1}: {common.plain(name)}.** Activation "
            f"**{views.number(float(seen.activations[number]))}**, at row {place_row}, column {place_column} of the "
            f"{found.size[0]} × {found.size[1]} map."
        )
        st.caption(words_for_box(seen, number))
        if st.button("Make it the current picture", key="open the strongest", icon=":material/open_in_full:"):
            st.session_state["pending"] = pictures.picture(row)
            st.rerun()


def words_for_patches(seen: Seen) -> str:
    first, last = (views.number(float(seen.activations[at])) for at in (0, -1))
    of = f"The strongest of {seen.found.count:,} pictures. Under each is its activation, {first} down to {last}."
    if seen.is_whole:
        return f"{of} Here a unit sees the whole picture, so that the whole is shown."
    height, width = largest(seen)
    return f"{of} Each is cut to what the unit sees at its place, here at most {height} × {width} pixels."


def words_for_box(seen: Seen, number: int) -> str:
    left, top, right, bottom = seen.box(number)
    height, width = seen.size
    if seen.is_empty(number):
        return "The unit reads nothing but padding there: it sees no pixel of the picture."
    if (bottom - top, right - left) == (height, width):
        words = f"The unit sees the whole picture, {height} × {width} pixels."
    else:
        size = f"{bottom - top} × {right - left} pixels of {height} × {width}"
        words = f"The frame is the receptive field of the place: {size}."
    if not seen.found.exact:
        words += " At most: of an operation before it nobody knows where it reads."
    return words


def how_to_read() -> None:
    with st.popover("How to read this", type="tertiary", icon=":material/help:"):
        st.markdown(
            "Every picture of the set goes through the network once and counts with the strongest place of the "
            "channel's map. What is alike in the nine patches is what the channel answers to; what differs does not "
            "matter to it. Then the one activation is sent back through the network to the pixels: that shows which "
            "part of the patch it came from. **Weakness:** of a small set the nine are only the best that there are, "
            "and they say nothing of what excites the channel a little. Deconvnet and guided backpropagation draw "
            "clear edges even where the weights behind them are random; without max pooling a deconvnet hardly "
            "depends on the picture."
        )
        st.caption("Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, Figure 2")


# -- to be taken away ------------------------------------------------------------------------------------------------


def offer(here: common.Chosen, pictures: PictureChoice, seen: Seen, values: np.ndarray | None, method: str) -> None:
    found, channel = seen.found, int(seen.found.channels[0])
    record = Exciting(
        pictures=found.pictures[0],
        names=tuple(pictures.names[int(number)] for number in found.pictures[0]),
        activations=found.activations[0],
        places=found.places[0],
        boxes=found.boxes[0],
        projections=np.empty((0, 3, *seen.size), np.float32) if values is None else values,
        method=method,
        model_name=found.model_name,
        layer=found.layer,
        channel=channel,
        count=found.count,
    )

    def figure() -> bytes:
        patches = cut(seen, as_shown(here, seen.pixels))
        scale = None if values is None else scale_of(values)
        sheets = [sheet_of(patches, words(seen), 0)]
        if values is not None and scale is not None:
            sheets.append(sheet_of(cut(seen, coloured(values, scale)), words(seen), 0))
        return to_figure(
            np.concatenate([sheet.picture for sheet in sheets], axis=1),
            scale,
            title=TITLE.format(channel, found.layer),
            lines=(
                f"{here.model.title}; {len(seen.pixels)} of {found.count:,} pictures ({pictures.key[0]}); under each "
                "its activation",
                f"Left: the patches. Right: what is sent back to them, by {PROJECTIONS[method].lower()}"
                if values is not None
                else "The patches",
            ),
            unit="sent back, by colour",
            colormap="gray",
        )

    imports = (
        "from vizcore.projection import projection",
        "from vizcore.strongest import strongest_patches",
        *pictures.imports,
    )
    takeaway.offer(
        here, f"exciting {found.layer} {channel}", record, figure, imports, script_of(pictures, found, method)
    )


def script_of(pictures: PictureChoice, found: StrongestPatches, method: str) -> str:
    layer, channel = found.layer, int(found.channels[0])
    return (
        f"{pictures.script}\n"
        f"found = strongest_patches(model, pictures, {layer!r}, channels=[{channel}])  # .boxes, .activations (1, k)\n"
        "patches, projections = [], []\n"
        "for number, (row, column), (left, top, right, bottom) in zip(\n"
        "    found.pictures[0], found.places[0], found.boxes[0]\n"
        "):\n"
        "    pixels = prepare(pictures[number], model).pixels\n"
        "    patches.append(pixels[0, :, top:bottom, left:right])\n"
        f"    sent = projection(model, pixels, {layer!r}, {channel}, row, column, {method!r})\n"
        "    projections.append(sent.values[:, top:bottom, left:right])"
    )
