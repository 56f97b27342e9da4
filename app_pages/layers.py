"""Layers: the first layer's filters, and what every layer answers to the picture."""

import numpy as np
import pandas as pd
import streamlit as st

from app_pages import clickable, common, exciting, growth, looks_for, takeaway, views
from vizcore import spectra
from vizcore.filters import ORDERS, convolutions, order
from vizcore.images import Scale, montage
from vizcore.records import ActivationMaps, Filters

here = common.chosen()


def show_sheet(sheet: views.Sheet, numbers: np.ndarray, layer: str, key: str) -> None:
    """A montage whose tiles can be clicked: the channel under the click becomes the chosen one."""

    def choose(down: float, right: float) -> None:
        height, width = sheet.size
        tile = sheet.layout.index_at(int(right * width), int(down * height))
        if tile is not None:
            st.session_state["channel"] = int(numbers[tile])

    clickable.show(sheet.file, sheet.size, f"The maps of {layer}, channel by channel", key, choose, cursor="pointer")


def show_filters() -> None:
    st.subheader("First-layer filters, and the maps that they make", anchor=False)
    first = model.layers["first_conv"]
    bank = views.bank_of(here)
    (maps,) = views.maps_of(here, first)
    row = st.container(horizontal=True)
    sort = row.segmented_control(
        "Order",
        ORDERS,
        default="index",
        required=True,
        key="filter_order",
        format_func={"index": "By number", "strength": "Strongest first", "similarity": "Alike together"}.__getitem__,
        bind="query-params",
        help="Strength is the Euclidean length of a kernel. Alike together: each is followed by its nearest neighbour.",
    )
    each = (
        row.segmented_control(
            "Contrast",
            ["each", "all"],
            default="each" if views.is_each(bank) else "all",
            required=True,
            key=f"filter_scale of {model.name}",
            format_func={"each": "Each its own", "all": "One scale"}.__getitem__,
            bind="query-params",
            help="On one scale, strong kernels stand out and weak ones are grey; each on its own, their patterns show.",
        )
        == "each"
    )
    numbers = order(bank, sort)
    left, right = st.columns(2, gap="medium")
    with left:
        sheet = views.sheet(views.filter_sheet, bank, numbers, each)
        views.show_picture(sheet.file, f"{len(numbers)} filters of {first}")
        st.caption(
            f"The {len(numbers)} kernels of {common.plain(first)}, {bank.values.shape[3]} × {bank.values.shape[2]} "
            f"pixels{', in the colours that they look for' * bool(bank.channel_names)}. {words_of_scale(bank, each)}"
        )
        if min(bank.values.shape[2:]) >= spectra.LEAST:
            found = spectra.readability(bank)
            st.caption(
                f"By their spectra {int(found.oriented.sum())} of {len(numbers)} are edges or gratings and "
                f"{int((found.coloured & ~found.oriented).sum())} blobs of colour; the rest is mixed, or noise.",
                help="An edge or grating has its energy in one direction, a blob in a low frequency that differs "
                "between the colours. Filters of an untrained net have neither.",
            )
    with right:
        scale = Scale.of(maps.values)
        values = views.shrink(maps.values[numbers])
        sheet = views.sheet(montage, values, scale, columns=sheet.layout.columns, gap=2, tile=40)
        views.show_picture(sheet.file, f"The maps of {first}, in the same order")
        views.show_scale(scale, "one scale for all maps")
        st.caption("Where each filter found its pattern in this picture, in the same places of the grid.")
    takeaway.offer_sheet(
        here,
        "filters",
        bank,
        lambda: views.filter_sheet(bank, numbers, each),
        None if bank.channel_names or each else Scale.of(bank.values, signed=True),
        f"First-layer filters, {first}",
        ("from vizcore.filters import filters",),
        "bank = filters(model)  # .values (N, C, kh, kw)",
        colormap="gray",
        without_scale=takeaway.EACH_TILE if each else takeaway.COLOURS_OF_FILTERS,
    )


