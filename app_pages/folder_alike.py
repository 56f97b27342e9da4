"""Filters of a layer that are nearly one another's, and channels that rise and fall together over a set."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app_pages import common, folder_set, takeaway, views
from app_pages.folder_set import Folders
from vizcore.alike import SHUFFLES, THRESHOLD, Likeness, alike_channels, alike_kernels
from vizcore.colour import Scale
from vizcore.filters import as_rgb, convolutions
from vizcore.images import Montage, montage, tiles
from vizcore.records import Filters

MOST_DRAWN, MOST_SLICES, MOST_NAMED = 6, 12, 12
PER_SECOND = 1e10  # multiplications of a matrix product on one core, about


def show(folders: Folders, layer: str) -> None:
    threshold = st.slider(
        "From which likeness on",
        0.5,
        1.0,
        THRESHOLD,
        0.01,
        key="alike",
        bind="query-params",
        help="1: the same, up to a factor. Those of −1, the same with the sign turned, count as well.",
    )
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**By their kernels**: the cosine of the weights")
        show_kernels(folders, layer, threshold)
    with right:
        st.markdown("**By what comes out**: the correlation over all places of the set")
        show_channels(folders, layer, threshold)


def kernels_key(here: common.Chosen, layer: str) -> tuple[object, ...]:
    return "alike kernels", here.model.title, layer


def channels_key(folders: Folders, layer: str) -> tuple[object, ...]:
    return "alike channels", *folders.key, layer


# -- kernels ---------------------------------------------------------------------------------------------------------


def show_kernels(folders: Folders, layer: str, threshold: float) -> None:
    here = folders.here
    known = convolutions(here.model)
    if layer not in known:
        st.caption(
            common.plain(f"“{layer}” is no convolution and has no kernels. Convolutions are, from the first: ")
            + common.plain(", ".join(known[:6]))
        )
        return
    bank = views.bank_of(here, layer)
    seconds = (SHUFFLES + 1) * len(bank.values) * bank.values.size / PER_SECOND
    key = kernels_key(here, layer)
    if common.recall(key) is None and seconds > common.AT_ONCE:
        price = f"{len(bank.values):,} kernels, about {common.duration(seconds)}, no pass"
        if not views.asked("Compare the kernels", "alike kernels", price):
            return
    found = common.known(key, lambda: alike_kernels(bank), seconds)
    show_pairs(found, threshold, "kernels", "cosine")
    level = found.by_chance or 0.0
    st.caption(
        f"Chance: with the weights of each kernel shuffled, the largest cosine of any two is {level:.2f} in 19 of 20 "
        "cases. " + ("The threshold is above that." if threshold > level else "Pairs up to that mean nothing.")
    )
    for one, other in found.pairs(threshold)[:MOST_DRAWN]:
        sheet = views.sheet(pair_sheet, bank, int(one), int(other))
        words = f"{one} above, {other} below: {signed(found.values[one, other])}"
        views.show_picture(sheet.file, f"Kernels {words}", width="content")
        st.caption(words)
    if len(found.pairs(threshold)):
        st.caption(words_for(bank))
    call = f"found = alike_kernels(filters(model, {layer!r}))\nprint(found.pairs({threshold}), found.by_chance)"
    imports = ("from vizcore.alike import alike_kernels", "from vizcore.filters import filters")
    takeaway.offer_table(here, f"alike kernels {layer}", table_of(found, threshold), imports, call)


def pair_sheet(bank: Filters, one: int, other: int) -> Montage:
    """Two kernels, each a row: in colours where they read red, green and blue; else its slices, in grey."""
    pair = bank.values[[one, other]]  # (2, C, kh, kw)
    if bank.values.shape[1] == 3:
        pictures = np.rint(as_rgb(bank)[[one, other]] * 255).astype(np.uint8)
        return tiles(pictures, columns=1, tile=64, gap=3, gap_colour=(255, 255, 255))
    largest = np.sort(np.argsort(-np.abs(pair).sum((0, 2, 3)), kind="stable")[:MOST_SLICES])
    slices = pair[:, largest].reshape(-1, *pair.shape[2:])
    return montage(slices, Scale.of(pair, signed=True), columns=len(largest), tile=28, gap=2, colormap="gray")


def words_for(bank: Filters) -> str:
    if bank.values.shape[1] == 3:
        return takeaway.COLOURS_OF_FILTERS
    count = bank.values.shape[1]
    which = f"the {MOST_SLICES} of {count} input channels" if count > MOST_SLICES else "all input channels"
    return f"Each tile is one input channel; shown are {which} that weigh most. Mid-grey is 0, one scale a pair."


# -- channels --------------------------------------------------------------------------------------------------------


def show_channels(folders: Folders, layer: str, threshold: float) -> None:
    here, count = folders.here, len(folders.pictures)
    key = channels_key(folders, layer)
    found: Likeness | None = common.recall(key)
    if found is None:
        seconds = folder_set.seconds_of(folders, count)
        price = f"{count:,} pictures: {common.price(count, seconds)}"
        if not views.asked("Compare the channels", "alike channels", price):
            return

        def compute() -> Likeness:
            pictures = folder_set.gather(folders.pictures)
            with common.running("Comparing the channels", "pictures") as progress:
                return alike_channels(here.model, pictures, layer, progress=progress)

        found = common.known(key, compute, seconds)
    show_pairs(found, threshold, "channels", "correlation")
    if len(found.silent):
        st.caption(f"{len(found.silent)} channels are the same everywhere, and there is nothing to compare of them.")
    pairs = [f"{one} and {other}: {signed(found.values[one, other])}" for one, other in found.pairs(threshold)]
    if pairs:
        more = f", and {len(pairs) - MOST_NAMED} pairs more" if len(pairs) > MOST_NAMED else ""
        st.markdown("; ".join(pairs[:MOST_NAMED]) + more + ".")
    st.caption("Channels that go together over this set may part over another; neighbouring places are alike.")
    call = (
        f"{folders.pictures.script}\nfound = alike_channels(model, pictures, {layer!r})\n"
        f"print(found.pairs({threshold}))"
    )
    imports = ("from vizcore.alike import alike_channels", *folders.imports)
    takeaway.offer_table(here, f"alike channels {layer}", table_of(found, threshold), imports, call)


def show_pairs(found: Likeness, threshold: float, things: str, measure: str) -> None:
    pairs, count = found.pairs(threshold), len(found.values)
    involved = len(np.unique(pairs))
    if len(pairs):
        word = common.counted(len(pairs), ("pair", "pairs"))
        st.markdown(f"**{word} of {count} {things}** with a {measure} of {threshold:.2f} or more, {involved} in all.")
        return
    beside = np.abs(found.values[np.triu_indices(count, 1)])
    st.markdown(
        f"**No pair of {count} {things}** with a {measure} of {threshold:.2f} or more; the largest is "
        f"{np.nanmax(beside, initial=0.0):.2f}."
    )


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def table_of(found: Likeness, threshold: float) -> pd.DataFrame:
    pairs = found.pairs(threshold)
    return pd.DataFrame({"one": pairs[:, 0], "other": pairs[:, 1], "likeness": found.values[pairs[:, 0], pairs[:, 1]]})
