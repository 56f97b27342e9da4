"""The page that makes a report, and opens one again."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from test_app import chosen, compute_all, saying, texts, visit
from test_report import Page

import commands
from app_pages import common
from models import load_model
from models.samples import read_sample
from vizcore.heatmaps import HEATMAP_METHODS
from vizcore.photos import open_photo
from vizcore.report import Wish, gather
from vizcore.report_file import read_report, to_html


def the_file(app: AppTest) -> bytes:
    """What the page offers to download."""
    assert [button for button in app.get("download_button") if button.proto.label == "Download the report"]
    (made,) = [found for key, (found, _, _) in common.results()._items.items() if key[0] == "report"]
    page: bytes = made.page
    return page


def opened(app: AppTest, data: bytes, name: str = "a report.html") -> AppTest:
    app.file_uploader(key="report_file").set_value((name, data, "text/html")).run()
    assert not app.exception
    return app


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    common.results().clear()


@pytest.fixture(scope="module")
def saved() -> bytes:
    """A report of another class and other methods than those that are chosen at first."""
    model = load_model("photonet")
    photo = open_photo(read_sample("rocket"))
    ship, airplane = model.labels.index("ship"), model.labels.index("airplane")
    wish = Wish((ship, airplane), ("layer_cam", "gradient"), "act3", "signed", ("agreement",), seed=7)
    return to_html(gather(model, photo, wish, title="my rocket.jpg"))


def test_the_report_shows_its_price_first_and_holds_what_the_page_says() -> None:
    app = visit("report", model="PhotoNet")
    saying(app, "passes, at most")
    compute_all(app)
    page = the_file(app)
    again = read_report(page)
    here = chosen(app)
    assert again.wish.targets == (here.target,)
    assert again.wish.methods == ("grad_cam", "hires_cam")
    assert open_photo(again.picture).digest == here.digest
    text = Page(page).text
    assert here.origin in text
    saying(app, "outside of the frame")
    saying(app, f"{len(page) / 1e6:.1f} MB, one file")


def test_other_wishes_are_other_reports_and_the_first_is_kept() -> None:
    app = compute_all(visit("report", model="PhotoNet", report_evidence="Other methods"))
    app.button_group(key="report_methods").set_value(["grad_cam", "gradient"]).run()
    assert [button.key for button in app.button if str(button.key).startswith("compute")] == ["compute report"]
    app.button_group(key="report_methods").set_value(["grad_cam", "hires_cam"]).run()
    assert not [button.key for button in app.button if str(button.key).startswith("compute")]


def test_the_command_line_that_the_page_shows_makes_the_same_maps(tmp_path: Path) -> None:
    app = compute_all(visit("report", model="PhotoNet", report_evidence="Other methods"))
    (line,) = [code.value for code in app.code if code.value.startswith("python -m vizcore")]
    (tmp_path / "photo.png").write_bytes(read_sample("cat"))
    words = [word.replace("PHOTO", str(tmp_path / "photo.png")) for word in shlex.split(line)[3:]]
    words[-1] = str(tmp_path / "report.html")
    assert commands.main(words) == 0
    other, mine = read_report((tmp_path / "report.html").read_bytes()), read_report(the_file(app))
    assert other.wish == mine.wish
    assert (other.model, other.weights) == (mine.model, mine.weights)


def test_without_a_method_or_with_too_many_maps_the_page_says_what_to_choose() -> None:
    app = visit("report", model="PhotoNet")
    app.button_group(key="report_methods").set_value([]).run()
    saying(app, "Choose a method")
    app.button_group(key="report_methods").set_value(list(HEATMAP_METHODS)).run()
    app.multiselect(key="report_classes").set_value(["dog", "frog"]).run()
    saying(app, "24 maps at most")


def test_a_report_opened_again_restores_network_picture_class_and_controls(saved: bytes) -> None:
    app = opened(visit("report"), saved)
    here, wanted = chosen(app), read_report(saved)
    assert (here.model.name, here.title) == ("photonet", "my rocket.jpg")
    assert here.digest == open_photo(read_sample("rocket")).digest
    assert here.label(here.target) == "ship"
    saying(app, "is the current picture now")
    assert app.button_group(key="report_methods").value == ["layer_cam", "gradient"]
    assert app.multiselect(key="report_classes").value == ["airplane"]
    assert app.selectbox(key="report_layer").value == wanted.wish.layer
    assert app.button_group(key="report_evidence").value == ["agreement"]
    assert app.number_input(key="report_seed").value == 7
    compute_all(app)
    assert read_report(the_file(app)).wish == wanted.wish
    app.switch_page("app_pages/heatmaps.py").run()
    assert not app.exception
    assert app.button_group(key="methods").value == ["layer_cam"]
    assert app.button_group(key="methods_by_pixel").value == ["gradient"]
    assert app.multiselect(key="classes").value == ["ship", "airplane"]
    assert app.selectbox(key="cam_layer").value == wanted.wish.layer


def test_the_maps_of_a_report_made_of_an_opened_one_are_the_same_to_the_bit(saved: bytes) -> None:
    app = opened(visit("report"), saved)
    here, wish = chosen(app), read_report(saved).wish
    model, photo = load_model("photonet"), open_photo(read_sample("rocket"))
    first = gather(model, photo, wish)
    again = gather(here.model, open_photo(read_report(saved).picture), wish)
    for one, other in zip(first.findings, again.findings, strict=True):
        np.testing.assert_array_equal(one.heat.values, other.heat.values)


def test_what_was_opened_can_be_changed_and_does_not_come_back(saved: bytes) -> None:
    app = opened(visit("report"), saved)
    app.selectbox(key="class").set_value("frog").run()
    assert chosen(app).label(chosen(app).target) == "frog"
    app.button_group(key="report_methods").set_value(["cam"]).run()
    assert app.button_group(key="report_methods").value == ["cam"]


@pytest.mark.parametrize(
    "data", [b"", b"<html>no report</html>", b"\xff\xfe", b"<html" * 1000], ids=["empty", "html", "no text", "broken"]
)
def test_what_is_no_report_is_refused_in_a_sentence_and_nothing_changes(data: bytes) -> None:
    app = visit("report")
    before = chosen(app)
    opened(app, data or b" ")
    assert "report of CNN Lens" in app.error[0].value
    assert (chosen(app).digest, chosen(app).target) == (before.digest, before.target)


def test_a_report_with_a_damaged_picture_is_refused_and_nothing_changes(saved: bytes) -> None:
    app = visit("report")
    before = chosen(app)
    start = saved.index(b";base64,") + 8
    damaged = saved[: start + 400] + b"A" * 4000 + saved[start + 4400 :]
    opened(app, damaged)
    assert app.error
    assert (chosen(app).model.name, chosen(app).digest) == (before.model.name, before.digest)


def test_a_report_of_a_network_that_is_not_here_shows_its_picture_and_says_so(saved: bytes) -> None:
    app = opened(visit("report"), saved.replace(b'"model": "photonet"', b'"model": "somebodys"'))
    saying(app, "is none of the catalogue")
    assert chosen(app).title == "my rocket.jpg"
    assert chosen(app).model.name == "efficientnet_lite0"


def test_other_weights_than_those_of_the_report_are_named(saved: bytes) -> None:
    digest = read_report(saved).weights
    app = opened(visit("report"), saved.replace(digest.encode(), b"0" * 64))
    saying(app, "others than those of the report")
    assert not [text for text in texts(opened(visit("report"), saved)) if "others than those" in text]


def test_a_report_of_an_untrained_network_restores_it_untrained() -> None:
    model = load_model("zfnet", weights=None)
    page = to_html(gather(model, open_photo(read_sample("cat")), Wish((3,), ("grad_cam",), evidence=())))
    app = opened(visit("report"), page)
    assert chosen(app).model.name == "zfnet"
    assert chosen(app).model.weights is None
    assert not [text for text in texts(app) if "others than those" in text]


def test_names_in_a_report_are_text() -> None:
    wild, model = "**bold** <b>x</b> $y$ :red[z]", load_model("photonet")
    page = to_html(gather(model, open_photo(read_sample("rocket")), Wish((3,), evidence=()), title=wild))
    app = opened(visit("report"), page)
    assert common.plain(wild) in saying(app, "is the current picture now")
    assert chosen(app).title == wild


def test_of_many_classes_as_many_are_chosen_as_a_page_shows_and_that_is_said() -> None:
    model, targets = load_model("photonet"), tuple(range(9))
    page = to_html(gather(model, open_photo(read_sample("cat")), Wish(targets, ("grad_cam",), evidence=())))
    app = opened(visit("report"), page)
    saying(app, "Of its 9 classes the first 6 are chosen")
    assert app.multiselect(key="report_classes").value == list(model.labels[1:6])
    app.switch_page("app_pages/heatmaps.py").run()
    assert not app.exception
    assert app.multiselect(key="classes").value == list(model.labels[:6])


def test_a_report_that_names_things_twice_is_opened_as_if_it_named_them_once(saved: bytes) -> None:
    twice = saved.replace(b'["layer_cam", "gradient"]', b'["layer_cam", "gradient", "layer_cam"]')
    twice = twice.replace(b'["ship", "airplane"]', b'["ship", "airplane", "ship"]')
    assert twice.count(b'"layer_cam"') == 2
    app = opened(visit("report"), twice)
    assert app.button_group(key="report_methods").value == ["layer_cam", "gradient"]
    app.switch_page("app_pages/heatmaps.py").run()
    assert not app.exception