def words_of_scale(bank: Filters, each: bool) -> str:
    """What mid-grey and the ends of the colours mean."""
    norms, largest = bank.norms, float(np.abs(bank.values).max())
    if each:
        return (
            "Mid-grey is a weight of 0; each kernel is on a scale of its own, and the longest is "
            f"{views.number(float(norms.max() / max(norms.min(), 1e-12)))} times as long as the shortest."
        )
    if bank.channel_names:
        return f"Mid-grey is a weight of 0; one scale for all, ±{views.number(largest)}."
    return f"Black is {views.number(-largest)}, mid-grey 0, white {views.number(largest)}."


def choose_layer() -> str:
    st.subheader("Activation maps", anchor=False)
    strip = {layer.name: layer for layer in views.stages_of(here)}
    everything = {layer.name: layer for layer in views.layers_of(here)}

    def open_stage() -> None:
        if st.session_state["stage"]:
            st.session_state["layer"] = st.session_state["stage"]

    place_of_strip = st.container()  # drawn second: it follows the layer that a link names
    default = next((name for name in strip if name != model.layers["first_conv"]), next(iter(everything)))
    layer = st.selectbox(
        "Layer",
        list(everything),
        index=list(everything).index(default),
        key="layer",
        bind="query-params",
        help="Every layer whose output is maps, in the order in which it runs. Type to search.",
    )
    st.session_state["stage"] = layer if layer in strip else None
    place_of_strip.pills(
        "The net, stage by stage",
        list(strip),
        format_func=lambda name: f"{common.plain(name)} · {strip[name].size}",
        key="stage",
        on_change=open_stage,
        help="Channels × height × width of what comes out of each stage.",
    )
    st.caption(common.plain(f"{everything[layer].kind}, {everything[layer].size} (channels × height × width)"))
    return layer


def scales_of(maps: ActivationMaps, kind: str) -> Scale | list[Scale]:
    if kind == "channel":
        return [Scale.of(channel) for channel in maps.values]
    if kind == "net":
        return Scale.of(*(stage.values for stage in views.maps_of(here, *(s.name for s in views.stages_of(here)))))
    return Scale.of(maps.values)


def show_maps(layer: str) -> None:
    (maps,) = views.maps_of(here, layer)
    controls = st.container(horizontal=True, gap="large")
    sort = controls.segmented_control(
        "Order",
        ["strength", "number"],
        default="strength",
        required=True,
        key="map_order",
        format_func={"strength": "Strongest first", "number": "By number"}.__getitem__,
        bind="query-params",
        help="Strength is the root mean square of the map.",
    )
    kind = controls.segmented_control(
        "Colour scale of",
        ["channel", "layer", "net"],
        default="layer",
        required=True,
        key="map_scale",
        format_func={"channel": "each channel", "layer": "the layer", "net": "the whole net"}.__getitem__,
        bind="query-params",
        help="On a scale of its own every channel looks strong; on the layer's or the net's, weak ones look weak.",
    )
    scale = scales_of(maps, kind)
    count = len(maps.values)
    numbers = np.argsort(-maps.strengths, kind="stable") if sort == "strength" else np.arange(count)
    dead = maps.dead
    if len(dead):
        listed = ", ".join(map(str, dead[:20])) + (" …" if len(dead) > 20 else "")
        st.markdown(f"**{len(dead)} of {count} channels are dead for this picture** (zero everywhere): {listed}.")
    else:
        st.markdown(f"None of the {count} channels is dead (zero everywhere) for this picture.")

    channel = show_channel(maps, scale)
    st.divider()
    ordered = [scale[n] for n in numbers] if isinstance(scale, list) else scale
    place = int(np.flatnonzero(numbers == channel)[0])
    size = f"{maps.values.shape[2]} × {maps.values.shape[1]}"
    st.markdown(f"**All {count} maps** of {common.plain(layer)}, {size} each. Click one to enlarge it above.")
    sheet = views.sheet(views.map_sheet, maps.values[numbers], ordered, highlight=(place,))
    show_sheet(sheet, numbers, layer, f"sheet {model.name} {layer} {sort}")
    if not isinstance(scale, list):
        views.show_scale(scale, "activation")
    one_scale = None if isinstance(scale, list) else scale
    takeaway.offer_sheet(
        here,
        f"maps {layer}",
        maps,
        lambda: views.map_sheet(maps.values[numbers], ordered),
        one_scale,
        f"Activation maps of {layer}, " + ("strongest first" if sort == "strength" else "by number"),
        ("from vizcore.activations import activation_maps",),
        f"maps = activation_maps(model, view.pixels, {layer!r})  # .values (C, h, w)",
    )


