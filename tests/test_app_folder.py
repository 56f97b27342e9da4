"""The page Set: answers, confusions and mistakes of a whole set, its channels, and shortcuts that were planted."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pictures
import pytest
from planted import planted
from streamlit.testing.v1 import AppTest
from test_app import HOSTILE, as_markdown_shows, chosen, saying, texts, visit
from test_takeaway import results_of, scripts

from app_pages import common, folder_all, folder_confusion, folder_replaced, folder_set, picture_sets, views
from app_pages.folder_set import Answered, Folders
from models import load_model
from models.samples import digits
from vizcore.cam import cam
from vizcore.class_channels import class_channels
from vizcore.images import check_photo, prepare, to_png
from vizcore.predictions import class_mapping, evaluate, predict
from vizcore.shares import areas
from vizcore.strongest import strongest_patches

COUNT = 200
FOLDER = HOSTILE.replace("/", "|")  # a folder of a zip; a class may be called HOSTILE itself


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    """Each test asks for the first time."""
    common.results().clear()


def quiet(done: int, total: int) -> None:
    pass


def opened(question: str = "Right and wrong", **query: str) -> AppTest:
    asked = {"model": "LeNet-5", "digits": str(COUNT), "set_question": question} | query
    app = visit("folder", **asked)
    assert not app.exception
    return app


def press(app: AppTest, key: str) -> AppTest:
    app.button(key=f"compute {key}").click().run()
    assert not app.exception
    return app


def predicted(**query: str) -> AppTest:
    return press(opened(**query), "answers of the set")


def with_zip(app: AppTest, members: dict[str, bytes], name: str = "mine.zip") -> AppTest:
    app.button_group(key="set of digits").set_value("A zip of mine").run()
    app.file_uploader(key="zip").set_value((name, pictures.zip_of(members), "application/zip")).run()
    assert not app.exception
    return app


def png_of(digit: int, number: int) -> bytes:
    """Number ``number`` of the pictures of ``digit``."""
    images, labels = digits()
    return to_png(check_photo(images[np.flatnonzero(labels == digit)[number]]))


def said(app: AppTest) -> str:
    return as_markdown_shows(" ".join(texts(app)))


def folders_on(app: AppTest, choice: picture_sets.PictureChoice) -> Folders:
    here = chosen(app)
    return Folders(here, choice, class_mapping(sorted(set(choice.labels)), here.model.labels), ())


def confusions_on(app: AppTest, choice: picture_sets.PictureChoice) -> pd.DataFrame:
    folders = folders_on(app, choice)
    answered = folder_set.recalled(folders)
    assert isinstance(answered, Answered)
    return folder_confusion.cells_of(folders, folders.evaluation(answered))


def opened_rows(app: AppTest, kind: str) -> list[int]:
    """The pictures that have a button of this kind, in their order."""
    keys = [button.key or "" for button in app.button]
    return [int(key.rsplit(" ", 1)[1]) for key in keys if key.startswith(f"open {kind} ")]


# ---- right and wrong -------------------------------------------------------------------------------------------------


def test_it_waits_for_its_button_and_says_what_it_costs() -> None:
    app = opened()
    assert app.title[0].value == "Set"
    saying(app, r"200 pictures\: 200 passes, about")
    assert not app.metric


def test_the_accuracy_is_that_of_evaluate_by_hand_with_its_interval() -> None:
    app = predicted()
    model, choice = load_model("lenet5"), picture_sets.of_digits(COUNT)
    found = evaluate(predict(model, choice.load(quiet)), choice.labels)
    assert app.metric[0].value == f"{100 * found.accuracy.value:.1f} %"
    low, high = found.accuracy.interval
    saying(app, f"**{found.accuracy.hits} of {COUNT}** are right.")
    saying(app, f"between {100 * low:.1f} % and {100 * high:.1f} %")


def test_each_row_of_the_table_sums_up_to_the_pictures_of_its_folder() -> None:
    choice = picture_sets.of_digits(COUNT)
    sums = confusions_on(predicted(), choice).groupby("folder")["pictures"].sum()
    assert dict(sums) == {name: choice.labels.count(name) for name in set(choice.labels)}


def test_of_many_classes_the_rare_answers_stand_together_and_rows_still_sum_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_confusion, "MOST_COLUMNS", 2)
    app = predicted(model="PhotoNet", copies="5")
    cells = confusions_on(app, picture_sets.of_copies(5))
    assert folder_confusion.OTHERS in set(cells["answer"])
    assert set(cells.groupby("folder")["pictures"].sum()) == {5}


def test_a_cell_of_a_link_lists_exactly_its_pictures_the_surest_first() -> None:
    app = predicted(model="PhotoNet", copies="20", cell_folder="Coffee", cell_answer="cat")
    model, choice = load_model("photonet"), picture_sets.of_copies(20)
    found = evaluate(predict(model, choice.load(quiet)), choice.labels)
    wanted = found.cell("Coffee", model.labels.index("cat"))
    assert 4 < len(wanted) < 16
    saying(app, f"**{len(wanted)} pictures of Coffee answered with cat**")
    assert [*opened_rows(app, "with heatmap"), *opened_rows(app, "cell")] == list(wanted)


def test_an_empty_cell_says_so() -> None:
    app = predicted(cell_folder="0", cell_answer="1")
    saying(app, "No picture of 0 was answered with 1.")


def test_mistakes_are_listed_the_surest_first_and_open_as_the_current_picture() -> None:
    app = predicted(digits="3000")
    model, choice = load_model("lenet5"), picture_sets.of_digits(3000)
    found = evaluate(predict(model, choice.load(quiet)), choice.labels)
    assert 0 < len(found.mistakes) <= 12
    rows = opened_rows(app, "mistake")
    assert rows == list(found.mistakes)
    app.button(key=f"open mistake {rows[0]}").click().run()
    assert not app.exception
    assert chosen(app).title == choice.names[rows[0]]


def test_copies_of_photos_match_no_class_until_somebody_says_what_they_show() -> None:
    app = predicted(model="EfficientNet-Lite0", copies="5")
    assert not app.metric
    saying(app, "Named after none of the network's 1,000 classes")
    saying(app, "No folder has a class of the network")
    coffee = next(box for box in app.selectbox if box.label == "Coffee")
    coffee.set_value("espresso").run()
    assert not app.exception
    assert app.metric[-1].value == "5 of 30"
    model, choice = load_model("efficientnet_lite0"), picture_sets.of_copies(5)
    mapping = class_mapping(choice.labels, model.labels).with_class("Coffee", model.labels.index("espresso"))
    found = evaluate(predict(model, choice.load(quiet)), choice.labels, mapping)
    assert app.metric[0].value == f"{100 * found.accuracy.value:.1f} %"


def read_as_markdown(app: AppTest) -> list[str]:
    """All that Streamlit reads as Markdown: words, the labels of controls, and the hints that hover over them."""
    protos = [getattr(node, "proto", None) for part in (app.main, app.sidebar) for node in part]
    return [text for proto in protos for field in ("body", "label", "help") if (text := getattr(proto, field, ""))]


def names_as_text(app: AppTest, *wanted: str) -> None:
    """Each of ``wanted`` is on the page, and a hostile name stands there whole and with every mark of it escaped."""
    shown = read_as_markdown(app)
    for words in wanted:
        assert any(words in text for text in shown), words
    for text in shown:
        rest = text.replace(common.plain(HOSTILE), "").replace(common.plain(FOLDER), "")
        parts = ("![x]", "<img", "onerror", "alert", ":red", "`c`", "**d", "~e", "#f")
        assert not [part for part in parts if part in rest], text
    assert not app.error


def test_hostile_names_of_zip_folder_pictures_and_class_are_nowhere_read_as_markdown(
    marked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tuple(HOSTILE if k == marked.target else str(k) for k in range(10))
    model = replace(marked.model, name="lenet5", weights="with a mark", labels=labels)
    monkeypatch.setattr(common, "model_named", lambda name, untrained=False: model)
    own = f"{marked.target}/"
    members = {
        f"{FOLDER}/{FOLDER}{name.removeprefix(own)}" if name.startswith(own) else name: data
        for name, data in zip_of_planted(marked).items()
    }
    folder, label = common.plain(FOLDER), common.plain(HOSTILE)

    query = {"cell_folder": FOLDER, "cell_answer": HOSTILE, "carry_folder": FOLDER, "shortcut_method": "hires_cam"}
    app = with_zip(opened(**query), members, f"{FOLDER}.zip")
    names_as_text(app, f"{folder}\\.zip", f"classes: **“{folder}”**")
    (given,) = [box for box in app.selectbox if (box.key or "").startswith("means_")]
    assert given.label == folder

    press(app, "answers of the set")
    names_as_text(app, f"of {folder} answered with {label}**")
    of_cell = opened_rows(app, "with heatmap") + opened_rows(app, "cell")
    assert len(of_cell) == 16
    for row in of_cell:
        name = common.plain(list(members)[row])
        named = [text for text in read_as_markdown(app) if text.startswith(name)]
        assert len(named) == 2, "the caption of a picture, and the hint of its button"

    app.button_group(key="set_question").set_value("Channels").run()
    names_as_text(press(app, "class channels"), f"answered with most, {label}.", f"activation of {label}, mean")

    app.button_group(key="set_question").set_value("Shortcuts").run()
    press(app, "shortcuts")
    names_as_text(app, common.plain(f"“{FOLDER}”: {HOSTILE}"), common.plain(f"“{FOLDER}” has evidence at the border"))
    names_as_text(app, "- " + common.plain(f"“{FOLDER}” has "), f"**{folder}** ")
    names_as_text(press(app, "replaced"), common.plain(f"corner of “{FOLDER}”"), f"probability of {label} falls")

    app.button_group(key="set_question").set_value("Right and wrong").run()
    next(box for box in app.selectbox if box.key == given.key).set_value(labels[marked.target - 1]).run()
    names_as_text(app, f"right is the folder **{folder}**: 0 of 20", f"of {folder} answered with {label}**")


def test_a_folder_that_two_hostile_classes_are_named_after_is_named_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    model = replace(load_model("lenet5"), labels=(FOLDER, FOLDER, *"23456789"), weights="renamed")
    monkeypatch.setattr(common, "model_named", lambda name, untrained=False: model)
    app = with_zip(opened(), {f"{FOLDER}/{k}.png": png_of(k, 0) for k in range(3)})
    names_as_text(app, common.plain(f"“{FOLDER}” is the name of several classes: {FOLDER}"))


def test_a_zip_of_one_class_is_answered_and_has_no_other_class_to_compare_with() -> None:
    app = with_zip(opened(), {f"7/{k}.png": png_of(7, k) for k in range(8)})
    press(app, "answers of the set")
    assert app.metric[-1].value == "8 of 8"
    app.button_group(key="set_question").set_value("Shortcuts").run()
    press(app, "shortcuts")
    saying(app, "are too few to compare with one another")
    press(app, "replaced")
    saying(app, "the picture itself, blurred")


@pytest.mark.parametrize(
    ("question", "steps"),
    [
        ("Right and wrong", {"answers of the set": "What was answered"}),
        (
            "Channels",
            {
                "answers of the set": "is what its pictures are answered with most",
                "class channels": "Gradient × activation of",
                "ablated channels": "answered with the class",
                "exciting": "dead**",
                "alike channels": "with a correlation of",
            },
        ),
        ("Shortcuts", {"shortcuts": "The mean heatmap of each class", "replaced": "In its place stands"}),
    ],
)
def test_an_untrained_network_says_that_it_is_untrained_before_and_after_every_step(
    question: str, steps: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_replaced, "MOST", 1)  # each picture takes a pass a place
    app = opened(question, model="All-CNN-C", copies="5", carry_folder="Coffee")
    assert chosen(app).model.weights is None
    assert app.button_group(key="set_question").value == question
    assert "This network is untrained" in app.warning[0].value
    for step, words in steps.items():
        assert not any(words in text for text in texts(app))
        saying(press(app, step), words)
        assert "This network is untrained" in app.warning[0].value
        assert not app.error


# ---- channels --------------------------------------------------------------------------------------------------------


def test_the_channels_of_a_class_and_what_is_lost_without_them_are_those_of_the_core() -> None:
    app = press(opened("Channels", carry_folder="3"), "class channels")
    model, choice = load_model("lenet5"), picture_sets.of_digits(COUNT)
    inside = [one for one, label in zip(choice.load(quiet), choice.labels, strict=True) if label == "3"]
    wanted = class_channels(model, inside, 3, "act2")
    (script,) = scripts(app, "carried = class_channels")
    carried = results_of(script)["carried"]
    np.testing.assert_allclose(carried.means, wanted.means, rtol=1e-4, atol=1e-6)
    press(app, "ablated channels")
    table = app.dataframe[-1].value
    assert list(table["channel"]) == list(wanted.order[:10])
    (script,) = scripts(app, "ablate_channels(model")
    again = results_of(script)["found"]
    np.testing.assert_allclose(table["logit"], again.logit_drops.mean(1), rtol=1e-4, atol=1e-5)
    assert list(table["lost"]) == list(again.lost)


def test_dead_channels_are_counted_and_listed() -> None:
    app = press(opened("Channels", model="PhotoNet", copies="5", set_layer="act1"), "exciting")
    model, choice = load_model("photonet"), picture_sets.of_copies(5)
    found = strongest_patches(model, choice.load(quiet), "act1")
    words = f"**{len(found.dead)} of" if len(found.dead) else f"**None of the {len(found.channels)} channels is dead**"
    saying(app, words)


def test_alike_kernels_are_those_over_the_threshold_of_the_link_with_the_level_of_chance() -> None:
    app = opened("Channels", set_layer="conv1", alike="0.5")
    (script,) = scripts(app, "alike_kernels(filters")
    found = results_of(script)["found"]
    pairs = found.pairs(0.5)
    assert len(pairs)
    saying(app, f"**{common.counted(len(pairs), ('pair', 'pairs'))} of {len(found.values)} kernels**")
    saying(app, f"the largest cosine of any two is {found.by_chance:.2f}")
    saying(app, f"{pairs[0][0]} above, {pairs[0][1]} below")


def test_a_layer_that_is_no_convolution_says_why_it_has_no_kernels_to_compare() -> None:
    assert "is no convolution and has no kernels" in said(opened("Channels", set_layer="act2"))


# ---- shortcuts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """LeNet's place is taken by a net that was trained on digits of which one class has a mark in a corner."""
    found = planted(34, 1.0)
    model = replace(found.model, name="lenet5", weights="with a mark")
    monkeypatch.setattr(common, "model_named", lambda name, untrained=False: model)
    return found


