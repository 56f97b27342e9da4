"""The page that takes a net apart, as Streamlit runs it and as a person clicks in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
from test_app import chosen, saying, texts, visit
from test_takeaway import results_of

from app_pages import layer_table, net_diagram
from models import load_model
from vizcore.anatomy import anatomy, to_csv
from vizcore.receptive_field import effective, theoretical

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from streamlit.testing.v1 import AppTest


def as_said(app: AppTest, words: str) -> str:
    return saying(app, words).replace("\\", "")


def test_the_page_says_what_the_net_has() -> None:
    app = visit("anatomy", model="LeNet-5", anatomy_layer="pool2")
    check_numbers(app)
    app.selectbox(key="model").set_value("efficientnet_lite0").run()
    check_numbers(app)
    assert app.selectbox(key="anatomy_layer").value.startswith("blocks.")


def check_numbers(app: AppTest) -> None:
    assert not app.exception
    assert not app.warning
    facts = anatomy(chosen(app).model)
    values = {metric.label: metric.value for metric in app.metric}
    assert values["Parameters"] == f"{facts.parameters:,}"
    assert values["Multiply-adds"] == f"{facts.multiply_adds:,}"
    assert f"agree for {len(facts.layers)} of {len(facts.layers)} layers" in as_said(app, "In order of execution")
    table = app.dataframe[0].value
    assert list(table["layer"]) == [layer.title for layer in facts.layers]
    assert list(table["parameters"]) == [layer.parameters for layer in facts.layers]
    assert list(table["shape by formula"]) == list(table["shape as run"])


def test_a_guess_is_answered_when_it_is_asked_for() -> None:
    app = visit("anatomy", model="LeNet-5")
    assert not any("fc1" in text for text in texts(app))
    app.button_group(key="anatomy_spot").set_value("parameters").run()
    assert not app.exception
    said = as_said(app, "48,120 of 61,706")
    assert said.startswith("**fc1**")
    assert "78 %" in said
    assert "have as many" not in said
    assert "120 × 400 (weight) + 120 (bias) = 48,120" in said


def test_a_layer_has_its_formula_with_numbers_and_its_costs() -> None:
    app = visit("anatomy", model="LeNet-5")
    app.selectbox(key="anatomy_layer").set_value("conv1").run()
    shown = [element.value for element in app.latex]
    assert any(r"\frac{28 + 2 \cdot 2 - 1 \cdot (5 - 1) - 1}{1}" in text and "= 28" in text for text in shown)
    assert "6 × 1 × 5 × 5 (weight) + 6 (bias) = 156" in as_said(app, "**Parameters.**")
    assert "6 × 28 × 28 outputs, 1 × 5 × 5 products for each = 117,600" in as_said(app, "**Multiply-adds.**")


def test_what_is_said_of_a_unit_is_what_is_calculated() -> None:
    app = visit("anatomy", model="LeNet-5", anatomy_layer="pool2")
    app.number_input(key="seen_row").set_value(0).run()
    app.number_input(key="seen_column").set_value(3).run()
    app.number_input(key="seen_channel").set_value(4).run()
    here = chosen(app)
    left, top, right, bottom = theoretical(here.model, "pool2", (0, 3))
    said = as_said(app, "theoretical receptive field")
    assert f"{bottom - top} × {right - left} pixels of 28 × 28" in said
    assert "Without the border of the picture it would be 16 × 16" in said
    found = effective(here.model, here.view.pixels, "pool2", (4, 0, 3))
    assert f"half of all the change comes from {found.area():,} pixels" in as_said(app, "effective receptive field")


def test_a_layer_without_places_says_which_to_choose() -> None:
    app = visit("anatomy", model="LeNet-5", anatomy_layer="fc1")
    assert not app.exception
    assert "Choose a layer" in as_said(app, "units lie at places")
    assert "The whole picture" in as_said(app, "Receptive field")


def test_what_is_taken_away_makes_the_same() -> None:
    app = visit("anatomy", model="LeNet-5", anatomy_layer="conv2")
    scripts = [code.value for code in app.code]
    here = chosen(app)
    (table,) = [script for script in scripts if "to_csv" in script]
    assert to_csv(results_of(table)["facts"]) == to_csv(anatomy(here.model))
    (field,) = [script for script in scripts if "effective(" in script]
    made = results_of(field)
    unit = tuple(app.number_input(key=f"seen_{part}").value for part in ("channel", "row", "column"))
    np.testing.assert_allclose(made["seen"].values, effective(here.model, here.view.pixels, "conv2", unit).values)
    assert made["box"] == theoretical(here.model, "conv2", unit[1:])


def test_every_column_is_explained() -> None:
    table = layer_table.table_of(anatomy(load_model("lenet5")))
    columns = layer_table.columns_of(table)
    assert set(columns) == set(table.columns)
    assert all(column["help"] for column in columns.values())


def test_blocks_are_as_high_as_maps_and_as_wide_as_channels_and_do_not_overlap() -> None:
    drawn = net_diagram.blocks(anatomy(load_model("lenet5"))).set_index("layer")
    assert list(drawn.index) == ["the picture", "conv1", "pool1", "conv2", "pool2", "fc1", "fc2", "fc3"]
    heights, widths = drawn["top"] - drawn["bottom"], drawn["right"] - drawn["left"]
    assert heights["conv1"] - heights["pool1"] == pytest.approx(1)  # half the side
    assert widths["conv2"] > widths["conv1"] > widths["the picture"]
    assert (drawn["left"].to_numpy()[1:] > drawn["right"].to_numpy()[:-1]).all()
    assert drawn["label"]["conv1"] == ""  # as high as the picture


def test_a_click_on_a_block_chooses_its_layer_and_one_on_its_map_a_unit(person: Callable[..., Page]) -> None:
    from browser import wait_until_idle

    page = person(path="/anatomy?model=LeNet-5")
    page.locator('[data-testid="stVegaLiteChart"] path[aria-label*="pool1"]').first.click()
    wait_until_idle(page)
    page.get_by_text("pool1 is a AvgPool2d").wait_for()
    image = page.get_by_alt_text("to choose a unit on")
    box = image.bounding_box()
    assert box
    image.click(position={"x": box["width"] * 0.9, "y": box["height"] * 0.3})
    wait_until_idle(page)
    assert page.get_by_label("Row", exact=True).input_value() == "4"
    assert page.get_by_label("Column", exact=True).input_value() == "12"
    page.get_by_text(re.compile(r"6 × 6 pixels of 28 × 28")).wait_for()
