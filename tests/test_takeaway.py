"""What a person takes away: the Python gives the page's numbers, the archive has them all, the figure can be read."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest
from test_app import compute_all

from app_pages import common, evidence_cascade, evidence_fooled, looks_for, picture_sets, set_maps, takeaway, views
from app_pages.explained import Explained
from app_pages.occlusion_runs import Occlusion
from app_pages.parts import Parts
from app_pages.pixelwise import Pixelwise
from vizcore import figures
from vizcore.colour import Scale
from vizcore.export import to_figure, to_npz
from vizcore.records import ActivationMaps, Embedding, Filters, Heatmap

ROOT = Path(__file__).resolve().parent.parent


def visit(page: str, **query: str) -> AppTest:
    app = AppTest.from_file(ROOT / "app.py", default_timeout=180)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    app.switch_page(f"app_pages/{page}.py").run()
    assert not app.exception
    return app


def chosen(app: AppTest) -> common.Chosen:
    return app.session_state["chosen"]


def scripts(app: AppTest, call: str) -> list[str]:
    """The Python that the page offers for results of ``call``."""
    found = [code.value for code in app.code if call in code.value]
    assert found, f"No script on the page calls {call!r}"
    return found


def results_of(script: str) -> dict[str, Any]:
    """What a script leaves behind that starts from nothing; the files it writes go with their folder."""
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder if Path.cwd() == ROOT else "."):
        exec(compile(script, "taken away", "exec"), names)
    return names


# ---- Python -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["EfficientNet-Lite0", "LeNet-5"])
def test_the_python_of_a_heatmap_gives_the_heatmap_on_the_page(model: str) -> None:
    app = visit("heatmaps", model=model)
    app.button_group(key="methods").set_value(["grad_cam", "layer_cam"]).run()
    seen = []
    for script in scripts(app, "cam(model, view.pixels"):
        heat = results_of(script)["heat"]
        shown = views.heat_of(chosen(app), heat.method, heat.target, heat.layer)
        np.testing.assert_allclose(heat.values, shown.values, rtol=1e-4, atol=1e-6 * np.abs(shown.values).max())
        assert heat.score == pytest.approx(shown.score, rel=1e-5)
        seen.append((heat.method, heat.target))
    assert len(set(seen)) == 4, "two methods and two classes"


def test_the_python_of_an_attribution_gives_the_map_on_the_page() -> None:
    app = visit("heatmaps", model="PhotoNet")
    app.button_group(key="methods").set_value([])
    app.button_group(key="methods_by_pixel").set_value(["gradient_x_input", "smooth_grad", "guided_grad_cam"]).run()
    compute_all(app)
    app.button_group(key="view").set_value("signed").run()
    here = chosen(app)
    grid, seen = Pixelwise(here, here.model.layers["cam"], "signed"), set()
    for script in scripts(app, ".heatmap('signed')"):
        done = results_of(script)
        heat = done["heat"]
        shown = grid.compute(heat.method, heat.target)
        np.testing.assert_allclose(heat.values, shown.values, rtol=1e-4, atol=1e-5 * np.abs(shown.values).max())
        assert dict(heat.params) == dict(shown.params)
        assert done["picture"].shape == here.photo.shape
        seen.add((heat.method, heat.target))
    assert len(seen) == 6, "three methods and two classes"


@pytest.mark.parametrize("method", ["Grad-CAM", "Guided Grad-CAM"])
def test_the_python_of_each_kind_of_evidence_gives_what_is_on_the_page(method: str) -> None:
    def ask(question: str, marker: str) -> tuple[AppTest, dict[str, Any]]:
        app = visit("evidence", model="PhotoNet", evidence_method=method, question=question)
        (script,) = scripts(compute_all(app), marker)
        return app, results_of(script)

    def explained(app: AppTest) -> Explained:
        here = chosen(app)
        name = {"Grad-CAM": "grad_cam", "Guided Grad-CAM": "guided_grad_cam"}[method]
        return Explained(here, name, here.model.layers["cam"], "absolute")

    app, done = ask("Remove pixels", "curves(")
    for kind in ("deletion", "insertion"):
        shown = common.recall(("curves", *explained(app).key, chosen(app).target, kind, "blur"))
        assert shown is not None
        np.testing.assert_allclose(done[kind].curve.scores, shown.curve.scores, rtol=1e-3, atol=1e-4)
        assert done[kind].params == shown.params
    app, done = ask("Randomise weights", "cascade(")
    key = ("cascade", *explained(app).key, chosen(app).target, evidence_cascade.STAGES, evidence_cascade.REPEATS)
    assert done["found"].verdict == common.recall(key).verdict
    app, done = ask("Other methods", "agreement(")
    shown = common.recall(("agreement", *explained(app).key, explained(app).layer, chosen(app).target))
    assert done["found"].names == shown.names
    np.testing.assert_allclose(done["found"].correlations, shown.correlations, atol=1e-3)
    app, done = ask("Another class", "difference = ")
    here = chosen(app)
    rival = next(int(k) for k in here.ranking if k != here.target)
    mine, other = explained(app).heat(), explained(app).heat(rival)
    np.testing.assert_allclose(done["difference"], mine.values - other.values, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("model", ["PhotoNet", "Spatial-transformer LeNet"])
def test_the_python_of_the_layers_gives_the_advice_on_the_page(model: str) -> None:
    app = compute_all(visit("evidence", model=model, question="Another layer"))
    (script,) = scripts(app, "advise(")
    here, done = chosen(app), results_of(script)
    shown = common.recall(
        ("advice", here.model.title, here.digest, "grad_cam", here.target, tuple(done["maps"]), "blur")
    )
    for made, one in zip(done["found"].layers, shown.layers, strict=True):
        assert (made.layer, made.size) == (one.layer, one.size)
        np.testing.assert_allclose([made.merit, *made.moved], [one.merit, *one.moved], rtol=1e-3, atol=2e-3)
    assert done["found"].params == shown.params


@pytest.mark.parametrize("method", ["SmoothGrad", "RISE"])
def test_the_python_of_the_seeds_gives_the_spread_on_the_page(method: str) -> None:
    app = visit("evidence", model="PhotoNet", evidence_method=method, question="Other methods")
    (script,) = scripts(compute_all(app), "spread(")
    here, done = chosen(app), results_of(script)
    one = Explained(here, {"SmoothGrad": "smooth_grad", "RISE": "rise"}[method], here.model.layers["cam"], "absolute")
    shown = common.recall(("seeds", *one.key, here.target, 3))
    assert done["found"].count == shown.count == 3
    assert done["found"].chance == pytest.approx(shown.chance, abs=1e-2)
    assert done["found"].agreement == pytest.approx(shown.agreement, abs=1e-2)
    np.testing.assert_allclose(done["found"].deviation, shown.deviation, rtol=1e-2, atol=1e-2 * shown.deviation.max())


@pytest.mark.parametrize("method", ["Grad-CAM", "Gradient × input"])
def test_the_python_of_a_fooled_network_makes_the_picture_and_both_maps_of_the_page(method: str) -> None:
    app = visit("evidence", model="PhotoNet", evidence_method=method, question="A fooled network", attack_size="3")
    (script,) = scripts(compute_all(app), "attack(")
    here, done = chosen(app), results_of(script)
    shown = common.recall(evidence_fooled.Question(here, "pgd", 3, None).key)
    after = int(shown.after.argmax())
    assert done["found"].params == shown.found.params
    assert done["found"].fooled
    np.testing.assert_allclose(done["found"].pixels, shown.found.pixels, atol=1e-3)
    assert done["picture"].shape == (*here.model.input_size, 3)
    assert done["picture"].dtype == np.uint8
    name = {"Grad-CAM": "grad_cam", "Gradient × input": "gradient_x_input"}[method]
    one = Explained(here, name, here.model.layers["cam"], "absolute").heat(after)
    np.testing.assert_allclose(done["before"].values, one.values, rtol=1e-3, atol=1e-5)
    assert done["after"].score > done["before"].score
    assert done["after"].target == done["before"].target == after


@pytest.mark.parametrize("method", ["superpixel_ablation", "rise"])
def test_the_python_of_a_method_that_hides_other_parts_gives_the_map_on_the_page(method: str) -> None:
    app = visit("heatmaps", model="PhotoNet")
    app.button_group(key="methods").set_value([method]).run()
    compute_all(app)
    seen = set()
    for script in scripts(app, {"superpixel_ablation": "superpixel_ablation(", "rise": "rise("}[method]):
        heat = results_of(script)["heat"]
        (shown,) = Parts(chosen(app)).compute(method, [heat.target])
        np.testing.assert_allclose(heat.values, shown.values, rtol=1e-3, atol=1e-5)
        assert heat.params == shown.params
        seen.add(heat.target)
    assert len(seen) == 2


def test_the_python_of_what_a_channel_looks_for_makes_that_picture() -> None:
    app = visit("layers", model="PhotoNet", layer="act1", channel="9")
    app.button(key="compute looks for").click().run()
    (script,) = scripts(app, "maximise(")
    shown = common.recall(("looks for", chosen(app).model.title, "channel", "act1", 9, looks_for.STEPS))
    np.testing.assert_allclose(results_of(script)["picture"], shown.pictures[0], atol=0.02)


@pytest.mark.parametrize("kind", ["unit", "class", "four", "dream"])
def test_the_python_of_each_other_picture_that_a_channel_looks_for_makes_it(kind: str) -> None:
    app = visit("layers", model="PhotoNet", layer="conv2", channel="9", looks_for=looks_for.TITLES[kind])
    app.button(key="compute looks for").click().run()
    assert not app.exception
    here, call = chosen(app), "dream(" if kind == "dream" else "maximise("
    (script,) = scripts(app, call)
    (maps,) = views.maps_of(here, "conv2")
    shown = common.recall(looks_for.Wish(here, kind, maps, 9).key)
    made = results_of(script)["found"]
    assert made.params == shown.params
    np.testing.assert_allclose(made.values, shown.values, rtol=0.05, atol=0.05)
    facts = json.loads(str(np.load(io.BytesIO(to_npz(shown)), allow_pickle=False)["facts"]))
    assert facts["objective"]["layer"] == (None if kind == "class" else "conv2")


@pytest.mark.parametrize(
    ("model", "query"),
    [
        ("PhotoNet", {"layer": "act2", "channel": "5", "copies": "5", "projection": "Guided backpropagation"}),
        ("LeNet-5", {"layer": "conv2", "channel": "3", "digits": "200", "projection": "Gradient"}),
    ],
)
def test_the_python_of_the_pictures_that_excite_a_channel_finds_them(model: str, query: dict[str, str]) -> None:
    app = visit("layers", model=model, **query)
    app.button(key="compute exciting").click().run()
    assert not app.exception
    here, layer, channel = chosen(app), query["layer"], int(query["channel"])
    choice = picture_sets.of_digits(200) if model == "LeNet-5" else picture_sets.of_copies(5)
    (script,) = scripts(app, "strongest_patches(")
    done = results_of(script)
    shown = common.recall(("strongest", here.model.title, choice.key, layer)).of(channel)
    for name in ("pictures", "places", "boxes"):
        np.testing.assert_array_equal(getattr(done["found"], name), getattr(shown, name))
    np.testing.assert_allclose(done["found"].activations, shown.activations, rtol=1e-4)
    method = {"Gradient": "gradient", "Guided backpropagation": "guided_backpropagation"}[query["projection"]]
    sent = common.recall(("projections", here.model.title, choice.key, layer, channel, method))
    for made, whole, (left, top, right, bottom) in zip(done["projections"], sent.values, shown.boxes[0], strict=True):
        np.testing.assert_allclose(made, whole[:, top:bottom, left:right], rtol=1e-3, atol=1e-5)
    assert [patch.shape[1:] for patch in done["patches"]] == [
        (bottom - top, right - left) for left, top, right, bottom in shown.boxes[0]
    ]


def test_the_python_of_occlusion_gives_the_heatmap_on_the_page() -> None:
    app = visit("heatmaps", model="LeNet-5", digit="Digit 7")
    app.button_group(key="methods").set_value(["occlusion"]).run()
    app.number_input(key="window of lenet5").set_value(7).run()
    app.number_input(key="stride of lenet5").set_value(5).run()
    app.button_group(key="baseline").set_value("black").run()
    app.button_group(key="score").set_value("probability").run()
    app.button(key="compute occlusion").click().run()
    assert not app.exception
    for script in scripts(app, "occlusion(model, view.pixels"):
        heat = results_of(script)["heat"]
        key = views.heat_key(chosen(app), "occlusion", heat.target, None, 7, 5, "black", "probability")
        shown = common.results().get(key)
        np.testing.assert_allclose(heat.values, shown.values, rtol=1e-4, atol=1e-6)
        assert dict(heat.params) == dict(shown.params)


def test_the_python_of_an_estimate_gives_the_estimate_on_the_page() -> None:
    app = visit("heatmaps", model="LeNet-5", digit="Digit 8")
    app.button_group(key="methods").set_value(["occlusion"]).run()
    app.number_input(key="stride of lenet5").set_value(3).run()
    question = Occlusion(chosen(app), 4, 3)
    for script in scripts(app, "estimate_occlusion(model, view.pixels"):
        heat = results_of(script)["heat"]
        shown = question.estimate(heat.target)
        np.testing.assert_allclose(heat.values, shown.values, rtol=1e-4, atol=1e-6)
        assert heat.method == shown.method == "occlusion_estimate"


def test_an_occlusion_that_was_stopped_says_so_in_all_that_is_taken_away_and_its_python_hides_all_windows() -> None:
    app = visit("heatmaps", model="LeNet-5", digit="Digit 8")
    app.button_group(key="methods").set_value(["occlusion"]).run()
    app.number_input(key="stride of lenet5").set_value(4).run()
    here, question = chosen(app), Occlusion(chosen(app), 4, 4)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        question.compute([here.target], stop)
    app.run()
    heat = question.best(here.target).heat
    facts = json.loads(str(np.load(io.BytesIO(to_npz(heat)), allow_pickle=False)["facts"]))
    assert facts["method"] == "occlusion"
    assert re.match(r"Stopped early: \d+ of 49 windows were hidden", facts["notes"][0])
    offered: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(takeaway, "offer", lambda *args: offered.append(args))
        patch.setattr(figures, "to_figure", lambda *args, lines, **options: "\n".join(lines).encode())
        takeaway.offer_heatmap(here, heat, Scale.of(heat), 0.6)
        (_, _, record, figure, _, call), *_ = offered
        lines = figure().decode()
    assert record is heat
    assert "Stopped early" in lines
    assert "# On the page: Stopped early" in call
    (script,) = [script for script in scripts(app, "heat = occlusion(") if "Stopped early" in script]
    made = results_of(script)["heat"]
    assert made.notes == ()
    assert not np.allclose(made.values, heat.values)
    (whole,) = question.compute([here.target], lambda done, total: None)
    np.testing.assert_allclose(made.values, whole.values, rtol=1e-4, atol=1e-5)


def test_the_python_of_the_layers_page_gives_its_filters_and_its_maps() -> None:
    app = visit("layers", picture="Coffee")
    here = chosen(app)
    bank = results_of(scripts(app, "filters(model)")[0])["bank"]
    np.testing.assert_array_equal(bank.values, views.bank_of(here).values)
    maps = results_of(scripts(app, "activation_maps(")[0])["maps"]
    (shown,) = views.maps_of(here, app.selectbox(key="layer").value)
    assert maps.layer == shown.layer
    np.testing.assert_allclose(maps.values, shown.values, rtol=1e-4, atol=1e-5)


def test_the_python_of_an_uploaded_photo_reads_the_file_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = 'it\'s "mine" $x$ {a}.jpg'
    turned = pictures.with_exif(pictures.scene(2000, 3000), {pictures.ORIENTATION: 6}, "JPEG")
    (tmp_path / name).write_bytes(turned)
    app = visit("heatmaps", model="LeNet-5")
    app.button_group(key="source").set_value("Upload").run()
    app.file_uploader(key="upload").set_value((name, turned, "image/jpeg")).run()
    app.button_group(key="methods").set_value(["grad_cam"]).run()
    assert not app.exception
    monkeypatch.chdir(tmp_path)
    done = results_of(scripts(app, "cam(model")[0])
    np.testing.assert_array_equal(done["photo"], chosen(app).photo)
    assert done["photo"].shape == (common.PHOTO_SIDE, round(common.PHOTO_SIDE * 2 / 3), 3)
    shown = views.heat_of(chosen(app), "grad_cam", done["heat"].target, done["heat"].layer)
    np.testing.assert_allclose(done["heat"].values, shown.values, rtol=1e-4, atol=1e-6)


def test_the_python_of_an_inverted_digit_inverts_it() -> None:
    app = visit("heatmaps", model="LeNet-5", inverted="true", digit="Digit 4")
    done = results_of(scripts(app, "cam(model")[0])
    np.testing.assert_array_equal(done["photo"], chosen(app).photo)
    assert done["photo"].mean() > 128


def test_the_python_of_an_untrained_network_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    app = visit("layers", model="ResNet-18", untrained="true")
    model = results_of(scripts(app, "filters(model)")[0])["model"]
    assert model.weights is None


@pytest.mark.parametrize("model", ["EfficientNet-Lite0", "LeNet-5"])
def test_the_python_of_a_picked_picture_makes_that_picture(model: str) -> None:
    app = visit("embedding", model=model)
    here = chosen(app)
    choice = picture_sets.of_digits(200) if model == "LeNet-5" else picture_sets.of_copies(5)
    for row in (0, 7, len(choice) - 1):
        picture = choice.picture(row)
        script = takeaway.python_lines(replace(here, origin=picture.origin, imports=picture.imports), (), "done = True")
        np.testing.assert_array_equal(results_of(script)["photo"], picture.photo.pixels)
        np.testing.assert_array_equal(choice.load(lambda done, total: None)[row], picture.photo.pixels)


WAY = (
    *(("perplexity", 9.0), ("seed", 3), ("iterations", 750), ("early_exaggeration", 12.0)),
    *(("metric", "euclidean"), ("start", "pca")),
)


@pytest.mark.parametrize(
    ("model", "number"),
    [
        ("LeNet-5", {"digits": "200"}),
        pytest.param("EfficientNet-Lite0", {"copies": "5"}, marks=pytest.mark.slow),
    ],
)
def test_the_python_of_an_embedding_gives_the_map_on_the_page(model: str, number: dict[str, str]) -> None:
    app = visit("embedding", model=model, perplexity="9", seed="3", watch="false", **number)
    app.button(key="draw_map").click().run()
    assert not app.exception
    here, layer = chosen(app), app.selectbox(key="feature_layer").value
    pictures_ = picture_sets.of_digits(200) if model == "LeNet-5" else picture_sets.of_copies(5)
    way = set_maps.Way(options=WAY)
    maps = common.recall(set_maps.maps_key(here, pictures_, layer, way))
    for script, shown in zip(scripts(app, "tsne(rows"), (maps.by_features, maps.by_pixels), strict=True):
        done = results_of(script)
        assert len(done["pictures"]) == len(pictures_)
        assert dict(done["embedding"].params) == dict(shown.params)
        # The last digits of a feature depend on how many pictures went through the net at a time.
        assert done["embedding"].kl_divergence == pytest.approx(shown.kl_divergence, rel=0.05)
        assert done["embedding"].trustworthiness == pytest.approx(shown.trustworthiness, abs=0.02)


def test_the_python_of_a_zip_reads_the_pictures_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {f"{k % 2}/{k}.png": pictures.save(pictures.scene(seed=k), "PNG") for k in range(10)}
    data = pictures.zip_of(members)
    (tmp_path / "my 'own'.zip").write_bytes(data)
    app = visit("embedding", model="LeNet-5", perplexity="3", watch="false")
    app.button_group(key="set of digits").set_value(picture_sets.ZIP).run()
    app.file_uploader(key="zip").set_value(("my 'own'.zip", data, "application/zip")).run()
    app.button(key="draw_map").click().run()
    assert not app.exception
    monkeypatch.chdir(tmp_path)
    done = results_of(scripts(app, "tsne(rows")[0])
    _, found, _ = app.session_state["pictures of the zip"]
    assert len(done["pictures"]) == 10
    for taken, shown in zip(done["pictures"], found.pictures, strict=True):
        np.testing.assert_array_equal(taken, shown)


# ---- numbers ------------------------------------------------------------------------------------------------

NUMBERS = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
RECORDS = {
    "heatmap": Heatmap(
        NUMBERS[0], "occlusion", "lenet5", None, 3, -1.25, {"window": (2, 3), "stride": 1, "baseline": "mean"}, ("n.",)
    ),
    "maps": ActivationMaps(NUMBERS, "lenet5", "conv1"),
    "filters": Filters(NUMBERS[None], "lenet5", "conv1", ("red", "green", "blue")),
    "embedding": Embedding(NUMBERS[0, :, :2], 0.5, 0.9, 5, {"perplexity": 30.0, "seed": 0}, ("ünï “quoted”",)),
}


@pytest.mark.parametrize("name", RECORDS)
def test_the_archive_has_every_number_and_every_fact_and_no_pickle(name: str) -> None:
    record = RECORDS[name]
    file = np.load(io.BytesIO(to_npz(record, picture="abc")), allow_pickle=False)
    facts = json.loads(str(file["facts"]))
    assert facts["record"] == type(record).__name__
    assert facts["picture"] == "abc"
    for field, value in vars(record).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(file[field], value)
            assert file[field].dtype == value.dtype
        else:
            assert json.dumps(facts[field]) == json.dumps(dict(value) if field == "params" else value)
    assert set(file.files) | set(facts) == {*vars(record), "facts", "record", "picture"}


# ---- figures ------------------------------------------------------------------------------------------------


def figure(
    title: str = "Grad-CAM of tabby", height: int = 300, width: int = 451, more: tuple[str, ...] = (), **scale: Any
) -> np.ndarray:
    lines = ("one", title, "three", *more)
    picture = pictures.scene(height, width)
    data = to_figure(picture, Scale.of(NUMBERS[0], **scale), title=title, lines=lines, unit="drop of the logit")
    with Image.open(io.BytesIO(data)) as file:
        assert file.format == "PNG"
        return np.asarray(file.convert("RGB"))


@pytest.mark.parametrize(("height", "width"), [(300, 451), (451, 300), (28, 28), (100, 1600)])
def test_a_figure_is_sharp_enough_to_print_and_has_the_form_of_its_picture(height: int, width: int) -> None:
    drawn = figure(height=height, width=width)
    assert 600 <= drawn.shape[1] <= 2000
    assert 300 <= drawn.shape[0] <= 3000
    ink = np.ptp(drawn.astype(int), axis=2) > 12  # the picture and the scale are coloured, the words are not
    rows, columns = np.flatnonzero(ink.sum(1) > ink.shape[1] // 4), np.flatnonzero(ink.any(0))
    assert len(rows) > 0
    assert len(columns) > drawn.shape[1] // 3


@pytest.mark.parametrize("more", [0, 1, 2, 4, 8])
def test_a_figure_has_room_for_its_title_however_many_facts_it_states(more: int) -> None:
    drawn = figure(title="Occlusion, estimated, of a class", more=("Stopped early.",) * more)
    assert (drawn[:6] == 255).all(), "nothing is cut off at the upper edge"
    assert (drawn[-3:] == 255).all(), "nor at the lower"


@pytest.mark.parametrize("name", ["$x$", "$\\frac{1}{", "a $ b", "<b>&amp;", "\\alpha_{", "\N{CAT FACE} 猫", "x" * 300])
def test_any_class_name_can_stand_above_a_figure(name: str) -> None:
    drawn = figure(title=f"Grad-CAM of {name}")
    assert drawn.std() > 10


def test_a_name_between_dollars_is_not_set_as_a_formula() -> None:
    formula, escaped = figure(title="$x$"), figure(title="xxx")
    assert not np.array_equal(formula, escaped)
    assert not np.array_equal(formula, figure(title="x"))


def test_the_legend_of_a_map_shows_dollars_as_they_are() -> None:
    points = np.random.default_rng(1).normal(size=(12, 2)).astype(np.float32)
    embedding = Embedding(points, 0.5, 0.9, 5)
    labels = ["$x$", "$\\frac{", "_hidden", "a\\$b"] * 3
    with Image.open(io.BytesIO(set_maps.dots(embedding, labels))) as file:
        assert file.format == "PNG"
        assert min(file.size) > 500


def test_every_map_of_the_page_can_be_taken_as_a_figure() -> None:
    app = visit("heatmaps", model="LeNet-5")
    here = chosen(app)
    heat = views.heat_of(here, "grad_cam", here.target, here.model.layers["cam"])
    offered: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(takeaway, "offer", lambda *args: offered.append(args))
        takeaway.offer_heatmap(here, heat, Scale.of(heat), 0.6)
    (_, _, record, picture, _, _), *_ = offered
    assert record is heat
    with Image.open(io.BytesIO(picture())) as file:
        assert file.format == "PNG"
