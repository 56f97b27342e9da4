"""Anatomy: every layer of the network, what it costs, how its size comes about, and what its units see."""

import math
import re

import streamlit as st

from app_pages import common, layer_table, net_diagram, seen_unit
from vizcore.anatomy import Anatomy, LayerFacts, anatomy

here = common.chosen()
model = here.model
PICK = "anatomy_layer"
QUESTIONS = {"parameters": "most parameters", "multiply-adds": "most multiply-adds", "activations": "largest output"}


def facts_of() -> Anatomy:
    return common.known(("anatomy", model.title), lambda: anatomy(here.model))


def first_choice(layers: tuple[LayerFacts, ...]) -> str:
    """The deepest layer of which a unit sees no more than half of the picture: its rectangle can be looked at."""
    shown = seen_unit.names_of(here)
    within = [
        layer.title
        for layer in layers
        if layer.title in shown
        and 2 * max(layer.receptive_field) <= max(model.input_size)
        and layer.windows
        and max(window.kernel for window in layer.windows) > 1
    ]
    return (within or [layers[0].title])[-1]


# -- totals ----------------------------------------------------------------------------------------------------------


def show_totals(facts: Anatomy) -> None:
    row = st.container(horizontal=True)
    row.metric("Layers", f"{len(facts.layers):,}", help="Modules that compute, and operations that are no modules.")
    row.metric("Parameters", f"{facts.parameters:,}", help="Numbers that were learned: weights and biases.")
    row.metric(
        "Multiply-adds",
        f"{facts.multiply_adds:,}",
        help="For one picture: the products in convolutions and dense layers, each added to a sum. Biases, norms and "
        "activations are not counted. A “FLOP” counts half of one, or a whole one, depending on the author.",
    )
    row.metric(
        "Activations",
        megabytes(4 * facts.activations_of_slides),
        help="One picture, forward: the picture and what comes out of convolutions, poolings and dense layers, each "
        "number once, at 4 bytes (float32). 1 MB is 1,000,000 bytes.",
    )
    disagreeing = [layer.title for layer in facts.layers if not layer.agrees]
    if disagreeing:
        st.warning(f"The formula does not give what ran for: {common.plain(', '.join(disagreeing))}.")
    if facts.idle:
        st.caption(f"{facts.idle:,} of the parameters are in modules that do not run.")


def megabytes(count: int) -> str:
    return (
        f"{count / 1e6:,.0f} MB"
        if count >= 1e7
        else f"{count / 1e6:.2g} MB"
        if count >= 1e5
        else f"{count / 1e3:.0f} kB"
    )


def explain_memory(facts: Anatomy) -> None:
    counted, everything = facts.activations_of_slides, facts.activations
    with st.expander("How is the memory counted?"):
        st.markdown(
            f"The picture and what comes out of every convolution, pooling and dense layer: **{counted:,}** numbers, "
            f"**{megabytes(4 * counted)}** at 4 bytes each, {megabytes(counted)} at one byte. An activation function, "
            f"a norm or dropout then writes over what it reads. Where each of these keeps a copy, there are "
            f"{everything:,} numbers, {megabytes(4 * everything)}. Training keeps them for the way back, for each "
            "picture of a batch; an answer needs only those that are still to be read."
        )
        if model.name == "vgg16":
            st.markdown(
                "The lecture slides of CS231n have this table for VGG-16 and write “24M · 4 bytes ≈ 93 MB” below it. "
                "Their own lines add up to 15.2 million, as here: 61 MB (58 MiB). The 24 million, and so the 93 MB, "
                "are a known slip (issue 88 of cs231n.github.io): neither way of counting gives them."
            )


def spot(facts: Anatomy) -> LayerFacts | None:
    """Questions to a class: the answer is in the drawing and in the table, and highlighted when it is asked for."""
    asked = st.pills(
        "Can you spot the layer with the …?",
        list(QUESTIONS),
        format_func=QUESTIONS.__getitem__,
        key="anatomy_spot",
        bind="query-params",
        help="Guess first. A click shows it in the drawing and in the table.",
    )
    if not asked:
        return None
    layer, total, word = {
        "parameters": (facts.largest, facts.parameters, "parameters of the network"),
        "multiply-adds": (facts.busiest, facts.multiply_adds, "multiply-adds"),
        "activations": (facts.widest, facts.activations, "numbers that come out of layers"),
    }[asked]
    counts = [getattr(one, asked.replace("-", "_")) for one in facts.layers]
    count, others = max(counts), counts.count(max(counts)) - 1
    share = 100 * count / max(total, 1)
    more = f" {common.counted(others, ('other has', 'others have'))} as many." if others else ""
    st.markdown(
        f"**{common.plain(layer.title)}**, number {facts.layers.index(layer) + 1} in the table: {count:,} of {total:,} "
        f"{word}, **{share:.0f} %**. {common.plain(how_many(layer, asked))}{more}"
    )
    return layer


