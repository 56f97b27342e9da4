"""What a channel looks for as a person meets it: a set through the net, a click on a patch, the files, in Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from browser import NARROW, WAIT, press, screenshot, wait_until_idle
from playwright.sync_api import Page, expect
from test_browser import main_text, named, no_overflow, pixels, saved, segment

Person = Callable[..., Page]
PLACE = "layers?model=PhotoNet&layer=act2&channel=5&copies=5"


def asked(page: Page, label: str, alt: str) -> None:
    """Press a button, unless another test did, and wait for the picture that comes of it."""
    button, picture = page.get_by_role("button", name=label), page.get_by_alt_text(re.compile(alt))
    expect(button.or_(picture).first).to_be_visible(timeout=WAIT)
    if button.count():
        press(page, label)
    expect(picture).to_be_visible(timeout=WAIT)
    wait_until_idle(page)


def find(page: Page) -> None:
    asked(page, "Find them", "The 9 patches that excite channel 5 of act2 most")


def test_a_click_on_a_patch_shows_it_in_its_picture_and_the_link_remembers_it(person: Person, tmp_path: Path) -> None:
    page = person(path=PLACE)
    find(page)
    whole = pixels(page, named(page, "with a frame around patch 1"))
    sheet = page.get_by_alt_text("Deconvnet projections of these patches")
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    assert box
    sheet.click(position={"x": 0.8 * box["width"], "y": 0.45 * box["height"]})  # the last of the second row
    expect(page.get_by_text(re.compile("Number 6: "))).to_be_visible(timeout=WAIT)
    wait_until_idle(page)
    assert "excited=6" in page.url
    assert not np.array_equal(pixels(page, named(page, "with a frame around patch 6")), whole)
    segment(page, "Gradient")
    expect(page.get_by_alt_text("Gradient projections of these patches")).to_be_visible(timeout=WAIT)
    screenshot(page, "pictures that excite a channel")
    page.get_by_test_id("stMain").get_by_role("button", name=re.compile("Take away")).nth(1).click()
    with np.load(saved(page, "Numbers", tmp_path), allow_pickle=False) as file:
        assert file["projections"].shape == (9, 3, 32, 32)
        shown = re.search(r"Number 6: .*?Activation\s+([\d.]+)", main_text(page))
        assert shown
        assert float(shown[1]) == pytest.approx(float(file["activations"][5]), rel=5e-3)


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_nothing_is_wider_than_the_window(person: Person, dark: bool) -> None:
    page = person(size=NARROW, dark=dark, path=f"{PLACE}&looks_for=Four+that+differ")
    find(page)
    asked(page, "Make these pictures", "Four pictures that channel 5")
    no_overflow(page)
    screenshot(page, f"pictures that excite a channel, narrow, {'dark' if dark else 'light'}")
