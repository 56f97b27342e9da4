"""Two people with real browsers in a crowd that all hide windows: what the line looks like to who stands in it.

One waits, and then cancels. The other comes when the line is full.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from browser import find_chromium, launch, screenshot
from playwright.sync_api import Browser, Page, sync_playwright

from app_pages.line import MOST_WAITING
from benchmarks.load import shapes
from benchmarks.load.answers import OwnPhoto
from benchmarks.load.server import Server

CROWD = 28  # with the two browsers: thirty
PATIENCE = 90_000  # ms
Result = TypeVar("Result")


async def witnessed(server: Server, first: int) -> list[str]:
    """What the two saw, a line each; the pictures are in build/screenshots."""
    if find_chromium() is None:
        return ["No browser was found, so nobody looked at the line."]
    loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(1)  # a browser is talked to from one thread
    loop.set_default_executor(ThreadPoolExecutor(2 * MOST_WAITING))

    async def on_screen(what: Callable[..., Result], *given: Any) -> Result:
        return await loop.run_in_executor(thread, lambda: what(*given))

    stack = ExitStack()
    patient, late = await on_screen(_open_both, stack, server.address)
    people = await shapes.arrive(server, CROWD, first)
    more = await shapes.arrive(server, MOST_WAITING + 4 - CROWD, first + CROWD, within=20.0)
    work: list[asyncio.Task[None]] = []
    try:
        for person in (*people, *more):
            await person.upload()
            await person.prepare_occlusion()
        work += [asyncio.create_task(person.run_occlusion()) for person in people]
        await asyncio.sleep(1)
        lines = await on_screen(_wait_and_cancel, patient)
        work += [asyncio.create_task(person.run_occlusion()) for person in more]
        await asyncio.sleep(3)
        return lines + await on_screen(_be_refused, late)
    finally:
        for person in (*people, *more):
            person.client.vanish()
        await asyncio.gather(*work, return_exceptions=True)
        await on_screen(stack.close)


def _open_both(stack: ExitStack, address: str) -> list[Page]:
    """Each with a photo of their own, before the button that hides windows."""
    playwright = stack.enter_context(sync_playwright())
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    pages = []
    for number in range(2):
        browser: Browser = launch(playwright, find_chromium() or "")
        stack.callback(browser.close)
        page = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=address).new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address}/heatmaps?source=Upload&methods=Grad-CAM&methods=Occlusion")
        page.get_by_role("button", name="Compute Occlusion").wait_for()
        photo = OwnPhoto.of(80_000 + number, 0)
        (folder / photo.title).write_bytes(photo.data)
        page.locator('[data-testid="stSidebar"] input[type="file"]').first.set_input_files(folder / photo.title)
        page.locator(f'img[alt*="{photo.title}"]').first.wait_for()
        pages.append(page)
    return pages


def _wait_and_cancel(page: Page) -> list[str]:
    page.get_by_role("button", name="Compute Occlusion").click()
    bar = page.get_by_test_id("stProgress").filter(has_text="in line, about").first
    bar.wait_for()
    words = bar.inner_text()
    page.wait_for_timeout(1500)
    screenshot(page, "load line", full=False)
    page.get_by_role("button", name="Cancel").first.click()
    page.get_by_test_id("stToast").filter(has_text="Stopped").first.wait_for()
    screenshot(page, "load cancelled", full=False)
    return [f"In a browser the line said: “{words.strip()}”; then Cancel was pressed, and it said so."]


def _be_refused(page: Page) -> list[str]:
    page.get_by_role("button", name="Compute Occlusion").click()
    alert = page.get_by_test_id("stAlert").filter(has_text="Try again").first
    alert.wait_for()
    screenshot(page, "load refused", full=False)
    words = alert.get_by_test_id("stMarkdownContainer").last.inner_text()
    return [f"In a browser a full line said: “{words.strip()}”"]
