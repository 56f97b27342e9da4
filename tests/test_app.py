"""The app without a browser: each page as Streamlit runs it, what a person sets, and what a stranger sends."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pictures
import pytest
import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import StopException
from streamlit.testing.v1 import AppTest

from app_pages import common, looks_for, occlusion_runs, views
from app_pages.occlusion_runs import Occlusion
from app_pages.pixelwise import Pixelwise
from models import load_model
from models.samples import read_sample
from vizcore.heatmaps import scale_of
from vizcore.images import prepare, read_image, to_jpeg, to_png
from vizcore.occlusion import estimate_occlusion, occlusion
from vizcore.records import ActivationMaps, BadParameter, Heatmap, Model, UnsupportedModel

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("overview", "layers", "heatmaps", "embedding", "folder")
CAT, LYNX, ESPRESSO = 282, 287, 967  # rows of ImageNet: tiger cat, lynx, espresso
HOSTILE = r"![x](http://a/b.png)<img src=x onerror=alert(1)>$x$:red[a] `c` **d** http://a.b &amp; ~e~ #f"


@pytest.fixture(autouse=True)
def no_weights_of_the_loader(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a fresh machine: torch's own cache is empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.getbasetemp() / "torch"))


def visit(page: str = "overview", **query: str) -> AppTest:
    """Somebody new at ``page``, who came by a link with ``query``."""
    app = AppTest.from_file(ROOT / "app.py", default_timeout=180)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    if page != "overview":
        app.switch_page(f"app_pages/{page}.py").run()
    return app


def title_of(page: str) -> str:
    """What stands above a page: the name of its file, but for one."""
    return "Set" if page == "folder" else page.capitalize()


def answers(app: AppTest) -> list[str]:
    """The five classes of the overview."""
    return [name for name, _, _ in answers_with_numbers(app)]


def answers_with_numbers(app: AppTest) -> list[tuple[str, float, float]]:
    """The five classes of the overview, each with its probability in % and its logit."""
    lines = [as_markdown_shows(bar.proto.text).replace("−", "-") for bar in app.progress]
    found = [re.search(r"^\d\s\*\*(.+)\*\* · ([\d.]+) % · logit (-?[\d.]+)$", line) for line in lines]
    return [(line[1], float(line[2]), float(line[3])) for line in found if line]


def texts(app: AppTest) -> list[str]:
    """All that the page says in words."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.info, app.error, app.warning)
    return [element.value for kind in kinds for element in kind]


def saying(app: AppTest, words: str) -> str:
    """The text of the page that holds ``words``."""
    found = [text for text in texts(app) if words in text]
    assert found, f"Nothing on the page says {words!r}, but: {texts(app)}"
    return found[0]


def chosen(app: AppTest) -> common.Chosen:
    return app.session_state["chosen"]


# ---- every page, every kind of network --------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("model", ["EfficientNet-Lite0", "LeNet-5"])
def test_every_page_opens(model: str, page: str) -> None:
    app = visit(page, model=model)
    assert not app.exception
    assert not app.error
    assert not app.warning
    assert app.title[0].value == title_of(page)
    assert chosen(app).model.title == model


@pytest.mark.parametrize("page", PAGES)
def test_every_page_of_an_untrained_network_says_that_it_is_untrained(page: str) -> None:
    app = visit(page, model="ResNet-18", untrained="true")
    assert not app.exception
    assert not app.error
    assert app.title[0].value == title_of(page)
    assert chosen(app).model.weights is None
    assert "untrained" in app.warning[0].value


def test_a_network_without_its_weights_says_which_file_is_wanted_and_where_it_goes() -> None:
    app = visit(model="ResNet-18")
    assert not app.exception
    (refusal,) = app.error
    said = refusal.value.replace("\\", "")
    assert "resnet18-f37072fd.pth" in said
    assert "hub/checkpoints" in said
    app.selectbox(key="model").set_value("efficientnet_lite0").run()
    assert not app.error
    assert len(answers(app)) == 5


# ---- the sidebar holds everywhere ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lite() -> Model:
    return load_model("efficientnet_lite0")


def test_the_first_page_shows_what_the_network_answers_to_the_cat(lite: Model) -> None:
    app = visit()
    scores = lite.logits(prepare(read_image(read_sample("cat")), lite).pixels)[0]
    names, chances, logits = zip(*answers_with_numbers(app), strict=True)
    assert list(names) == [lite.labels[k] for k in scores.topk(5).indices]
    assert chances == pytest.approx((100 * scores.softmax(0)).topk(5).values.tolist(), abs=0.051)
    assert logits == pytest.approx(scores.topk(5).values.tolist(), rel=5e-3)


def test_another_sample_has_other_classes() -> None:
    app = visit()
    cats = answers(app)
    app.selectbox(key="picture").set_value("coffee").run()
    assert "espresso" in answers(app)
    assert not set(cats) & set(answers(app))


def test_a_class_chosen_by_its_name_is_the_one_that_the_heatmaps_explain() -> None:
    app = visit("heatmaps")
    assert app.multiselect(key="classes").value == ["tiger cat", "Egyptian cat"]
    app.selectbox(key="class").set_value("lynx").run()
    assert not app.exception
    assert chosen(app).target == LYNX
    assert app.multiselect(key="classes").value == ["lynx", "tiger cat"]
    assert any(f"cam(model, view.pixels, {LYNX}, 'grad_cam', 'bn2')" in code.value for code in app.code)


def test_picture_and_class_hold_when_the_page_changes() -> None:
    app = visit(picture="Coffee")
    app.selectbox(key="class").set_value("espresso").run()
    for page in (*PAGES[1:], "overview"):
        app.switch_page(f"app_pages/{page}.py").run()
        assert not app.exception
        assert chosen(app).title == "Coffee"
        assert chosen(app).target == ESPRESSO


def test_classes_chosen_for_the_heatmaps_stay_when_another_page_was_open() -> None:
    app = visit("heatmaps")
    app.multiselect(key="classes").set_value(["espresso", "lynx", "tabby"]).run()
    app.button_group(key="methods").set_value(["hires_cam"]).run()
    app.switch_page("app_pages/layers.py").run()
    app.switch_page("app_pages/heatmaps.py").run()
    assert app.multiselect(key="classes").value == ["espresso", "lynx", "tabby"]
    assert app.button_group(key="methods").value == ["hires_cam"]


