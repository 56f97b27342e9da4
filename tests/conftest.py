"""What every test stands on: no network, one set of threads for each worker, and the app in a browser on demand."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
THREADS = max(1, (os.cpu_count() or 1) // WORKERS)
# Before torch and NumPy are imported: their pools read these once. The server that the browser tests start inherits
# them.
for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[pool] = str(THREADS)  # not a default: a worker finds here what the process that started it had set

# A worker of the tests holds every network in turn; the servers of the browser tests inherit this as well.
os.environ["CNN_LENS_MEMORY_MB"] = "12000"

import pytest  # noqa: E402
from offline import cut_the_network  # noqa: E402

if TYPE_CHECKING:
    import numpy as np
    from playwright.sync_api import Browser, Page

PAGES = pytest.StashKey[list["Page"]]()
SERVER_LOG = pytest.StashKey[Path]()
BROWSER_FIXTURES = {"server", "browser", "page", "person"}


def pytest_configure(config: pytest.Config) -> None:
    cut_the_network()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests are marked so, and share one worker: one server and one Chromium are enough for two cores."""
    for item in items:
        if BROWSER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.browser)
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(autouse=True)
def the_main_program() -> Iterator[None]:
    """An app under test takes the place of the main program, and a process that is started later would run it."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Beside the failure of a browser test: what the person saw, and what the server printed last."""
    report = yield
    arguments: dict[str, object] = getattr(item, "funcargs", {})
    if report.failed and "person" in arguments:
        from browser import screenshot

        for number, page in enumerate(item.stash.get(PAGES, [])):
            if not page.is_closed():
                name = f"failed {item.name} {number}".replace("/", "_")
                report.sections.append(("screenshot", str(screenshot(page, name, full=False))))
        log = item.config.stash[SERVER_LOG].read_text(errors="replace")
        report.sections.append(("server", log[-4000:]))
    return report


@pytest.fixture(autouse=True)
def torch_threads() -> None:
    """As many threads as are this worker's share. Torch is not imported for it where a test has no need of it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(THREADS)


# ---- a photo of one's own ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def cat() -> np.ndarray:
    """A photo of a cat, (300, 451, 3) uint8, that scikit-image carries."""
    from skimage import data

    return data.chelsea()


@pytest.fixture(scope="session")
def cat_jpeg(cat: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cat as a camera held sideways would store it: a JPEG lying on its side, with the EXIF tag that says so."""
    from PIL import Image

    path = tmp_path_factory.mktemp("photos") / "my cat.jpg"
    photo = Image.fromarray(cat)
    exif = photo.getexif()
    exif[0x0112] = 6  # Orientation: turn by 90° clockwise to see it upright
    exif[0x010F] = "CNN Lens tests"  # Make
    photo.transpose(Image.Transpose.ROTATE_90).save(path, quality=92, exif=exif)
    return path


# ---- the app in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the running app, one for all browser tests."""
    from browser import ROOT, serve

    home = tmp_path_factory.mktemp("home")
    pytestconfig.stash[SERVER_LOG] = home / "server.log"
    with serve(ROOT / "app.py", home) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window. Where there is none the test fails: a browser test that did not run proves nothing."""
    from browser import CHROMIUM_NAMES, find_chromium, launch
    from playwright.sync_api import sync_playwright

    executable = find_chromium()
    if executable is None:
        pytest.fail(
            f"This test needs a browser, and none of {', '.join(CHROMIUM_NAMES)} is on the path. Run `make chromium`, "
            "or install one, for example with: sudo apt-get install chromium"
        )
    with sync_playwright() as playwright:
        chromium = launch(playwright, executable)
        yield chromium
        chromium.close()


@pytest.fixture
def person(request: pytest.FixtureRequest, server: str, browser: Browser) -> Iterator[Callable[..., Page]]:
    """``person(size=NARROW, dark=True, path="heatmaps")``: somebody new at the app; as many as a test wants."""
    from browser import open_page

    pages = request.node.stash[PAGES] = []
    with ExitStack() as people:

        def arrive(*, size: dict[str, int] | None = None, dark: bool = False, path: str = "") -> Page:
            pages.append(people.enter_context(open_page(browser, server, size=size, dark=dark, path=path)))
            return pages[-1]

        yield arrive


@pytest.fixture
def page(person: Callable[..., Page]) -> Page:
    """The app's first page, idle, in a wide and light window. Errors on it fail the test at its end."""
    return person()


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped weights, in place of them."""
    from models import catalogue

    copy = tmp_path / "weights"
    shutil.copytree(catalogue.WEIGHTS_FOLDER, copy)
    monkeypatch.setattr(catalogue, "WEIGHTS_FOLDER", copy)
    return copy
