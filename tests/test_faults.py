"""What breaks around the app: the disk, the network, memory, packages, the process itself. F1 to F25 are rows of the
fault plan.

Work runs in threads of one process, and nothing is kept on disk but weights. So there is no worker that could be
killed or forked (F1, F25), and no cache on disk that could be damaged (F19). A turn that hung inside of torch would
keep its place for as long as the process lives, for a thread cannot be stopped from outside (F2): known, and not met.
Versions are pinned: no oldest and newest (F16). What is kept for a browser that does not listen (F23) is Streamlit's.

Held elsewhere: the process apart that examines a file, and a file that asks it for gigabytes, in test_checkpoints;
weights that are damaged, malicious, fetched twice at once or over a slow network (F10 to F12, F14) in test_models;
exceptions and cancels in the middle of every method (F17, F18), a net that raises or answers NaN (F24) in
test_contract; too many uploads (F6) in test_server. A machine without a network (F13) is what all tests run on.
"""

from __future__ import annotations

import ast
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pictures
import pytest
import torch
from browser import ROOT, serve
from streamlit.proto.WidgetStates_pb2 import WidgetState
from test_app import PAGES, answers, as_markdown_shows, chosen, saying, title_of, visit, with_upload
from visitor import Visitor, is_healthy, process_of

from app_pages import common, folder_set
from app_pages.networks import Networks
from vizcore import cam

pytestmark = pytest.mark.xdist_group("server")

NOWHERE = "/proc/nowhere"  # nobody can make it, not even root
# A start of the app on a machine that lacks something; "app = st.App(" is what Streamlit looks for in a file.
BROKEN = """
import os, resource, sys, tempfile
sys.path.insert(0, {root!r})
{fault}
import streamlit as st
import app as lens

app = st.App({root!r} + "/app.py", lifespan=lens.warm_up)
"""
NO_HOME = f"""
for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TORCH_HOME", "HF_HOME", "MPLCONFIGDIR"):
    os.environ[name] = "{NOWHERE}"
"""
NO_TEMP = f'tempfile.tempdir = "{NOWHERE}"\n'
FULL_DISK = "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # bytes of any file, the log too\n"
FEW_FILES = "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"


@contextmanager
def broken(folder: Path, fault: str, *options: str) -> Iterator[str]:
    """The address of the app, started on a machine with that fault."""
    script = folder / "broken.py"
    script.write_text(BROKEN.format(root=str(ROOT), fault=fault))
    with serve(script, folder, *options) as address:
        yield address


def noisy_photo(side: int) -> bytes:
    """A photo that PNG cannot make small: about 3 bytes a pixel."""
    return pictures.save(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8), "PNG")


def put_photo(visitor: Visitor, photo: bytes) -> int:
    """Upload a photo as a person does, and look at it; the status of the upload."""
    visitor.visit("source=Upload")
    status, number = visitor.upload(photo)
    state = WidgetState(id=visitor.widget("file_uploader", "Photo").id)
    place = f"/_stcore/upload_file/{visitor.session}/{number}"
    info = state.file_uploader_state_value.uploaded_file_info.add(file_id=number, name="photo.png", size=len(photo))
    info.file_urls.file_id = number
    info.file_urls.upload_url = info.file_urls.delete_url = place
    visitor.ask("source=Upload", widgets=[state])
    visitor.until_drawn()
    return status


# ---- the disk -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_a_home_everything_works(tmp_path: Path) -> None:  # F9
    with broken(tmp_path, NO_HOME) as address, Visitor(address) as visitor:
        assert put_photo(visitor, noisy_photo(100)) == 204
        assert "photo\\.png" in visitor.words()
        for page in PAGES[1:]:
            assert visitor.visit(page=page).shown("heading")[0].body == title_of(page)
            assert not visitor.shown("exception")


@pytest.mark.slow
@pytest.mark.parametrize("fault", [NO_TEMP, FULL_DISK], ids=["no /tmp", "full disk"])
def test_where_nothing_can_be_written_large_files_are_not_taken_and_all_else_works(  # F7, F8, F9
    tmp_path: Path, fault: str
) -> None:
    with broken(tmp_path, fault) as address, Visitor(address) as visitor:
        assert put_photo(visitor, noisy_photo(1000)) == 500
        assert not visitor.shown("exception")
        assert put_photo(visitor, noisy_photo(100)) == 204
        assert "photo\\.png" in visitor.words()
        assert visitor.visit(page="heatmaps").pictures()
        assert not visitor.shown("exception")
        assert is_healthy(address)


