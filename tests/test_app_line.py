"""The pages and the line before the processor, without a browser: who waits is told, who is refused is told why."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import pictures
import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest
from test_app import chosen, saying, visit

from app_pages import common, memory
from app_pages.line import Busy, Line, Wait
from vizcore.records import BadImage


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    """A line of this test alone, with one place."""
    line = Line(places=1)
    monkeypatch.setattr(common, "line", lambda: line)
    return line


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    common.results().clear()


@pytest.fixture
def journal(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The lines that the server has written, as records."""
    log = logging.getLogger("cnn_lens")
    monkeypatch.setattr(log, "propagate", False)
    log.addHandler(caplog.handler)
    log.setLevel(logging.INFO)
    yield lambda: [json.loads(record.getMessage()) for record in caplog.records if record.name == "cnn_lens"]
    log.removeHandler(caplog.handler)


def told(monkeypatch: pytest.MonkeyPatch) -> list[Wait]:
    """What those who wait are told from now on."""
    waits: list[Wait] = []
    tell = common._Waiting.tell

    def keep(self: Any, wait: Wait) -> None:
        waits.append(wait)
        tell(self, wait)

    monkeypatch.setattr(common._Waiting, "tell", keep)
    return waits


def test_a_page_waits_for_its_turn_and_then_shows_what_it_would_have_shown(
    line: Line, monkeypatch: pytest.MonkeyPatch, journal: Any
) -> None:
    waits, somebody_has_it = told(monkeypatch), threading.Event()

    def occupy() -> None:
        with line.turn("somebody", ["theirs"], 5.0):
            somebody_has_it.set()
            give_up = time.monotonic() + 60
            while len(waits) < 4 and time.monotonic() < give_up:
                time.sleep(0.05)

    threading.Thread(target=occupy).start()
    assert somebody_has_it.wait(5)
    app = visit(model="LeNet-5")
    assert not app.exception
    assert waits
    assert waits[0].place == 1
    assert len(app.progress) == 5
    assert not any("in line" in info.value for info in app.info)
    lines = journal()
    assert max(record["waited"] for record in lines) > 0.5
    assert {record["outcome"] for record in lines} == {"done"}


def test_a_full_line_is_said_with_a_way_to_try_again_and_nothing_chosen_is_lost(
    monkeypatch: pytest.MonkeyPatch, journal: Any
) -> None:
    line = Line(places=1, most_waiting=0)
    monkeypatch.setattr(common, "line", lambda: line)
    app = visit(model="LeNet-5", digit="Digit 7")
    assert not app.exception
    assert "0 requests are waiting already" in app.warning[0].value
    assert {record["outcome"] for record in journal()} == {"refused"}
    monkeypatch.setattr(line, "_most_waiting", 10)
    next(button for button in app.button if button.label == "Try again").click().run()
    assert not app.warning
    assert chosen(app).title == "Digit 7"


def test_who_is_refused_is_left_with_no_bar_and_nothing_to_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line(places=1)
    monkeypatch.setattr(common, "line", lambda: line)
    app = visit("heatmaps", model="LeNet-5")
    app.button_group(key="methods").set_value(["occlusion"]).run()
    monkeypatch.setattr(line, "_most_waiting", 0)
    next(button for button in app.button if (button.key or "").startswith("compute")).click().run()
    assert not app.exception
    assert "requests are waiting already" in app.warning[0].value
    assert not app.progress
    assert "Cancel" not in [button.label for button in app.button]


def test_what_one_visit_computed_takes_no_turn_in_the_next(line: Line, journal: Any) -> None:
    assert not visit("heatmaps", model="LeNet-5").exception
    computed = len(journal())
    assert computed > 5
    assert not visit("heatmaps", model="LeNet-5").exception
    assert len(journal()) == computed
    assert line.counts() == {"asked": computed, "done": computed, "open": 0}


