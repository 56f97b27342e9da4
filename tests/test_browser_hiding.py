"""The page "Hide" as a person meets it: brush strokes, clicks on cells, and the smallest hiding, in Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from browser import NARROW, WAIT, choose, open_menu_page, press, screenshot, upload, wait_until_idle
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from test_browser import main_text, named, no_overflow, pick_source, pixels, saved, segment, take_away

Person = Callable[..., Page]
Point = tuple[float, float]  # right and down, 0 to 1 of the picture
CHANCE = r"(?:over |under )?[\d.]+ %"
FACE = [(0.3, 0.38), (0.45, 0.5), (0.6, 0.62), (0.62, 0.85), (0.8, 0.45)]  # an eye, the nose, the mouth, an eye


def open_hiding(page: Page) -> None:
    open_menu_page(page, "Hide")
    expect(page.get_by_role("heading", name="Hide", exact=True)).to_be_visible()
    expect(canvas(page)).to_be_visible()
    wait_until_idle(page)


def canvas(page: Page) -> Locator:
    """What is painted on; the picture lies below it."""
    return page.get_by_test_id("stMain").locator(".board canvas")


def stroke(page: Page, points: list[Point]) -> None:
    expect(canvas(page)).to_have_count(1, timeout=WAIT)  # that of the last picture may still be there
    canvas(page).scroll_into_view_if_needed()
    box = canvas(page).bounding_box()
    assert box
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()


def hidden(page: Page) -> int:
    """How much of the picture the page says is hidden, in whole %."""
    found = re.search(r"([\d.]+)\s% of the picture is hidden", main_text(page))
    assert found, main_text(page)
    return round(float(found[1]))


def seen(page: Page) -> np.ndarray:
    """What the network was shown, as the page shows it, (H, W, 3)."""
    return pixels(page, named(page, "What the network was shown")).astype(int)


def classes(page: Page) -> dict[str, str]:
    """Before and after of each class, as a screen reader reads the chart."""
    chart = page.locator("[aria-label^='Probabilities before and after']")
    words = str(chart.get_attribute("aria-label")).split(": ", 1)[1].replace("\u00a0", " ")
    found = [re.fullmatch(rf"(.+?) ({CHANCE}(?: → {CHANCE})?)", row) for row in words.split("; ")]
    assert all(found), words
    return {row[1]: row[2] for row in found if row}


def test_the_cats_face_is_painted_over_and_the_classes_change(page: Page, tmp_path: Path) -> None:
    open_hiding(page)
    expect(page.get_by_text("Nothing is hidden yet")).to_be_visible()
    whole, picture = classes(page), seen(page)
    assert next(iter(whole)) == "tiger cat"
    stroke(page, FACE)
    expect(page.get_by_text(re.compile(r"Now .+; it was tiger cat|Still tiger cat: "))).to_be_visible(timeout=WAIT)
    wait_until_idle(page)
    painted = classes(page)
    assert painted["tiger cat"] != whole["tiger cat"]
    assert painted["tiger cat"].split(" → ")[0] == whole["tiger cat"].split(" → ")[0], "before stays before"
    share = hidden(page)
    assert 5 <= share <= 40
    changed = np.abs(seen(page) - picture).max(2) > 24
    assert changed.mean() * 100 > share / 3, "the stroke is hidden"
    height, width = changed.shape
    for x, y in FACE:
        assert changed[int(y * height) - 4 : int(y * height) + 4, int(x * width) - 4 : int(x * width) + 4].any()
    assert not changed[: height // 8].any()
    screenshot(page, "hide")

    press(page, "Undo")
    expect(page.get_by_text("Nothing is hidden yet")).to_be_visible()
    stroke(page, [(0.2, 0.2), (0.8, 0.2)])
    expect(page.get_by_text("Nothing is hidden yet")).to_have_count(0)
    wait_until_idle(page)
    other = classes(page)
    assert other != painted
    segment(page, "black")
    assert classes(page) != other, "another baseline, another answer"

    take_away(page)
    with np.load(saved(page, "Numbers", tmp_path), allow_pickle=False) as file:
        mask = file["mask"][0]
    assert mask.shape == (224, 224)
    assert abs(100 * mask.mean() - hidden(page)) < 1
    assert mask[38:50].mean() > 0.5 > mask[60:].mean() == 0
    with Image.open(saved(page, "PNG", tmp_path)) as taken:
        assert (np.asarray(taken)[mask] == 0).all(), "what is hidden is black"
    page.keyboard.press("Escape")


def test_strokes_are_there_again_when_the_page_was_left_and_all_can_be_taken_back(page: Page) -> None:
    open_hiding(page)
    for y in (0.3, 0.7):
        stroke(page, [(0.2, y), (0.8, y)])
        page.wait_for_timeout(400)
        wait_until_idle(page)
    share, rows = hidden(page), classes(page)
    open_menu_page(page, "Layers")
    open_hiding(page)
    assert (hidden(page), classes(page)) == (share, rows)
    stroke(page, [(0.5, 0.5), (0.55, 0.5)])
    expect(page.get_by_text(f"{share} % of the picture is hidden")).to_have_count(0)
    wait_until_idle(page)
    assert share < hidden(page) < share + 6, "what was painted before is still there"
    for _ in range(3):
        press(page, "Undo")
    expect(page.get_by_text("Nothing is hidden yet")).to_be_visible()
    stroke(page, [(0.5, 0.5), (0.55, 0.5)])
    expect(page.get_by_text("Nothing is hidden yet")).to_have_count(0)
    wait_until_idle(page)
    assert hidden(page) < 6, "and what was taken back is not"
    press(page, "Clear")
    expect(page.get_by_text("Nothing is hidden yet")).to_be_visible()


def test_clicks_hide_cells_and_show_them_again(page: Page) -> None:
    open_hiding(page)
    segment(page, "Cells")
    box = canvas(page).bounding_box()
    assert box

    def click(row: int, column: int) -> None:
        canvas(page).click(position={"x": box["width"] * (column + 0.5) / 7, "y": box["height"] * (row + 0.5) / 7})
        wait_until_idle(page)

    before = seen(page)
    click(5, 4)
    click(6, 0)
    assert hidden(page) == 4
    side = len(before) / 7
    changed = np.abs(seen(page) - before).max(2) > 24
    for row in range(7):
        for column in range(7):
            cell = changed[
                int(row * side) + 4 : int((row + 1) * side) - 4, int(column * side) + 4 : int((column + 1) * side) - 4
            ]
            assert cell.any() == ((row, column) in ((5, 4), (6, 0))), (row, column)
    screenshot(page, "hide cells")
    click(6, 0)
    assert hidden(page) == 2


def test_the_smallest_hiding_is_found_step_by_step_and_opened_under_paint(page: Page) -> None:
    choose(page, "Sample", "Coffee")
    open_hiding(page)
    segment(page, "Smallest hiding")
    expect(page.get_by_text(re.compile(r"A step: \d+ passes, about .+ on this machine"))).to_be_visible()
    page.get_by_role("button", name="Find the smallest hiding").click()
    expect(page.get_by_test_id("stProgress")).to_contain_text(re.compile(r"\d+ of 1,225 tries"), timeout=WAIT)
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    sentence = page.get_by_role(
        "heading", name=re.compile(r"^Hiding \d+ of 49 cells \(\d+ % of the picture\) turns espresso")
    )
    expect(sentence).to_be_visible(timeout=2 * WAIT)
    wait_until_idle(page)
    count = int(sentence.inner_text().split()[1])
    steps = (
        page.get_by_test_id("stImage").locator("img").and_(page.get_by_alt_text(re.compile(r"^(The whole|\d+\. Row)")))
    )
    assert steps.count() > count
    pictures = [pixels(page, steps.nth(k)).astype(int) for k in range(steps.count())]
    for one, next_one in pairwise(pictures):
        share = (np.abs(one - next_one).max(2) > 24).mean()
        assert 0 < share < 1.6 / 49, "from step to step one cell changes"
    screenshot(page, "smallest hiding")
    rows = classes(page)
    page.get_by_role("button", name="Open these cells under Paint").click()
    expect(page.get_by_text(re.compile("Now .+; it was espresso"))).to_be_visible(timeout=WAIT)
    wait_until_idle(page)
    assert classes(page) == rows


def test_a_search_can_be_stopped_and_begun_again(page: Page) -> None:
    choose(page, "Sample", "Astronaut")
    open_hiding(page)
    segment(page, "Smallest hiding")
    find = page.get_by_role("button", name="Find the smallest hiding")
    find.click()
    expect(page.get_by_test_id("stProgress")).to_contain_text(re.compile(r"\d+ of 1,225 tries"), timeout=WAIT)
    page.get_by_role("button", name="Cancel").click()
    wait_until_idle(page, timeout=10_000)
    expect(find).to_be_visible()
    assert not re.search("turns .+ into", main_text(page))


def test_an_upload_and_a_digit_are_painted_on_too(page: Page, cat_jpeg: Path) -> None:
    pick_source(page, "Upload")
    upload(page, "", cat_jpeg)
    open_hiding(page)
    stroke(page, FACE)
    expect(page.get_by_text("Nothing is hidden yet")).to_have_count(0, timeout=WAIT)
    wait_until_idle(page)
    assert hidden(page) > 5
    pick_source(page, "Samples")
    choose(page, "Model", "LeNet-5")
    expect(page.get_by_text("Nothing is hidden yet")).to_be_visible(timeout=WAIT)
    stroke(page, [(0.2, 0.5), (0.8, 0.5)])
    expect(page.get_by_text("Nothing is hidden yet")).to_have_count(0, timeout=WAIT)
    wait_until_idle(page)
    assert "0" in classes(page)
    assert len(seen(page)) % 28 == 0
    screenshot(page, "hide a digit")


def test_on_a_phone_in_the_dark_the_picture_fits_and_can_be_painted_on(person: Person) -> None:
    page = person(size=NARROW, dark=True, path="hiding")
    expect(canvas(page)).to_be_visible()
    wait_until_idle(page)
    no_overflow(page)
    box = canvas(page).bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= NARROW["width"]
    stroke(page, FACE)
    expect(page.get_by_text("Nothing is hidden yet")).to_have_count(0, timeout=WAIT)
    wait_until_idle(page)
    screenshot(page, "hide on a phone")
    segment(page, "Smallest hiding")
    no_overflow(page)
