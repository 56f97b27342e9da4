"""What a channel looks for, on the page "Layers": pictures climbed to, and pictures of a set that excite it most."""

from __future__ import annotations

import io
import json

import numpy as np
import pictures
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest
from test_app import as_markdown_shows, chosen, saying, texts, visit
from test_contract import Cancelled

from app_pages import common, exciting, looks_for, patches, picture_sets, takeaway, views
from app_pages.patches import Seen
from models import load_model
from vizcore.export import to_npz
from vizcore.images import prepare
from vizcore.projection import projection
from vizcore.receptive_field import theoretical
from vizcore.strongest import StrongestPatches, strongest_patches

SIZE = (12, 10)  # of pictures of the small sets below


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    """Each test asks for the first time."""
    common.results().clear()


def quiet(done: int, total: int) -> None:
    pass


def asked(layer: str = "act2", channel: int = 5, **query: str) -> AppTest:
    """PhotoNet with five copies of each photo, and the strongest found."""
    app = visit("layers", model="PhotoNet", layer=layer, channel=str(channel), copies="5", **query)
    app.button(key="compute exciting").click().run()
    assert not app.exception
    return app


# ---- pictures that are climbed to ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "price", "words"),
    [
        ("unit", "128 passes forth and back, at most", "The unit's activation is"),
        ("class", "128 passes forth and back, at most", "The logit of cat is"),
        ("four", "512 passes forth and back, at most", "Its mean activation is, from the left,"),
        ("dream", "48 passes forth and back, at most", "The mean square of all values of the layer is"),
    ],
)
def test_each_objective_has_its_meaning_and_its_price_and_is_raised(kind: str, price: str, words: str) -> None:
    app = visit("layers", model="PhotoNet", layer="conv2", channel="5", looks_for=looks_for.TITLES[kind])
    here = chosen(app)
    (maps,) = views.maps_of(here, "conv2")
    wish = looks_for.Wish(here, kind, maps, 5)
    saying(app, wish.meaning)
    saying(app, price)
    app.button(key="compute looks for").click().run()
    assert not app.exception
    found = common.recall(wish.key)
    assert len(found.pictures) == (4 if kind == "four" else 1)
    assert (found.values > wish.on_photo).all()
    saying(app, words)
    saying(app, f"{views.number(wish.on_photo)} on the photo")


def test_a_unit_that_sees_less_than_the_moves_are_wide_is_not_moved() -> None:
    app = visit("layers", model="PhotoNet", layer="conv1", channel="5")
    here = chosen(app)
    wishes = {layer: looks_for.Wish(here, "unit", views.maps_of(here, layer)[0], 5) for layer in ("conv1", "conv4")}
    assert wishes["conv1"].box == theoretical(load_model("photonet"), "conv1", (16, 16))
    assert wishes["conv4"].is_moved
    small = views.maps_of(here, "conv1")[0]
    narrow = looks_for.Wish(here, "unit", small, 5)
    left, top, right, bottom = narrow.box
    assert narrow.is_moved == (min(right - left, bottom - top) > 32 / 7)
    assert "transforms=False" not in wishes["conv4"].script[1]


def test_the_lite_net_does_not_move_what_a_unit_of_its_first_layer_sees() -> None:
    app = visit("layers", layer="conv_stem", channel="5", looks_for="Unit in the middle")
    here = chosen(app)
    wish = looks_for.Wish(here, "unit", views.maps_of(here, "conv_stem")[0], 5)
    assert not wish.is_moved, "3 pixels, and moves of 16 either way"
    assert "transforms=False" in wish.script[1]
    assert looks_for.Wish(here, "channel", wish.maps, 5).is_moved


# ---- pictures of a set -----------------------------------------------------------------------------------------------


def test_they_wait_for_their_button_and_are_those_of_the_core() -> None:
    app = visit("layers", model="PhotoNet", layer="act2", channel="5", copies="5")
    saying(app, r"30 pictures\: 30 passes, about")
    assert not [text for text in texts(app) if "The strongest of" in text]
    app.button(key="compute exciting").click().run()
    assert not app.exception
    model, choice = load_model("photonet"), picture_sets.of_copies(5)
    wanted = strongest_patches(model, choice.load(quiet), "act2", channels=[5])
    saying(app, "The strongest of 30 pictures.")
    row, (place, column) = int(wanted.pictures[0, 0]), wanted.places[0, 0]
    first = views.number(float(wanted.activations[0, 0]))
    saying(app, f"Activation **{first}**, at row {place}, column {column} of the 16 × 16 map")
    left, top, right, bottom = wanted.boxes[0, 0]
    saying(app, f"{bottom - top} × {right - left} pixels of 32 × 32")
    sent = common.recall(("projections", model.title, choice.key, "act2", 5, "deconvnet"))
    pixels = prepare(choice.one(row), model).pixels
    np.testing.assert_allclose(
        sent.values[0], projection(model, pixels, "act2", 5, int(place), int(column)).values, rtol=1e-4, atol=1e-6
    )