def test_a_link_with_every_choice_opens_that_view() -> None:
    app = visit("heatmaps", picture="Rocket", **{"class": "missile", "scaling": "each its own", "blend": "0.25"})
    assert not app.exception
    assert chosen(app).title == "Rocket"
    assert chosen(app).label(chosen(app).target) == "missile"
    assert app.button_group(key="scaling").value == "each"
    assert app.slider(key="blend").value == 0.25


# ---- layers -------------------------------------------------------------------------------------------------


def pictures_of(app: AppTest) -> list[str]:
    """The addresses of the pictures, which Streamlit makes from their content."""
    return [address for image in app.image for address in image.value]


def test_the_order_of_the_filters_changes_their_sheet_and_that_of_their_maps() -> None:
    app = visit("layers")
    seen = {}
    for order in ("index", "strength", "similarity"):
        app.button_group(key="filter_order").set_value(order).run()
        assert not app.exception
        seen[order] = pictures_of(app)
    for first, second in (("index", "strength"), ("strength", "similarity"), ("index", "similarity")):
        differ = [a != b for a, b in zip(seen[first], seen[second], strict=True)]
        assert sum(differ) == 2, "the filters and the maps that they make change, and nothing else does"


def test_the_strongest_channel_is_the_one_enlarged_at_first() -> None:
    app = visit("layers")
    saying(app, f"Channel {int(maps_on(app).strengths.argmax())} of")


def maps_on(app: AppTest) -> ActivationMaps:
    (maps,) = views.maps_of(chosen(app), app.selectbox(key="layer").value)
    return maps


def test_a_channel_chosen_by_its_number_shows_its_own_statistics() -> None:
    app = visit("layers")
    maps = maps_on(app)
    seen = set()
    for channel in (0, 3, len(maps.values) - 1):
        app.number_input[0].set_value(channel).run()
        assert not app.exception
        saying(app, f"Channel {channel} of")
        shown = {metric.label: metric.value.replace("−", "-") for metric in app.metric}
        assert float(shown["Mean"]) == pytest.approx(float(maps.values[channel].mean()), rel=5e-3)
        assert float(shown["Maximum"]) == pytest.approx(float(maps.values[channel].max()), rel=5e-3)
        assert shown["Zeros"] == f"{100 * float((maps.values[channel] == 0).mean()):.0f} %"
        seen.add(tuple(shown.values()))
    assert len(seen) == 3


def test_the_dead_channels_of_a_layer_are_counted() -> None:
    app = visit("layers", layer="conv_stem")
    maps = maps_on(app)
    assert len(maps.dead) == 0
    saying(app, f"None of the {len(maps.values)} channels is dead")
    layer = next(
        layer.name
        for layer in common.layers_of("efficientnet_lite0", False)
        if (len(layer.shape) == 3 and layer.kind.startswith("ReLU")) or layer.name.endswith(".bn2.act")
    )
    app.selectbox(key="layer").set_value(layer).run()
    assert not app.exception


def test_the_scale_of_a_channel_of_the_layer_and_of_the_net_grow_in_this_order() -> None:
    app = visit("layers")
    app.number_input[0].set_value(3).run()
    tops = []
    for scale in ("channel", "layer", "net"):
        app.button_group(key="map_scale").set_value(scale).run()
        assert not app.exception
        words = [caption.value for caption in app.caption]
        bar = len(words) - 1 - words[::-1].index("activation")  # low, unit, high: the bar under the enlarged map
        tops.append(float(words[bar + 1].replace("\\", "").replace("−", "-")))
    assert tops[0] < tops[1] < tops[2]


# ---- heatmaps -----------------------------------------------------------------------------------------------


def test_cam_says_in_a_sentence_why_lenet_has_none_and_the_other_methods_go_on() -> None:
    app = visit("heatmaps", model="LeNet-5")
    app.button_group(key="methods").set_value(["cam", "grad_cam", "eigen_cam"]).run()
    assert not app.exception
    assert "global average pooling" in app.info[0].value.replace("\\", "")
    heads = [head.value for head in app.subheader]
    assert heads == ["CAM", "Grad-CAM", "Eigen-CAM"]
    assert sum("sum of evidence" in caption.value for caption in app.caption) == 4  # two methods, two classes


def test_methods_by_pixel_stand_alone_on_a_scale_that_holds_nearly_all_pixels() -> None:
    app = visit("heatmaps", model="PhotoNet", methods_by_pixel="Gradient")
    compute_all(app)
    saying(app, "32 × 32 pixels, absolute")
    saying(app, "of the pixels lie beyond the scale and have the colour of its end")
    saying(app, "score per unit of a pixel")
    assert not any("sum of evidence" in text and "absolute" in text for text in texts(app)), (
        "of slopes it means nothing"
    )
    app.button_group(key="view").set_value("signed").run()
    saying(app, "32 × 32 pixels, signed")
    here = chosen(app)
    heat = Pixelwise(here, here.model.layers["cam"], "signed").compute("gradient", here.target)
    scale = scale_of(heat)
    assert scale.signed
    assert 0.985 < (np.abs(heat.values) <= scale.high).mean() < 0.995


def test_a_method_by_pixel_that_takes_many_passes_shows_its_price_and_runs_from_its_button() -> None:
    app = visit("heatmaps", model="PhotoNet", methods_by_pixel="Integrated gradients")
    saying(app, "2,048 passes forth and back, at most")
    app.button(key="compute integrated_gradients").click().run()
    assert not app.exception
    saying(app, "The values add up to the change of the score from the baseline on")


def test_where_a_net_has_no_relu_guided_backpropagation_says_so_and_the_other_methods_go_on() -> None:
    app = visit("heatmaps", model="LeNet-5")
    app.button_group(key="methods_by_pixel").set_value(["guided_backpropagation", "guided_grad_cam", "gradient"]).run()
    compute_all(app)
    refusals = [info.value for info in app.info]
    assert sum("changes what goes back through ReLUs" in text for text in refusals) == 2
    saying(app, "28 × 28 pixels, absolute")
    saying(app, "sum of evidence")


def test_score_cam_of_a_layer_with_one_map_waits_for_its_button_and_spoils_no_other_method() -> None:
    app = visit("heatmaps", model="Spatial-transformer LeNet", cam_layer="transformer")
    app.button_group(key="methods").set_value(["grad_cam", "score_cam"]).run()
    assert not app.exception
    assert not [info.value for info in app.info if "takes a pass for each channel" in info.value]
    compute_all(app)
    assert not [info.value for info in app.info if "takes a pass for each channel" in info.value]
    saying(app, "sum of evidence")