def show_channel(maps: ActivationMaps, scale: Scale | list[Scale]) -> int:
    """One channel enlarged, with its numbers; at first the strongest of the layer."""
    strongest = int(np.argmax(maps.strengths))
    here_now = (model.name, maps.layer)
    if st.session_state.setdefault("layer of the channel", here_now) != here_now:
        st.session_state["layer of the channel"], st.session_state["channel"] = here_now, strongest
    title, choice = st.columns([3, 1], vertical_alignment="bottom")
    channel = choice.number_input(
        "Channel", 0, len(maps.values) - 1, strongest, step=1, key="channel", bind="query-params"
    )
    title.subheader(f"Channel {channel} of {common.plain(maps.layer)}", anchor=False)
    values = maps.values[channel]
    own = scale[channel] if isinstance(scale, list) else scale
    alone, laid, facts = st.columns(3, gap="medium")
    with alone:
        views.show_picture(views.enlarged(values, own), f"Activation map of channel {channel}")
        views.show_scale(own, "activation")
    with laid:
        in_place = views.in_place(here, values, maps.layer)
        views.show_picture(views.laid(here, in_place, own), f"Channel {channel} laid over the picture")
        st.caption("Laid over the picture: where the channel responds.")
    with facts:
        numbers = st.container(horizontal=True)
        numbers.metric("Minimum", views.number(float(values.min())))
        numbers.metric("Mean", views.number(float(maps.means[channel])))
        numbers.metric("Maximum", views.number(float(maps.maxima[channel])))
        numbers.metric(
            "Zeros", f"{100 * float(maps.zero_shares[channel]):.0f} %", help="Share of exact zeros in the map."
        )
        counts, edges = np.histogram(values, bins=30)
        st.vega_lite_chart(
            pd.DataFrame({"from": edges[:-1], "to": edges[1:], "places": counts}),
            {
                "mark": "bar",
                "encoding": {
                    "x": {"field": "from", "bin": "binned", "type": "quantitative", "title": "activation"},
                    "x2": {"field": "to"},
                    "y": {"field": "places", "type": "quantitative"},
                },
            },
            height=200,
            alt="How many places of the map have which activation",
        )
        if channel in maps.dead:
            st.caption("This channel is dead for this picture: zero everywhere.")
    show_kernel(maps.layer, channel)
    looks_for.show(here, maps, channel)
    exciting.show(here, maps.layer, channel)
    return channel


def show_kernel(layer: str, channel: int) -> None:
    """The kernel that makes a channel, slice by slice, where the layer is a convolution."""
    if layer not in convolutions(model):
        return
    bank = views.bank_of(here, layer)
    kernel = bank.values[channel]  # (C, kh, kw)
    scale = Scale.of(bank.values, signed=True)
    if kernel.shape[1:] == (1, 1):
        st.markdown(f"**Its kernel** weighs {len(kernel)} channels, one number each (1 × 1).")
        st.bar_chart(
            pd.DataFrame({"input channel": range(len(kernel)), "weight": kernel[:, 0, 0]}),
            x="input channel",
            y="weight",
            height=180,
        )
        return
    st.markdown(
        f"**Its kernel**, {kernel.shape[2]} × {kernel.shape[1]}, one slice for each of {len(kernel)} input channels."
    )
    if bank.channel_names:
        st.caption(f"From the left: {', '.join(bank.channel_names)}.")
    sheet = views.sheet(montage, kernel, scale, columns=min(len(kernel), 24), gap=2, tile=40)
    views.show_picture(sheet.file, f"The slices of kernel {channel} of {layer}", width="content")
    with st.container(width=320):
        views.show_scale(scale, "weight")


st.title("Layers", anchor=False)
common.warn_untrained(here)
here = growth.at_epoch(here)
model = here.model
show_filters()
st.divider()
show_maps(choose_layer())
