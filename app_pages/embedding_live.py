"""A map that settles before the eyes: both maps of a set move on a little at each look, until they are stopped."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NoReturn

import streamlit as st

from app_pages import common, picture_map, set_maps
from app_pages.line import LONG
from app_pages.picture_sets import PictureChoice
from app_pages.set_maps import Maps, Rows, Way
from vizcore.tsne import EXAGGERATED_ITERATIONS, MAX_ITERATIONS, TsneRun

KEY = "map in the making"
LOOK = 0.4  # seconds of computing between two pictures
PAUSE = 0.05  # seconds between the end of one look and the next
BYTES = 200  # for each picture and unit of perplexity, which a run holds besides its rows
KEPT_BYTES = 64 * 2**20  # a run that holds more is let go when its map is there
FURTHER = 250  # iterations that "Go on" adds to a map that is there


@dataclass(eq=False)
class Live:
    """Two maps of one set that are being made, for ``key``. They go on ``until`` an iteration, unless they pause."""

    key: tuple[object, ...]
    rows: Rows
    features: TsneRun
    pixels: TsneRun
    way: Way
    until: int
    going: bool = True
    speed: float = 100.0  # iterations a second, of both

    @property
    def nbytes(self) -> int:
        return _bytes(self.rows, self.way)


def _bytes(rows: Rows, way: Way) -> int:
    """Of both maps, and of what they are made of: three times, for the runs count with numbers of twice the length."""
    count = len(rows)
    return 2 * int(BYTES * count * min(float(way["perplexity"]), count / 3)) + 3 * (
        rows.features.nbytes + rows.pixels.nbytes
    )


def of(key: tuple[object, ...]) -> Live | None:
    """The maps in the making for ``key``, if these were begun in this visit and nothing else since."""
    live: Live | None = st.session_state.get(KEY)
    return live if live is not None and live.key == key else None


def begin(here: common.Chosen, pictures: PictureChoice, layer: str, way: Way) -> None:
    """Find the neighbours of both, and let the maps go from the next run of the page on."""
    rows = set_maps.rows_of(here, pictures, layer)
    key = set_maps.maps_key(here, pictures, layer, way)
    st.session_state.pop(KEY, None)
    with common.running("Finding the neighbours") as progress, common.turn([("neighbours", *key[1:])], LONG):
        common.make_room(common.room_for(LONG) + _bytes(rows, way))
        features = way.run(rows.features)
        progress(1, 2)
        pixels = way.run(rows.pixels)
    st.session_state[KEY] = Live(key, rows, features, pixels, way, way["iterations"])


def go_on(live: Live) -> None:
    """Let maps that are there move on."""
    live.until, live.going = min(live.features.iteration + FURTHER, MAX_ITERATIONS), True


def show(live: Live) -> None:
    """The maps as they are, with what steers them; they move on by themselves while this is on the page."""
    st.fragment(_look, run_every=PAUSE if live.going else None)(live)


def _look(live: Live) -> None:
    _steer(live)
    titles = (("By the network", live.features, "features"), ("By raw pixels", live.pixels, "pixels"))
    for place, (title, run, name) in zip(st.columns(2, gap="medium"), titles, strict=True):
        with place:
            st.subheader(title, anchor=False)
            picture_map.show(
                run.points,
                live.rows.labels,
                title=f"t-SNE in the making, {name}",
                key=f"live {name}, {live.key}",
            )
            st.caption(f"Divergence {run.kl_divergence:.2f} nats.")
    if live.going:  # last, so that what is on the page is not pale meanwhile
        _move_on(live)


def _move_on(live: Live) -> None:
    """What the next look shows; at the end, the page with the maps."""
    left = live.until - live.features.iteration
    if left <= 0:
        end(live)
    count = min(left, max(1, round(live.speed * LOOK)))
    with common.turn([("look", *live.key[1:], live.features.iteration)], LOOK):
        start = time.monotonic()
        live.features.advance(count)
        live.pixels.advance(count)
        live.speed = count / max(time.monotonic() - start, 1e-3)


def _steer(live: Live) -> None:
    done = live.features.iteration
    phase = (
        f"affinities are {live.way['early_exaggeration']:g} times too strong until {EXAGGERATED_ITERATIONS}: groups "
        "gather"
        if live.features.exaggerated
        else "groups spread and settle"
    )
    row = st.container(horizontal=True, vertical_alignment="center")
    row.progress(min(done / live.until, 1.0), text=f"Iteration {done:,} of {live.until:,}; {phase}")
    if row.button(
        "Pause" if live.going else "Go on",
        key="pause the map",
        icon=":material/pause:" if live.going else ":material/play_arrow:",
    ):
        live.going = not live.going
        st.rerun()
    if row.button("Stop here", key="stop the map", icon=":material/stop:", help="Take the map as it is now."):
        end(live)


def end(live: Live) -> NoReturn:
    """Take the maps down as they are, and show the page with them."""
    live.going = False
    iterations = live.features.iteration
    way = live.way.but(iterations=iterations)
    key = (*live.key[:-1], way)
    with common.turn([("end", *key[1:])], LOOK):
        start = time.monotonic()
        maps = Maps(live.features.finish(), live.pixels.finish())
        common.results().put(key, maps, iterations / live.speed + time.monotonic() - start)
    st.session_state["iterations of the map"] = (live.key, iterations)
    if live.nbytes > KEPT_BYTES:
        st.session_state.pop(KEY)
    st.rerun()


def forget() -> None:
    """Ask for the whole map again, instead of one that was stopped early."""
    st.session_state.pop("iterations of the map", None)


def iterations_of(key: tuple[object, ...], wanted: int) -> int:
    """How many iterations the map has that was made for ``key``: fewer than ``wanted`` if it was stopped early."""
    of_key, iterations = st.session_state.get("iterations of the map", (None, wanted))
    return int(iterations) if of_key == key else wanted
