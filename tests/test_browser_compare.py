"""The page Compare in Chromium, on a phone in the dark."""

from __future__ import annotations

from collections.abc import Callable

from browser import NARROW, screenshot, wait_until_idle
from playwright.sync_api import Page, expect
from test_browser import main_text, named, no_overflow, segment

Person = Callable[..., Page]


def test_on_a_phone_in_the_dark_both_sides_stand_one_under_the_other(person: Person) -> None:
    page = person(size=NARROW, dark=True, path="compare?model=PhotoNet&compare_with=Another+picture")
    left, right = named(page, "On the left: "), named(page, "On the right: ")
    expect(left).to_be_visible()
    above, below = left.bounding_box(), right.bounding_box()
    assert above
    assert below
    assert above["y"] + above["height"] < below["y"]
    for box in (above, below):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= NARROW["width"]
    no_overflow(page)
    segment(page, "Another layer")
    wait_until_idle(page)
    assert "rank correlation" in main_text(page)
    assert "compare_with=Another+layer" in page.url
    for kind in ("Another network", "Another picture", "Another layer"):
        button = page.get_by_test_id("stMain").get_by_role("radio", name=kind)
        box = button.bounding_box()
        assert box
        assert box["x"] + box["width"] <= NARROW["width"], "no choice is cut off"
    no_overflow(page)
    screenshot(page, "compare on a phone")
