"""The Layers page with a net as it was along its training, without a browser."""

from __future__ import annotations

import numpy as np
from streamlit.testing.v1 import AppTest
from test_app import chosen, saying, visit
from test_takeaway import results_of, scripts

from models.states import state_model, training_states
from vizcore.filters import filters

NAME = "epoch of lenet5"


def after(epoch: int) -> AppTest:
    app = visit("layers", model="LeNet-5", digit="Digit 3")
    app.select_slider(key=NAME).set_value(epoch).run()
    assert not app.exception
    return app


def test_every_state_that_is_shipped_can_be_chosen_and_the_last_comes_first() -> None:
    slider = visit("layers", model="LeNet-5").select_slider(key=NAME)
    epochs = [state.epoch for state in training_states("lenet5")]
    assert list(slider.options) == list(map(str, epochs))
    assert slider.value == max(epochs)


def test_the_page_says_how_well_a_state_does_and_what_it_takes_the_picture_for() -> None:
    app, model = after(1), state_model("lenet5", 1)
    (state,) = (state for state in training_states("lenet5") if state.epoch == 1)
    words = saying(app, "After 1 epoch")
    assert f"{100 * state.accuracy:.1f} %" in words
    assert f"**{int(model.logits(chosen(app).view.pixels).argmax())}**" in words


def test_the_filters_of_a_state_are_its_own_and_the_python_makes_them() -> None:
    (script,) = scripts(after(1), "filters(model)")
    assert "state_model('lenet5', 1)" in script
    taken = results_of(script)["bank"].values
    np.testing.assert_array_equal(taken, filters(state_model("lenet5", 1)).values)
    (shipped,) = scripts(visit("layers", model="LeNet-5"), "filters(model)")
    assert not np.allclose(results_of(shipped)["bank"].values, taken, atol=0.05)


def test_other_pages_and_nets_without_states_know_nothing_of_it() -> None:
    app = after(0)
    assert saying(app, "Before any training")
    assert "untrained" not in chosen(app).model.title
    app.switch_page("app_pages/overview.py").run()
    assert chosen(app).model.title == "LeNet-5"
    assert not visit("layers").select_slider
