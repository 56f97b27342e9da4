"""The app in a real browser: a server, Chromium, and the few things that a person does on a page.

The selectors are those of Streamlit 1.67: its test ids, and the accessible names that a screen reader would say.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Playwright, expect

ROOT = Path(__file__).resolve().parent.parent
SCREENSHOTS = ROOT / "build" / "screenshots"
WIDE = {"width": 1440, "height": 900}
NARROW = {"width": 390, "height": 844}  # a phone held upright

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",  # as root, as in containers, Chromium does not start with it
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # No look-up of any name but this machine's: a page that needs something from elsewhere fails its test.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "--use-fake-device-for-media-stream",  # a moving test picture in place of a camera
    "--use-fake-ui-for-media-stream",
)

IDLE = '[data-testid="stApp"][data-test-script-state="notRunning"][data-test-connection-state="CONNECTED"]'
# Of each page: when it last asked the server for anything, and when it last heard from it, in ms.
LISTEN = """
    window.asked = 0; window.heard = 0;
    window.WebSocket = class extends WebSocket {
        constructor(...place) {
            super(...place);
            this.addEventListener("message", () => { window.heard = performance.now(); });
        }
        send(...message) { window.asked = performance.now(); super.send(...message); }
    };
"""
UNANSWERED = 10_000  # ms after which a message that the server does not answer is no longer waited for
BROKEN = "[...document.images].some(i => i.src.includes('/media/') && i.complete && i.naturalWidth === 0)"
WAIT = 60_000  # ms for a run to end: a first photo on a busy machine loads torch, the net and its weights
ACT = 15_000  # ms for what is on an idle page to be found and clicked


# ---- the server ------------------------------------------------------------------------------------------


@contextmanager
def serve(script: Path, home: Path, *options: str) -> Iterator[str]:
    """The address of ``script`` as run by Streamlit from the repository's root, offline, at home in ``home``.

    Ends with the whole process group stopped. What the server printed is in ``home/server.log``, and in the
    error where it does not come up within a minute.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = home / "server.log"
    command = [sys.executable, str(ROOT / "tests" / "offline.py"), "run", str(script), "--server.port", str(port)]
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "TORCH_HOME": str(home / ".cache" / "torch"),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_healthy(f"http://localhost:{port}", server, log)
        yield f"http://localhost:{port}"
    finally:
        _stop(server)


