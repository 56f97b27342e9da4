"""A picture that can be clicked.

By a few lines of script of our own: the package for it, streamlit-image-coordinates 0.4.1, takes messages before its
picture is there, so that on a busy machine a first picture may never appear; nor has it a text in place of the picture.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

import streamlit as st


def show(
    picture: bytes,
    size: tuple[int, int],
    alt: str,
    key: str,
    choose: Callable[[float, float], None],
    cursor: str = "crosshair",
) -> None:
    """A PNG file of ``size`` (height, width), as wide as its place; ``alt`` is read out where it cannot be seen.

    A click calls ``choose`` with its place, before the page runs again: shares of the height from the top and of the
    width from the left, both from 0 up to but never 1.
    """
    _clickable(
        key=key,
        data={
            "picture": f"data:image/png;base64,{base64.b64encode(picture).decode()}",
            "alt": alt,
            "ratio": f"{size[1]} / {size[0]}",
            "cursor": cursor,
        },
        on_place_change=lambda: hear(st.session_state[key].place, choose),
    )


def hear(place: Any, choose: Callable[[float, float], None]) -> None:
    """What the browser says of a click, which may be anything: a place in the picture is passed on, nothing else."""
    match place:
        case [int() | float() as down, int() | float() as right] if 0 <= down <= 1 and 0 <= right <= 1:
            below_one = math.nextafter(1.0, 0.0)
            choose(min(float(down), below_one), min(float(right), below_one))


_clickable = st.components.v2.component(
    "cnn_lens_clickable",
    html="<img>",
    css="img { width: 100%; display: block; }",
    js="""
        export default function ({ data, parentElement, setTriggerValue }) {
          const picture = parentElement.querySelector("img");
          if (picture.src !== data.picture) picture.src = data.picture;
          picture.alt = data.alt;
          picture.style.aspectRatio = data.ratio;
          picture.style.cursor = data.cursor;
          picture.onclick = (event) => {
            const box = picture.getBoundingClientRect();
            setTriggerValue("place", [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width]);
          };
        }
    """,
)