def test_the_journal_names_visit_method_net_and_time_and_neither_pictures_nor_files(line: Line, journal: Any) -> None:
    visit(model="LeNet-5", digit="Digit 7")
    records = journal()
    assert {"scores", "photo"} <= {record["method"] for record in records}
    for record in records:
        assert set(record) == {"time", "visit", "method", "net", "waited", "seconds", "outcome"}
        assert "Digit" not in str(record)
        assert len(record["visit"]) == 8


@pytest.mark.parametrize(
    ("wait", "words"),
    [
        (Wait(3, 8.2, False), "Third in line, about 8 s"),
        (Wait(12, 95.0, False), "Number 12 in line, about 2 min"),
        (Wait(1, 4.0, True), "The same is being computed for somebody else, about 4 s"),
    ],
)
def test_a_wait_in_words(wait: Wait, words: str) -> None:
    assert common.words_of(wait) == words


def test_while_it_waits_the_bar_of_a_run_says_so(line: Line) -> None:
    script = """
import streamlit as st
from app_pages import common
from app_pages.line import Wait

with common.running("Occlusion"):
    waiting = common._Waiting()
    waiting._start -= 10
    waiting.tell(Wait(3, 8.0, False))
    raise RuntimeError
"""
    app = AppTest.from_string(script, default_timeout=60)
    shown: list[str] = []
    progress = st.delta_generator.DeltaGenerator.progress

    def keep(self: Any, value: float, text: str | None = None, **options: Any) -> Any:
        shown.append(str(text))
        return progress(self, value, text, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(st.delta_generator.DeltaGenerator, "progress", keep)
        app.run()
    assert "Occlusion: third in line, about 8 s" in shown


# ---- memory ----------------------------------------------------------------------------------------------------


def test_a_turn_that_would_take_too_much_memory_is_refused_after_the_results_were_dropped(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common.memory, "resident", lambda: memory.budget() - 1)
    common.results().put("large", b"1" * common.LARGE, 1.0)
    common.results().put("small", b"12345", 1.0)
    with pytest.raises(Busy, match=r"no memory for this now: .* MB are taken"):
        common.make_room(common.room_for(5.0))
    assert common.results().get("large") is None
    assert common.results().get("small") is not None
    common.results().clear()
    app = visit(model="LeNet-5")
    assert not app.exception
    assert "no memory for this now" in app.warning[0].value


def test_what_was_answered_while_one_waited_needs_no_room(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(common, "make_room", asked.append)
    found = iter([None, "answered"])  # not there before the turn, there in it
    monkeypatch.setattr(common.results(), "get", lambda key: next(found))
    assert common.known(("heat", "net"), lambda: pytest.fail("computed again")) == "answered"
    assert not asked


def test_where_there_is_memory_the_results_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common.memory, "resident", lambda: memory.budget() - (memory.SHORT_MB + 1) * memory.MB)
    common.results().put("large", b"1" * common.LARGE, 1.0)
    common.make_room(common.room_for(0.1))
    assert common.results().get("large") is not None
    with pytest.raises(Busy):
        common.make_room(common.room_for(5.0))


def test_what_costs_least_to_have_again_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[list[str]] = []
    held = iter(range(10))

    def put_all() -> None:
        common.results().clear()
        common.results().put("cheap", b"1" * common.LARGE, 0.1)
        common.results().put("costly", b"1" * common.LARGE, 50.0)

    def resident() -> int:
        """Of a process that never has room: what is gone so far is written down each time."""
        next(held)
        gone.append([key for key in ("cheap", "costly") if common.results().get(key) is None])
        return memory.budget()

    put_all()
    unused: list[bool] = []
    monkeypatch.setattr(common.networks(), "let_go", lambda: unused.append(common.results().get("costly") is not None))
    monkeypatch.setattr(common.memory, "resident", resident)
    with pytest.raises(Busy):
        common.make_room(1)
    assert gone == [[], [], ["cheap"], ["cheap"], ["cheap", "costly"]]
    assert unused == [True]


def test_a_result_larger_than_the_store_pushes_nobody_elses_out() -> None:
    store = common.Results(1000)
    store.put("mine", b"1" * 900, 1.0)
    store.put("huge", b"2" * 5000, 2.0)
    assert (len(store.get("mine")), len(store.get("huge"))) == (900, 5000)  # type: ignore[arg-type]
    assert store.seconds("huge") == 2.0
    store.put("other huge", b"3" * 5000, 2.0)
    assert store.get("huge") is None
    store.put("yours", b"4" * 500, 1.0)
    assert store.get("mine") is None
    store.drop_large(100)
    assert [store.get(key) for key in ("mine", "yours", "huge", "other huge")] == [None] * 4


def test_a_large_photo_waits_for_the_room_that_its_pixels_take(
    line: Line, monkeypatch: pytest.MonkeyPatch, journal: Any
) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (4000, 3000)).save(file, "PNG", compress_level=1)
    asked: list[int] = []
    monkeypatch.setattr(common, "make_room", asked.append)
    small = io.BytesIO()
    Image.new("RGB", (400, 300)).save(small, "PNG")
    common.photo_from(small.getvalue())  # first: what is usual for a photo follows the one before
    assert asked == [memory.SHORT_MB * memory.MB]
    assert common.photo_from(file.getvalue()).pixels.shape == (1200, 1600, 3)
    assert asked[1:] == [16 * 4000 * 3000]