def _wait_until_healthy(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    give_up = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < give_up:
        try:
            with opener.open(f"{address}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"The server did not come up. It printed:\n{log.read_text(errors='replace')}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    """Ask the server and all that it started to end, and after ten seconds make them."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, sign)
        except ProcessLookupError:
            break
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue


# ---- the browser -----------------------------------------------------------------------------------------


def find_chromium() -> str | None:
    """The path of the system's Chromium or Chrome, or None."""
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def launch(playwright: Playwright, executable: str) -> Browser:
    return playwright.chromium.launch(executable_path=executable, args=list(CHROMIUM_ARGUMENTS))


@contextmanager
def open_page(
    browser: Browser, address: str, *, size: dict[str, int] | None = None, dark: bool = False, path: str = ""
) -> Iterator[Page]:
    """A new person at the page: an own context, ``size`` in pixels (WIDE where none is given), light or dark.

    On the way out the page must show no exception, and the browser must have reported no error.
    """
    context = browser.new_context(
        viewport=size or WIDE,
        color_scheme="dark" if dark else "light",
        accept_downloads=True,
        permissions=["camera"],
        base_url=address,
    )
    context.add_init_script(LISTEN)
    errors: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: errors.append(_line(message)) if _is_fault(message) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(ACT)
    try:
        page.goto(f"{address}/{path.lstrip('/')}", timeout=WAIT)
        wait_until_idle(page)
        yield page
        check_no_exception(page)
        assert not errors, "The browser reported errors:\n" + "\n".join(errors)
        assert not page.evaluate(BROKEN), "A picture on the page could not be loaded."
    finally:
        context.close()


def _is_fault(message: ConsoleMessage) -> bool:
    """An error, but for two of Streamlit's own making: opened at /layers, it first looks for its server at
    /layers/_stcore, in case the app lives there, and only then at /_stcore; and a picture that the next run replaces
    may be gone before the browser asks for it (those that stay are looked at in the end)."""
    url = message.location.get("url", "")
    looking = "404" in message.text and re.search(r"//[^/]+/.+/_stcore/(host-config|health)$", url)
    replaced = ("404" in message.text and "/media/" in url) or re.search(
        r"Image source error - .+/media/", message.text
    )
    return message.type == "error" and not looking and not replaced


def _line(message: ConsoleMessage) -> str:
    return f"{message.text} ({message.location.get('url', '')})"


def wait_until_idle(page: Page, timeout: float = WAIT) -> None:
    """Wait, at most ``timeout`` ms, until the script has run to its end and every picture on the page has loaded.

    A rerun begins a moment after what asks for it (a widget waits for more typing, a busy server takes its time),
    so the page must have been idle, with nothing that it asked for unanswered, for a fifth of a second without a break.
    """
    page.wait_for_function(
        """([idle, quiet, unanswered]) => {
            const loaded = [...document.images].every(image => image.complete);
            const waits = window.asked > window.heard && performance.now() - window.asked < unanswered;
            if (!document.querySelector(idle) || !loaded || waits) { window.idleSince = undefined; return false; }
            window.idleSince ??= performance.now();
            return performance.now() - window.idleSince > quiet;
        }""",
        arg=[IDLE, 200, UNANSWERED],
        timeout=timeout,
        polling=50,
    )
    page.evaluate("window.idleSince = undefined")


def check_no_exception(page: Page) -> None:
    """Nothing on the page is an uncaught exception. A refusal in words (st.error, st.warning) is no exception."""
    shown = page.get_by_test_id("stException")
    assert shown.count() == 0, f"The page shows an exception: {shown.first.inner_text()}"


# ---- what a person does ----------------------------------------------------------------------------------


def choose(page: Page, label: str, option: str, *, typed: str | None = None) -> None:
    """In the select box called ``label``, type ``typed`` (else ``option``) and take the option ``option``."""
    box = page.get_by_role("combobox", name=_name(label)).first
    box.click()
    box.fill(typed or option)
    page.get_by_role("option", name=option, exact=True).first.click()
    wait_until_idle(page)


def press(page: Page, label: str) -> None:
    """Press the button called ``label`` and wait for what it does."""
    page.get_by_role("button", name=_name(label)).first.click()
    wait_until_idle(page)


def upload(page: Page, label: str, path: Path) -> None:
    """Give the file at ``path`` to the uploader called ``label``."""
    uploader = page.get_by_test_id("stFileUploader").filter(has_text=label).first
    uploader.locator('input[type="file"]').set_input_files(path)
    expect(uploader.get_by_text(path.name, exact=False).first).to_be_visible()
    wait_until_idle(page)


def download(page: Page, label: str, folder: Path) -> Path:
    """Press the download button called ``label``; the file, under its own name, in ``folder``."""
    with page.expect_download() as started:
        page.get_by_test_id("stDownloadButton").get_by_role("button", name=_name(label)).first.click()
    target = folder / started.value.suggested_filename
    started.value.save_as(target)
    return target


def open_menu_page(page: Page, title: str) -> None:
    """Go to the page of that title by the app's own menu: along the top, there behind "3 more" where it does not fit,
    or in the sidebar as on a phone."""
    top = page.get_by_test_id("stTopNavLink").filter(has_text=title).first
    if top.is_visible() and not top.evaluate("link => link.closest('[inert]')"):
        top.click()
    elif top.is_visible():
        page.get_by_test_id("stTopNavSection").click()
        page.get_by_test_id("stTopNavDropdownLink").filter(has_text=title).click()
    else:
        open_sidebar(page)
        page.get_by_test_id("stSidebarNavLink").filter(has_text=title).first.click()
    wait_until_idle(page)


def open_sidebar(page: Page) -> None:
    """Unfold the sidebar where it is folded away, as it is on a phone."""
    unfold = page.get_by_test_id("stExpandSidebarButton")
    if unfold.is_visible():
        unfold.click()
        expect(page.get_by_test_id("stSidebar")).to_have_attribute("data-collapsed", "false")


def screenshot(page: Page, name: str, *, full: bool = True) -> Path:
    """Save what the page shows, to its very bottom when ``full``, as build/screenshots/``name``.png."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.mouse.move(0, 0)  # no tooltip in the picture
    original = page.viewport_size
    if full and original:
        # Streamlit scrolls an inner element, which a full-page screenshot does not unroll: a taller window does.
        height = page.evaluate(
            "Math.max(...[...document.querySelectorAll('[data-testid=stMain], [data-testid=stSidebarContent]')]"
            ".map(part => part.scrollHeight))"
        )
        page.set_viewport_size({"width": original["width"], "height": max(original["height"], int(height))})
        wait_until_idle(page)
    page.screenshot(path=path, animations="disabled")
    if full and original:
        page.set_viewport_size(original)
    return path


def images(page: Page) -> Locator:
    """The pictures of st.image on the page."""
    return page.get_by_test_id("stImage").locator("img")


def _name(label: str) -> re.Pattern[str]:
    """An accessible name that begins with ``label``: Streamlit may add "Selected …" or an icon's name to it."""
    return re.compile(rf"^(Selected .*\. )?{re.escape(label)}")
