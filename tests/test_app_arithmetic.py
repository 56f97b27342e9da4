"""The page "Arithmetic" without a browser: a unit taken apart, the bench, and a kernel of the net changed."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest
from test_app import (
    as_markdown_shows,
    chosen,
    no_weights_of_the_loader,  # noqa: F401 - a fixture
    texts,
    visit,
)

from app_pages import number_grid
from app_pages.sliding import sum_in_words
from vizcore.images import Scale
from vizcore.kernel_bench import BOOK_GRID, kernel_named, slide

PARTS = ("A unit of the net", "Bench", "Edit a kernel")


def said(app: AppTest) -> str:
    return "\n".join(as_markdown_shows(text) for text in [*texts(app), *(box.value for box in app.success)])


def code(app: AppTest, words: str) -> str:
    found = [block.value for block in app.code if words in block.value]
    assert found, [block.value for block in app.code]
    return found[0]


def assert_fine(app: AppTest) -> None:
    assert not app.exception
    assert not app.error


@pytest.mark.parametrize("part", PARTS)
def test_every_part_opens(part: str) -> None:
    app = visit("arithmetic", arithmetic_part=part)
    assert_fine(app)
    assert not app.warning
    assert app.title[0].value == "Arithmetic"


def test_an_untrained_network_is_said_to_be_one() -> None:
    app = visit("arithmetic", model="ResNet-18", untrained="true")
    assert_fine(app)
    assert "untrained" in app.warning[0].value
    assert "By hand" in app.success[0].value


# A unit


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("conv1", "a convolution"),
        ("act1", "conv1, a convolution"),
        ("pool2", "the mean of the window"),
        ("fc1", "It reads a window of 5 × 5 in 16 channels, 400 numbers"),
        ("fc3", "a dense layer"),
    ],
)
def test_by_hand_is_the_network_at_the_layer_that_a_link_names(layer: str, words: str) -> None:
    app = visit("arithmetic", model="LeNet-5", unit_layer=layer)
    assert_fine(app)
    assert words in said(app).replace("**", "")
    hand, network = re.findall(r"By hand (\S+) = network (\S+)", as_markdown_shows(app.success[0].value))[0]
    assert hand == network


def test_a_place_in_the_link_is_the_one_taken_apart() -> None:
    link = {"unit_layer": "conv1", "unit_channel": "4", "unit_row": "20", "unit_column": "9"}
    app = visit("arithmetic", model="LeNet-5", **link)
    assert_fine(app)
    here = chosen(app)
    value = here.model.net.conv1(here.model.normalise(here.view.pixels))[0, 4, 20, 9]
    assert f"network {number_grid.exact(float(value))}" in said(app)
    assert "explain_unit(model, view.pixels, 'conv1', 4, 20, 9)" in code(app, "explain_unit")


def test_another_layer_begins_with_its_largest_number() -> None:
    app = visit("arithmetic", model="LeNet-5")
    app.number_input(key="unit_row").set_value(27).run()
    app.selectbox(key="unit_layer").set_value("pool2").run()
    assert_fine(app)
    assert app.number_input(key="unit_row").value <= 4


def test_the_python_of_a_unit_makes_the_same_unit() -> None:
    app = visit("arithmetic", model="LeNet-5", unit_layer="act2")
    printed: list[float] = []
    exec(code(app, "explain_unit"), {"print": lambda *values: printed.extend(values)})
    assert printed[0] == pytest.approx(printed[1], abs=1e-6)
    assert f"By hand {number_grid.exact(printed[0])}" in said(app)


def test_the_batch_norm_and_the_activation_behind_a_convolution_have_their_numbers() -> None:
    app = visit("arithmetic", unit_layer="blocks.1.0.conv_dw")
    assert_fine(app)
    assert "√(variance + eps) · γ + β" in code(app, "variance")
    assert "min(max(low, x), high)" in code(app, "min(max(")
    assert "And what the network does with it next" in said(app)


# The bench


def test_the_bench_begins_with_the_books_example() -> None:
    app = visit("arithmetic", arithmetic_part="Bench")
    assert_fine(app)
    assert "The output is 2 × 2" in said(app)
    assert "⌊(3 + 2·0 − 1·(2 − 1) − 1) / 1⌋ + 1 = 2" in code(app, "height")


def test_stride_padding_and_dilation_of_a_link_are_in_the_formula_and_in_the_python() -> None:
    link = {"bench_kernel": "Gaussian, 5 × 5", "bench_stride": "2", "bench_padding": "4", "bench_dilation": "2"}
    app = visit("arithmetic", arithmetic_part="Bench", bench_on="The picture", **link)
    assert_fine(app)
    assert "⌊(224 + 2·4 − 2·(5 − 1) − 1) / 2⌋ + 1 = 112" in code(app, "height")
    printed: list[np.ndarray] = []
    exec(code(app, "slide("), {"print": printed.append})
    assert printed[0].shape == (112, 112)


def test_a_kernel_that_fits_nowhere_is_refused_in_words() -> None:
    app = visit("arithmetic", arithmetic_part="Bench", bench_dilation="4")
    assert not app.exception
    assert "fits nowhere" in app.error[0].value


def test_the_sum_of_a_step_is_written_out() -> None:
    run = slide(BOOK_GRID - 1, kernel_named("book"))
    assert sum_in_words(run, 0, 0) == "(−1) · 0 + 0 · 1 + 2 · 2 + 3 · 3 = 13"


# A kernel of the net


def pressed(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click().run()
    return app


def test_a_kernel_set_to_zero_changes_the_classes_of_a_copy_and_put_back_they_are_as_before() -> None:
    app = visit("arithmetic", arithmetic_part="Edit a kernel")
    here = chosen(app)
    before = here.model.logits(here.view.pixels)
    assert "0 numbers of 27 changed" in said(app)
    pressed(app, "Set to zero")
    assert_fine(app)
    assert "27 numbers of 27 changed" in said(app)
    assert re.search(r"39\.5 % → (?!39\.5)", said(app))
    assert torch.equal(here.model.logits(here.view.pixels), before)
    table = app.dataframe[-1].value
    assert (table["before"] - table["after"]).abs().max() > 0.1
    pressed(app, "Put back")
    assert "0 numbers of 27 changed" in said(app)
    assert "Nothing is changed yet" in said(app)


def test_the_python_of_an_edit_makes_the_same_answer() -> None:
    app = visit("arithmetic", model="LeNet-5", arithmetic_part="Edit a kernel")
    pressed(app, "Turn the sign")
    assert_fine(app)
    printed: list[list[str]] = []
    exec(code(app, "edit_kernel("), {"print": printed.append})
    (answer,) = re.findall(r"(?:Still|Now) (\S+)[:,]", said(app).replace("**", ""))
    assert printed[0][1] == answer


# Grids


def test_a_grid_prints_its_numbers_and_crosses_out_the_padding() -> None:
    values = np.array([[0.123456, -2.0], [0.0, 1500.4]])
    svg = number_grid.picture(values, Scale.of(values), np.array([[True, True], [False, True]]))
    assert re.findall(r">([^<>]+)</text>", svg) == ["0.123", "−2", "0", "1500"]
    assert svg.count("<path") == 1
    assert io.StringIO(svg).read().startswith("<svg ")


@pytest.mark.parametrize("value", [0.0, 1e-12, 3.14159e-5, -0.5, 12.345, -123.456, 98765.4, 1.5e7, -2.5e-4])
def test_a_number_in_a_cell_is_short_and_near(value: float) -> None:
    text = number_grid.short(value)
    assert len(text) <= 6
    assert float(text.replace("−", "-")) == pytest.approx(value, rel=0.4, abs=1e-9)