def test_a_refusal_is_an_answer_that_is_kept_and_each_who_asks_is_given_one_of_their_own(
    line: Line, journal: Any
) -> None:
    refusals = []
    for _ in range(2):
        with pytest.raises(BadImage, match="is a web page") as caught:
            common.photo_from(b"<html>")
        refusals.append(caught.value)
    assert refusals[0] is not refusals[1]
    assert [record["outcome"] for record in journal()] == ["done"]


def test_a_refusal_in_the_middle_of_a_turn_is_written_down_as_an_answer_and_an_error_as_none(
    line: Line, journal: Any
) -> None:
    for error in (BadImage("No picture."), ZeroDivisionError("A defect.")):
        with pytest.raises(type(error)), common.turn([("zip", None, "mine")], 1.0):
            raise error
    assert [record["outcome"] for record in journal()] == ["done", "failed"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.01, "0.1 s"), (0.52, "0.5 s"), (1.4, "1 s"), (89.0, "89 s"), (200.0, "3 min")]
)
def test_a_time_is_said_as_finely_as_it_is_known(seconds: float, words: str) -> None:
    assert common.duration(seconds) == words


def test_a_network_that_does_not_fit_is_refused_in_the_page_by_its_size(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common.networks(), "capacity", 50 * memory.MB)
    app = visit(model="VGG-16", untrained="true")
    assert not app.exception
    assert "VGG-16 takes 553 MB; this server has 50 MB" in app.error[0].value.replace("\\", "")


# ---- what a visit may bring ------------------------------------------------------------------------------------


