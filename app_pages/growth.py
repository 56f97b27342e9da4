"""A net as it was along its training: the slider of the Layers page, and how well the net did by then."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

from app_pages import common
from models.states import State, training_states


def at_epoch(here: common.Chosen) -> common.Chosen:
    """``here``, with the net as it was after as many epochs as the slider says, where such states are shipped."""
    states = training_states(here.model.name) if here.model.weights else ()
    if not states:
        return here
    epochs = [state.epoch for state in states]
    with st.container(border=True):
        left, right = st.columns([3, 2], gap="large", vertical_alignment="center")
        with left:
            epoch = st.select_slider(
                "Epochs of training",
                epochs,
                epochs[-1],
                key=f"epoch of {here.model.name}",
                bind="query-params",
                help="One epoch shows every training picture once. Before the first, all weights are random.",
            )
            found = here if epoch == epochs[-1] else _after(here, epoch)
            st.markdown(_in_words(found, states[epochs.index(epoch)]))
        with right:
            _show_course(states, epoch)
    return found


def _after(here: common.Chosen, epoch: int) -> common.Chosen:
    from vizcore.records import probabilities

    model = common.state_of(here.model.name, epoch)
    scores = common.known(("scores", model.title, here.digest, "alone"), lambda: model.logits(here.view.pixels))
    return replace(
        here,
        loaded=model,
        scores=scores[0].numpy(),
        chances=probabilities(scores)[0].numpy(),
        loaded_by=f"state_model({here.model.name!r}, {epoch})",
        imports=(*here.imports, "from models.states import state_model"),
    )


def _in_words(here: common.Chosen, state: State) -> str:
    top = int(here.ranking[0])
    when = f"After {state.epoch} epoch{'s' * (state.epoch != 1)}" if state.epoch else "Before any training"
    return (
        f"{when} it gets **{100 * state.accuracy:.1f} %** of the test pictures right, and takes this one for "
        f"**{common.plain(here.label(top))}**, {100 * here.chances[top]:.0f} %."
    )


def _show_course(states: tuple[State, ...], epoch: int) -> None:
    """Accuracy against epochs. The places are in even steps: most happens in the first epochs."""
    table = pd.DataFrame(
        {
            "epoch": [state.epoch for state in states],
            "right": [100 * state.accuracy for state in states],
            "now": [state.epoch == epoch for state in states],
        }
    )
    axis = {"field": "epoch", "type": "ordinal", "title": "epochs of training", "axis": {"labelAngle": 0}}
    right = {"field": "right", "type": "quantitative", "title": "right, %", "scale": {"domain": [0, 100]}}
    size = {"condition": {"test": "datum.now", "value": 160}, "value": 30}
    st.vega_lite_chart(
        table,
        {
            "layer": [
                {"mark": "line", "encoding": {"x": axis, "y": right}},
                {"mark": {"type": "circle", "opacity": 1}, "encoding": {"x": axis, "y": right, "size": size}},
            ]
        },
        height=170,
        alt=f"Share of the test pictures that are right after {', '.join(map(str, table['epoch']))} epochs",
    )
