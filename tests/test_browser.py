"""The app as a person meets it: a real server, a real browser, clicks and files.

One server and one Chromium for all; whoever comes is new. The harness fails a test whose page shows an exception or
whose browser reports an error.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pictures
import pytest
from browser import (
    NARROW,
    WAIT,
    WIDE,
    choose,
    download,
    images,
    open_menu_page,
    open_sidebar,
    press,
    screenshot,
    upload,
    wait_until_idle,
)
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

Person = Callable[..., Page]
CATS = {"tiger cat", "Egyptian cat", "tabby", "lynx", "Persian cat", "Siamese cat"}
HOSTILE = "![x](http://a.test/b.png)<img src=x onerror=document.title='hit'>$x$:red[a].png"


# ---- what a person sees -------------------------------------------------------------------------------------


def answers(page: Page) -> list[str]:
    """The names of the five classes on the overview, most probable first."""
    bars = page.get_by_test_id("stProgress").filter(has_text="logit")
    expect(bars).to_have_count(5)
    return [bars.nth(k).locator("strong").inner_text() for k in range(5)]


def pixels(page: Page, picture: Locator) -> np.ndarray:
    """What an <img> on the page holds, (H, W, 3); it must be drawn, and not be of one colour."""
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("image => image.complete && image.naturalWidth > 0 && image.clientWidth > 0")
    source = picture.evaluate("image => image.currentSrc")
    with Image.open(io.BytesIO(page.request.get(source).body())) as file:
        found = np.asarray(file.convert("RGB"))
    assert found.std() > 1, f"{picture.get_attribute('alt')} is of one colour"
    return found


def named(page: Page, alt: str) -> Locator:
    """The picture whose alternative text holds ``alt``."""
    return images(page).and_(page.get_by_alt_text(alt)).first


def main_text(page: Page) -> str:
    return page.get_by_test_id("stMain").inner_text()


def sidebar_text(page: Page) -> str:
    return page.get_by_test_id("stSidebar").inner_text()


def pick_source(page: Page, name: str) -> None:
    """Choose where the picture comes from."""
    open_sidebar(page)
    page.get_by_test_id("stSidebar").get_by_role("radio", name=name, exact=True).click()
    wait_until_idle(page)


def fold_sidebar(page: Page) -> None:
    """Put the sidebar out of the way, as on a phone where it covers the page."""
    page.get_by_test_id("stSidebarContent").hover()
    page.get_by_role("button", name="Collapse sidebar").click()
    expect(page.get_by_test_id("stSidebar")).to_have_attribute("data-collapsed", "true")
    wait_until_idle(page)


def offer(page: Page, data: bytes, name: str) -> None:
    """Upload ``data`` as a photo under any name at all, as a browser on another system might send it."""
    uploader = page.get_by_test_id("stSidebar").get_by_test_id("stFileUploader")
    with page.expect_response(re.compile("_stcore/upload_file")):
        uploader.locator('input[type="file"]').set_input_files(
            {"name": name, "mimeType": "application/octet-stream", "buffer": data}
        )
    wait_until_idle(page)


def pill(page: Page, name: str) -> Locator:
    return page.get_by_test_id("stMain").get_by_role("button", name=name, exact=True)


def segment(page: Page, name: str) -> None:
    page.get_by_test_id("stMain").get_by_role("radio", name=name, exact=True).first.click()
    wait_until_idle(page)


def take_away(page: Page, number: int = 0) -> Locator:
    """Open one of the menus with the files."""
    page.get_by_test_id("stMain").get_by_role("button", name=re.compile("Take away")).nth(number).click()
    menu = page.get_by_test_id("stPopoverBody").filter(visible=True).first
    expect(menu).to_be_visible()
    return menu


def saved(page: Page, label: str, folder: Path) -> Path:
    path = download(page, label, folder)
    assert path.stat().st_size > 0
    return path


def no_overflow(page: Page) -> None:
    """Nothing is wider than the window, so that nobody must scroll sideways."""
    wide = page.evaluate(
        """() => [document.documentElement, document.querySelector('[data-testid=stMain]')]
            .map(part => part.scrollWidth - part.clientWidth)"""
    )
    assert max(wide) <= 1, f"{max(wide)} pixels too wide at {page.url}"


# ---- 1 and 2: the first visit, and a photo of one's own -----------------------------------------------------


def test_the_first_visit_shows_a_cat_its_classes_and_five_views_of_it(page: Page, cat: np.ndarray) -> None:
    assert answers(page)[0] in CATS
    framed = pixels(page, named(page, "Cat, with a frame"))
    assert framed.shape == cat.shape
    corner = framed[:20, :20].astype(int)
    assert np.ptp(corner, axis=2).mean() < 8, "outside the frame the photo is grey"
    middle = (slice(120, 180), slice(200, 260))
    assert np.abs(framed[middle].astype(int) - cat[middle]).mean() < 12, "inside it is the photo itself"
    assert pixels(page, named(page, "The pixels that the network received")).shape == (224, 224, 3)
    for alt in ("First-layer filters", "strongest activation maps", "laid over the picture"):
        pixels(page, named(page, alt))
    text = main_text(page)
    for words in ("Filters.", "Activation maps.", "Grad-CAM.", "Occlusion.", "t-SNE."):
        assert words in text
    prices = re.findall(r"\d+ (passes|windows), (?:about|at most) .+? on this machine", text)
    assert prices == ["windows", "passes"], "the costly views show their price"
    assert "Estimate from one gradient; no window was hidden yet." in text
    screenshot(page, "overview")


def test_a_photo_of_any_kind_is_shown_upright_and_classified(
    page: Page, cat: np.ndarray, cat_jpeg: Path, tmp_path: Path
) -> None:
    pick_source(page, "Upload")
    files = [cat_jpeg]
    for kind in ("png", "webp", "gif", "bmp", "tiff"):
        files.append(tmp_path / f"cat.{kind}")
        Image.fromarray(cat).save(files[-1])
    for file in files:
        upload(page, "", file)
        shown = pixels(page, named(page, f"{file.name}, with a frame"))
        assert shown.shape == cat.shape, file.name
        middle = (slice(110, 190), slice(190, 260))
        assert np.abs(shown[middle].astype(int) - cat[middle]).mean() < 25, f"{file.name} is not upright"
        assert CATS & set(answers(page)[:2]), file.name
    screenshot(page, "uploaded")


def test_what_the_camera_sees_is_classified(page: Page) -> None:
    pick_source(page, "Camera")
    page.wait_for_function(  # before the first frame the button is there, and takes nothing
        "document.querySelector('[data-testid=stCameraInput] video')?.readyState >= 3", timeout=WAIT
    )
    page.get_by_test_id("stCameraInput").get_by_role("button", name=re.compile("Take Photo", re.I)).click()
    expect(named(page, "camera.jpg, with a frame")).to_be_visible(timeout=WAIT)
    wait_until_idle(page)
    assert len(answers(page)) == 5


# ---- 3: files that are refused ------------------------------------------------------------------------------


def test_a_bad_file_is_refused_in_a_sentence_and_the_last_picture_stays(page: Page) -> None:
    pick_source(page, "Upload")
    offer(page, pictures.sample("coffee.png").read_bytes(), "coffee.png")
    before = answers(page)
    assert "espresso" in before
    bad = pictures.refused()
    for row in ("I9 half a JPEG", "I3 HTML", "I25 one pixel"):
        offer(page, bad[row], f"{row.split()[0]}.jpg")
        refusal = page.get_by_test_id("stSidebar").get_by_test_id("stAlert")
        expect(refusal).to_have_count(1)
        words = refusal.inner_text()
        assert words.rstrip().endswith("."), row
        assert "Error" not in words, row
        assert "Traceback" not in words, row
        assert answers(page) == before, row
    screenshot(page, "refused", full=False)
    open_menu_page(page, "Heatmaps")
    expect(named(page, "coffee.png")).to_be_visible()


def test_a_hostile_file_name_is_shown_as_it_is_and_fetches_nothing(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    pick_source(page, "Upload")
    offer(page, pictures.sample("coffee.png").read_bytes(), HOSTILE)
    assert "espresso" in answers(page)
    shown = named(page, ", with a frame").get_attribute("alt")
    name = shown.removesuffix(", with a frame around the part that the network saw")
    assert ":red[a].png" in name
    assert name in main_text(page)
    for title in ("Layers", "Heatmaps"):
        open_menu_page(page, title)
        assert "hit" not in page.title()
    assert not [url for url in asked if urlsplit(url).hostname not in ("localhost", None)]


# ---- 4: layers ----------------------------------------------------------------------------------------------


def montage(page: Page) -> Locator:
    return page.get_by_alt_text("The maps of blocks.2, channel by channel")


def test_a_click_on_a_stage_and_on_a_tile_enlarges_that_channel(page: Page, tmp_path: Path) -> None:
    open_menu_page(page, "Layers")
    expect(page.get_by_role("heading", name="Layers", exact=True)).to_be_visible()
    for alt in ("filters of conv_stem", "The maps of conv_stem"):
        pixels(page, named(page, alt))
    segment(page, "blocks.2 · 40 × 28 × 28")
    expect(page.get_by_role("combobox", name="Layer")).to_have_value("blocks.2")
    sheet = montage(page)
    sheet.scroll_into_view_if_needed()
    number = page.get_by_role("spinbutton", name="Channel")
    seen = {number.input_value()}
    box = sheet.bounding_box()
    assert box
    for x, y in ((0.44, 0.5), (0.93, 0.12)):  # inside a tile, not between two
        sheet.click(position={"x": box["width"] * x, "y": box["height"] * y})
        wait_until_idle(page)
        channel = number.input_value()
        expect(page.get_by_role("heading", name=f"Channel {channel} of blocks.2")).to_be_visible()
        pixels(page, named(page, f"Activation map of channel {channel}"))
        pixels(page, named(page, f"Channel {channel} laid over"))
        seen.add(channel)
    assert len(seen) == 3
    for word in ("Mean", "Maximum", "Zeros"):
        expect(page.get_by_test_id("stMetric").filter(has_text=word)).to_contain_text(re.compile(r"\d"))

    take_away(page, 1)
    with np.load(saved(page, "Numbers", tmp_path), allow_pickle=False) as file:
        assert file["values"].shape == (40, 28, 28)
        assert json.loads(str(file["facts"]))["layer"] == "blocks.2"
        mean = float(file["values"][int(channel)].mean())
    shown = page.get_by_test_id("stMetric").filter(has_text="Mean").get_by_test_id("stMetricValue").inner_text()
    assert float(shown.replace("−", "-")) == pytest.approx(mean, rel=5e-3)
    page.keyboard.press("Escape")
    segment(page, "the whole net")
    screenshot(page, "layers")


# ---- 5: heatmaps --------------------------------------------------------------------------------------------


def set_number(page: Page, label: str, value: int) -> None:
    box = page.get_by_role("spinbutton", name=label)
    box.fill(str(value))
    box.press("Enter")
    wait_until_idle(page)


def test_heatmaps_of_two_classes_by_several_methods(page: Page, tmp_path: Path) -> None:
    open_menu_page(page, "Heatmaps")
    maps = images(page).and_(page.get_by_alt_text(re.compile(r" laid over Cat\.")))
    expect(maps).to_have_count(4)  # two methods, two classes
    pill(page, "LayerCAM").click()
    wait_until_idle(page)
    expect(maps).to_have_count(6)
    shared = [pixels(page, maps.nth(k)) for k in range(2)]
    segment(page, "each its own")
    expect(maps).to_have_count(6)
    same = [np.array_equal(shared[k], pixels(page, maps.nth(k))) for k in range(2)]
    assert sorted(same) == [False, True], "the stronger class stays, the weaker has brighter colours of its own"
    expect(images(page).and_(page.get_by_alt_text(re.compile("^Colours from")))).to_have_count(6)

    take_away(page)
    with np.load(saved(page, "Numbers", tmp_path), allow_pickle=False) as file:
        assert file["values"].shape == (7, 7)
        assert json.loads(str(file["facts"]))["method"] == "grad_cam"
    with Image.open(saved(page, "PNG", tmp_path)) as figure:
        assert figure.format == "PNG"
        assert min(figure.size) > 500
    page.keyboard.press("Escape")
    for name in ("Grad-CAM", "HiResCAM", "LayerCAM"):
        pill(page, name).click()
        wait_until_idle(page)
    expect(page.get_by_text("Choose a method above")).to_be_visible()
    segment(page, "one for each method")
    pill(page, "HiResCAM").click()
    wait_until_idle(page)
    screenshot(page, "heatmaps")


def test_occlusion_is_an_estimate_at_first_then_exact_and_a_cancel_keeps_what_is_known(
    page: Page, tmp_path: Path
) -> None:
    open_menu_page(page, "Heatmaps")
    for name in ("Grad-CAM", "HiResCAM", "Occlusion"):
        pill(page, name).click()
        wait_until_idle(page)
    set_number(page, "Window", 48)
    set_number(page, "Stride", 24)
    estimates = images(page).and_(page.get_by_alt_text(re.compile(r"^Estimated occlusion of .* laid over Cat\.")))
    exact = images(page).and_(page.get_by_alt_text(re.compile(r"^Occlusion of .* laid over Cat\.")))
    live = images(page).and_(page.get_by_alt_text(re.compile("^Occlusion of .* laid over Cat, so far$")))
    bar = page.get_by_test_id("stProgress").filter(has_text="Occlusion")
    cancel = page.get_by_role("button", name="Cancel")

    expect(estimates).to_have_count(2)  # nobody has pressed a button yet
    expect(page.get_by_text("Estimate from one gradient; no window was hidden yet.")).to_have_count(2)
    expect(page.get_by_text(re.compile("81 windows, at most .+ on this machine"))).to_be_visible()
    guessed = pixels(page, estimates.first)
    screenshot(page, "occlusion estimated")
    page.get_by_role("button", name="Compute Occlusion").click()
    expect(cancel).to_be_visible()
    expect(bar).to_contain_text(re.compile(r"Occlusion: \d+ of 81 windows, about .+ left"), timeout=WAIT)
    expect(exact).to_have_count(2, timeout=WAIT)
    wait_until_idle(page)
    expect(estimates).to_have_count(0)
    expect(cancel).to_have_count(0)
    assert not np.array_equal(guessed, pixels(page, exact.first))
    facts = r"81 windows in [\d.]+ s for 2 classes at once, [\d.,]+ a second, \d+\s% of the work saved"
    assert len(re.findall(facts, main_text(page))) == 2
    assert "drop of the logit" in main_text(page)
    screenshot(page, "occlusion")

    set_number(page, "Stride", 4)
    expect(estimates).to_have_count(2)
    page.get_by_role("button", name="Compute Occlusion").click()
    expect(bar).to_contain_text(re.compile(r"of 2,025 windows, about .+ left"), timeout=WAIT)
    expect(live).to_have_count(2, timeout=WAIT)
    first = live.first.get_attribute("src")
    expect(live.first).not_to_have_attribute("src", first or "", timeout=WAIT)  # the picture follows
    speed = page.get_by_text(
        re.compile(r"windows a second · \d+\s% of the work saved · exact for \d+\s% of the picture")
    )
    expect(speed).to_be_visible()
    screenshot(page, "occlusion runs", full=False)
    cancel.click()
    wait_until_idle(page, timeout=20_000)
    expect(cancel).to_have_count(0)
    stopped = page.get_by_text(re.compile(r"Stopped early: [\d,]+ of 2,025 windows were hidden"))
    expect(stopped).to_have_count(2)
    expect(exact).to_have_count(2)
    hidden = windows_in(stopped.first)
    assert 0 < hidden < 2025
    take_away(page)
    with np.load(saved(page, "Numbers", tmp_path), allow_pickle=False) as file:
        assert "Stopped early" in json.loads(str(file["facts"]))["notes"][0]
        part = file["values"]
    assert part.shape == (224, 224)
    assert part.any()
    page.keyboard.press("Escape")
    screenshot(page, "occlusion stopped")

    page.get_by_role("button", name="Compute all windows").click()
    expect(bar).to_contain_text(re.compile(r"of 2,025 windows, about .+ left"), timeout=WAIT)
    set_number(page, "Stride", 24)  # a changed control stops the run as well
    expect(stopped).to_have_count(0)
    expect(exact).to_have_count(2)  # what was exact before is still there
    assert len(re.findall(facts, main_text(page))) == 2
    set_number(page, "Stride", 4)
    expect(stopped).to_have_count(2)
    assert windows_in(stopped.first) >= hidden, "a part gives way to a larger one alone"


def windows_in(note: Locator) -> int:
    """The windows that were hidden, by the note of a map that is not whole."""
    (count,) = re.findall(r"early: ([\d,]+) of", note.inner_text())
    return int(count.replace(",", ""))


def test_a_changed_control_stops_a_run(page: Page) -> None:
    open_menu_page(page, "Heatmaps")
    for name in ("Grad-CAM", "HiResCAM", "Score-CAM"):
        pill(page, name).click()
        wait_until_idle(page)
    page.get_by_role("button", name="Compute Score-CAM").click()
    expect(page.get_by_test_id("stProgress").filter(has_text="Score-CAM of")).to_contain_text(
        re.compile(r"of 1,280, about .+ left"), timeout=WAIT
    )
    pill(page, "Score-CAM").click()
    wait_until_idle(page, timeout=10_000)
    pill(page, "Eigen-CAM").click()
    wait_until_idle(page)
    expect(images(page).and_(page.get_by_alt_text(re.compile(r"^Eigen-CAM of .* laid over Cat\.")))).to_have_count(2)


# ---- 6: embedding -------------------------------------------------------------------------------------------


def charts_of(page: Page) -> Locator:
    """The two maps."""
    return page.get_by_test_id("stMain").get_by_role("img", name=re.compile("^t-SNE of the"))


def dots(chart: Locator) -> list[tuple[float, float]]:
    """A place on each patch of colour in a chart, in its pixels: a dot, or several that touch."""
    from scipy import ndimage

    with Image.open(io.BytesIO(chart.screenshot(animations="disabled"))) as shot:
        seen = np.asarray(shot.convert("RGB")).astype(int)  # (h, w, 3)
    coloured = np.ptp(seen, axis=2) > 40
    patches, count = ndimage.label(coloured)
    found = []
    for patch in range(1, count + 1):
        places = np.argwhere(patches == patch)
        if len(places) > 20:
            y, x = places[np.square(places - places.mean(0)).sum(1).argmin()]
            found.append((float(x), float(y)))
    return found


def test_copies_of_the_photos_are_mapped_and_a_clicked_dot_is_the_picture_everywhere(page: Page) -> None:
    open_menu_page(page, "Embedding")
    slider = page.get_by_role("slider", name="Copies of each photo")
    slider.focus()
    slider.press("Home")
    wait_until_idle(page)
    expect(page.get_by_text(re.compile(r"30 pictures: .*on this machine"))).to_be_visible()
    page.get_by_role("button", name="Draw the map").click()
    expect(page.get_by_text(re.compile(r"^Iteration \d+ of 750"))).to_be_visible(timeout=WAIT)
    charts = charts_of(page)
    expect(charts).to_have_count(2, timeout=2 * WAIT)
    wait_until_idle(page)
    kept = page.get_by_test_id("stMetric").filter(has_text="Neighbours kept, features")
    assert 0.5 <= float(kept.get_by_test_id("stMetricValue").inner_text()) <= 1
    chart = charts.first
    chart.scroll_into_view_if_needed()
    places = dots(chart)
    assert len(places) >= 3, "the copies of several photos lie apart"
    screenshot(page, "embedding")

    x, y = places[0]
    chart.hover(position={"x": x, "y": y})
    tip = page.locator(".tip").first
    expect(tip).to_be_visible()
    expect(tip.locator("canvas")).to_be_visible()
    tooltip = tip.inner_text()
    screenshot(page, "embedding hover", full=False)
    chart.hover(position={"x": x, "y": y})
    chart.click(position={"x": x, "y": y})
    picked = page.get_by_test_id("stSidebar").get_by_text("Picked: ")
    expect(picked).to_be_visible(timeout=WAIT)
    wait_until_idle(page)
    name = picked.inner_text().removeprefix("Picked: ")
    assert name in tooltip
    open_menu_page(page, "Overview")
    pixels(page, named(page, f"{name}, with a frame"))
    assert name in main_text(page)
    open_menu_page(page, "Embedding")
    expect(charts).to_have_count(2)


def test_a_zip_of_folders_is_mapped_by_its_folders_and_a_bad_one_is_refused(page: Page, tmp_path: Path) -> None:
    choose(page, "Model", "LeNet-5")
    open_menu_page(page, "Embedding")
    segment(page, "A zip of mine")
    bad, good = tmp_path / "bad.zip", tmp_path / "good.zip"
    bad.write_bytes(b"PK no zip at all")
    rng = np.random.default_rng(0)
    good.write_bytes(
        pictures.zip_of(
            {
                f"{folder}/{k}.png": pictures.save(rng.integers(low, low + 100, (28, 28, 3), dtype=np.uint8), "PNG")
                for folder, low in (("dark ones", 0), ("light <b>ones</b>", 150))
                for k in range(8)
            }
        )
    )
    upload(page, "A zip of pictures", bad)
    refusal = page.get_by_test_id("stMain").get_by_test_id("stAlert")
    expect(refusal).to_have_count(1)
    assert refusal.inner_text().rstrip().endswith(".")
    upload(page, "A zip of pictures", good)
    expect(page.get_by_text("good.zip: 16 pictures in 2 classes.")).to_be_visible()
    page.get_by_role("button", name="Draw the map").click()
    expect(charts_of(page)).to_have_count(2, timeout=WAIT)
    wait_until_idle(page)
    assert "100 %" in main_text(page) or "100.0 %" in main_text(page)  # the folders are easily told apart


# ---- 7: LeNet-5 ---------------------------------------------------------------------------------------------


def test_a_digit_is_picked_and_one_is_drawn_and_every_page_shows_it(page: Page) -> None:
    choose(page, "Model", "LeNet-5")
    choose(page, "Sample", "Digit 7")
    assert answers(page)[0] == "7"
    assert pixels(page, named(page, "The pixels that the network received")).shape[0] >= 28
    pick_source(page, "Draw")
    board = page.get_by_test_id("stSidebar").locator("canvas").last
    expect(board).to_be_visible()
    box = board.bounding_box()
    assert box
    middle = box["x"] + box["width"] / 2
    page.mouse.move(middle, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    for k in range(1, 9):
        page.mouse.move(middle, box["y"] + box["height"] * (0.2 + 0.075 * k))
    page.mouse.up()
    expect(named(page, "your drawing, with a frame")).to_be_visible(timeout=WAIT)
    wait_until_idle(page)
    assert answers(page)[0] == "1"
    screenshot(page, "drawn")
    for title in ("Layers", "Heatmaps", "Embedding", "Overview"):
        open_menu_page(page, title)
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        if title == "Heatmaps":
            pixels(page, named(page, "laid over your drawing"))
            screenshot(page, "heatmaps of a drawing")
        if title == "Layers":
            pixels(page, named(page, "filters of conv1"))
            screenshot(page, "layers of a drawing")
    assert answers(page)[0] == "1"


# ---- 8: a phone held upright, in the dark -------------------------------------------------------------------


def test_on_a_phone_in_the_dark_nothing_is_cut_off_and_the_menu_is_in_reach(person: Person) -> None:
    page = person(size=NARROW, dark=True)
    background = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert max(map(int, re.findall(r"\d+", background)[:3])) < 60
    assert answers(page)[0] in CATS
    no_overflow(page)
    screenshot(page, "narrow overview")
    for title in ("Layers", "Heatmaps", "Embedding"):
        open_menu_page(page, title)
        fold_sidebar(page)
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        no_overflow(page)
        screenshot(page, f"narrow {title.lower()}")


# ---- 9: links -----------------------------------------------------------------------------------------------


def test_a_link_opens_the_same_view_for_somebody_else_and_back_goes_back(person: Person) -> None:
    mine = person()
    choose(mine, "Sample", "Coffee")
    choose(mine, "Class", "espresso")
    open_menu_page(mine, "Heatmaps")
    pill(mine, "HiResCAM").click()
    wait_until_idle(mine)
    pill(mine, "XGrad-CAM").click()
    wait_until_idle(mine)
    segment(mine, "each its own")
    expect(images(mine)).to_have_count(8, timeout=WAIT)  # two methods, two classes, a map and its scale each
    seen = [image.get_attribute("alt") for image in images(mine).all()]
    assert any("Grad-CAM of espresso laid over Coffee" in (alt or "") for alt in seen)
    yours = person(path=mine.url.split("/", 3)[3])
    expect(images(yours)).to_have_count(len(seen), timeout=WAIT)
    assert [image.get_attribute("alt") for image in images(yours).all()] == seen
    assert np.array_equal(pixels(mine, images(mine).first), pixels(yours, images(yours).first))
    expect(yours.get_by_role("combobox", name="Sample")).to_have_value("Coffee")
    expect(yours.get_by_role("combobox", name="Class", exact=True)).to_have_value("espresso")

    open_menu_page(mine, "Layers")
    mine.go_back()
    expect(mine.get_by_role("heading", name="Heatmaps", exact=True)).to_be_visible()
    expect(mine.get_by_alt_text("Grad-CAM of espresso laid over Coffee").first).to_be_visible(timeout=WAIT)
    wait_until_idle(mine)  # a picture that is gone before the browser has fetched it is a 404
    mine.go_forward()
    expect(mine.get_by_role("heading", name="Layers", exact=True)).to_be_visible()
    wait_until_idle(mine)
    expect(mine.get_by_role("combobox", name="Sample")).to_have_value("Coffee")


def test_choices_and_results_are_there_when_one_comes_back_to_a_page(page: Page) -> None:
    choose(page, "Model", "LeNet-5")
    open_menu_page(page, "Heatmaps")
    pill(page, "Occlusion").click()
    wait_until_idle(page)
    set_number(page, "Window", 7)
    press(page, "Compute Occlusion")
    maps = images(page).and_(page.get_by_alt_text(re.compile("^Occlusion of .* laid over")))
    expect(maps).to_have_count(2, timeout=WAIT)
    wait_until_idle(page)
    open_menu_page(page, "Layers")
    segment(page, "conv2 · 16 × 10 × 10")
    set_number(page, "Channel", 11)
    open_menu_page(page, "Heatmaps")
    expect(page.get_by_role("spinbutton", name="Window")).to_have_value("7")
    expect(maps).to_have_count(2)
    wait_until_idle(page)
    open_menu_page(page, "Layers")
    expect(page.get_by_role("combobox", name="Layer")).to_have_value("conv2")
    expect(page.get_by_role("heading", name="Channel 11 of conv2")).to_be_visible()


# ---- 10: nothing leaves the machine -------------------------------------------------------------------------


def test_no_request_leaves_this_machine(browser: Browser, server: str) -> None:
    asked: list[str] = []
    context = browser.new_context(base_url=server, viewport=WIDE)
    try:
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.on("websocket", lambda socket: asked.append(socket.url))
        page.goto(server, timeout=WAIT)
        wait_until_idle(page)
        for title in ("Layers", "Heatmaps", "Embedding", "Overview"):
            open_menu_page(page, title)
        for name in ("Upload", "Camera", "Samples"):
            pick_source(page, name)
    finally:
        context.close()
    hosts = {urlsplit(url).hostname for url in asked if urlsplit(url).scheme not in ("data", "blob")}
    assert hosts == {"localhost"}
    assert len(asked) > 20