def test_the_public_may_bring_smaller_photos(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting, megabytes in (("", 15), ("1", 6)):
        monkeypatch.setenv("CNN_LENS_PUBLIC", setting)
        app = visit(model="LeNet-5", source="Upload")
        assert app.file_uploader(key="upload").proto.max_upload_size_mb == megabytes
        assert saying(app, "No picture of your own yet")
    file = io.BytesIO()
    Image.new("RGB", (400, 300)).save(file, "PNG")
    large = file.getvalue() + b"0" * 6 * memory.MB  # behind the picture: what it is does not count
    with pytest.raises(BadImage, match=r"takes 6\.0 MB; here a photo may take 6\. Export it smaller"):
        common.photo_from(large)
    monkeypatch.setenv("CNN_LENS_PUBLIC", "")
    common.photo_from(large)


def test_the_public_may_bring_smaller_zips(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_zip(megabytes: int) -> AppTest:
        app = visit("embedding", model="LeNet-5")
        app.button_group(key="set of digits").set_value("A zip of mine").run()
        assert app.file_uploader(key="zip").proto.max_upload_size_mb == megabytes
        with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
            archive.writestr("a/1.png", pictures.save(pictures.scene(), "PNG"))
            archive.writestr("filling.txt", bytes(30 * memory.MB))
        app.file_uploader(key="zip").set_value(("mine.zip", file.getvalue(), "application/zip")).run()
        assert not app.exception
        return app

    monkeypatch.setenv("CNN_LENS_PUBLIC", "1")
    assert "takes 30 MB; here it may take 30" in with_zip(30).error[0].value.replace("\\", "")
    monkeypatch.setenv("CNN_LENS_PUBLIC", "")
    assert not with_zip(100).error


# ---- the desk at which pages are drawn -------------------------------------------------------------------------


def test_a_place_at_the_desk_goes_to_whoever_has_waited_the_longest() -> None:
    desk, order = common.Desk(1), list[int]()
    desk.acquire()

    def come(number: int) -> None:
        desk.acquire()
        order.append(number)
        time.sleep(0.02)  # meanwhile those before have asked again
        desk.release()
        if number < 10:
            desk.acquire()
            order.append(number + 10)
            desk.release()

    threads = []
    for number in range(4):
        threads.append(threading.Thread(target=come, args=(number,)))
        threads[-1].start()
        time.sleep(0.02)
    desk.release()
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3, 10, 11, 12, 13]


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A desk of this test alone, and a way to begin pages: each is at the desk until it is told to go on."""
    desk = common.Desk(common.DRAWN_AT_ONCE)
    monkeypatch.setattr(common, "_desk", lambda: desk)
    threads: list[threading.Thread] = []

    def begin(page: Any) -> None:
        threads.append(threading.Thread(target=page, daemon=True))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert desk._free == common.DRAWN_AT_ONCE  # nobody kept a place


def test_no_more_pages_are_drawn_at_once_than_there_are_places(drawing: Any) -> None:
    now, most, lock = [0], [0], threading.Lock()

    def page() -> None:
        with common.at_the_desk():
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.02)
            with lock:
                now[0] -= 1

    for _ in range(4 * common.DRAWN_AT_ONCE):
        drawing(page)
    time.sleep(0.5)
    assert most[0] == common.DRAWN_AT_ONCE
    assert now[0] == 0


@pytest.mark.parametrize("how", ["waiting", "running", "turn"])
def test_who_waits_or_computes_leaves_the_desk_to_others(drawing: Any, line: Line, how: str) -> None:
    go_on, away = threading.Event(), [threading.Event() for _ in range(common.DRAWN_AT_ONCE)]

    def page(number: int) -> None:
        with common.at_the_desk():
            if how == "turn":
                with common.turn([("kind", "net", number)]):
                    away[number].set()
                    go_on.wait(10)
            elif how == "running":
                with common.running("Counting"):
                    away[number].set()
                    go_on.wait(10)
            else:
                with common.away_from_the_desk():
                    away[number].set()
                    go_on.wait(10)

    for number in range(common.DRAWN_AT_ONCE):
        drawing(lambda number=number: page(number))
    until = time.monotonic() + 10
    while not any(one.is_set() for one in away):  # of the turns, one runs and the others wait
        assert time.monotonic() < until
        time.sleep(0.01)
    drawn = threading.Event()

    def other() -> None:
        with common.at_the_desk():
            drawn.set()

    drawing(other)
    assert drawn.wait(10)
    go_on.set()


def test_a_page_that_fails_or_is_stopped_leaves_the_desk(drawing: Any) -> None:
    class Stopped(BaseException):
        """Like what Streamlit ends a run with."""

    def page(failure: type[BaseException], away: bool) -> None:
        try:
            with common.at_the_desk():
                if away:
                    with common.away_from_the_desk():
                        raise failure
                raise failure
        except failure:
            pass

    for failure in (ValueError, Stopped):
        for away in (False, True):
            drawing(lambda failure=failure, away=away: page(failure, away))
