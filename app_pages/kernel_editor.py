"""A kernel of the net changed by hand, and the net run again in a copy: what hangs on these few numbers?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app_pages import common, takeaway, views
from app_pages.kernel_bench import editor
from vizcore.export import to_figure
from vizcore.filters import convolutions
from vizcore.images import Scale, to_colours
from vizcore.kernel_bench import CHANGES
from vizcore.kernel_edit import KernelEdit
from vizcore.records import LensError

FIRST = 5  # classes before, and as many after
MOST_SIDE = 11


def show(here: common.Chosen) -> None:
    ran = {layer.name for layer in views.layers_of(here)}
    names = [name for name in convolutions(here.model) if name in ran]
    if not names:
        st.info("This network has no convolution whose kernel could be changed.", icon=":material/block:")
        return
    row = st.container(horizontal=True, vertical_alignment="bottom")
    layer = row.selectbox("Convolution", names, key="edit_layer", bind="query-params", width=320)
    kernels = views.bank_of(here, layer).values
    (maps,) = views.maps_of(here, layer)
    channel = _number(row, "Channel", len(kernels), int(np.argmax(maps.strengths)), f"edit_channel of {layer}")
    own = kernels[channel].astype(np.float64)  # (C, kh, kw)
    strongest = int(np.abs(own).sum((1, 2)).argmax())
    piece = 0
    if len(own) > 1:
        piece = _number(row, "Slice", len(own), strongest, f"edit_slice of {layer} {channel}")
    changed = _edit(here, layer, channel, own, piece)
    try:
        found = views.edit_of(here, layer, channel, changed)
    except LensError as refusal:
        st.error(common.plain(str(refusal)), icon=":material/block:")
        return
    if np.array_equal(changed, own):
        st.info("Nothing is changed yet. Change a number in the table, or press a button.", icon=":material/edit:")
        _show_map(found.maps[0], Scale.of(found.maps[0]), "activation")
        return
    _show_classes(here, found)
    _show_maps(found)
    _offer(here, found)


def _number(row: st.delta_generator.DeltaGenerator, word: str, count: int, first: int, key: str) -> int:
    found = row.number_input(word, 0, count - 1, first, step=1, key=key, width=124, help=f"0 to {count - 1:,}")
    return int(found)


# -- the kernel ------------------------------------------------------------------------------------------------------


def _edit(here: common.Chosen, layer: str, channel: int, own: np.ndarray, piece: int) -> np.ndarray:
    """The kernel (C, kh, kw) as somebody changed it; kept for the visit until it is put back."""
    kept: dict[tuple[object, ...], np.ndarray] = st.session_state.setdefault("edited kernels", {})
    key = (here.model.title, layer, channel)
    now = kept.get(key, own)
    turns = st.session_state.setdefault("turns of the editor", 0)

    def change(name: str | None) -> None:
        whole = st.session_state.get("edit_extent") == "kernel"
        if name is None:
            kept.pop(key, None)
        else:
            fresh = kept.get(key, own).copy()
            part = slice(None) if whole else slice(piece, piece + 1)
            fresh[part] = CHANGES[name][1](fresh[part])
            kept[key] = fresh
        st.session_state["turns of the editor"] = turns + 1  # the table begins anew with these numbers

    row = st.container(horizontal=True, vertical_alignment="bottom")
    if len(own) > 1:
        row.segmented_control(
            "The buttons change",
            ["slice", "kernel"],
            default="kernel",
            required=True,
            format_func={"slice": "this slice", "kernel": "the whole kernel"}.__getitem__,
            key="edit_extent",
            help=f"A kernel has a slice for each of the {len(own)} channels that it reads.",
        )
    else:
        st.session_state["edit_extent"] = "kernel"
    for name, (title, _) in CHANGES.items():
        row.button(title, key=f"change {name}", on_click=change, args=(name,))
    row.button("Put back", icon=":material/undo:", on_click=change, args=(None,), disabled=key not in kept)
    if max(own.shape[1:]) <= MOST_SIDE:
        widget = f"kernel of {here.model.title} {layer} {channel} {piece} {turns}"
        began = st.session_state.setdefault("editors began with", {})
        if widget not in st.session_state:  # new, or here again after another page
            began[widget] = now[piece].copy()
        typed = editor(began[widget], widget, "The numbers of the slice")
        if np.isfinite(typed).all() and not np.array_equal(typed, now[piece]):
            now = now.copy()
            now[piece] = typed
            kept[key] = now
    count = int((now != own).sum())
    st.caption(
        f"{common.counted(count, ('number', 'numbers'))} of {own.size:,} changed in the kernel of channel {channel}. "
        "The loaded network stays as it is: a copy of it is changed and run."
    )
    return now


# -- what changes ----------------------------------------------------------------------------------------------------


def _show_classes(here: common.Chosen, found: KernelEdit) -> None:
    before, after = (_chances(scores) for scores in found.scores)
    was, now = int(before.argmax()), int(after.argmax())
    name = {target: common.plain(here.label(target)) for target in (was, now)}
    if was == now:
        words = f"Still **{name[was]}**: {100 * before[was]:.1f} % → {100 * after[was]:.1f} %."
    else:
        words = f"Now **{name[now]}**, {100 * after[now]:.1f} %; it was {name[was]}, {100 * before[was]:.1f} %."
    st.markdown(words)
    first = [np.argsort(-chances, kind="stable")[:FIRST].tolist() for chances in (before, after)]
    targets = list(dict.fromkeys([*first[0], here.target, *first[1]]))
    bar = st.column_config.ProgressColumn(format="%.1f %%", min_value=0, max_value=100)
    st.dataframe(
        pd.DataFrame(
            {
                "class": [here.label(target) for target in targets],
                "before": 100 * before[targets],
                "after": 100 * after[targets],
                "change of the logit": (found.scores[1] - found.scores[0])[targets],
            }
        ),
        hide_index=True,
        column_config={
            "before": bar,
            "after": bar,
            "change of the logit": st.column_config.NumberColumn(format="%+.3f"),
        },
    )
    st.caption("Probabilities before and after: the five first of each, and the class looked at.")


def _chances(scores: np.ndarray) -> np.ndarray:
    if len(scores) == 1:
        return 1 / (1 + np.exp(-scores.astype(np.float64)))
    powers = np.exp(scores.astype(np.float64) - scores.max())
    return powers / powers.sum()


def _show_maps(found: KernelEdit) -> None:
    before, after = found.maps
    one, change = Scale.of(found.maps), Scale.of(after - before, signed=True)
    st.markdown(f"**The map of channel {found.channel}** of {common.plain(found.layer)}, on one scale:")
    places = st.columns(3, gap="medium")
    for place, values, scale, word, unit in zip(
        places,
        (before, after, after - before),
        (one, one, change),
        ("Before", "After", "After − before"),
        ("activation", "activation", "difference"),
        strict=True,
    ):
        with place:
            st.markdown(word)
            _show_map(values, scale, unit)


def _show_map(values: np.ndarray, scale: Scale, unit: str) -> None:
    with st.container(width=420, gap="xsmall"):
        views.show_picture(views.enlarged(values, scale), f"The map of the channel: {unit}")
        views.show_scale(scale, unit)


def _offer(here: common.Chosen, found: KernelEdit) -> None:
    def figure() -> bytes:
        scale = Scale.of(found.maps)
        side = max(1, 300 // max(found.maps.shape[1:]))
        drawn = [to_colours(values, scale).repeat(side, 0).repeat(side, 1) for values in found.maps]
        gap = np.full((drawn[0].shape[0], 16, 3), 255, np.uint8)
        best = [here.label(int(scores.argmax())) for scores in found.scores]
        return to_figure(
            np.concatenate([drawn[0], gap, drawn[1]], axis=1),
            scale,
            title=f"Channel {found.channel} of {found.layer}, before and after its kernel was changed",
            lines=(f"{best[0]} → {best[1]}", f"{here.model.title}; {here.title}"),
            unit="activation",
        )

    numbers = np.array2string(found.kernels[1], separator=", ", threshold=2000, max_line_width=110)
    kernel = (
        f"kernel = np.array({numbers})"
        if found.kernels[1].size <= 2000
        else 'kernel = np.load("kernel.npz")["kernels"][1]  # the file of its numbers, from the same menu'
    )
    call = (
        f"{kernel}\n"
        f"edit = edit_kernel(model, view.pixels, {found.layer!r}, {found.channel}, kernel)\n"
        "print([model.labels[scores.argmax()] for scores in edit.scores])  # before, after"
    )
    imports = ("import numpy as np", "from vizcore.kernel_edit import edit_kernel")
    takeaway.offer(here, f"kernel {found.layer} {found.channel}", found, figure, imports, call)
