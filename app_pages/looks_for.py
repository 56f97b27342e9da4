"""What a channel looks for: pictures climbed to from noise, or from the photo, that raise what somebody chooses."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
import streamlit as st

from app_pages import common, takeaway, views
from vizcore.anatomy import BYTES, Anatomy, anatomy
from vizcore.heatmaps import FORTH_AND_BACK
from vizcore.images import frame, tiles, to_png
from vizcore.maximisation import MIDDLE, MOVE, OCTAVE, Maximised, Objective, Partial, dream, maximise
from vizcore.receptive_field import Box, theoretical
from vizcore.records import ActivationMaps, LensError, Progress

STEPS = 128
OCTAVES, STEPS_OF_ONE = 3, 16  # of a dream
KEPT = 1.3  # times what the layers of a net answer is kept of a picture for the way back, at most: measured
LEAST = 224  # pixels of a side on the page
CHANNEL, UNIT, CLASS, FOUR, DREAM = "channel", "unit", "class", "four", "dream"
TITLES = {
    CHANNEL: "Channel",
    UNIT: "Unit in the middle",
    CLASS: "Class",
    FOUR: "Four that differ",
    DREAM: "Dream on my photo",
}
CALL = "found = maximise(model, Objective({of}), steps={steps}{options})\n"


@dataclass(frozen=True, eq=False)
class Wish:
    """One of TITLES for a ``channel`` of the layer whose ``maps`` these are: what is asked, and what it costs."""

    here: common.Chosen
    kind: str
    maps: ActivationMaps
    channel: int

    @property
    def meaning(self) -> str:
        layer = common.plain(self.maps.layer)
        return {
            CHANNEL: "A picture made from noise so that the channel answers to it as much as it can, at all places.",
            UNIT: "A picture made from noise so that one unit of the channel, in the middle of its map, answers "
            "as much as it can: one pattern, and where it lies in what the unit sees.",
            CLASS: f"A picture made from noise so that the score of **{common.plain(self.label)}**, the class that is "
            "chosen in the sidebar, rises as much as it can. The layer and the channel do not matter here.",
            FOUR: "Four pictures made from noise at once: each raises the channel, and they are kept apart in their "
            "patterns, for a channel may answer to several things.",
            DREAM: f"Your photo, changed a little so that whatever {layer} sees in it already grows stronger, all "
            "channels at once (DeepDream).",
        }[self.kind]

    @property
    def label(self) -> str:
        return self.here.label(self.here.target)

    @property
    def key(self) -> tuple[object, ...]:
        about: tuple[object, ...] = (self.maps.layer, self.channel, STEPS)
        if self.kind == CLASS:
            about = (self.here.target, STEPS)
        elif self.kind == DREAM:
            about = (self.maps.layer, self.here.digest, OCTAVES, STEPS_OF_ONE)
        return ("looks for", self.here.model.title, self.kind, *about)

    @property
    def objective(self) -> Objective:
        if self.kind == CLASS:
            return Objective(target=self.here.target)
        if self.kind == DREAM:
            return Objective(self.maps.layer)
        return Objective(self.maps.layer, channel=self.channel, unit=MIDDLE if self.kind == UNIT else None)

    @property
    def count(self) -> int:
        return 4 if self.kind == FOUR else 1

    @property
    def seconds(self) -> float:
        """At most."""
        of_size = sum(OCTAVE ** (-2 * k) for k in range(OCTAVES)) * STEPS_OF_ONE if self.kind == DREAM else STEPS
        return self.count * of_size * FORTH_AND_BACK * views.seconds_a_pass(self.here)

    @property
    def bytes_besides(self) -> int:
        """Of the pictures after the first: a step keeps what every layer answers to each of them."""
        if self.count == 1:
            return 0
        facts: Anatomy = common.known(("anatomy", self.here.model.title), lambda: anatomy(self.here.model))
        return round((self.count - 1) * KEPT * BYTES * facts.activations)

    @property
    def price(self) -> str:
        return common.price(
            OCTAVES * STEPS_OF_ONE if self.kind == DREAM else self.count * STEPS,
            self.seconds,
            of=("pass forth and back", "passes forth and back"),
            bound=True,
            besides=self.bytes_besides,
        )

    @property
    def box(self) -> Box:
        """What the unit in the middle sees."""
        rows, columns = self.maps.values.shape[1:]
        key = ("unit sees", self.here.model.title, self.maps.layer, rows // 2, columns // 2)
        return common.known(key, lambda: theoretical(self.here.model, self.maps.layer, (rows // 2, columns // 2)))

    @property
    def is_moved(self) -> bool:
        """Whether pictures are turned and moved along the way; a unit that sees less than the moves are wide cannot."""
        if self.kind != UNIT:
            return True
        left, top, right, bottom = self.box
        height, width = self.here.model.input_size
        return bottom - top > 2 * MOVE * height and right - left > 2 * MOVE * width

    def run(self, progress: Progress, partial: Partial) -> Maximised:
        model = self.here.model
        if self.kind == DREAM:
            return dream(
                model,
                self.here.view.pixels,
                self.objective,
                octaves=OCTAVES,
                steps=STEPS_OF_ONE,
                progress=progress,
                partial=partial,
            )
        return maximise(
            model,
            self.objective,
            steps=STEPS,
            count=self.count,
            transforms=self.is_moved,
            progress=progress,
            partial=partial,
        )

    @property
    def script(self) -> tuple[str, str]:
        """The import and the lines that make ``found`` and its picture again."""
        layer = repr(self.maps.layer)
        if self.kind == DREAM:
            line = f"found = dream(model, view.pixels, Objective({layer}), octaves={OCTAVES}, steps={STEPS_OF_ONE})\n"
            end = "picture = found.pictures[0]  # (3, H, W) in [0, 1]"
            return "from vizcore.maximisation import Objective, dream", line + end
        of = {CLASS: f"target={self.here.target}", UNIT: f"{layer}, channel={self.channel}, unit={MIDDLE!r}"}
        options = f", count={self.count}" * (self.count > 1) + ", transforms=False" * (not self.is_moved)
        line = CALL.format(of=of.get(self.kind, f"{layer}, channel={self.channel}"), steps=STEPS, options=options)
        end = "picture = found.pictures[0]  # (3, H, W) in [0, 1]"
        if self.kind == FOUR:
            end = f"pictures = found.pictures  # ({self.count}, 3, H, W) in [0, 1]"
        return "from vizcore.maximisation import Objective, maximise", line + end

    @property
    def on_photo(self) -> float:
        """The objective's value for the photo as it is."""
        values = self.maps.values[self.channel]
        if self.kind == CLASS:
            return float(self.here.scores[self.here.target])
        if self.kind == DREAM:
            return float(np.square(self.maps.values).mean())
        return float(values[len(values) // 2, values.shape[1] // 2] if self.kind == UNIT else values.mean())


def show(here: common.Chosen, maps: ActivationMaps, channel: int) -> None:
    """The panel: what is to be raised, its price or its picture."""
    st.markdown("**What it looks for**, found by changing a picture step by step.")
    kind = st.segmented_control(
        "Raise",
        list(TITLES),
        default=CHANNEL,
        required=True,
        key="looks_for",
        format_func=TITLES.__getitem__,
        bind="query-params",
        help="What the picture is changed for.",
    )
    wish = Wish(here, kind, maps, channel)
    st.caption(wish.meaning)
    try:
        found: Maximised | None = common.recall(wish.key)
        if found is None:
            label = "Dream" if kind == DREAM else "Make these pictures" if kind == FOUR else "Make that picture"
            if not views.asked(label, "looks for", wish.price):
                return
            climb(wish)
            st.rerun()
    except LensError as refusal:
        st.info(common.plain(str(refusal)), icon=":material/block:")
        return
    show_found(wish, found)


def show_found(wish: Wish, found: Maximised) -> None:
    picture = drawn(wish, found.pictures)
    sizes = {FOUR: [1], DREAM: [1, 1, 1]}.get(wish.kind, [1, 2])
    *before, place, beside = st.columns(sizes, gap="medium") * (2 if wish.kind == FOUR else 1)
    for first in before:
        with first:
            views.show_picture(to_png(views.as_seen(wish.here)), f"{wish.here.title}, as the network saw it")
            st.caption("The photo before …")
    with place:
        views.show_picture(picture, alt_of(wish))
        if wish.kind == DREAM:
            st.caption("… and changed.")
    with beside:
        st.markdown(words_of(wish, found))
        how_to_read(wish)
        script_import, call = wish.script
        name = f"looks for {wish.kind} {wish.maps.layer} {wish.channel}"
        takeaway.offer(wish.here, name, found, picture, (script_import,), call)


def climb(wish: Wish) -> None:
    with common.running("The picture", "steps") as progress:
        place = st.container(width=LEAST * wish.count).empty()

        def draw(pictures: np.ndarray) -> None:
            data = base64.b64encode(drawn(wish, pictures)).decode()
            place.image(f"data:image/png;base64,{data}", width="stretch", alt="The picture so far")

        need = common.room_for(wish.seconds) + wish.bytes_besides
        common.known(wish.key, lambda: wish.run(progress, common.sparing(draw)), wish.seconds, need)


def drawn(wish: Wish, pictures: np.ndarray) -> bytes:
    """Pictures (N, 3, H, W) in [0, 1] side by side as PNG; each pixel of a small one a square."""
    pixels = np.rint(255 * pictures.transpose(0, 2, 3, 1)).astype(np.uint8)
    if len(pixels) > 1:
        return to_png(tiles(pixels, columns=len(pixels), tile=LEAST, gap=6, gap_colour=(128, 128, 128)).picture)
    factor = -(-LEAST // min(pixels.shape[1:3]))
    picture = pixels[0].repeat(factor, 0).repeat(factor, 1)
    if wish.kind == UNIT and pixels.shape[1:3] == wish.here.model.input_size:
        left, top, right, bottom = (factor * side for side in wish.box)
        return to_png(frame(picture, (left, top, right, bottom)))
    return to_png(picture)


def alt_of(wish: Wish) -> str:
    layer, channel = wish.maps.layer, wish.channel
    return {
        CHANNEL: f"The picture that channel {channel} of {layer} answers to most, as far as found",
        UNIT: f"The picture that the unit in the middle of channel {channel} of {layer} answers to most, as far as "
        "found, with a frame around what the unit sees",
        CLASS: f"The picture with the highest score of {wish.label}, as far as found",
        FOUR: f"Four pictures that channel {channel} of {layer} answers to, as different as found",
        DREAM: f"{wish.here.title}, changed so that {layer} sees more of what it saw in it",
    }[wish.kind]


def words_of(wish: Wish, found: Maximised) -> str:
    """What came of it, in numbers, beside the photo's."""
    before = views.number(wish.on_photo)
    first = views.number(float(found.values[0]))
    if wish.kind == CLASS:
        return f"The logit of {common.plain(wish.label)} is **{first}** there, and {before} on the photo."
    if wish.kind == DREAM:
        return f"The mean square of all values of the layer is **{first}** there, and {before} on the photo before."
    if wish.kind == FOUR:
        each = ", ".join(f"**{views.number(float(value))}**" for value in found.values)
        return f"Its mean activation is, from the left, {each}, and {before} on the photo."
    if wish.kind == UNIT:
        return (
            f"The unit's activation is **{first}** there, and {before} on the photo. The frame is all that the unit "
            "sees."
        )
    return (
        f"Its mean activation is **{first}** there, and {before} on the photo. That is what raises the channel, which "
        "is not all that it answers to."
    )


def how_to_read(wish: Wish) -> None:
    with st.popover("How to read this", type="tertiary", icon=":material/help:"):
        if wish.kind == DREAM:
            st.markdown(
                "The gradient of the mean square of the layer by the photo is followed, in three sizes of it, the "
                "smallest first. **Weakness:** it shows what the layer makes of this photo, not what it needs to see."
            )
            st.caption("Mordvintsev, Olah & Tyka, Inceptionism: Going Deeper into Neural Networks, 2015")
            return
        st.markdown(
            "The gradient of what is raised by the picture is followed for 128 steps. The picture is kept by "
            "its waves, in colours that vary as in photos, and is "
            + ("turned, resized and moved a little before each look: without these, it ends in noise. " * wish.is_moved)
            + ("neither turned nor moved: the unit sees too little for that. " * (not wish.is_moved))
            + "**Weakness:** no photo looks like this, and another start gives another picture: a channel may answer "
            "to several things."
        )
        st.caption("Erhan et al., 2009; Olah, Mordvintsev & Schubert, Feature Visualization, Distill 2017")
