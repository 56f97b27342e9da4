"""The channels that carry the class of a folder, and what becomes of its pictures without each of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app_pages import common, folder_set, takeaway, views
from app_pages.folder_set import Folders
from vizcore.class_channels import VALUES, ChannelAblation, ClassChannels, ablate_channels, class_channels
from vizcore.heatmaps import FORTH_AND_BACK
from vizcore.predictions import NO_CLASS

MOST = 10  # channels
IMPORTS = "from vizcore.class_channels import ablate_channels, class_channels"
BLUE = "#0072B2"


def show(folders: Folders, layer: str) -> None:
    folder: str = st.selectbox("The class of the folder", list(folders.names), key="carry_folder", bind="query-params")
    answered = None
    if folders.class_of(folder) == NO_CLASS:
        answered = folder_set.asked_for_answers(folders, "The folder has no class; its commonest answer is taken. ")
        if answered is None:
            return
    target = folders.target(folder, answered)
    label = common.plain(folders.label(target))
    if folders.class_of(folder) == NO_CLASS:
        st.caption(f"The folder has no class; taken is what its pictures are answered with most, {label}.")
    found = carried(folders, folder, target, layer)
    if found is None:
        return
    show_bars(folders, found, folder, layer)
    show_ablation(folders, found, folder, layer)


def carried_key(folders: Folders, folder: str, target: int, layer: str) -> tuple[object, ...]:
    return "class channels", *folders.key, folder, target, layer


def ablated_key(folders: Folders, folder: str, target: int, layer: str, value: str) -> tuple[object, ...]:
    return "ablated channels", *folders.key, folder, target, layer, value


def pictures_of(folders: Folders, folder: str) -> list[np.ndarray]:
    with common.running("Gathering the pictures of the folder", "pictures") as progress:
        pixels, rows = [], folders.rows(folder)
        for row in rows:
            pixels.append(folders.pictures.picture(int(row)).photo.pixels)
            progress(len(pixels), len(rows))
    return pixels


def carried(folders: Folders, folder: str, target: int, layer: str) -> ClassChannels | None:
    """Known, or at once where that takes a moment, or after price and button."""
    key = carried_key(folders, folder, target, layer)
    found: ClassChannels | None = common.recall(key)
    if found is not None:
        return found
    count = len(folders.rows(folder))
    seconds = count * (FORTH_AND_BACK * views.seconds_a_pass(folders.here) + 0.02)
    price = common.price(count, seconds, of=("pass forth and back", "passes forth and back"), bound=True)
    if not views.asked("Find the channels", "class channels", f"{count:,} pictures: {price}"):
        return None

    def compute() -> ClassChannels:
        pictures = pictures_of(folders, folder)
        with common.running("Asking what each channel carries", "pictures") as progress:
            return class_channels(folders.here.model, pictures, target, layer, progress=progress)

    return common.known(key, compute, seconds)


def show_bars(folders: Folders, found: ClassChannels, folder: str, layer: str) -> None:
    table = table_of(found)
    label = folders.label(found.target)
    n = len(found.contributions)
    bar = {"field": "channel", "type": "nominal", "sort": list(table["channel"]), "title": "channel"}
    length = {
        "field": "mean",
        "type": "quantitative",
        "title": "of the logit, mean over the pictures",
        "axis": {"tickCount": 6},
    }
    st.vega_lite_chart(
        table,
        {
            "encoding": {"y": bar},
            "layer": [
                {"mark": {"type": "bar", "color": BLUE}, "encoding": {"x": length}},
                {
                    "mark": {"type": "rule", "strokeWidth": 2, "color": "#E69F00"},
                    "encoding": {
                        "x": {"field": "low", "type": "quantitative", "title": length["title"]},
                        "x2": {"field": "high"},
                    },
                },
            ],
        },
        height=60 + 26 * len(table),
        alt=f"The {len(table)} channels of {layer} that carry most of {label}; the first is {table['channel'].iloc[0]}",
    )
    each = "; the lines are one standard error either way" if n > 1 else "; of one picture there is no error"
    logit, rest = float(found.logits.mean()), float(found.remainder.mean())
    st.caption(
        f"Gradient × activation of {common.plain(label)}, mean over {n} pictures{each}. Their logit is "
        f"{views.number(logit)} on average; all {found.contributions.shape[1]} channels together carry "
        f"{views.number(logit - rest)} of it. It is the first guess at what is lost without a channel; behind a layer "
        "that saturates it says little. Molchanov et al., ICLR 2017."
    )
    call = (
        f"{folders.pictures.script}\nfolders = {folders.pictures.folders}\n"
        f"inside = [picture for picture, folder in zip(pictures, folders) if folder == {folder!r}]\n"
        f"carried = class_channels(model, inside, {found.target}, {layer!r})\n"
        f"channels = carried.order[:{MOST}]\nprint(channels, carried.means[channels], carried.errors[channels])"
    )
    takeaway.offer_table(
        folders.here, f"channels of {found.target} at {layer}", table, (IMPORTS, *folders.imports), call
    )


def table_of(found: ClassChannels) -> pd.DataFrame:
    """The channels that carry most, with one standard error either way."""
    top = found.order[:MOST]
    means, errors = found.means[top], np.nan_to_num(found.errors[top])
    return pd.DataFrame(
        {"channel": top, "mean": means, "error": found.errors[top], "low": means - errors, "high": means + errors}
    )


# -- without them ----------------------------------------------------------------------------------------------------


def show_ablation(folders: Folders, carried: ClassChannels, folder: str, layer: str) -> None:
    value: str = st.segmented_control(
        "Without each of them: put at",
        list(VALUES),
        default="zero",
        required=True,
        key="put_at",
        bind="query-params",
        format_func={"zero": "zero", "mean": "its mean over these pictures"}.__getitem__,
        help="At its mean a channel keeps what it always adds and no longer tells pictures apart.",
    )
    found = ablated(folders, carried, folder, layer, value)
    if found is None:
        return
    answered = int((found.before == found.target).sum())
    channels = [one[0] for one in found.channels]
    table = pd.DataFrame(
        {
            "channel": channels,
            "guess": carried.means[channels],
            "logit": found.logit_drops.mean(1),
            "probability": 100 * found.probability_drops.mean(1),
            "lost": found.lost,
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "channel": st.column_config.NumberColumn("Channel", format="%d"),
            "guess": st.column_config.NumberColumn("Guess: carried (logit)", format="%.3f"),
            "logit": st.column_config.NumberColumn("Logit falls by", format="%.3f"),
            "probability": st.column_config.NumberColumn("Probability falls by (points)", format="%.2f"),
            "lost": st.column_config.NumberColumn(f"Pictures lost, of {answered}", format="%d"),
        },
        alt="What becomes of the class without each of the channels",
    )
    worst = table.loc[table["lost"].idxmax()]
    st.markdown(
        f"{answered} of {len(found.before)} pictures are answered with the class as they are. Without channel "
        f"{int(worst['channel'])} alone, **{int(worst['lost'])}** of these are answered otherwise."
        if worst["lost"]
        else f"None of these {len(table)} channels alone loses one of the {answered} pictures that are answered with "
        "the class."
        if answered
        else "None of the pictures is answered with the class, so that none can be lost."
    )
    call = (
        f"{folders.pictures.script}\nfolders = {folders.pictures.folders}\n"
        f"inside = [picture for picture, folder in zip(pictures, folders) if folder == {folder!r}]\n"
        f"found = ablate_channels(model, inside, {found.target}, {channels}, {layer!r}, value={value!r})\n"
        "print(found.logit_drops.mean(1), found.probability_drops.mean(1), found.lost)"
    )
    takeaway.offer_table(
        folders.here, f"without channels of {found.target} at {layer}", table, (IMPORTS, *folders.imports), call
    )


def ablated(folders: Folders, carried: ClassChannels, folder: str, layer: str, value: str) -> ChannelAblation | None:
    channels = [int(channel) for channel in carried.order[:MOST]]
    key = ablated_key(folders, folder, carried.target, layer, value)
    found: ChannelAblation | None = common.recall(key)
    if found is not None:
        return found
    count = len(carried.logits) * (1 + len(channels) + (value == "mean"))
    seconds = count * views.seconds_a_pass(folders.here) + 0.02 * len(carried.logits)
    if not views.asked("Take them away", "ablated channels", common.price(count, seconds)):
        return None

    def compute() -> ChannelAblation:
        pictures = pictures_of(folders, folder)
        with common.running("Taking channels away", "pictures") as progress:
            return ablate_channels(
                folders.here.model, pictures, carried.target, channels, layer, value=value, progress=progress
            )

    return common.known(key, compute, seconds)