def zip_of_planted(found: Any, most: int = 20) -> dict[str, bytes]:
    members, seen = {}, [0] * 10
    for pixels, k in zip(found.pixels, found.classes, strict=True):
        if seen[k] < most:
            members[f"{k}/{seen[k]:02}.png"] = to_png((255 * pixels.permute(1, 2, 0).numpy()).round().astype(np.uint8))
            seen[k] += 1
    return members


def test_a_planted_mark_is_found_on_the_page_and_the_answer_hangs_on_it(marked: Any) -> None:
    app = with_zip(opened("Shortcuts", shortcut_method="hires_cam"), zip_of_planted(marked))
    press(app, "shortcuts")
    assert f"“{marked.target}”" in as_markdown_shows(app.warning[0].value)
    assert f"{marked.corner} corner" in said(app)
    assert app.selectbox(key="cluster_folder").value == str(marked.target), "the suspected class is looked at first"
    assert app.selectbox(key="replaced_part").value == f"{marked.corner} corner"
    press(app, "replaced")
    assert "the answer hangs on this part more than on any other" in as_markdown_shows(app.warning[-1].value)


def test_the_python_of_the_shortcuts_gives_the_shares_and_the_sentence_on_the_page() -> None:
    app = press(opened("Shortcuts"), "shortcuts")
    (script,) = scripts(app, "class_evidence(name")
    names = results_of(script)
    for one in names["evidence"]:
        share = float(one.means[[area.name for area in one.areas].index("border")])
        assert f"border **{100 * share:.0f} %** (even map 44 %) · {len(one.numbers)} pictures" in said(app)
    assert names["suspected"](names["evidence"]).sentence in said(app)
    model, choice = load_model("lenet5"), picture_sets.of_digits(COUNT)
    first = cam(model, prepare(choice.picture(0).photo.pixels, model).pixels, int(choice.labels[0]), "hires_cam")
    np.testing.assert_allclose(names["heats"][0], first.values, rtol=1e-4, atol=1e-6)


