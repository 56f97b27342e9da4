"""Somebody's own weights in Chromium: from the upload to a heatmap, three families of networks in three formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import NARROW, WAIT, download, images, open_menu_page, press, screenshot, upload, wait_until_idle
from playwright.sync_api import Page, expect
from safetensors.torch import save_file
from test_browser import main_text, no_overflow
from test_checkpoints import filled

from models import load_model

Person = Callable[..., Page]
NAMES = ("blue *tit*", "<b>robin</b>", "wren", "$crow$", ":red[owl]")


def torchvision_family(folder: Path) -> Path:
    """ResNet-18 with five classes, as torch.save writes it."""
    path = folder / "birds.pth"
    torch.save(filled("resnet18", len(NAMES)), path)
    return path


def timm_family(folder: Path) -> Path:
    """EfficientNet-Lite0 under timm's names: a Lightning checkpoint in half precision."""
    path = folder / "last.ckpt"
    state = load_model("efficientnet_lite0").net.state_dict()
    half = {f"model.{name}": tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save({"epoch": 2, "state_dict": half}, path)
    return path


def own_family(folder: Path) -> Path:
    """LeNet-5 as safetensors."""
    path = folder / "digits.safetensors"
    save_file(load_model("lenet5").net.state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("make", "title", "classes"),
    [
        (torchvision_family, "ResNet-18", 5),
        (timm_family, "EfficientNet-Lite0", 1000),
        (own_family, "LeNet-5", 10),
    ],
)
def test_from_upload_to_heatmap(
    page: Page, tmp_path: Path, make: Callable[[Path], Path], title: str, classes: int
) -> None:
    path = make(tmp_path)
    open_menu_page(page, "Your network")
    upload(page, "Weights file", path)
    architecture = page.get_by_role("combobox", name="Architecture")
    expect(architecture).to_have_value(f"{title} · 100 % of the tensors agree", timeout=WAIT)  # 45 MB are on their way
    wait_until_idle(page)
    if classes == len(NAMES):
        names = tmp_path / "names.txt"
        names.write_text("\n".join(NAMES))
        upload(page, "Class names", names)
    press(page, "Open and examine")
    expect(page.get_by_text("Nothing was changed.")).to_be_visible(timeout=WAIT)
    assert "cannot be looked into" not in main_text(page)
    sidebar = page.get_by_test_id("stSidebar")
    expect(sidebar.get_by_role("combobox", name="Model")).to_have_value(f"{title} of {path.name}")
    expect(sidebar.get_by_text(f"{classes:,} classes")).to_be_visible()
    screenshot(page, f"own network {title}")
    page.get_by_role("link", name="See its heatmaps").click()
    wait_until_idle(page)
    expect(page.get_by_role("heading", name="Heatmaps", exact=True)).to_be_visible()
    expect(images(page).first).to_be_visible()
    if classes == len(NAMES):
        assert any(name in main_text(page) for name in NAMES)
    page.get_by_role("button", name="Take away").first.click()
    with np.load(download(page, "Numbers", tmp_path)) as taken:
        assert np.isfinite(taken["values"]).all()
        assert taken["values"].any()
    expect(page.get_by_text(f"load_model('{path.name}', architecture=")).to_be_visible()


def test_it_reads_well_in_the_dark_and_on_a_phone(person: Person, tmp_path: Path) -> None:
    page = person(size=NARROW, dark=True)
    open_menu_page(page, "Your network")
    page.get_by_test_id("stSidebarCollapseButton").locator("button").click()
    upload(page, "Weights file", own_family(tmp_path))
    press(page, "Open and examine")
    no_overflow(page)
    screenshot(page, "own network dark narrow")


def test_nobody_else_sees_it(person: Person, tmp_path: Path) -> None:
    first, second = person(), person()
    open_menu_page(first, "Your network")
    upload(first, "Weights file", own_family(tmp_path))
    press(first, "Open and examine")
    second.goto(first.url)
    wait_until_idle(second)
    assert "digits.safetensors" not in second.locator("body").inner_text()
    second.get_by_role("combobox", name="Model").first.click()
    expect(second.get_by_role("option", name="EfficientNet-Lite0").first).to_be_visible()
    assert second.get_by_role("option", name="digits").count() == 0