def test_another_channel_of_the_layer_needs_no_other_pass_over_the_set(monkeypatch: pytest.MonkeyPatch) -> None:
    app = asked("act2", 5)

    def none(*args: object, **options: object) -> None:
        raise AssertionError("the set went through the net again")

    monkeypatch.setattr(exciting, "strongest_patches", none)
    app.number_input(key="channel").set_value(8).run()
    assert not app.exception
    saying(app, "The strongest of 30 pictures.")


def test_a_number_that_is_chosen_shows_its_picture_and_a_link_shows_it_again() -> None:
    app = asked("act2", 5, excited="4", projection="Gradient")
    found = common.recall(("strongest", "PhotoNet", picture_sets.of_copies(5).key, "act2")).of(5)
    saying(app, f"**{views.number(float(found.activations[0, 3]))}**, at row {found.places[0, 3, 0]}")
    saying(app, "by the plain gradient")
    app.button_group(key="excited").set_value(6).run()
    saying(app, "**Number 6: ")


def test_what_excites_a_channel_can_become_the_current_picture() -> None:
    app = asked("act2", 5)
    choice = picture_sets.of_copies(5)
    found = common.recall(("strongest", "PhotoNet", choice.key, "act2")).of(5)
    app.button(key="open the strongest").click().run()
    assert not app.exception
    assert chosen(app).digest == choice.picture(int(found.pictures[0, 0])).photo.digest


def test_a_dead_channel_is_said_to_be_dead_in_this_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_one_shut(model, gathered, layer, **options) -> StrongestPatches:
        found = strongest_patches(model, gathered, layer, **options)
        found.activations[7] = found.lowest[7] = 0.0
        return found

    monkeypatch.setattr(exciting, "strongest_patches", with_one_shut)
    app = asked("act2", 7)
    saying(app, "Channel 7 is dead in this set: it answers 0 to every place of every picture")


def test_without_a_relu_deconvnet_says_so_the_patches_stay_and_the_gradient_goes() -> None:
    app = visit("layers", model="LeNet-5", layer="conv2", channel="3", digits="200")
    app.button(key="compute exciting").click().run()
    assert not app.exception
    saying(app, "The strongest of 200 pictures.")
    saying(app, "changes what goes back through ReLUs")
    app.button_group(key="projection").set_value("gradient").run()
    assert not app.exception
    saying(app, "by the plain gradient")


def test_in_front_of_the_first_relu_the_page_says_that_a_deconvnet_is_the_plain_gradient() -> None:
    said = "No ReLU comes before “conv1”: this is the plain gradient"
    assert any(said in as_markdown_shows(text) for text in texts(asked("conv1", 5)))
    assert not any("No ReLU" in text for text in texts(asked("act2", 5)))


def test_where_a_unit_sees_the_whole_picture_that_is_said() -> None:
    app = asked("act4", 5)
    saying(app, "Here a unit sees the whole picture, so that the whole is shown")
    saying(app, "The unit sees the whole picture, 32 × 32 pixels")


def test_a_zip_of_three_has_three_patches_whatever_the_link_says() -> None:
    members = {f"{k}.png": pictures.save(pictures.scene(40 + k, 60, seed=k), "PNG") for k in range(3)}
    app = visit("layers", model="PhotoNet", layer="act2", channel="5", excited="9")
    app.button_group(key="set").set_value(picture_sets.ZIP).run()
    app.file_uploader(key="zip").set_value(("mine.zip", pictures.zip_of(members), "application/zip")).run()
    app.button(key="compute exciting").click().run()
    assert not app.exception
    saying(app, "The strongest of 3 pictures.")
    saying(app, "**Number 1: ")


def test_a_cancel_while_the_set_goes_through_the_net_keeps_nothing_and_can_be_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = chosen(visit("layers", model="PhotoNet", layer="act2", channel="5"))
    choice = picture_sets.of_copies(6)

    def cancelled(*args: object, progress, **options: object) -> None:
        raise Cancelled

    with monkeypatch.context() as patch:
        patch.setattr(exciting, "strongest_patches", cancelled)
        patch.setattr(views, "asked", lambda *args: True)
        with pytest.raises(Cancelled):
            exciting.ranked(here, choice, "act2")
    assert common.recall(("strongest", "PhotoNet", choice.key, "act2")) is None
    monkeypatch.setattr(views, "asked", lambda *args: True)
    found = exciting.ranked(here, choice, "act2")
    assert found is not None
    assert found.count == 36