def test_what_a_channel_looks_for_waits_for_its_button_and_raises_it_above_the_photo() -> None:
    app = visit("layers", model="PhotoNet", layer="act1", channel="3")
    saying(app, "128 passes forth and back, at most")
    app.button(key="compute looks for").click().run()
    assert not app.exception
    here = chosen(app)
    found = common.recall(("looks for", here.model.title, "channel", "act1", 3, looks_for.STEPS))
    assert found.pictures.shape == (1, 3, 32, 32)
    (maps,) = views.maps_of(here, "act1")
    assert found.values[0] > maps.means[3]
    saying(app, f"Its mean activation is **{views.number(float(found.values[0]))}** there")
    saying(app, f"{views.number(float(maps.means[3]))} on the photo")


def test_a_channel_that_nothing_raises_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def maximise(*args: object, **options: object) -> None:
        raise UnsupportedModel("a ReLU may be shut")

    monkeypatch.setattr(looks_for, "maximise", maximise)
    app = visit("layers", model="PhotoNet", layer="act1", channel="5")
    app.button(key="compute looks for").click().run()
    assert not app.exception
    saying(app, "a ReLU may be shut")


def test_without_a_method_the_page_says_what_to_choose() -> None:
    app = visit("heatmaps")
    app.button_group(key="methods").set_value([]).run()
    assert not app.exception
    saying(app, "Choose a method")


def test_with_no_class_left_the_page_shows_that_of_the_sidebar_and_its_rival() -> None:
    app = visit("heatmaps")
    app.multiselect(key="classes").set_value(["lynx"]).run()
    app.multiselect(key="classes").set_value([]).run()
    assert not app.exception
    shown = {text.split(" · ")[0] for text in texts(app) if re.search(r" · [\d.\\]+ .?%$", text)}
    assert shown == {"tiger cat", "Egyptian cat"}


def test_on_one_scale_the_rival_of_the_chosen_class_keeps_its_smaller_numbers() -> None:
    app = visit("heatmaps")
    app.button_group(key="methods").set_value(["grad_cam"]).run()
    shared = pictures_of(app)
    app.button_group(key="scaling").set_value("each").run()
    own = pictures_of(app)
    assert not app.exception
    assert len(own) == 4, "two maps, each with its own scale bar"
    assert len(shared) == 3, "two maps and one scale bar"
    assert len(set(shared) & set(own)) >= 1, "the hotter of the two is drawn alike on both"


def test_another_layer_gives_maps_of_its_own_size() -> None:
    app = visit("heatmaps", cam_layer="blocks.2")
    assert not app.exception
    size = next(layer.shape[1:] for layer in common.layers_of("efficientnet_lite0", False) if layer.name == "blocks.2")
    assert f"{size[0]} × {size[1]}" in saying(app, "sum of evidence")


def test_filters_are_shown_each_on_its_own_scale_or_on_one_and_the_caption_says_which() -> None:
    app = visit("layers", model="PhotoNet")
    bank = views.bank_of(chosen(app))
    for each, words in ((True, "each kernel is on a scale of its own"), (False, "one scale for all")):
        app.button_group(key="filter_scale of photonet").set_value("each" if each else "all").run()
        assert not app.exception
        assert saying(app, words)
    contrast = [
        np.ptp(views.filter_sheet(bank, np.array([n]), each).picture[8:32, 8:32].astype(int))
        for each in (True, False)
        for n in (bank.norms.argmin(), np.abs(bank.values).max((1, 2, 3)).argmax())
    ]
    weak_alone, strong_alone, weak, strong = contrast
    assert weak_alone > 100
    assert strong_alone == strong
    assert weak < 60 < strong


def test_a_costly_method_shows_its_price_and_runs_from_its_button() -> None:
    app = visit("heatmaps", model="LeNet-5")
    app.button_group(key="methods").set_value(["ablation_cam", "occlusion"]).run()
    prices = [text for text in texts(app) if "on this machine" in text]
    assert [price.split(",")[0] for price in prices] == ["32 passes", "169 windows"]
    assert not any("sum of evidence" in text for text in texts(app))
    app = compute_all(app)
    assert not app.exception
    assert sum("sum of evidence" in caption.value for caption in app.caption) == 4
    assert not any((button.key or "").startswith("compute") for button in app.button)


@pytest.mark.parametrize(("window", "stride"), [(1, 28), (28, 1), (28, 28)])
def test_occlusion_takes_every_window_and_stride_that_its_controls_offer(window: int, stride: int) -> None:
    app = visit("heatmaps", model="LeNet-5")
    app.button_group(key="methods").set_value(["occlusion"]).run()
    app.number_input(key="window of lenet5").set_value(window).run()
    app.number_input(key="stride of lenet5").set_value(stride).run()
    app = compute_all(app)
    assert not app.exception
    assert not app.error
    saying(app, "sum of evidence")


# ---- heatmaps: occlusion, from the estimate to the exact map ------------------------------------------------


@pytest.fixture
def nothing_known() -> None:
    """As on a fresh server."""
    common.results().clear()


def visit_occlusion(model: str = "LeNet-5", **query: str) -> AppTest:
    """At the heatmaps, with occlusion as the only method."""
    app = visit("heatmaps", model=model, **query)
    app.button_group(key="methods").set_value(["occlusion"]).run()
    assert not app.exception
    return app


def question_of(app: AppTest, **options: int) -> Occlusion:
    """What the page asks; ``options`` where they differ from those at first."""
    return Occlusion(chosen(app), **{"window": 4, "stride": 2, **options})


def targets_of(app: AppTest) -> list[int]:
    labels = list(chosen(app).model.labels)
    return [labels.index(label) for label in app.multiselect(key="classes").value]


def states(app: AppTest) -> list[str]:
    """What the page calls its occlusion maps: estimate, stopped early, exact."""
    found = [re.search(r"-badge\[(.+)\]$", text.value) for text in app.markdown]
    return [badge[1] for badge in found if badge]


def stop_after(windows: int) -> Callable[[int, int], None]:
    """A ``progress`` that stops a run as Streamlit does, once so many windows are hidden."""

    def progress(done: int, total: int) -> None:
        if done >= windows:
            raise StopException

    return progress


def test_occlusion_is_estimated_at_once_and_the_page_says_that_it_is_an_estimate(nothing_known: None) -> None:
    app = visit_occlusion()
    assert states(app) == ["estimate", "estimate"]
    assert sum("no window was hidden yet" in text for text in texts(app)) == 2
    assert len(pictures_of(app)) == 3, "two maps and their scale"
    here, question, targets = chosen(app), question_of(app), targets_of(app)
    expected = estimate_occlusion(here.model, here.view.pixels, targets, 4, 2)
    for target, heat in zip(targets, expected, strict=True):
        np.testing.assert_allclose(question.best(target).heat.values, heat.values, rtol=1e-4, atol=1e-6)
    assert [button.label for button in app.button] == ["Compute Occlusion"]
    assert any("estimate_occlusion(model" in code.value for code in app.code)


