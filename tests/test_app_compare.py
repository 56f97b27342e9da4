"""The page that puts two networks, two pictures or two layers side by side."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest
from test_app import HOSTILE, as_markdown_shows, chosen, compute_all, saying, texts, visit
from test_takeaway import results_of, scripts
from torch.nn import functional as F

from app_pages import beside, common, memory, takeaway, views
from app_pages.explained import Explained
from app_pages.line import LONG
from app_pages.networks import NoRoom
from models import list_models, load_model
from models.samples import read_sample
from vizcore.cam import cam
from vizcore.colour import to_colours
from vizcore.heatmaps import quantity_of, scale_of
from vizcore.images import prepare, read_image
from vizcore.records import Heatmap
from vizcore.words import describe

KINDS = ("Another network", "Another picture", "Another layer")


def compare(kind: str, model: str = "PhotoNet", method: str = "Grad-CAM", **query: str) -> AppTest:
    app = visit("compare", model=model, compare_with=kind, compare_method=method, **query)
    assert not app.exception
    assert not app.error
    return app


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """The pictures that the page shows from now on, by their alternative text."""
    shown: dict[str, np.ndarray] = {}
    show = views.show_picture

    def keep(picture: bytes, alt: str, *arguments: Any, **options: Any) -> None:
        shown[alt] = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
        show(picture, alt, *arguments, **options)

    monkeypatch.setattr(views, "show_picture", keep)
    return shown


def headings(app: AppTest) -> list[str]:
    return [as_markdown_shows(heading.value) for heading in app.subheader]


# ---- the three kinds -----------------------------------------------------------------------------------------------


def test_another_network_sees_the_same_photo() -> None:
    app = compare("Another network", "EfficientNet-Lite0", compare_model="PhotoNet")
    assert headings(app) == ["EfficientNet-Lite0", "PhotoNet"]
    model = load_model("photonet")
    scores = model.logits(prepare(read_image(read_sample("cat")), model).pixels)[0]
    saying(app, f"**{model.labels[int(scores.argmax())]}**")
    bars = [as_markdown_shows(bar.proto.text) for bar in app.progress]
    assert len(bars) == 10
    assert f"{100 * float(scores.softmax(0).max()):.1f} %" in bars[5]
    assert chosen(app).model.title == "EfficientNet-Lite0", "the sidebar's stays"


def test_another_picture_is_asked_about_the_same_class_and_has_no_order_of_places_in_common() -> None:
    app = compare("Another picture", **{"class": "frog"}, compare_picture="Coffee")
    assert headings(app) == ["Cat", "Coffee"]
    model = load_model("photonet")
    pixels = prepare(read_image(read_sample("coffee")), model).pixels
    chance = float(model.logits(pixels).softmax(1)[0, model.labels.index("frog")])
    saying(app, common.plain(f"Grad-CAM of frog, probability {100 * chance:.1f} %"))
    assert not any("rank correlation" in text for text in texts(app))


def test_another_layer_is_that_of_the_same_network_and_the_correlation_is_spearmans() -> None:
    app = compare("Another layer", compare_layer="act4", compare_with_layer="act2")
    assert [heading.split(",")[0] for heading in headings(app)] == ["act4", "act2"]
    here = chosen(app)
    left, top, right, bottom = here.view.box  # the photo is shown as large as it is
    one, other = (
        F.interpolate(
            torch.from_numpy(cam(here.model, here.view.pixels, here.target, "grad_cam", layer).values)[None, None],
            size=(bottom - top, right - left),
            mode="bilinear",
        ).numpy()
        for layer in ("act4", "act2")
    )
    rank = float(scipy.stats.spearmanr(one.flatten(), other.flatten()).statistic)
    said = saying(app, "rank correlation").replace("−", "-")
    assert float(said.split("**")[1]) == pytest.approx(rank, abs=0.0051)


def test_without_asking_the_other_layer_has_another_size() -> None:
    for model in ("PhotoNet", "LeNet-5", "EfficientNet-Lite0"):
        first, second = headings(compare("Another layer", model))
        assert first.split(", ")[1] != second.split(", ")[1]


def test_a_digit_is_compared_with_digits_and_first_with_another_network_of_digits() -> None:
    app = compare("Another picture", "LeNet-5", digit="Digit 7")
    assert all("Digit" in name or name == beside.OWN for name in app.selectbox(key="compare_picture").options)
    assert "Digit 7" not in app.selectbox(key="compare_picture").options
    app = compare("Another network", "LeNet-5", digit="Digit 7")
    assert headings(app) == ["LeNet-5", "Spatial-transformer LeNet"]
    saying(app, "Both maps are of **7**")


def test_a_photo_is_turned_grey_for_a_network_of_digits_and_that_is_said() -> None:
    app = compare("Another network", compare_model="LeNet-5")
    saying(app, common.plain("sees 28 × 28 pixels, in grey"))
    saying(app, "LeNet\\-5 has no class **cat**")


def test_each_map_is_put_into_words() -> None:
    app = compare("Another picture", compare_picture="Coffee")
    here = chosen(app)
    coffee = beside.by_picture(here, beside.picture_of(next(s for s in beside.list_samples() if s.key == "coffee")))
    for there in (here, coffee):
        explained = Explained(there, "grad_cam", here.model.layers["cam"], "absolute")
        saying(app, common.plain(str(describe(explained.in_place(), quantity_of(explained.heat())))))


# ---- one scale -----------------------------------------------------------------------------------------------------


def test_on_one_scale_the_same_number_has_the_same_colour_on_both_sides(drawn: dict[str, np.ndarray]) -> None:
    app = compare("Another picture", method="Gradient", compare_picture="Coffee")
    pictures = [picture for alt, picture in drawn.items() if alt.startswith("On the")]
    here = chosen(app)
    coffee = beside.by_picture(here, beside.picture_of(next(s for s in beside.list_samples() if s.key == "coffee")))
    heats = [Explained(there, "gradient", "", "absolute").heat() for there in (here, coffee)]
    high = max(float(np.quantile(heat.values, 0.99, method="higher")) for heat in heats)
    assert high == pytest.approx(scale_of(*heats).high, rel=0.05)
    for there, heat, picture in zip((here, coffee), heats, pictures, strict=True):
        left, top, right, bottom = views.shown(there)[1]
        grid = torch.from_numpy(heat.values)[None, None]
        values = F.interpolate(grid, size=(bottom - top, right - left), mode="bilinear")[0, 0].numpy()
        assert np.array_equal(picture[top:bottom, left:right], to_colours(values, scale_of(*heats)))


def test_one_scale_has_one_bar_and_each_its_own_has_two(drawn: dict[str, np.ndarray]) -> None:
    app = compare("Another layer", compare_layer="act4", compare_with_layer="block2")
    assert len([alt for alt in drawn if alt.startswith("Colours from")]) == 1
    saying(app, "The map on the right is faint here")
    drawn.clear()
    app.button_group(key="compare_scale").set_value("each its own").run()
    assert len([alt for alt in drawn if alt.startswith("Colours from")]) == 2
    assert not any("is faint here" in text for text in texts(app))


def test_on_one_scale_what_is_faint_reaches_the_share_that_is_said() -> None:
    app = compare("Another layer", compare_layer="act4", compare_with_layer="block2")
    here = chosen(app)
    strong, weak = (
        cam(here.model, here.view.pixels, here.target, "grad_cam", layer).values for layer in ("act4", "block2")
    )
    saying(app, common.plain(f"{100 * weak.max() / strong.max():.2g} % of the shared scale"))


# ---- the class -----------------------------------------------------------------------------------------------------


def test_the_class_of_the_same_name_is_found_though_it_stands_elsewhere_and_twice() -> None:
    def at(labels: tuple[str, ...], target: int) -> Any:
        return SimpleNamespace(target=target, label=lambda k: labels[k])

    scores = np.array([0.0, 3.0, 1.0, 2.0], np.float32)
    assert beside.class_beside(at(("cat", "dog"), 0), ("dog", "owl", "cat", "fox"), scores) == 2
    assert beside.class_beside(at(("owl", "crane", "fox", "crane"), 3), ("owl", "crane", "fox", "crane"), scores) == 3
    assert beside.class_beside(at(("bird", "ship"), 1), ("dog", "owl", "cat", "fox"), scores) == 1, "its own top class"


def test_both_networks_of_imagenet_are_asked_about_the_class_of_the_sidebar() -> None:
    app = compare("Another network", "EfficientNet-Lite0", **{"class": "lynx"}, compare_model="EfficientNet-Lite1")
    saying(app, "Both maps are of **lynx**")
    assert sum("Grad\\-CAM of lynx, probability" in text for text in texts(app)) == 2


# ---- links, costs, refusals ----------------------------------------------------------------------------------------


def test_a_link_brings_the_whole_comparison_back() -> None:
    app = compare(
        "Another layer",
        method="HiResCAM",
        compare_layer="act2",
        compare_with_layer="act3",
        compare_scale="each its own",
        compare_blend="0.3",
        **{"class": "frog"},
    )
    assert app.button_group(key="compare_with").value == "Another layer"
    assert app.selectbox(key="compare_method").value == "hires_cam"
    assert (app.selectbox(key="compare_layer").value, app.selectbox(key="compare_with_layer").value) == ("act2", "act3")
    assert app.button_group(key="compare_scale").value == "each its own"
    assert app.slider(key="compare_blend").value == 0.3
    saying(app, "Both maps are of **frog**")
    assert [heading.split(",")[0] for heading in headings(app)] == ["act2", "act3"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"compare_layer": "blocks.3"}, "asks for the layer “blocks.3”"),
        ({"compare_model": "nothing"}, "asks for the model “nothing”"),
        ({"compare_picture": "nowhere"}, "asks for the picture “nowhere”"),
    ],
)
def test_a_link_to_what_is_not_there_says_so(query: dict[str, str], words: str) -> None:
    app = visit(model="LeNet-5", **query)
    assert words in as_markdown_shows(saying(app, "The link asks"))
    app.switch_page("app_pages/compare.py").run()
    assert not app.exception


def test_a_costly_method_waits_behind_its_price_on_each_side(drawn: dict[str, np.ndarray]) -> None:
    app = compare("Another picture", "LeNet-5", "Score-CAM")
    assert sum("with a frame" in alt and alt.startswith("On the") for alt in drawn) == 2, "the photos are there already"

    def waiting() -> list[str]:
        return [str(button.key) for button in app.button if str(button.key).startswith("compute")]

    assert waiting() == ["compute left", "compute right"]
    saying(app, "passes, about")
    assert not app.code
    app.button(key="compute left").click().run()
    assert waiting() == ["compute right"]
    assert len(app.code) == 1
    compute_all(app)
    assert len(app.code) == 2


def test_what_one_network_does_not_allow_is_said_on_its_side_and_the_other_is_shown() -> None:
    app = compare("Another network", "LeNet-5", "CAM", compare_model="PhotoNet")
    assert len(app.info) == 1
    assert len(app.code) == 1


def test_an_untrained_network_is_compared_as_well_and_said_to_be_one() -> None:
    app = visit("compare", model="ResNet-18", untrained="true", compare_model="EfficientNet-Lite0")
    assert not app.exception
    assert "untrained" in app.warning[0].value
    assert len(app.code) == 2


def test_a_method_of_the_whole_network_has_no_other_layer() -> None:
    app = compare("Another layer", method="Gradient")
    assert "no layer to change" in app.info[0].value
    assert not app.code


def test_a_network_for_which_there_is_no_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    find = common.model_named

    def find_few(name: str, untrained: bool = False) -> Any:
        if name == "efficientnet_lite1":
            raise NoRoom("EfficientNet-Lite1 takes 22 MB; this server has 20 MB for networks.")
        return find(name, untrained)

    monkeypatch.setattr(common, "model_named", find_few)
    app = compare("Another network", "EfficientNet-Lite0", compare_model="EfficientNet-Lite1")
    assert "22 MB" in as_markdown_shows(app.info[0].value)
    app.selectbox(key="compare_model").set_value("photonet").run()
    assert headings(app) == ["EfficientNet-Lite0", "PhotoNet"]


def test_where_no_other_network_is_at_hand_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "list_models", lambda: tuple(card for card in list_models() if card.name == "photonet"))
    app = compare("Another network")
    assert "No other network" in app.info[0].value


def test_beside_random_weights_stand_the_trained_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "lenet5" not in beside.networks_beside(SimpleNamespace(loaded=load_model("lenet5")))  # type: ignore[arg-type]
    untrained = SimpleNamespace(loaded=load_model("lenet5", weights=None))
    assert next(iter(beside.networks_beside(untrained))) == "lenet5"  # type: ignore[arg-type]


def test_memory_is_reckoned_by_the_network_that_is_asked() -> None:
    tensor = torch.zeros((memory.SMALL_MB + 1) * memory.MB // 4)
    large: Any = SimpleNamespace(loaded=SimpleNamespace(net=SimpleNamespace(parameters=lambda: [tensor])))
    small = common.room_for(LONG)
    with common.looking_at(large):
        assert common.room_for(LONG) == memory.for_turn(tensor.nbytes) > small
    assert common.room_for(LONG) == small


# ---- a photo of one's own ------------------------------------------------------------------------------------------


def test_a_photo_of_ones_own_stands_beside_the_other_and_its_name_is_text() -> None:
    app = compare("Another picture", compare_picture=beside.OWN)
    assert "Bring a photo" in app.info[0].value
    app.file_uploader(key="compare_upload").set_value((HOSTILE + ".png", read_sample("coffee"), "image/png")).run()
    assert not app.exception
    assert headings(app)[0] == "Cat"
    assert app.subheader[1].value == common.plain(f"{HOSTILE}.png")
    assert chosen(app).title == "Cat"
    app.file_uploader(key="compare_upload").set_value(("bad.png", b"no picture", "image/png")).run()
    assert not app.exception
    assert app.error
    assert app.subheader[1].value == common.plain(f"{HOSTILE}.png"), "the one before it stays"


# ---- what is taken away --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "method"), [(KINDS[0], "Grad-CAM"), (KINDS[1], "Gradient"), (KINDS[2], "HiResCAM")])
def test_the_python_of_each_side_gives_what_is_on_the_page(
    kind: str, method: str, drawn: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    heats: list[Heatmap] = []
    offer = takeaway.offer_heatmap

    def keep(here: common.Chosen, heat: Heatmap, *arguments: Any) -> None:
        heats.append(heat)
        offer(here, heat, *arguments)

    monkeypatch.setattr(takeaway, "offer_heatmap", keep)
    app = compare(kind, method=method)
    pictures = [picture for alt, picture in drawn.items() if alt.startswith("On the")]
    made = [results_of(script) for script in scripts(app, "overlay(")]
    assert len(made) == len(pictures) == len(heats) == 2
    assert not np.array_equal(heats[0].values, heats[1].values)
    for names, heat, picture in zip(made, heats, pictures, strict=True):
        assert np.allclose(names["heat"].values, heat.values, rtol=1e-4, atol=1e-6)
        if names["photo"].shape == picture.shape:  # shown as it is, neither enlarged nor reduced
            assert np.abs(names["picture"].astype(int) - picture).max() <= 8, "a step of the colours"