def test_all_of_it_can_be_taken_away_as_figure_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    app = asked("act2", 5)
    here, choice = chosen(app), picture_sets.of_copies(5)
    found = common.recall(("strongest", "PhotoNet", choice.key, "act2")).of(5)
    seen = exciting.seen_of(here, choice, found)
    sent = exciting.projected(here, choice, seen, "deconvnet")
    offered: list[tuple] = []
    monkeypatch.setattr(takeaway, "offer", lambda *args: offered.append(args))
    assert sent is not None
    exciting.offer(here, choice, seen, sent.values, "deconvnet")
    exciting.offer(here, choice, seen, None, "deconvnet")
    for (_, _, record, figure, _, _), count in zip(offered, (9, 0), strict=True):
        with Image.open(io.BytesIO(figure())) as file:
            assert min(file.size) > 400
        archive = np.load(io.BytesIO(to_npz(record)), allow_pickle=False)
        np.testing.assert_array_equal(archive["activations"], found.activations[0])
        assert archive["projections"].shape == (count, 3, 32, 32)
        facts = json.loads(str(archive["facts"]))
        assert facts["names"][0] == choice.names[int(found.pictures[0, 0])]
        assert (facts["layer"], facts["channel"], facts["count"]) == ("act2", 5, 30)


# ---- patches as pictures ---------------------------------------------------------------------------------------------


def seen_with(*boxes: tuple[int, int, int, int]) -> Seen:
    """Pictures of random pixels, each with a box."""
    count = len(boxes)
    found = StrongestPatches(
        channels=np.array([0]),
        pictures=np.arange(count)[None],
        activations=np.linspace(2, 1, count, dtype=np.float32)[None],
        places=np.zeros((1, count, 2), int),
        boxes=np.array([boxes]),
        lowest=np.zeros(1, np.float32),
        model_name="none",
        layer="none",
        size=(3, 2),
        count=count,
        exact=True,
    )
    pixels = torch.randint(0, 256, (count, *SIZE, 3), generator=torch.Generator().manual_seed(0)).numpy()
    return Seen(found, pixels.astype(np.uint8))


def test_a_patch_lies_where_it_would_if_the_picture_went_on() -> None:
    seen = seen_with((2, 3, 7, 7), (0, 0, 3, 4), (8, 10, 10, 12), (0, 5, 4, 9))
    tiles = patches.cut(seen, seen.pixels)
    assert tiles.shape == (4, 4, 5, 3)
    np.testing.assert_array_equal(tiles[0], seen.pixels[0, 3:7, 2:7])
    np.testing.assert_array_equal(tiles[1][:, 2:], seen.pixels[1, 0:4, 0:3])
    assert (tiles[1][:, :2] == patches.PALE).all(), "it lacks columns on the left"
    np.testing.assert_array_equal(tiles[2][:2, :2], seen.pixels[2, 10:12, 8:10])
    assert (tiles[2][2:] == patches.PALE).all(), "and this one rows below"
    assert (tiles[2][:, 2:] == patches.PALE).all()
    np.testing.assert_array_equal(tiles[3][:, 1:], seen.pixels[3, 5:9, 0:4])


def test_a_place_that_sees_nothing_but_padding_is_a_pale_tile_and_says_so() -> None:
    seen = seen_with((2, 3, 7, 7), (0, 0, 0, 4))
    assert (patches.cut(seen, seen.pixels)[1] == patches.PALE).all()
    assert "nothing but padding" in exciting.words_for_box(seen, 1)
    assert "4 × 5 pixels of 12 × 10" in exciting.words_for_box(seen, 0)


def test_projections_are_coloured_on_one_scale_with_mid_grey_at_zero() -> None:
    values = np.zeros((2, 3, *SIZE), np.float32)
    values[0, 0, 2, 3], values[1, 2, 5, 4] = 4.0, -4.0
    drawn = patches.coloured(values, patches.scale_of(values))
    assert drawn[0, 2, 3].tolist() == [255, 128, 128]
    assert drawn[1, 5, 4].tolist() == [128, 128, 0]
    assert (drawn[0, 0, 0] == 128).all()
    nothing = np.zeros((1, 3, *SIZE), np.float32)
    assert (patches.coloured(nothing, patches.scale_of(nothing)) == 128).all()


def test_a_sheet_has_as_many_tiles_as_patches_and_the_chosen_one_is_marked() -> None:
    seen = seen_with(*[(2, 3, 7, 7)] * 7)
    sheet = patches.sheet_of(patches.cut(seen, seen.pixels), patches.words(seen), 4)
    assert (sheet.count, sheet.columns) == (7, 3)
    factor = patches.TILE // 5
    np.testing.assert_array_equal(
        sheet.picture[5 : 5 + factor, 5 : 5 + factor], np.full((factor, factor, 3), seen.pixels[0, 3, 2])
    )
    rim = sheet.picture[sheet.tile[0] + 5 + 2, sheet.tile[1] + 5 + 40]
    assert tuple(rim) == (0, 229, 255)