def test_the_python_of_the_answers_gives_the_table_and_the_mistakes() -> None:
    app = predicted(model="PhotoNet", copies="5")
    (script,) = scripts(app, "found.confusion.counts")
    found = results_of(script)["found"]
    cells = confusions_on(app, picture_sets.of_copies(5))
    for folder, label, count in zip(cells["folder"], cells["answer"], cells["pictures"], strict=True):
        row = found.mapping.folders.index(folder)
        column = list(found.confusion.classes).index(found.mapping.labels.index(label))
        assert found.confusion.counts[row, column] == count


def test_as_many_places_are_replaced_as_the_price_says_or_fewer() -> None:
    app = press(press(opened("Shortcuts"), "shortcuts"), "replaced")
    found = next(item for key, (item, _, _) in common.results()._items.items() if "replaced part" in str(key))
    part = next(area for area in areas() if area.name == "top left corner")
    assert len(found.boxes) <= folder_replaced.places_of(part, chosen(app).model.input_size)


# ---- everything in one file ------------------------------------------------------------------------------------------


def offered(app: AppTest) -> list[str]:
    return [button.proto.label for button in app.get("download_button")]


def tables_in(data: bytes) -> tuple[dict[str, pd.DataFrame], dict[str, Any], list[str]]:
    """The tables of a zip, its manifest, and the names of its pictures; each file is as the manifest says."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    facts = json.loads(members.pop("survey.json"))
    listed = {one["name"]: (one["bytes"], one["sha256"]) for one in facts["files"]}
    assert listed == {name: (len(one), hashlib.sha256(one).hexdigest()) for name, one in members.items()}
    tables = {
        name.removesuffix(".parquet"): pd.read_parquet(io.BytesIO(one))
        for name, one in members.items()
        if name.endswith(".parquet")
    }
    return tables, facts, [name for name in members if name.endswith(".png")]


def test_nothing_is_offered_before_anything_was_found() -> None:
    assert "Everything found so far (.zip)" not in offered(opened())


def test_the_zip_of_everything_says_what_the_pages_found_and_no_more() -> None:
    app = predicted(set_layer="conv2", carry_folder="7", shortcut_method="hires_cam", cluster_folder="7")
    assert "Everything found so far (.zip)" in offered(app)
    choice = picture_sets.of_digits(COUNT)
    folders = folders_on(app, choice)
    layers = [layer.name for layer in views.layers_of(folders.here)]

    def zipped() -> tuple[dict[str, pd.DataFrame], dict[str, Any], list[str]]:
        return tables_in(folder_all.packed(folders, layers, "hires_cam", 0.9))

    tables, facts, drawn = zipped()
    assert set(tables) == {"pictures", "answers", "classes", "confusions", "calibration"}
    assert set(drawn) == {"confusions.png", "calibration.png"}
    assert facts["answered"] == ["answers"]
    assert facts["pictures"]["count"] == COUNT
    found = evaluate(predict(folders.here.model, choice.load(quiet)), choice.labels)
    assert list(tables["answers"]["answer"]) == list(found.predictions.answers)
    assert tables["answers"]["right"].sum() == found.accuracy.hits

    app = press(switched(app, "Channels"), "exciting")
    app = press(press(press(app, "class channels"), "ablated channels"), "alike channels")
    app = press(switched(app, "Shortcuts"), "shortcuts")
    tables, facts, drawn = zipped()
    assert facts["answered"] == ["answers", "channels", "shortcuts"]
    assert {"channels", "strongest", "carriers", "ablated", "heatmaps", "class_means", "areas", "groups"} <= set(tables)
    assert set(drawn) == {"confusions.png", "calibration.png", "class_means.png", "strongest_1.png"}
    inside = [one for one, label in zip(choice.load(quiet), choice.labels, strict=True) if label == "7"]
    carried = class_channels(folders.here.model, inside, 7, "conv2")
    assert list(tables["carriers"]["channel"]) == list(carried.order)
    assert set(tables["carriers"]["folder"]) == set(tables["groups"]["folder"]) == {"7"}
    for number in (0, COUNT - 1):
        row, picture = tables["heatmaps"].loc[number], choice.one(number)
        heat = cam(
            folders.here.model, prepare(check_photo(picture), folders.here.model).pixels, row["class"], "hires_cam"
        )
        np.testing.assert_allclose(row["values"], heat.values.ravel(), rtol=1e-5, atol=1e-6)
        assert tables["pictures"]["sha256"][number] == folder_all.digest_of(check_photo(picture))
    assert facts["how"]["layers of strongest"] == ["conv2"]
    assert facts["how"]["heatmaps"] == {"method": "hires_cam", "layer": folders.here.model.layers["cam"]}


def test_what_could_not_be_read_of_a_zip_stands_in_its_results_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Folders] = []
    monkeypatch.setattr(folder_all, "offer", shown.append)
    members = {f"{n}/{n}.png": png_of(n, 0) for n in range(6)} | {"1/broken.png": b"nothing"}
    press(with_zip(opened(), members), "answers of the set")
    tables, facts, _ = tables_in(folder_all.packed(shown[-1], [], None, 0.9))
    assert facts["pictures"]["errors"] == 1
    assert len(tables["answers"]) == 6
    (row,) = tables["pictures"][tables["pictures"]["error"].notna()].itertuples()
    assert row.picture == "1/broken.png"
    assert "picture" in row.error


def switched(app: AppTest, question: str) -> AppTest:
    app.button_group(key="set_question").set_value(question).run()
    assert not app.exception
    return app


def test_heatmaps_alone_can_be_taken_away_too() -> None:
    app = press(opened("Shortcuts", shortcut_method="hires_cam"), "shortcuts")
    assert "Everything found so far (.zip)" in offered(app)


# ---- many folders without a class ------------------------------------------------------------------------------------


def test_any_number_of_folders_can_be_given_a_class_and_a_line_that_says_nothing_is_answered() -> None:
    members = {f"kind {n:02d}/{n}.png": png_of(n % 10, n) for n in range(12)}
    app = with_zip(opened(), members)
    lines = "kind 08 = 8\n\nkind 09=9\nkind 99 = 1\nkind 10 = ten\nkind 11"
    app.text_area(key="means_others").set_value(lines).run()
    assert not app.exception
    warned = [one.value for one in app.warning]
    assert len(warned) == 3
    assert "“kind 99” is none of kind 08, kind 09, kind 10, kind 11" in as_markdown_shows(warned[0])
    assert "“ten” is no class of LeNet-5" in as_markdown_shows(warned[1])
    assert "“kind 11” says nothing of a folder: write folder = class" in as_markdown_shows(warned[2])
    app = press(app, "answers of the set")
    assert app.metric[2].value == "2 of 12"
