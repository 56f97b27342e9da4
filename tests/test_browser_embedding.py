"""A map of pictures in the browser: it settles before the eyes, and one zooms, points, circles and picks."""

from __future__ import annotations

import re

import numpy as np
import pytest
from browser import WAIT, check_no_exception, choose, open_menu_page, screenshot, wait_until_idle
from playwright.sync_api import Locator, Page, expect
from test_browser import charts_of

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser embedding")]


def ask_for_digits(page: Page, hundreds: int) -> None:
    """Of a number that no other test asks for: the server knows what it has drawn."""
    choose(page, "Model", "LeNet-5")
    open_menu_page(page, "Embedding")
    slider = page.get_by_role("slider", name="How many")
    slider.focus()
    slider.press("Home")
    for _ in range(hundreds - 2):
        slider.press("ArrowRight")
    wait_until_idle(page)
    page.get_by_role("button", name="Draw the map").click()


def zoom_of(chart: Locator) -> float:
    return float(chart.get_attribute("data-zoom") or 0)


def test_a_map_settles_before_the_eyes_is_paused_and_goes_on_to_its_end(page: Page) -> None:
    ask_for_digits(page, 2)
    counted = page.get_by_text(re.compile(r"^Iteration \d+ of 750"))
    expect(counted).to_be_visible(timeout=WAIT)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Go on")).to_be_visible(timeout=WAIT)
    wait_until_idle(page)
    held = counted.inner_text()
    page.wait_for_timeout(1500)
    assert counted.inner_text() == held
    screenshot(page, "embedding paused", full=False)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("Neighbours kept, features")).to_be_visible(timeout=2 * WAIT)
    expect(charts_of(page)).to_have_count(2)
    wait_until_idle(page)
    expect(page.get_by_text("lies at the cross")).to_be_visible()
    check_no_exception(page)


def test_one_zooms_into_the_map_circles_pictures_and_hides_a_class(page: Page) -> None:
    ask_for_digits(page, 3)
    page.get_by_role("button", name="Stop here").click(timeout=WAIT)
    expect(page.get_by_text("Neighbours kept, features")).to_be_visible(timeout=2 * WAIT)
    wait_until_idle(page)
    chart = charts_of(page).first
    chart.scroll_into_view_if_needed()
    expect(chart).to_have_attribute("data-drawn", "300")

    chart.focus()
    page.keyboard.press("+")
    page.keyboard.press("+")
    expect(chart).to_have_attribute("data-zoom", re.compile(r"1\.96"))
    page.keyboard.press("0")
    expect(chart).to_have_attribute("data-zoom", "1.00")
    box = chart.bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
    page.keyboard.down("Control")
    page.mouse.wheel(0, -600)
    page.keyboard.up("Control")
    expect(chart).not_to_have_attribute("data-zoom", "1.00")
    assert zoom_of(chart) > 1.5
    assert int(chart.get_attribute("data-drawn") or 300) < 300
    page.get_by_role("button", name="Whole map").first.click()
    expect(chart).to_have_attribute("data-drawn", "300")

    of_class = page.get_by_role("button", name="7", exact=True).first
    of_class.click()
    expect(of_class).to_have_attribute("aria-pressed", "false")
    seen = int(chart.get_attribute("data-drawn") or 300)
    assert 250 <= seen < 290, "three hundred digits hold some thirty of each"

    page.get_by_role("button", name="Lasso").first.click()
    box = chart.bounding_box()
    assert box
    corners = np.array([(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)])
    x, y = (corners * (box["width"], box["height"]) + (box["x"], box["y"])).T
    page.mouse.move(x[0], y[0])
    page.mouse.down()
    for k in (1, 2, 3):
        page.mouse.move(x[k], y[k], steps=4)
    page.mouse.up()
    expect(page.get_by_text(f"{seen} pictures in the lasso:")).to_be_visible(timeout=WAIT)
    screenshot(page, "embedding lasso")
    page.get_by_role("button", name="Lasso").first.click()
    expect(page.get_by_text("pictures in the lasso:")).to_have_count(0, timeout=WAIT)
    check_no_exception(page)
