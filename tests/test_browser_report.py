"""A report in Chromium: made of somebody's own photo, saved, read without a network, and opened again by somebody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from browser import NARROW, download, images, open_menu_page, open_sidebar, press, screenshot, upload, wait_until_idle
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from test_browser import no_overflow, pick_source

from models.samples import read_sample
from vizcore.report_file import MOST_BYTES

Person = Callable[..., Page]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A large one, as of a camera."""
    path = tmp_path / "my *cat* & <b>co.jpg"
    path.write_bytes(read_sample("cat"))
    with Image.open(path) as small:
        small.convert("RGB").resize((3000, 2000)).save(path, "JPEG", quality=92)
    return path


def test_a_report_is_made_saved_read_offline_and_opened_again(
    person: Person, browser: Browser, photo: Path, tmp_path: Path
) -> None:
    page = person(path="report?model=PhotoNet&report_methods=Grad-CAM&report_methods=Gradient")
    pick_source(page, "Upload")
    upload(page, "Photo", photo)
    press(page, "Make the report")
    expect(page.get_by_role("button", name="Download the report")).to_be_visible()
    file = download(page, "Download the report", tmp_path)
    assert file.stat().st_size < MOST_BYTES
    page.get_by_text("Look at it here").click()
    wait_until_idle(page)
    inside = page.frame_locator("iframe").last
    expect(inside.get_by_role("heading", name="Beware")).to_be_visible()
    answer = inside.get_by_role("heading", name="What speaks for").first.inner_text()
    screenshot(page, "report wide")

    offline = browser.new_context(offline=True)
    alone = offline.new_page()
    complaints: list[str] = []
    alone.on("console", lambda message: complaints.append(message.text))
    alone.goto(file.as_uri())
    expect(alone.get_by_role("heading", name="my *cat* & <b>co.jpg")).to_be_visible()
    assert alone.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert not complaints
    for width in (1280, 390):
        alone.set_viewport_size({"width": width, "height": 900})
        assert alone.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 1
    offline.close()

    other = person(path="report")
    other.get_by_text("Open a report again").click()
    upload(other, "A report of CNN Lens", file.rename(tmp_path / "saved.html"))  # long names are shown in part
    expect(other.get_by_text("is the current picture now")).to_be_visible()
    wait_until_idle(other)
    open_sidebar(other)
    expect(other.get_by_test_id("stSidebar").get_by_role("combobox", name="Model")).to_have_value("PhotoNet")
    chosen = other.get_by_test_id("stSidebar").get_by_role("combobox", name="Class").input_value()
    assert answer == f"What speaks for {chosen}"
    other.get_by_role("link", name="See its maps").click()
    wait_until_idle(other)
    for method in ("Grad-CAM", "Gradient"):
        expect(other.get_by_role("heading", name=method, exact=True)).to_be_visible()
    assert "my *cat* & <b>co.jpg" in str(images(other).first.get_attribute("alt"))
    screenshot(other, "report opened again")


def test_the_page_reads_well_in_the_dark_and_on_a_phone(person: Person) -> None:
    page = person(size=NARROW, dark=True, path="?model=PhotoNet")
    open_menu_page(page, "Report")
    page.get_by_test_id("stSidebarCollapseButton").locator("button").click()
    press(page, "Make the report")
    no_overflow(page)
    screenshot(page, "report dark narrow")