def test_the_exact_maps_of_all_classes_take_one_run_and_say_how_fast_it_was(
    nothing_known: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    compute = occlusion_runs.occlusion_of
    monkeypatch.setattr(
        occlusion_runs, "occlusion_of", lambda *args, **kw: asked.append(args[2]) or compute(*args, **kw)
    )
    app = visit_occlusion()
    app.multiselect(key="classes").set_value(["7", "3", "1"]).run()
    assert asked == []
    app = compute_all(app)
    assert asked == [[7, 3, 1]]
    assert states(app) == ["exact"] * 3
    speeds = [text.replace("\\", "") for text in texts(app) if "of the work saved" in text]
    assert len(speeds) == 3
    for speed in speeds:
        assert re.search(
            r"169 windows in [\d.]+ s for 3 classes at once, [\d.,]+ a second, \d+\u00a0% of the work saved", speed
        )
    here = chosen(app)
    for target in (7, 3, 1):
        alone = occlusion(here.model, here.view.pixels, target, 4, 2)
        shown = question_of(app).exact(target)
        np.testing.assert_allclose(shown.values, alone.values, rtol=1e-4, atol=1e-5)


def test_a_class_that_joins_later_is_estimated_beside_the_exact_ones_and_computed_alone(
    nothing_known: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = compute_all(visit_occlusion())
    first = targets_of(app)
    new = next(k for k in range(10) if k not in first)
    app.multiselect(key="classes").set_value([*map(str, first), str(new)]).run()
    assert states(app) == ["exact", "exact", "estimate"]
    asked = []
    compute = occlusion_runs.occlusion_of
    monkeypatch.setattr(
        occlusion_runs, "occlusion_of", lambda *args, **kw: asked.append(args[2]) or compute(*args, **kw)
    )
    assert states(compute_all(app)) == ["exact"] * 3
    assert asked == [[new]]


def test_the_price_is_a_bound_at_first_and_then_follows_the_speed_of_the_last_run(nothing_known: None) -> None:
    app = visit_occlusion(digit="Digit 1")
    assert "169 windows, at most 1 s and" in saying(app, "on this machine")
    question = question_of(app)
    compute_all(app)
    common.results().put(question._rate, 16.9, 0.0)
    app.selectbox(key="digit").set_value("2").run()
    assert "169 windows, about 10 s and" in saying(app, "on this machine")
    app.number_input(key="stride of lenet5").set_value(3).run()
    assert "windows, at most" in saying(app, "on this machine")


def test_on_a_network_that_takes_long_nothing_is_estimated_before_the_button_is_pressed(
    nothing_known: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "seconds_a_pass", lambda name, untrained: 2.0)
    app = visit_occlusion()
    assert states(app) == []
    assert not pictures_of(app)
    assert "169 windows, at most 6 min" in saying(app, "on this machine")
    drawn = []
    monkeypatch.setattr(views, "live", lambda here, heat, *rest: drawn.append(heat) or "data:image/png;base64,")
    assert states(compute_all(app)) == ["exact", "exact"]
    assert [heat.method for heat in drawn[:2]] == ["occlusion_estimate"] * 2, "the first picture of a run"


def test_an_estimate_waits_where_the_other_methods_take_their_time_already(
    nothing_known: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "seconds_a_pass", lambda name, untrained: 0.5)
    app = visit("heatmaps", model="LeNet-5", digit="Digit 7")
    common.results().clear()
    app.button_group(key="methods").set_value(["grad_cam", "hires_cam", "occlusion"]).run()
    assert states(app) == []
    app.button_group(key="methods").set_value(["occlusion"]).run()
    assert states(app) == ["estimate"] * 2


def test_while_occlusion_runs_the_bar_counts_windows_and_exact_values_take_the_place_of_the_estimate(
    nothing_known: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = visit_occlusion(digit="Digit 7")
    bars: list[str] = []
    words: list[str] = []
    drawn: dict[int, list[np.ndarray]] = {target: [] for target in targets_of(app)}
    progress, caption = DeltaGenerator.progress, DeltaGenerator.caption
    live, ticks = views.live, itertools.count()

    def see(here: common.Chosen, heat: Heatmap, *rest: object) -> str:
        drawn[heat.target].append(heat.values)
        return live(here, heat, *rest)

    monkeypatch.setattr(views, "live", see)
    monkeypatch.setattr(
        DeltaGenerator, "progress", lambda self, share, text: bars.append(text) or progress(self, share, text)
    )
    monkeypatch.setattr(
        DeltaGenerator, "caption", lambda self, text, **kw: words.append(text) or caption(self, text, **kw)
    )
    monkeypatch.setattr(common.time, "monotonic", lambda: next(ticks) / 10)
    app = compute_all(app)
    assert bars[0] == "Occlusion"
    counts = [re.fullmatch(r"Occlusion: (\d+) of 169 windows, about .+ left", text) for text in bars[1:]]
    assert len(counts) > 3
    assert [int(count[1]) for count in counts] == sorted(int(count[1]) for count in counts)
    said = [text.replace("\\", "") for text in words if "windows a second" in text]
    form = r"[\d.,]+ windows a second · \d+\u00a0% of the work saved · exact for (\d+)\u00a0% of the picture"
    exact = [int(re.fullmatch(form, text)[1]) for text in said]
    assert len(exact) > 1
    assert exact == sorted(exact)
    for target, seen in drawn.items():
        end, estimate = question_of(app).exact(target).values, question_of(app).estimate(target).values
        np.testing.assert_array_equal(seen[0], estimate)
        left = [np.isclose(values, estimate, atol=1e-6).mean() for values in seen]
        come = [np.isclose(values, end, atol=1e-6).mean() for values in seen]
        assert left[-1] < left[0] == 1, "the estimate gives way"
        assert come[-1] > come[0], "to the exact values"


@pytest.mark.parametrize("cost", [0.05, 2.0])
def test_the_pictures_of_a_run_take_no_more_than_their_share_of_its_time(
    cost: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, drawn = [0.0], []

    def draw(what: int) -> None:
        drawn.append(what)
        now[0] += cost

    monkeypatch.setattr(common.time, "monotonic", lambda: now[0])
    sparing = common.sparing(draw)
    for k in range(1000):
        now[0] += 0.1
        sparing(k)
    assert drawn[0] == 0
    assert len(drawn) > 3
    assert cost * (len(drawn) - 1) <= common.DRAWING * now[0]


def test_a_stopped_run_leaves_what_it_had_and_says_how_much_that_is_until_all_windows_are_hidden(
    nothing_known: None,
) -> None:
    app = visit_occlusion(digit="Digit 4")
    with stopped_in_the_middle():
        compute_all(app)
    app.run()
    assert not app.exception
    assert states(app) == ["stopped early"] * 2
    note = saying(app, "Stopped early").replace("\\", "")
    assert re.fullmatch(
        r"Stopped early: \d+ of 169 windows were hidden\. \d+\u00a0% of the picture is exact, \d+\u00a0% the mean of "
        r"fewer windows, the rest shows 0\.",
        note,
    )
    assert re.search(
        r"\d+ windows in [\d.]+ s for 2 classes at once", saying(app, "of the work saved").replace("\\", "")
    )
    assert not any("sum of evidence" in text for text in texts(app)), "which means nothing of a part"
    assert not any("no window was hidden" in text for text in texts(app))
    question, targets = question_of(app), targets_of(app)
    partial = [question.best(target).heat for target in targets]
    assert [question.exact(target) for target in targets] == [None, None]
    assert [button.label for button in app.button] == ["Compute all windows"]
    assert "169 windows, about" in saying(app, "on this machine")
    app = compute_all(app)
    assert states(app) == ["exact"] * 2
    assert not any("Stopped early" in text for text in texts(app))
    for target, part in zip(targets, partial, strict=True):
        assert (part.values == 0).mean() > 0.3
        assert not np.allclose(part.values, question.best(target).heat.values)


def test_what_a_stopped_run_left_belongs_to_its_options_alone(nothing_known: None) -> None:
    app = visit_occlusion(digit="Digit 4")
    with stopped_in_the_middle():
        compute_all(app)
    app.number_input(key="stride of lenet5").set_value(3).run()
    assert states(app) == ["estimate"] * 2
    app.number_input(key="stride of lenet5").set_value(2).run()
    assert states(app) == ["stopped early"] * 2
    app.button_group(key="score").set_value("probability").run()
    assert states(app) == ["estimate"] * 2


def test_an_exact_map_is_never_replaced_nor_a_part_by_a_smaller_one(nothing_known: None) -> None:
    app = visit_occlusion(digit="Digit 4")
    question, (target, other) = question_of(app), targets_of(app)
    hidden = []
    for windows in (60, 20, 100):
        with pytest.raises(StopException):
            question.compute([target], stop_after(windows))
        hidden.append(question.stopped(target).speed.windows)
    assert 60 <= hidden[0] == hidden[1] < 100 <= hidden[2] < 169
    (whole,) = question.compute([target], lambda done, total: None)
    assert question.best(target).heat is whole
    with pytest.raises(StopException):
        question.compute([target, other], stop_after(20))
    assert question.best(target).heat is whole
    assert question.stopped(other).speed.windows < 60
    app.run()
    assert states(app) == ["exact", "stopped early"]


def test_a_run_stopped_after_its_last_window_is_whole(nothing_known: None) -> None:
    app = visit_occlusion(digit="Digit 4")
    question, targets = question_of(app), targets_of(app)
    with pytest.raises(StopException):
        question.compute(targets, stop_after(169))
    assert question.missing(targets) == []
    app.run()
    assert states(app) == ["exact"] * 2


def test_the_page_waits_for_the_run_that_it_stopped_to_put_away_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(common.st, "session_state", {"ended": ended})
    threading.Timer(0.2, ended.set).start()
    common.wait_for_stopped()
    assert ended.is_set()
    monkeypatch.setattr(common.st, "session_state", {})
    common.wait_for_stopped()


def test_where_occlusion_is_refused_its_row_says_so_and_the_others_go_on(
    nothing_known: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise BadParameter("This network cannot be asked so.")

    app = visit("heatmaps", model="LeNet-5")
    with monkeypatch.context() as patch:
        patch.setattr(occlusion_runs, "occlusion_of", refuse)
        app.button_group(key="methods").set_value(["occlusion", "grad_cam"]).run()
        assert states(app) == ["estimate"] * 2
        app = compute_all(app)
    assert not app.exception
    assert "cannot be asked" in app.info[0].value
    assert [head.value for head in app.subheader] == ["Occlusion", "Grad-CAM"]
    assert not [button for button in app.button if (button.key or "").startswith("compute")]
    saying(app, "sum of evidence")


@pytest.mark.parametrize("scaling", ["row", "all", "each"])
def test_estimates_and_exact_maps_stand_side_by_side_on_any_scale(scaling: str, nothing_known: None) -> None:
    app = visit_occlusion(digit="Digit 4")
    app.button_group(key="methods").set_value(["occlusion", "hires_cam"]).run()
    app.button_group(key="scaling").set_value(scaling).run()
    question, (target, _) = question_of(app), targets_of(app)
    question.compute([target], lambda done, total: None)
    app.run()
    assert not app.exception
    assert states(app) == ["exact", "estimate"]
    assert len(pictures_of(app)) == 4 + {"row": 2, "all": 1, "each": 4}[scaling]
    assert states(compute_all(app)) == ["exact"] * 2


def test_how_occlusion_is_read_says_that_it_is_exact_and_where_its_speed_comes_from() -> None:
    said = saying(visit_occlusion(), "The values are exact")
    assert "only what a window can change is computed again" in said
    saying(visit_occlusion(), "SIGMOD 2019")


def test_the_overview_shows_an_estimate_of_occlusion_until_its_button_makes_it_exact(nothing_known: None) -> None:
    app = visit(model="LeNet-5")
    saying(app, "no window was hidden yet")
    question = question_of(app, window=7, stride=3)
    target = chosen(app).target
    assert question.best(target).heat.method == "occlusion_estimate"
    pictures_before = pictures_of(app)
    (button,) = [button for button in app.button if button.label == "Hide parts of it"]
    button.click().run()
    assert not app.exception
    assert not any("no window was hidden" in text for text in texts(app))
    assert "64 windows in" in saying(app, "of the work saved")
    assert question.best(target).heat.method == "occlusion"
    assert "lowers the score" in saying(app, "Hiding what is red")
    assert len(pictures_of(app)) == len(pictures_before)
    assert len(set(pictures_of(app)) - set(pictures_before)) == 1
    assert not [button for button in app.button if button.label == "Hide parts of it"]


# ---- embedding ----------------------------------------------------------------------------------------------


def test_the_digits_are_mapped_from_a_button_and_the_gauges_are_shares() -> None:
    app = visit("embedding", model="LeNet-5", digits="200", watch="false")
    assert "200 pictures" in saying(app, "on this machine")
    app.button(key="draw_map").click().run()
    assert not app.exception
    shown = {metric.label: metric.value for metric in app.metric}
    assert 0.5 < float(shown["Neighbours kept, features"]) <= 1
    assert 0.5 < float(shown["Neighbours kept, pixels"]) <= 1
    assert float(shown["Right by features"].rstrip(" %")) > float(shown["Right by pixels"].rstrip(" %"))


@pytest.mark.parametrize("number", ["2", "200"])
def test_a_perplexity_too_large_for_the_set_is_reduced_in_words_or_refused_in_words(number: str) -> None:
    app = visit("embedding", model="LeNet-5", digits="200", perplexity=number, watch="false")
    app.button(key="draw_map").click().run()
    assert not app.exception
    if number == "200":
        assert "perplexity" in " ".join(texts(app)).lower()
    else:
        assert not app.error


def test_a_zip_of_two_folders_has_two_classes() -> None:
    app = visit("embedding", model="LeNet-5")
    app.button_group(key="set of digits").set_value("A zip of mine").run()
    saying(app, "Its folders are taken as the classes")
    members = {
        f"{folder}/{k}.png": pictures.save(pictures.scene(seed=k + 10 * number), "PNG")
        for number, folder in enumerate(("left", HOSTILE.replace("/", "|")))
        for k in range(6)
    }
    app.file_uploader(key="zip").set_value(("mine.zip", pictures.zip_of(members), "application/zip")).run()
    assert not app.exception
    assert "12 pictures in 2 classes" in saying(app, "mine").replace("\\", "")


def embed_zip(members: dict[str, bytes]) -> AppTest:
    app = visit("embedding", model="LeNet-5", perplexity="3", watch="false")
    app.button_group(key="set of digits").set_value("A zip of mine").run()
    app.file_uploader(key="zip").set_value(("mine.zip", pictures.zip_of(members), "application/zip")).run()
    for button in app.button:
        if button.key == "draw_map":
            button.click().run()
    assert not app.exception
    assert not app.error
    return app


def test_a_zip_without_classes_is_mapped_and_the_page_says_that_there_is_nothing_to_vote_for() -> None:
    app = embed_zip({f"{k}.png": pictures.save(pictures.scene(seed=k), "PNG") for k in range(5)})
    assert {metric.label for metric in app.metric} == {"Neighbours kept, features", "Neighbours kept, pixels"}
    saying(app, "no class to vote for")


def test_the_same_pictures_in_other_folders_are_another_set() -> None:
    files = [pictures.save(pictures.scene(seed=k), "PNG") for k in range(8)]
    halves = embed_zip({f"{k // 4}/{k}.png": file for k, file in enumerate(files)})
    parity = embed_zip({f"{k % 2}/{k}.png": file for k, file in enumerate(files)})
    keys = [app.session_state["pictures of the zip"][2] for app in (halves, parity)]
    assert keys[0] != keys[1]


@pytest.mark.parametrize("data", [b"", b"no zip", pictures.zip_of({}), pictures.zip_of({"a.txt": b"a"})])
def test_a_bad_zip_is_refused_in_the_page(data: bytes) -> None:
    app = visit("embedding", model="LeNet-5")
    app.button_group(key="set of digits").set_value("A zip of mine").run()
    app.file_uploader(key="zip").set_value(("bad.zip", data, "application/zip")).run()
    assert not app.exception
    assert len(app.error) == 1
    app.button_group(key="set of digits").set_value("MNIST digits").run()
    assert not app.exception
    assert not app.error


def compute_all(app: AppTest) -> AppTest:
    """Press the button of every row of the heatmaps that waits for one."""
    while waiting := [button for button in app.button if (button.key or "").startswith("compute")]:
        waiting[0].click().run()
        assert not app.exception
    return app


# ---- files from strangers -----------------------------------------------------------------------------------


def with_upload(app: AppTest, data: bytes, name: str = "mine.png") -> AppTest:
    app.button_group(key="source").set_value("Upload").run()
    app.file_uploader(key="upload").set_value((name, data, "image/png")).run()
    return app


def test_an_uploaded_photo_is_classified() -> None:
    app = with_upload(visit(), pictures.sample("coffee.png").read_bytes())
    assert not app.exception
    assert "espresso" in answers(app)
    assert chosen(app).title == "mine.png"


def test_a_bad_picture_is_refused_in_a_sentence_and_the_last_picture_stays() -> None:
    app = with_upload(visit(), pictures.sample("coffee.png").read_bytes(), "coffee.png")
    for row, data in pictures.refused().items():
        app.file_uploader(key="upload").set_value(("bad.png", data, "image/png")).run()
        assert not app.exception, row
        assert len(app.error) == 1, row
        assert as_markdown_shows(app.error[0].value).endswith("."), row
        assert "Error" not in app.error[0].value, row
        assert chosen(app).title == "coffee.png", row
        assert "espresso" in answers(app), row


NAMES = (
    "../../etc/passwd.png",
    "C:\\windows\\system.ini.png",
    "CON.png",
    "n" * 300 + ".png",
    "\u202egnp.exe.png",
    "\N{CAT FACE}.png",
    "two\nlines\tand nothing.png",
    HOSTILE + ".png",
)


def test_a_file_name_is_only_ever_shown_and_shown_as_it_is() -> None:
    app = visit()
    for number, name in enumerate(NAMES):
        with_upload(app, pictures.save(pictures.scene(seed=number), "PNG"), name)
        assert not app.exception, name
        assert not app.error, name
        assert len(answers(app)) == 5, name
        shown = next(caption.value for caption in app.caption if "45 × 30 pixels" in caption.value)
        assert shown.startswith(common.plain(chosen(app).title).strip()), name
    for page in PAGES[1:]:
        app.switch_page(f"app_pages/{page}.py").run()
        assert not app.exception


def test_the_same_pixels_under_another_name_are_the_same_picture() -> None:
    first = with_upload(visit(), pictures.save(pictures.scene(), "PNG"), "one.png")
    second = with_upload(visit(), pictures.with_exif(pictures.scene(), {pictures.ARTIST: "<script>"}), "two.png")
    assert chosen(first).digest == chosen(second).digest
    assert not any("script" in text for text in texts(second))


def test_a_camera_that_sends_nothing_is_refused_and_a_large_frame_is_reduced() -> None:
    app = visit()
    app.button_group(key="source").set_value("Camera").run()
    app.camera_input(key="camera").set_value(("shot.jpg", b"", "image/jpeg")).run()
    assert not app.exception
    assert len(app.error) == 1
    assert chosen(app).title == "Cat"
    frame = pictures.save(np.resize(pictures.scene(216, 384), (2160, 3840, 3)), "JPEG")
    app.camera_input(key="camera").set_value(("shot.jpg", frame, "image/jpeg")).run()
    assert not app.exception
    assert not app.error
    assert chosen(app).photo.shape == (900, common.PHOTO_SIDE, 3)


# ---- links from strangers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("overview", {"model": "does-not-exist"}),
        ("overview", {"model": "", "picture": "", "class": ""}),
        ("overview", {"model": "\0", "picture": "\ud7ff\u202e", "class": "\N{CAT FACE}"}),
        ("overview", {"picture": "file:///etc/passwd"}),
        ("overview", {"picture": "http://169.254.169.254/"}),
        ("overview", {"picture": "\\\\host\\x", "class": "<script>alert(1)</script>"}),
        ("overview", {"inverted": "perhaps", "untrained": "perhaps", "nobody": "asked", "a" * 300: "b" * 3000}),
        ("layers", {"layer": "layer4", "map_order": "x", "map_scale": "x", "filter_order": "x"}),
        ("heatmaps", {"methods": "<script>", "classes": "<script>alert(1)</script>", "cam_layer": "layer4"}),
        ("heatmaps", {"blend": "NaN", "scaling": "x"}),
        ("heatmaps", {"blend": "Infinity"}),
        ("heatmaps", {"blend": "1e309"}),
        ("embedding", {"perplexity": "NaN", "seed": "-1", "copies": "10000000000", "feature_layer": "nowhere"}),
        ("folder", {"set_question": "<script>", "copies": "10000000000", "cell_folder": "<script>"}),
        ("folder", {"set_question": "Channels", "copies": "NaN", "set_layer": "nowhere", "carry_folder": "<script>"}),
        ("folder", {"set_question": "Channels", "alike": "NaN"}),
        ("folder", {"set_question": "Channels", "alike": "1e309"}),
        ("folder", {"set_question": "Shortcuts", "shortcut_method": "<script>", "replaced_part": "nowhere"}),
    ],
)
def test_a_link_of_nonsense_shows_the_defaults(page: str, query: dict[str, str]) -> None:
    app = visit(**query)
    assert not app.exception
    assert answers(app)[0] == "tiger cat"
    if page != "overview":
        app.switch_page(f"app_pages/{page}.py").run()
    assert not app.exception
    assert not app.error
    assert not any("<script>" in text for text in texts(app))


def test_a_key_given_twice_in_a_link_breaks_nothing() -> None:
    app = AppTest.from_file(ROOT / "app.py", default_timeout=180)
    app.query_params["model"] = ["LeNet-5", "EfficientNet-Lite0"]
    app.query_params["picture"] = ["Coffee", "Rocket"]
    app.run()
    assert not app.exception
    assert len(answers(app)) == 5


def test_a_layer_of_another_network_is_replaced_by_one_that_is_there() -> None:
    app = visit("layers", layer="blocks.3")
    assert app.selectbox(key="layer").value == "blocks.3"
    app.selectbox(key="model").set_value("lenet5").run()
    assert not app.exception
    assert app.selectbox(key="layer").value in {layer.name for layer in common.layers_of("lenet5", False)}
    app.selectbox(key="model").set_value("efficientnet_lite0").run()
    assert not app.exception


# ---- words --------------------------------------------------------------------------------------------------


def as_markdown_shows(text: str) -> str:
    """What CommonMark makes of a text in which every ASCII punctuation mark may be escaped by a backslash."""
    shown, place = "", 0
    while place < len(text):
        if text[place] == "\\" and place + 1 < len(text) and text[place + 1] in PUNCTUATION:
            place += 1
        shown += text[place]
        place += 1
    return shown


PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


@pytest.mark.parametrize(
    "text", [HOSTILE, "a_b*c_d", "1. one", "- one", "+ one", "\\alpha", "www.example.com", "a@b.de"]
)
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    assert as_markdown_shows(common.plain(text)) == text


def test_in_plain_text_no_mark_that_means_something_stands_alone() -> None:
    escaped = common.plain("".join(map(chr, range(32, 127))))
    alone = {
        escaped[k]
        for k in range(len(escaped))
        if escaped[k] in "\\`*_{}[]()<>#+-.!|~$:&\"'=/@" and unescaped(escaped, k)
    }
    assert not alone


def unescaped(text: str, place: int) -> bool:
    """Whether the mark at ``place`` has an even number of backslashes before it, and is none that escapes."""
    before = len(text[:place]) - len(text[:place].rstrip("\\"))
    return before % 2 == 0 and not (text[place] == "\\" and place + 1 < len(text) and text[place + 1] in PUNCTUATION)


@pytest.mark.parametrize("mark", ["\0", "\n", "\x1b", "\x7f", "\u200e", "\u200f", "\u202e", "\u2066", "\u2069"])
def test_characters_that_turn_or_break_the_line_become_spaces(mark: str) -> None:
    assert common.plain(f"a{mark}b") == "a b"


@pytest.mark.parametrize(("passes", "words"), [(1, "1 pass,"), (2, "2 passes,"), (12345, "12,345 passes,")])
def test_a_price_counts_its_passes(passes: int, words: str) -> None:
    assert common.price(passes, 2.0).startswith(f"{words} about 2 s and less than")
    assert "at most 2 s" in common.price(passes, 2.0, bound=True)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0.1 s"), (0.94, "0.9 s"), (0.97, "1.0 s"), (12.4, "12 s"), (89, "89 s"), (120, "2 min")],
)
def test_a_duration_has_its_unit(seconds: float, words: str) -> None:
    assert common.duration(seconds) == words


# ---- the store of results -----------------------------------------------------------------------------------


def test_the_store_gives_back_what_was_put_under_the_same_question() -> None:
    store = common.Results(10_000)
    store.put(("a", 1), np.arange(3), 0.5)
    store.put(("a", 2), np.arange(4), 1.5)
    assert len(store.get(("a", 1))) == 3
    assert len(store.get(("a", 2))) == 4
    assert store.seconds(("a", 2)) == 1.5
    assert store.get(("a", 3)) is None
    assert store.seconds(("a", 3)) == 0.0


def test_the_store_holds_no_more_than_its_bytes_and_forgets_what_was_not_asked_for_longest() -> None:
    store = common.Results(1000)
    for name in "abcd":
        store.put(name, np.zeros(300, np.uint8), 0.0)
        if name != "d":
            assert store.get("a") is not None
    assert [name for name in "abcd" if store.get(name) is not None] == ["a", "c", "d"]
    assert store._held == 900


def test_a_result_put_again_is_counted_once() -> None:
    store = common.Results(1000)
    for _ in range(50):
        store.put("a", np.zeros(400, np.uint8), 0.0)
    store.put("b", np.zeros(400, np.uint8), 0.0)
    assert store.get("a") is not None
    assert store._held == 800


def test_one_result_larger_than_the_store_is_kept_besides() -> None:
    store = common.Results(1000)
    store.put("small", np.zeros(10, np.uint8), 0.0)
    store.put("large", np.zeros(5000, np.uint8), 0.0)
    assert store.get("large") is not None
    assert store.get("small") is not None
    store.put("larger", np.zeros(6000, np.uint8), 0.0)
    assert store.get("larger") is not None
    assert store.get("large") is None


def test_the_bytes_of_a_record_are_those_of_all_its_arrays() -> None:
    record = SimpleNamespace(a=np.zeros((3, 5), np.float32), b=(np.zeros(7, np.uint8), "four"), c=[b"12345"])
    assert common.weight_of(record) == 60 + 7 + 4 + 5


def test_the_bytes_of_a_view_are_those_of_its_pixels(lite: Model) -> None:
    view = prepare(read_image(read_sample("cat")), lite)
    assert common.weight_of((view, np.zeros(10, np.float32))) >= view.pixels.nbytes + 40


def test_a_refusal_is_an_answer_and_is_raised_each_time() -> None:
    asked = []

    def refuse() -> None:
        asked.append(1)
        raise BadParameter("no")

    for _ in range(2):
        with pytest.raises(BadParameter, match="no"):
            common.known(("refused", id(asked)), refuse)
    assert len(asked) == 1


def test_eight_threads_at_one_store_lose_nothing_and_stay_within_its_bytes() -> None:
    store, wrong = common.Results(50_000), []

    def work(who: int) -> None:
        rng = np.random.default_rng(who)
        for k in rng.integers(0, 40, 600):
            store.put(int(k), np.full(100 + int(k), k, np.uint16), float(k))
            found = store.get(int(rng.integers(0, 40)))
            if found is not None and (len(found) != 100 + found[0] or len(set(found.tolist())) > 1):
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert store._held == sum(size for _, size, _ in store._items.values()) <= 50_000


def test_a_question_asked_twice_is_answered_once() -> None:
    asked = []
    key = ("test", "asked twice")
    for _ in range(2):
        assert common.known(key, lambda: asked.append(1) or "answer") == "answer"
    assert asked == [1]


# ---- long runs ----------------------------------------------------------------------------------------------


@contextmanager
def stopped_in_the_middle() -> Iterator[list[int]]:
    """Streamlit stops the script when the bar first moves, as it does when a control changes."""
    calls: list[int] = []
    move = DeltaGenerator.progress
    ticks = itertools.count()

    def progress(self: DeltaGenerator, *args: object, **kwargs: object) -> DeltaGenerator:
        calls.append(1)
        if len(calls) > 1:
            raise StopException
        return move(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DeltaGenerator, "progress", progress)
        patch.setattr(common.time, "monotonic", lambda: float(next(ticks)))  # every movement of the bar is shown
        yield calls


@pytest.mark.parametrize("method", ["occlusion", "score_cam", "ablation_cam"])
def test_a_run_that_is_stopped_leaves_no_hook_no_result_and_a_page_that_works(method: str) -> None:
    app = visit("heatmaps", model="LeNet-5", digit="Digit 7")
    app.button_group(key="methods").set_value([method]).run()
    held = whole(common.results())
    with stopped_in_the_middle() as moved:
        app = compute_all(app)
    assert len(moved) == 2, "the bar was drawn, and moved once"
    assert not app.exception
    assert_clean(chosen(app).model)
    assert whole(common.results()) == held
    app.run()
    assert not app.exception
    app = compute_all(app)
    assert not app.exception
    saying(app, "sum of evidence")


def whole(store: common.Results) -> set[object]:
    """The questions that a store has whole answers to."""
    return {key for key in store._items if key[0] not in ("stopped", "windows a second")}


def assert_clean(model: Model) -> None:
    assert not model.lock.locked() if hasattr(model.lock, "locked") else True
    for module in model.net.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert all(parameter.grad is None for parameter in model.net.parameters())


def test_the_bar_of_a_run_goes_away_however_it_ends() -> None:
    script = """
import streamlit as st
from app_pages import common
try:
    with common.running("Working") as progress:
        progress(1, 4)
        raise KeyboardInterrupt
except BaseException as stop:
    st.text(type(stop).__name__)
"""
    app = AppTest.from_string(script, default_timeout=60).run()
    assert app.text[0].value == "KeyboardInterrupt"
    assert not app.progress
    assert not app.button


def test_the_first_network_is_loaded_and_asked_before_anybody_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    load = common.model_named
    monkeypatch.setattr(common, "model_named", lambda name, *rest: asked.append(name) or load(name, *rest))
    common.warm_up()
    assert asked == [common.DEFAULT_MODEL]


def test_the_app_keeps_no_setting_in_streamlit_that_needs_another_machine() -> None:
    assert st.get_option("browser.gatherUsageStats") is False
    assert st.get_option("server.address") == "localhost"


# ---- what the browser is given -----------------------------------------------------------------------------


def test_maps_reach_the_browser_as_png_and_photos_as_they_are() -> None:
    sent: list[tuple[str, str]] = []

    def keep(*_: object, **options: str) -> None:
        sent.append((options["alt"], options["output_format"]))

    colours = np.zeros((4, 4, 3), np.uint8)
    views.show_picture(to_png(colours), "map", place=SimpleNamespace(image=keep))
    views.show_picture(to_jpeg(colours), "photo", place=SimpleNamespace(image=keep))
    assert sent == [("map", "PNG"), ("photo", "JPEG")]
    for path in (ROOT / "app_pages").glob(
        "*.py"
    ):  # all files of pictures go this way; what is left are addresses and drawings
        calls = re.findall(r"\.image\((.+)", path.read_text(encoding="utf-8"))
        assert not [call for call in calls if "to_png" in call or "laid(" in call or "enlarged" in call], path.name