def test_damaged_weights_are_named_in_the_page_and_other_networks_work(  # F10
    weights_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = Networks(10**9)
    monkeypatch.setattr(common, "networks", lambda: fresh)  # none is loaded yet
    file = weights_folder / "lenet5.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    app = visit(model="LeNet-5")
    assert not app.exception
    (refusal,) = app.error
    assert "lenet5.safetensors" in as_markdown_shows(refusal.value)
    app.selectbox(key="model").set_value("efficientnet_lite0").run()
    assert not app.error
    assert len(answers(app)) == 5


# ---- memory -------------------------------------------------------------------------------------------------


def torch_runs_out(*args: object, **kwargs: object) -> None:
    torch.empty(2**60, dtype=torch.uint8)


def numpy_runs_out(*args: object, **kwargs: object) -> None:
    np.zeros(2**60, np.uint8)


def python_runs_out(*args: object, **kwargs: object) -> None:
    raise MemoryError


@pytest.mark.parametrize("run_out", [torch_runs_out, numpy_runs_out, python_runs_out])
def test_memory_that_runs_out_in_the_middle_is_said_and_the_page_goes_on(  # F5
    run_out: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = visit("heatmaps", model="LeNet-5", digit="Digit 4")
    app.button_group(key="methods").set_value(["layer_cam"])
    common.results().clear()
    with monkeypatch.context() as patch:
        patch.setattr(cam, "cam_grid", run_out)
        app.run()
        assert not app.exception
        saying(app, "too large for this server's memory")
    assert not common.line().counts()["open"]
    app.run()
    assert not app.exception
    assert not app.warning
    saying(app, "sum of evidence")


@pytest.mark.parametrize("run_out", [torch_runs_out, numpy_runs_out, python_runs_out])
def test_memory_that_runs_out_over_a_set_is_said_and_its_button_works_the_next_time(  # F5
    run_out: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    common.results().clear()
    app = visit("folder", model="LeNet-5", digits="200")
    with monkeypatch.context() as patch:
        patch.setattr(folder_set, "predict", run_out)
        app.button(key="compute answers of the set").click().run()
        assert not app.exception
        saying(app, "too large for this server's memory")
        assert not app.metric
    assert not common.line().counts()["open"]
    next(button for button in app.button if button.label == "Try again").click().run()
    app.button(key="compute answers of the set").click().run()
    assert not app.exception
    assert not app.warning
    assert app.metric[0].label == "Accuracy"


def test_a_method_that_breaks_gives_its_turn_back_and_works_the_next_time(  # F17
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a defect")

    app = visit("heatmaps", model="LeNet-5", digit="Digit 2")
    failed = common.line().counts().get("failed", 0)
    app.button_group(key="methods").set_value(["xgrad_cam"])
    with monkeypatch.context() as patch:
        patch.setattr(cam, "cam_grid", breaks)
        app.run()
        assert app.exception
    assert common.line().counts()["failed"] == failed + 1
    assert not common.line().counts()["open"]
    app.run()
    assert not app.exception
    saying(app, "sum of evidence")


# ---- packages and clocks ------------------------------------------------------------------------------------


def test_without_the_package_for_drawing_the_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:  # F15
    monkeypatch.setitem(sys.modules, "streamlit_drawable_canvas", None)
    app = visit(model="LeNet-5")
    app.button_group(key="source").set_value("Draw").run()
    assert not app.exception
    saying(app, "pip install streamlit-drawable-canvas")
    assert len(answers(app)) == 5
    with_upload(app, pictures.save(pictures.scene(), "PNG"))
    assert chosen(app).title == "mine.png"


def test_nothing_is_measured_with_a_clock_that_can_be_set() -> None:  # F20
    asked = set()
    for folder in ("app_pages", "vizcore", "models"):
        for path in (ROOT / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    asked.add((path.name, f"{node.value.id}.{node.attr}"))
    assert ("line.py", "time.monotonic") in asked
    assert not {(file, clock) for file, clock in asked if clock in ("time.time", "datetime.utcnow")}
    assert {file for file, clock in asked if clock == "datetime.now"} == {"journal.py"}  # which says when, not how long


# ---- the process --------------------------------------------------------------------------------------------


def hide_windows(visitor: Visitor, window: int) -> None:
    """On the page of heatmaps, with occlusion chosen: have the score of many windows computed, and do not wait."""
    size, step = (visitor.widget("number_input", label).id for label in ("Window", "Stride"))
    button = visitor.widget("button", "Compute Occlusion").id
    states = [
        WidgetState(id=size, double_value=window),
        WidgetState(id=step, double_value=4),
        WidgetState(id=button, trigger_value=True),
    ]
    visitor.ask(visitor.query, "heatmaps", states)


def until_the_bar_says(visitor: Visitor, words: str) -> None:
    visitor.until(lambda: any(words in bar.text for bar in visitor.shown("progress")))


@pytest.mark.slow
def test_a_server_that_is_told_to_end_while_people_wait_for_work_ends_within_ten_seconds(tmp_path: Path) -> None:  # F4
    with serve(ROOT / "app.py", tmp_path) as address, ExitStack() as stack:
        people = [stack.enter_context(Visitor(address)) for _ in range(5)]
        for visitor in people:
            visitor.visit("methods=Occlusion", "heatmaps")
        for number, visitor in enumerate(people):
            hide_windows(visitor, 16 + number)
            until_the_bar_says(visitor, " in line" if number else " windows")
        server = process_of(tmp_path)
        os.kill(server, signal.SIGTERM)
        start = time.monotonic()
        while Path(f"/proc/{server}/statm").exists() and Path(f"/proc/{server}/statm").read_text().split()[1] != "0":
            assert time.monotonic() - start < 10
            time.sleep(0.05)


@pytest.mark.slow
def test_after_a_kill_the_same_link_shows_the_same_pictures(tmp_path: Path) -> None:  # F3
    link = "model=LeNet-5&digit=Digit+4"
    with serve(ROOT / "app.py", tmp_path) as address, Visitor(address) as visitor:
        before = visitor.visit(link, "heatmaps").pictures()
        os.kill(process_of(tmp_path), signal.SIGKILL)
    with serve(ROOT / "app.py", tmp_path) as address, Visitor(address) as visitor:
        assert visitor.visit(link, "heatmaps").pictures() == before


@pytest.mark.slow
def test_with_few_files_to_open_a_crowd_is_kept_waiting_and_the_server_recovers(tmp_path: Path) -> None:  # F21
    with broken(tmp_path, FEW_FILES) as address, Visitor(address) as visitor:
        before = visitor.visit().pictures()
        place = ("127.0.0.1", urlsplit(address).port)
        with ExitStack() as crowd:
            for _ in range(100):
                crowd.enter_context(socket.create_connection(place, timeout=5))
            time.sleep(1)
        give_up = time.monotonic() + 10
        while not answers_now(address):
            assert time.monotonic() < give_up
        visitor.ask()
        assert visitor.until_drawn().pictures() == before
        with Visitor(address) as other:
            assert other.visit().pictures() == before


def answers_now(address: str) -> bool:
    try:
        return is_healthy(address)
    except OSError:
        return False


# ---- the connection -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_connection_lost_for_a_moment_is_taken_up_again_and_one_lost_for_long_begins_anew(tmp_path: Path) -> None:
    with broken(tmp_path, "", "--server.disconnectedSessionTTL", "8") as address:  # F22; two minutes in earnest
        with Visitor(address) as visitor:
            put_photo(visitor, noisy_photo(100))
            mine = visitor.pictures()
            assert "photo\\.png" in visitor.words()
        time.sleep(5)
        with Visitor(address, session=visitor.session) as again:
            again.ask("source=Upload")
            assert again.until_drawn().session == visitor.session
            assert again.pictures() == mine
        time.sleep(10)
        with Visitor(address, session=visitor.session) as late:
            late.ask("source=Upload")
            assert late.until_drawn().session != visitor.session
            assert "photo\\.png" not in late.words()
            assert any("No picture of your own yet" in as_markdown_shows(alert.body) for alert in late.shown("alert"))
            assert not late.shown("exception")


@pytest.mark.slow
def test_work_of_somebody_who_has_gone_stops_within_two_seconds(tmp_path: Path) -> None:  # F22, U14
    with serve(ROOT / "app.py", tmp_path) as address:
        with Visitor(address) as visitor:
            visitor.visit("methods=Occlusion", "heatmaps")
            hide_windows(visitor, 16)
            until_the_bar_says(visitor, " windows")  # of this run: no bar before it counts them
        give_up = time.monotonic() + 2
        while '"cancelled"' not in (tmp_path / "server.log").read_text():
            assert time.monotonic() < give_up
            time.sleep(0.05)