def how_many(layer: LayerFacts, what: str) -> str:
    """Where a number of a layer comes from."""
    weights = layer.tensors.get("weight", ())
    if what == "parameters":
        parts = [f"{' × '.join(f'{n:,}' for n in shape)} ({name})" for name, shape in layer.tensors.items()]
        whole = sum(math.prod(shape) for shape in layer.tensors.values())
        if layer.parameters != whole:  # it has run before, or shares them
            return f"{' + '.join(parts)} = {whole:,}, of which {whole - layer.parameters:,} were counted before."
        return f"{' + '.join(parts)} = {whole:,}." if parts else "None."
    outputs = " × ".join(f"{n:,}" for n in layer.shape)
    if what == "activations":
        return f"{outputs} = {layer.activations:,}." if len(layer.shape) > 1 else f"{layer.activations:,}."
    products = " × ".join(f"{n:,}" for n in weights[1:])
    if not layer.multiply_adds or layer.family not in ("convolution", "dense") or not weights:
        return f"{layer.multiply_adds:,}."
    return f"{outputs} outputs, {products} products for each = {layer.multiply_adds:,}."


# -- one layer -------------------------------------------------------------------------------------------------------


def show_layer(layer: LayerFacts) -> None:
    st.markdown(
        f"**{common.plain(layer.title)}** is {'a' if layer.is_module else 'an operation,'} {common.plain(layer.kind)}."
    )
    left, right = st.columns(2, gap="large")
    with left:
        show_formulas(layer)
    with right:
        if layer.tensors:
            st.markdown(f"**Parameters.** {common.plain(how_many(layer, 'parameters'))}")
        if layer.multiply_adds:
            st.markdown(f"**Multiply-adds.** {common.plain(how_many(layer, 'multiply-adds'))}")
        st.markdown(
            f"**Activations.** {common.plain(how_many(layer, 'activations'))} At 4 bytes: {megabytes(layer.memory)}."
        )
        if layer.sees:
            st.markdown(f"**Receptive field.** {common.plain(words_for_field(layer))}")


def show_formulas(layer: LayerFacts) -> None:
    if not layer.formulas:
        words = " × ".join(map(str, layer.shape)) or "not one tensor"
        st.markdown(f"**Output.** {common.plain(words)}. Nothing slides over maps here.")
        return
    st.markdown("**Output size**, with kernel k, stride s, padding p on either side and dilation d:")
    st.latex(r"\text{out} = \left\lfloor \frac{\text{in} + 2p - d\,(k - 1) - 1}{s} \right\rfloor + 1")
    height, width = map(latex_of, layer.formulas)
    st.markdown("Height and width:" if height == width else "Height, then width:")
    for formula in dict.fromkeys((height, width)):
        st.latex(formula)


def latex_of(formula: str) -> str:
    """A formula of `vizcore.fields.Window` as a fraction."""
    found = re.fullmatch(r"([⌊⌈])\((.*)\) / (\d+)[⌋⌉] \+ 1(.*) = (\d+)", formula)
    assert found, formula
    sign, inner, stride, drop, size = found.groups()
    kind = "floor" if sign == "⌊" else "ceil"
    inner = inner.replace("·", r" \cdot ").replace("−", "-")
    less = r" - 1" if drop else ""
    return rf"\left\l{kind} \frac{{{inner}}}{{{stride}}} \right\r{kind} + 1{less} = {size}"


def words_for_field(layer: LayerFacts) -> str:
    assert layer.sees
    if layer.sees.is_whole:
        seen = "The whole picture" if layer.sees.known else "At most the whole picture"
        rows, columns = layer.receptive_field
        return f"{seen}." if (rows, columns) == model.input_size else f"{seen}; without its border {rows} × {columns}."
    (rows, columns), jump, centre = layer.receptive_field, layer.jump, layer.centre
    return (
        f"A unit sees {rows} × {columns} pixels. The next one looks {jump[0]:g} further down or {jump[1]:g} further to "
        f"the right, the first one at row {centre[0]:g}, column {centre[1]:g}."
    )


st.title("Anatomy", anchor=False)
common.warn_untrained(here)
everything = facts_of()
st.caption(
    f"Every layer of {common.plain(model.title)} in the order in which it runs, on a picture of "
    f"{' × '.join(map(str, everything.input_shape))} (channels × height × width)."
)
show_totals(everything)
explain_memory(everything)
spotted_layer = spot(everything)
titles = [layer.title for layer in everything.layers]
drawing = st.container()
layer_table.show(here, everything, spotted_layer, PICK)
st.subheader("One layer", anchor=False)
chosen_title = st.selectbox(
    "Layer",
    titles,
    index=titles.index(first_choice(everything.layers)),
    key=PICK,
    bind="query-params",
    help="Or click it in the drawing or in the table. Type to search.",
)
with drawing:
    net_diagram.show(
        everything, chosen_title, spotted_layer.title if spotted_layer else None, f"drawing of {model.title}", PICK
    )
chosen_layer = everything.layers[titles.index(chosen_title)]
show_layer(chosen_layer)
st.subheader("What a unit sees", anchor=False)
if chosen_title in seen_unit.names_of(here):
    seen_unit.show(here, chosen_layer)
else:
    st.info(
        "Choose a layer whose output is maps and that runs once: its units lie at places, and each sees a part of the "
        "picture.",
        icon=":material/info:",
    )
