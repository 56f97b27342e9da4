"""Take the screenshots of the README from a running app: ``python docs/screenshots.py http://localhost:8501``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import wait_until_idle

FOLDER = Path(__file__).parent / "screenshots"
SIZE = {"width": 1440, "height": 900}
SHOTS = {
    "overview": "",
    "layers": "layers?model=PhotoNet",
    "anatomy": "anatomy?picture=Coffee",
    "hide": "hiding?picture=Coffee",
    "arithmetic": "arithmetic?picture=Coffee",
    "heatmaps": "heatmaps?picture=Coffee&methods=Grad-CAM&methods=Occlusion",
    "evidence": "evidence?model=PhotoNet&evidence_method=Guided+backpropagation&question=Randomise+weights",
    "embedding": "embedding",
    "set": "folder?model=PhotoNet&copies=10",
}
BUTTONS = (
    "Hide parts of it",
    "Map many pictures",
    "Compute",
    "Draw the map",
    "Randomise weights",
    "Predict",
    "Draw their heatmaps",
)


def main(address: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for name, place in SHOTS.items():
            page = browser.new_page(viewport=SIZE)
            page.goto(f"{address}/{place}")
            wait_until_idle(page)
            press_all(page)
            page.wait_for_timeout(2000)
            main_part = page.get_by_test_id("stMain")
            height = main_part.evaluate("part => part.scrollHeight")
            page.set_viewport_size({"width": SIZE["width"], "height": min(height, 2700)})
            page.wait_for_timeout(2000)
            page.screenshot(path=FOLDER / f"{name}.png")
            page.close()
        browser.close()


def press_all(page: Page) -> None:
    """Start what waits for a button, and what shows its button only when that is done."""
    page.wait_for_timeout(3000)  # a page may be idle for a moment before its button comes
    labels = [page.get_by_role("button", name=label) for label in BUTTONS]
    while waiting := [button for button in labels if button.count()]:
        waiting[0].first.click()
        page.wait_for_timeout(1000)
        for running in ("Cancel", "Pause"):
            page.get_by_role("button", name=running).wait_for(state="hidden", timeout=600_000)
        wait_until_idle(page, 300_000)


if __name__ == "__main__":
    main(sys.argv[1])
