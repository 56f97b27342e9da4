"""The page "Hide" without a browser: what is painted and clicked, what is found, and what is taken away."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest
from test_app import (
    HOSTILE,
    answers_with_numbers,
    as_markdown_shows,
    assert_clean,
    chosen,
    no_weights_of_the_loader,  # noqa: F401 - a fixture
    stopped_in_the_middle,
    texts,
    visit,
)

from app_pages import common, painting
from app_pages.before_after import chance, classes_of, percent
from app_pages.painting import Paint, Painting, Stroke
from app_pages.sidebar import Picture
from vizcore.baselines import BASELINES
from vizcore.export import to_npz
from vizcore.hiding import CellGrid, covered, hide, smallest_hiding
from vizcore.images import Photo, read_image

CHANCE = r"(?:over |under )?[\d.]+ %"
MOUTH = [(5, 3), (5, 4), (6, 3)]


def paint_of(app: AppTest) -> Painting:
    """The paint on the picture that is shown now."""
    return next(reversed(app.session_state["paintings"].values()))


def rows_of(app: AppTest) -> dict[str, tuple[str, str]]:
    """The classes of the chart with their probabilities before and after, as a screen reader says them."""
    (chart,) = app.get("vega_lite_chart")
    words = chart.proto.alt.removeprefix("Probabilities before and after: ").replace("\u00a0", " ")
    found = [re.fullmatch(rf"(.+?) ({CHANCE})(?: → ({CHANCE}))?", row) for row in words.split("; ")]
    assert all(found), words
    return {row[1]: (row[2], row[3] or row[2]) for row in found if row}


def said(app: AppTest, words: str) -> str:
    """The text of the page that holds ``words``, as a person reads it."""
    return next(text for text in map(as_read, texts(app)) if words in text)


def as_read(text: str) -> str:
    return as_markdown_shows(text).replace("\u00a0", " ").replace("**", "")


def full_pass(app: AppTest, mask: np.ndarray, baseline: str = "mean") -> np.ndarray:
    """(K,) probabilities by the net itself, of the picture with ``mask`` hidden."""
    here = chosen(app)
    with torch.no_grad():
        return here.model.logits(covered(here.view.pixels, mask, baseline))[0].softmax(0).numpy()


def hide_cells(app: AppTest, cells: list[tuple[int, int]]) -> AppTest:
    """As clicks on them do."""
    app.run()
    for cell in cells:
        paint_of(app).toggle(cell)
    return app.run()


STROKE = Stroke(((0.3, 0.2), (0.7, 0.3), (0.75, 0.8)), 0.2)  # right and down


def near(stroke: Stroke, size: tuple[int, int]) -> np.ndarray:
    """(h, w) bool: pixels whose middle is less than half the width away from the stroke, by the definition."""
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    away = np.full(size, np.inf)
    for (x1, y1), (x2, y2) in pairwise(np.array(stroke.points) * size[::-1]):
        along = ((columns - x1) * (x2 - x1) + (rows - y1) * (y2 - y1)) / ((x2 - x1) ** 2 + (y2 - y1) ** 2)
        share = along.clip(0, 1)
        away = np.minimum(away, np.hypot(columns - x1 - share * (x2 - x1), rows - y1 - share * (y2 - y1)))
    return away < stroke.width * max(size) / 2


# Opening


@pytest.mark.parametrize("way", ["Paint", "Smallest hiding"])
@pytest.mark.parametrize("model", ["EfficientNet-Lite0", "LeNet-5"])
def test_the_page_opens_either_way_for_either_network(model: str, way: str) -> None:
    app = visit("hiding", model=model, hide_by=way)
    assert not app.exception
    assert not app.error
    assert not app.warning
    assert app.title[0].value == "Hide"
    assert app.button_group(key="hide_by").value == way.split()[0].lower()


def test_an_untrained_network_is_said_to_be_one_and_can_be_hidden_from() -> None:
    app = hide_cells(visit("hiding", model="ResNet-18", untrained="true"), MOUTH)
    assert not app.exception
    assert "untrained" in app.warning[0].value
    assert "6 % of the picture is hidden" in said(app, "of the picture is hidden")


def test_with_nothing_hidden_the_five_classes_are_those_of_the_overview() -> None:
    app = visit("hiding")
    assert "tiger cat, 39.5 %. Nothing is hidden yet." in said(app, "Nothing is hidden")
    overview = answers_with_numbers(visit())
    assert list(rows_of(app)) == [name for name, _, _ in overview]
    for name, share, _ in overview:
        before, after = rows_of(app)[name]
        assert before == after
        assert float(before.removesuffix(" %")) == pytest.approx(share, abs=0.051)
    assert app.button(key="undo the paint").disabled
    assert app.button(key="clear the paint").disabled


def test_a_link_opens_the_same_view() -> None:
    app = visit("hiding", hide_by="Smallest hiding", hide_behind="blur", picture="Coffee")
    assert app.button_group(key="hide_behind").value == "blur"
    assert "espresso" in said(app, "The fewest cells")


# Painting


@pytest.mark.parametrize("baseline", BASELINES)
def test_the_classes_become_what_the_network_answers_without_the_hidden_cells(baseline: str) -> None:
    app = visit("hiding", hide_behind="mean colour" if baseline == "mean" else baseline)
    app = hide_cells(app, MOUTH)
    assert not app.exception
    mask = CellGrid((224, 224)).mask(MOUTH)
    before, after = full_pass(app, np.zeros_like(mask)), full_pass(app, mask, baseline)
    here, rows = chosen(app), rows_of(app)
    assert list(rows) == [here.label(k) for k in classes_of(here, before, after)]
    assert len(rows) >= 5
    for k in classes_of(here, before, after):
        for shown, value in zip(rows[here.label(k)], (before[k], after[k]), strict=True):
            assert float(shown.removeprefix("under ").removesuffix(" %")) == pytest.approx(100 * value, abs=0.11)
    assert said(app, "of the picture is hidden") == "What the network was shown. 6 % of the picture is hidden."
    now = here.label(int(after.argmax()))
    assert any(now in text and chance(after.max()) in text.replace(" ", "\u00a0") for text in map(as_read, texts(app)))


@pytest.mark.parametrize("size", [(224, 224), (28, 28), (160, 90), (41, 58)])
def test_a_stroke_hides_the_pixels_under_it_with_round_ends_and_corners(size: tuple[int, int]) -> None:
    mask, expected = Paint((STROKE,)).mask(CellGrid(size)), near(STROKE, size)
    assert mask.shape == size
    border = expected ^ np.roll(expected, 1, 0) | expected ^ np.roll(expected, 1, 1)
    assert (mask ^ expected).sum() <= border.sum() / 3, "but for the pixels that it covers in part"
    assert mask.sum() == pytest.approx(expected.sum(), rel=0.04)


def test_a_touch_is_a_dot() -> None:
    mask = Paint((Stroke(((0.5, 0.25),), 0.1),)).mask(CellGrid((100, 60)))
    rows, columns = np.nonzero(mask)
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == pytest.approx((25, 30), abs=0.6)
    assert mask.sum() == pytest.approx(np.pi * 5**2, rel=0.08)


def test_the_page_says_how_much_a_stroke_hides() -> None:
    app = visit("hiding")
    paint_of(app).take(Paint((STROKE,)))
    app.run()
    assert not app.exception
    share = percent(near(STROKE, (224, 224)).mean()).replace("\u00a0", " ")
    assert f"{share} of" in said(app, "of the picture is hidden")


def test_strokes_and_cells_are_hidden_together() -> None:
    for size in ((224, 224), (28, 28), (41, 29)):
        grid = CellGrid(size)
        stroke, cell = Paint((STROKE,)).mask(grid), Paint(cells=((6, 0),)).mask(grid)
        assert stroke.any()
        assert cell.any()
        np.testing.assert_array_equal(Paint((STROKE,), ((6, 0),)).mask(grid), stroke | cell)


def test_undo_takes_one_step_back_and_clear_all_and_clear_can_be_undone() -> None:
    app = hide_cells(visit("hiding"), MOUTH[:2])
    assert paint_of(app).now.cells == tuple(MOUTH[:2])
    app.button(key="undo the paint").click().run()
    assert paint_of(app).now.cells == tuple(MOUTH[:1])
    app.button(key="clear the paint").click().run()
    assert paint_of(app).now.is_empty
    assert "Nothing is hidden yet" in said(app, "Nothing is hidden")
    app.button(key="undo the paint").click().run()
    assert paint_of(app).now.cells == tuple(MOUTH[:1])
    assert not app.exception


def test_a_second_click_shows_a_cell_again() -> None:
    painted = Painting()
    for cell in ((1, 2), (3, 4), (1, 2)):
        painted.toggle(cell)
    assert painted.now.cells == ((3, 4),)


def mark(number: int, tool: str = "brush", at: tuple[float, float] = (0.5, 0.5)) -> dict[str, object]:
    """As the board sends it."""
    return {"id": number, "tool": tool, "width": 0.1, "points": [list(at), [0.6, 0.7]]}


def test_a_mark_that_the_board_repeats_counts_once() -> None:
    painted, grid = Painting(), CellGrid((224, 224))
    painted.hear([mark(5)], grid)
    painted.hear([mark(5), mark(6)], grid)
    painted.hear([mark(5), mark(6)], grid)
    assert len(painted.now.strokes) == 2
    painted.undo()
    painted.hear([mark(5), mark(6)], grid)
    assert len(painted.now.strokes) == 1, "what was undone stays undone"


def test_a_click_on_the_board_is_the_cell_under_it() -> None:
    painted, grid = Painting(), CellGrid((41, 29))
    painted.hear([mark(1, "cells", (0.99, 0.01)), mark(2, "cells", (0.5, 0.5)), mark(3, "cells", (0.01, 0.99))], grid)
    assert painted.now.cells == ((0, 6), (3, 3), (6, 0))
    painted.hear([mark(4, "cells", (0.52, 0.49))], grid)
    assert painted.now.cells == ((0, 6), (6, 0))
    assert not painted.now.strokes


def test_a_stroke_that_leaves_the_picture_ends_at_its_border() -> None:
    painted = Painting()
    painted.hear([mark(1, at=(-3.0, 0.5)), mark(2, at=(0.5, 9.0))], CellGrid((224, 224)))
    points = np.array([stroke.points for stroke in painted.now.strokes])
    assert points.min() == 0
    assert points.max() == 1
    painted.hear([mark(3, "cells", (1.0, 1.0))], CellGrid((224, 224)))
    assert painted.now.cells in ((), ((6, 6),))


def test_undo_has_an_end() -> None:
    painted = Painting()
    for k in range(100):
        painted.toggle((k % 7, k // 7 % 7))
    assert len(painted.before) == painting.UNDOS


def test_each_picture_keeps_its_paint_when_another_page_or_picture_was_open() -> None:
    app = hide_cells(visit("hiding"), MOUTH)
    rows = rows_of(app)
    app.selectbox(key="picture").set_value("coffee").run()
    assert paint_of(app).now.is_empty
    app.switch_page("app_pages/layers.py").run()
    app.selectbox(key="picture").set_value("cat").run()
    app.switch_page("app_pages/hiding.py").run()
    assert not app.exception
    assert rows_of(app) == rows


def test_only_the_latest_pictures_keep_their_paint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painting, "KEPT", 2)
    app = visit("hiding")
    for picture in ("coffee", "rocket", "cat"):
        app.selectbox(key="picture").set_value(picture).run()
    assert len(app.session_state["paintings"]) == 2


def test_any_class_name_is_shown_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common.Chosen, "label", lambda self, target: f"{HOSTILE}{target}")
    for way in ("Paint", "Smallest hiding"):
        app = visit("hiding", hide_by=way)
        if way == "Paint":
            app = hide_cells(app, MOUTH)
        else:
            app.button(key="find_smallest").click().run()
        assert not app.exception
        shown = [text for text in texts(app) if "onerror" in text]
        assert shown
        for text in shown:
            assert common.plain(HOSTILE) in text


# The smallest hiding


@pytest.mark.parametrize("model", ["EfficientNet-Lite0", "LeNet-5"])
def test_the_smallest_hiding_is_priced_found_and_shown_step_by_step(model: str) -> None:
    app = visit("hiding", model=model, hide_by="Smallest hiding", hide_behind="black")
    assert re.search(r"A step: \d+ passes, about .+ on this machine\. It ends .+ after 49 steps", said(app, "A step"))
    app.button(key="find_smallest").click().run()
    assert not app.exception
    here = chosen(app)
    found = smallest_hiding(here.model, here.view.pixels, baseline="black")
    before, after = here.label(found.target), here.label(int(found.answers[-1]))
    cells = f"{len(found.cells())} of 49 cells ({percent(found.mask().mean())} of the picture)".replace("\u00a0", " ")
    assert as_read(app.subheader[0].value) == f"Hiding {cells} turns {before} into {after}."
    assert f"{before} would be the answer again" in said(app, "Greedy")
    assert len(app.get("image")) + len(app.get("imgs")) == found.steps + 1
    for number, (row, column) in enumerate(found.moves.tolist(), 1):
        caption = said(app, f"{number}. Row {row + 1}, column {column + 1}")
        assert here.label(int(found.answers[number])) in caption
    assert not any(button.key == "find_smallest" for button in app.button)


def test_what_was_found_stays_when_the_page_changes_and_another_baseline_asks_again() -> None:
    app = visit("hiding", model="LeNet-5", hide_by="Smallest hiding")
    app.button(key="find_smallest").click().run()
    found = app.subheader[0].value
    app.switch_page("app_pages/overview.py").run()
    app.switch_page("app_pages/hiding.py").run()
    assert app.subheader[0].value == found
    app.button_group(key="hide_behind").set_value("white").run()
    assert not app.subheader
    assert any(button.key == "find_smallest" for button in app.button)


def test_the_cells_that_were_found_can_be_opened_under_paint() -> None:
    app = visit("hiding", model="LeNet-5", hide_by="Smallest hiding", digit="Digit 7")
    app.button(key="find_smallest").click().run()
    here = chosen(app)
    found = smallest_hiding(here.model, here.view.pixels)
    rows = rows_of(app)
    next(button for button in app.button if "under Paint" in button.label).click().run()
    assert not app.exception
    assert paint_of(app).now.cells == tuple(found.cells())
    assert rows_of(app) == rows


def test_where_nothing_changes_the_answer_the_page_says_so_and_a_slider_shows_each_step() -> None:
    app = visit("hiding", model="LeNet-5", hide_by="Smallest hiding")
    grey = Photo.of(np.full((40, 40, 3), 90, np.uint8))
    app.session_state["pending"] = Picture(grey, "nothing but grey", "…", ())
    app.run()
    app.button(key="find_smallest").click().run()
    assert not app.exception
    answer = chosen(app).label(int(chosen(app).ranking[0]))
    assert as_read(app.subheader[0].value) == (
        f"Nothing changes the answer: with all 49 cells hidden, it is still {answer}."
    )
    found = common.recall(("smallest hiding", "LeNet-5", grey.digest, "mean"))
    (slider,) = (slider for slider in app.slider if slider.label == "Step")
    assert slider.value == 49
    slider.set_value(2).run()
    assert f"2. Row {1 + found.moves[1][0]}, column {1 + found.moves[1][1]}" in said(app, "2. Row")


def test_a_search_that_is_stopped_leaves_no_result_and_a_page_that_works() -> None:
    app = visit("hiding", model="LeNet-5", hide_by="Smallest hiding", digit="Digit 4")
    with stopped_in_the_middle() as moved:
        app.button(key="find_smallest").click().run()
    assert len(moved) == 2
    assert not app.exception
    assert_clean(chosen(app).model)
    assert not any("smallest hiding" in str(key) and chosen(app).digest in str(key) for key in common.results()._items)
    app.run()
    app.button(key="find_smallest").click().run()
    assert not app.exception
    assert app.subheader[0].value.startswith("Hiding ")


# What is taken away


def run(script: str) -> dict[str, object]:
    names: dict[str, object] = {"__name__": "taken away"}
    exec(compile(script, "taken away", "exec"), names)
    return names


def test_the_python_of_hidden_cells_gives_the_numbers_and_the_picture_on_the_page(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = hide_cells(visit("hiding", hide_behind="blur"), MOUTH)
    names = run(app.code[0].value)
    mask = CellGrid((224, 224)).mask(MOUTH)
    after = full_pass(app, mask, "blur")
    np.testing.assert_allclose(names["hidden"].chances[0], after, atol=1e-4)
    seen = read_image((tmp_path / "hidden.png").read_bytes())
    expected = covered(chosen(app).view.pixels, mask, "blur")[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(seen, np.rint(expected * 255))


def test_the_python_of_strokes_reads_them_from_the_file_of_numbers(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = visit("hiding", model="LeNet-5", digit="Digit 3")
    paint_of(app).take(Paint((STROKE,), ((0, 0),)))
    app.run()
    here, mask = chosen(app), paint_of(app).now.mask(CellGrid((28, 28)))
    (tmp_path / "lenet5-hidden.npz").write_bytes(to_npz(hide(here.model, here.view.pixels, mask)))
    names = run(app.code[0].value)
    np.testing.assert_allclose(names["hidden"].chances[0], full_pass(app, mask), atol=1e-5)


def test_the_python_of_the_smallest_hiding_finds_the_same_cells(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    app = visit("hiding", model="LeNet-5", digit="Digit 9", hide_by="Smallest hiding", hide_behind="white")
    app.button(key="find_smallest").click().run()
    names = run(app.code[0].value)
    here = chosen(app)
    found = smallest_hiding(here.model, here.view.pixels, baseline="white")
    assert names["found"].cells() == found.cells()
    assert str(found.cells()) in capsys.readouterr().out
    with Image.open(io.BytesIO((tmp_path / "hidden.png").read_bytes())) as seen:
        assert seen.size == (28, 28)


# Words


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0 %"), (0.0004, "0.0 %"), (0.004, "0.4 %"), (3 / 49, "6 %"), (0.5, "50 %"), (0.995, "99.5 %"), (1, "100 %")],
)
def test_a_share_is_said_in_as_many_digits_as_tell_it_from_nothing_and_from_all(share: float, words: str) -> None:
    assert percent(share) == words.replace(" ", "\u00a0")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0.0 %"),
        (1e-5, "under 0.1 %"),
        (0.0006, "0.1 %"),
        (0.3949, "39.5 %"),
        (0.99999, "over 99.9 %"),
        (1, "100.0 %"),
    ],
)
def test_a_probability_is_neither_nothing_nor_certain_unless_it_is(value: float, words: str) -> None:
    assert chance(value) == words.replace(" ", "\u00a0")


def test_classes_keep_their_places_and_new_ones_come_last() -> None:
    here = visit("overview", model="LeNet-5").session_state["chosen"]
    before, after = np.zeros(10), np.zeros(10)
    before[[3, 1, 4, 5, 9]] = 0.5, 0.2, 0.1, 0.1, 0.05
    after[[2, 6, 3]] = 0.6, 0.2, 0.1
    shown = classes_of(replace(here, target=8), before, after)
    assert shown[:6] == [3, 1, 4, 5, 9, 8]
    assert shown[6:8] == [2, 6]
    assert len(set(shown)) == len(shown)
