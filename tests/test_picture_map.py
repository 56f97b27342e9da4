"""The map of pictures: what goes to the browser, and what is believed of what comes back."""

from __future__ import annotations

import base64
import io
import math
import re

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from app_pages import picture_map
from app_pages.picture_map import CELLS, Atlas, Selection, atlas_of, cut, selection

RNG = np.random.default_rng(0)


def sheet_of(atlas: Atlas) -> Image.Image:
    kind, _, packed = atlas.uri.partition(";base64,")
    assert kind == "data:image/webp"
    return Image.open(io.BytesIO(base64.b64decode(packed)))


@pytest.mark.parametrize("count", [1, 2, 7, 10])
def test_each_picture_is_found_again_in_the_sheet_of_thumbnails_whole_and_in_its_middle(count: int) -> None:
    colours = RNG.integers(40, 216, (count, 3))
    sizes = [(30 + 7 * k, 96 - 5 * k) for k in range(count)]  # upright and lying
    pictures = [np.full((*size, 3), colour, np.uint8) for size, colour in zip(sizes, colours, strict=True)]
    atlas = atlas_of(pictures)
    assert sheet_of(atlas).size[0] == math.ceil(math.sqrt(count)) * atlas.cell
    for (height, width), colour, tile in zip(sizes, colours, cut(atlas, range(count)), strict=True):
        assert tile.shape == (atlas.cell, atlas.cell, 3)
        assert np.abs(tile[atlas.cell // 2, atlas.cell // 2].astype(int) - colour).max() < 12
        corner = tile[0, 0].astype(int)
        if height != width:
            assert np.abs(corner - 128).max() < 12, "what is beside the picture is grey"


def test_small_pictures_are_not_enlarged_and_many_take_less_room_each() -> None:
    digits = [RNG.integers(0, 256, (28, 20, 3), dtype=np.uint8)] * 3
    assert atlas_of(digits).cell == 28
    many = [RNG.integers(0, 256, (80, 80, 3), dtype=np.uint8)] * (CELLS[0][0] + 1)
    assert atlas_of(many).cell == CELLS[1][1]


def shown(points: np.ndarray, **options: object) -> dict[str, object]:
    """What the browser is given."""
    given: dict[str, object] = {}

    def keep(*, key: str, data: dict[str, object], **callbacks: object) -> dict[str, object]:
        given.update(data)
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture_map, "_map", keep)
        labels = [f"class {k % 3}" for k in range(len(points))]
        picture_map.show(points, labels, labels, title="A map", key="a", **options)  # type: ignore[arg-type]
    return given


def places(data: dict[str, object]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(str(data["points"])), np.uint16).reshape(-1, 2) / 65535


def test_both_axes_have_one_unit_up_is_up_and_all_points_are_inside() -> None:
    points = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 5.0], [-3.0, 2.0]], np.float32)
    seen = places(shown(points))
    assert seen.min() > 0.01
    assert seen.max() < 0.99
    right, up = seen[1] - seen[0], seen[2] - seen[0]
    assert right[0] > 0
    assert right[1] == 0
    assert up[1] < 0, "rows of a screen count from the top"
    assert right[0] == pytest.approx(-2 * up[1], rel=1e-3)


def test_points_that_all_lie_in_one_place_are_in_the_middle() -> None:
    np.testing.assert_allclose(places(shown(np.full((4, 2), 7.0, np.float32))), 0.5, atol=1e-4)


def test_a_further_picture_is_marked_in_the_frame_of_the_others() -> None:
    points = RNG.normal(size=(20, 2)).astype(np.float32)
    data = shown(points, mark=picture_map.Mark(points[3], [1, 2], [4]))
    marks = data["marks"]
    assert isinstance(marks, dict)
    np.testing.assert_allclose(marks["place"], places(data)[3], atol=1e-4)
    assert (marks["kept"], marks["lost"]) == ([1, 2], [4])


def test_opacity_and_classes_are_those_of_the_rows() -> None:
    opacity = np.array([0.0, 0.25, 1.0, 0.5])
    data = shown(RNG.normal(size=(4, 2)), opacity=opacity)
    sent = np.frombuffer(base64.b64decode(str(data["opacity"])), np.uint8)
    np.testing.assert_allclose(sent / 255, opacity, atol=0.002)
    numbers = np.frombuffer(base64.b64decode(str(data["labels"])), np.uint16)
    assert [data["classes"][k] for k in numbers] == [f"class {k % 3}" for k in range(4)]  # type: ignore[index]


@pytest.mark.parametrize(
    ("picked", "lassoed", "wanted"),
    [
        (3, [4, 0, 4], Selection((0, 4), 3)),
        (None, None, Selection()),
        (5, [5, -1, 2], Selection((2,), None)),
        (True, [True, 1], Selection((1,), None)),
        ("3", "12", Selection()),
        (2.0, [2.0, [1], None], Selection()),
        ([1], {"0": 1}, Selection()),
    ],
)
def test_rows_of_the_map_are_believed_and_nothing_else(picked: object, lassoed: object, wanted: Selection) -> None:
    assert selection(picked, lassoed, 5) == wanted


def test_names_from_strangers_are_put_on_the_page_as_text_only() -> None:
    script = (picture_map.Path(picture_map.__file__).with_suffix(".js")).read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script)


def test_the_map_is_an_element_of_the_page() -> None:
    def page() -> None:
        import numpy as np

        from app_pages import picture_map

        picture_map.show(np.eye(2), ["a", "b"], ["a", "b"], title="A map", key="a")

    app = AppTest.from_function(page).run()
    assert not app.exception
