"""What a channel looks for: the picture that it answers to most, climbed to from noise, beside its map of the photo."""

from __future__ import annotations

import base64

import numpy as np
import streamlit as st

from app_pages import common, takeaway, views
from vizcore.images import to_png
from vizcore.maximisation import Maximised, Objective, maximise
from vizcore.records import LensError

STEPS = 128
FORTH_AND_BACK = 3  # times as long as forth, at most: measured
LEAST = 224  # pixels of a side on the page


def show(here: common.Chosen, layer: str, channel: int, on_photo: float) -> None:
    """``on_photo`` is the channel's mean activation on the photo."""
    st.markdown("**What it looks for**: a picture made from noise so that the channel answers to it as much as it can.")
    key = ("looks for", here.model.title, layer, channel, STEPS)
    try:
        found: Maximised | None = common.recall(key)
        if found is None:
            seconds = STEPS * FORTH_AND_BACK * views.seconds_a_pass(here)
            price = common.price(STEPS, seconds, of=("pass forth and back", "passes forth and back"), bound=True)
            if not views.asked("Make that picture", "looks for", price):
                return
            climb(here, key, Objective(layer, channel=channel), seconds)
            st.rerun()
    except LensError as refusal:
        st.info(common.plain(str(refusal)), icon=":material/block:")
        return
    picture = enlarged(found.pictures[0])
    left, right = st.columns([1, 2], gap="medium")
    with left:
        views.show_picture(picture, f"The picture that channel {channel} of {layer} answers to most, as far as found")
    with right:
        value = float(found.values[0])
        st.markdown(
            f"Its mean activation is **{views.number(value)}** there, and {views.number(on_photo)} on the photo. That "
            "is what raises the channel, which is not all that it answers to."
        )
        with st.popover("How to read this", type="tertiary", icon=":material/help:"):
            st.markdown(
                "The gradient of the mean activation by the picture is followed for 128 steps. The picture is kept by "
                "its waves, in colours that vary as in photos, and is turned, resized and moved a little before each "
                "look: without these, it ends in noise. **Weakness:** no photo looks like this, and another start "
                "gives another picture: a channel may answer to several things."
            )
            st.caption("Erhan et al., 2009; Olah, Mordvintsev & Schubert, Feature Visualization, Distill 2017")
        takeaway.offer_picture(
            here,
            f"looks for {layer} {channel}",
            picture,
            ("from vizcore.maximisation import Objective, maximise",),
            f"found = maximise(model, Objective({layer!r}, channel={channel}), steps={STEPS})\n"
            "picture = found.pictures[0]  # (3, H, W) in [0, 1]",
        )


def climb(here: common.Chosen, key: tuple[object, ...], objective: Objective, seconds: float) -> None:
    with common.running("The picture", "steps") as progress:
        place = st.container(width=LEAST).empty()

        def draw(pictures: np.ndarray) -> None:
            data = base64.b64encode(enlarged(pictures[0])).decode()
            place.image(f"data:image/png;base64,{data}", width="stretch", alt="The picture so far")

        common.known(
            key,
            lambda: maximise(here.model, objective, steps=STEPS, progress=progress, partial=common.sparing(draw)),
            seconds,
        )


def enlarged(picture: np.ndarray) -> bytes:
    """A picture (3, H, W) in [0, 1] as PNG; each pixel of a small one a square."""
    pixels = np.rint(255 * picture.transpose(1, 2, 0)).astype(np.uint8)
    factor = -(-LEAST // min(pixels.shape[:2]))
    return to_png(pixels.repeat(factor, 0).repeat(factor, 1))
