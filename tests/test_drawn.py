"""Pictures are drawn once for whoever asks for the same, and never taken for one another."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_app import visit

from app_pages import common
from vizcore import images
from vizcore.images import Scale


@pytest.fixture(autouse=True)
def nothing_drawn() -> Iterator[None]:
    common.pictures().clear()
    yield
    common.pictures().clear()


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of the files that were made of pictures since."""
    made: list[str] = []
    encode: Callable[..., bytes] = images._encode

    def counted(picture: np.ndarray, kind: str, **options: Any) -> bytes:
        made.append(kind)
        return encode(picture, kind, **options)

    monkeypatch.setattr(images, "_encode", counted)
    return made


def test_equal_arguments_are_drawn_once_and_any_difference_anew() -> None:
    drawn: list[tuple[Any, ...]] = []

    def draw(*arguments: Any, **options: Any) -> int:
        drawn.append(arguments)
        return len(drawn)

    values, scale = np.zeros((900, 900), np.float32), Scale(0.0, 1.0)
    first = common.drawn(draw, values, scale, 0.6)
    assert common.drawn(draw, values.copy(), Scale(0.0, 1.0), 0.6) == first
    other = values.copy()
    other[451, 17] = 1e-7  # one number of 810,000
    differing: list[tuple[Any, ...]] = [
        (other, scale, 0.6),
        (values.reshape(450, 1800), scale, 0.6),
        (values.view(np.int32), scale, 0.6),
        (values, Scale(-1.0, 1.0), 0.6),
        (values, scale, 0.7),
        (values, [scale], 0.6),
        (values, scale),
    ]
    assert len({first, *(common.drawn(draw, *arguments) for arguments in differing)}) == 1 + len(differing)
    assert common.drawn(draw, values, scale, alpha=0.6) == len(drawn) == 2 + len(differing)
    assert common.drawn(lambda *_: -1, values, scale, 0.6) == -1


def test_what_was_drawn_longest_ago_goes_first_and_all_goes_when_memory_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = common.Results(1000)
    monkeypatch.setattr(common, "pictures", lambda: few)
    for name in "abc":
        common.kept(name, lambda: b"1" * 400)
    assert few.get("a") is None
    assert few.get("c") is not None
    common.let_go()
    assert few.get("c") is None


@pytest.mark.parametrize("page", ["overview", "layers", "heatmaps"])
def test_a_page_that_is_seen_again_draws_nothing_again(page: str, drawings: list[str]) -> None:
    app = visit(page, model="LeNet-5", digit="Digit 7")
    assert not app.exception
    assert drawings
    drawings.clear()
    app.run()
    assert drawings == []
    other = visit(page, model="LeNet-5", digit="Digit 4")
    assert not other.exception
    assert drawings


def test_the_sheet_that_can_be_clicked_is_the_file_that_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from app_pages import clickable, views

    values = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    sheet = views.sheet(images.montage, values, Scale(0.0, 11.0), columns=2, tile=4, gap=1)
    whole = images.montage(values, Scale(0.0, 11.0), columns=2, tile=4, gap=1)
    shown: dict[str, Any] = {}
    monkeypatch.setattr(clickable, "_clickable", lambda **given: shown.update(given["data"]))
    clickable.show(sheet.file, sheet.size, "maps", "key", lambda down, right: None)
    file = BytesIO(base64.b64decode(shown["picture"].removeprefix("data:image/png;base64,")))
    np.testing.assert_array_equal(np.asarray(Image.open(file)), whole.picture)
    assert shown["ratio"] == f"{whole.picture.shape[1]} / {whole.picture.shape[0]}"
    assert sheet.size == whole.picture.shape[:2]
    assert [sheet.layout.index_at(x, 7) for x in range(12)] == [whole.index_at(x, 7) for x in range(12)]
