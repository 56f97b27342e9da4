"""The page Embedding: a map that is watched, stopped and gone on with, other maps, and how far to trust them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from test_app import chosen, saying, texts, visit
from test_takeaway import results_of, scripts

from app_pages import common, embedding_live, embedding_placed, embedding_trust, picture_map, picture_sets, set_maps
from app_pages.set_maps import Maps, Way
from vizcore.placing import NEIGHBOURS

OPTIONS = {"perplexity": 9.0, "seed": 3, "iterations": 300, "early_exaggeration": 12.0}
WAY = Way(options=(*OPTIONS.items(), ("metric", "euclidean"), ("start", "pca")))


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    common.results().clear()


def opened(**query: str) -> AppTest:
    asked = {"perplexity": "9", "seed": "3", "iterations": "300", "digits": "200"} | query
    return visit("embedding", model="LeNet-5", **asked)


def drawn(app: AppTest) -> AppTest:
    app.button(key="draw_map").click().run()
    assert not app.exception
    return app


def live_of(app: AppTest) -> embedding_live.Live:
    found = app.session_state[embedding_live.KEY]
    assert isinstance(found, embedding_live.Live)
    return found


def watched(app: AppTest) -> AppTest:
    """Look until the maps are there: a browser looks by itself."""
    for _ in range(200):
        if app.metric:
            return app
        app.run()
        assert not app.exception
    raise AssertionError("the map does not settle")


def maps_on(app: AppTest, way: Way = WAY) -> Maps:
    found = common.recall(set_maps.maps_key(chosen(app), picture_sets.of_digits(200), "act4", way))
    assert isinstance(found, Maps)
    return found


# ---- a map in the making --------------------------------------------------------------------------------------


def test_a_map_that_was_watched_is_the_map_that_is_drawn_at_once() -> None:
    seen = maps_on(watched(drawn(opened())))
    common.results().clear()
    at_once = maps_on(drawn(opened(watch="false")))
    np.testing.assert_array_equal(seen.by_features.points, at_once.by_features.points)
    np.testing.assert_array_equal(seen.by_pixels.points, at_once.by_pixels.points)
    assert dict(seen.by_features.params) == dict(at_once.by_features.params)


def test_while_it_settles_each_look_is_further_and_a_pause_holds_it() -> None:
    app = drawn(opened(iterations="2000"))
    first = live_of(app).features.iteration
    assert "Iteration" in app.progress[0].proto.text
    app.run()
    second = live_of(app).features.iteration
    assert 0 < first < second < 2000
    app.button(key="pause the map").click().run()
    held = live_of(app).features.iteration
    app.run()
    assert live_of(app).features.iteration == held
    assert not app.metric
    app.button(key="pause the map").click().run()
    app.run()
    assert live_of(app).features.iteration > held


def test_a_map_stopped_early_is_kept_says_so_and_its_python_makes_it_again() -> None:
    app = drawn(opened())
    app.button(key="pause the map").click().run()
    iterations = live_of(app).features.iteration
    assert iterations < 250
    app.button(key="stop the map").click().run()
    assert not app.exception
    assert app.metric
    assert "groups are tighter" in " ".join(texts(app))
    maps = maps_on(app, WAY.but(iterations=iterations))
    for script, shown in zip(scripts(app, "run.advance"), (maps.by_features, maps.by_pixels), strict=True):
        done = results_of(script)["embedding"]
        assert dict(done.params) == dict(shown.params)
        assert done.kl_divergence == pytest.approx(shown.kl_divergence, rel=0.05)


def test_a_map_that_is_there_can_go_on_and_comes_to_what_more_iterations_give() -> None:
    app = watched(drawn(opened()))
    app.button(key="go on").click().run()
    assert not app.exception
    assert not app.metric
    watched(app)
    further = maps_on(app, WAY.but(iterations=300 + embedding_live.FURTHER))
    common.results().clear()
    at_once = maps_on(drawn(opened(watch="false", iterations="550")), WAY.but(iterations=550))
    np.testing.assert_array_equal(further.by_features.points, at_once.by_features.points)


def test_a_changed_control_asks_anew_and_the_network_is_not_asked_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    app = watched(drawn(opened()))
    monkeypatch.setattr(set_maps, "extract_features", lambda *args, **kwargs: pytest.fail("another pass"))
    app.number_input(key="seed").set_value(4).run()
    assert not app.metric
    assert "without another pass" in saying(app, "200 pictures")
    watched(drawn(app))
    maps_on(app, WAY.but(seed=4))


def test_a_map_in_the_making_that_holds_much_memory_is_let_go_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_live, "KEPT_BYTES", 1000)
    app = watched(drawn(opened()))
    assert embedding_live.KEY not in app.session_state
    assert "go on" not in [button.key for button in app.button]


def test_a_server_without_memory_refuses_a_map_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened()
    rows_of, asked = set_maps.rows_of, list[int]()

    def refuse(need: int) -> None:
        asked.append(need)
        raise common.Busy("The server has no memory for this now.")

    def rows_then_no_memory(here: common.Chosen, pictures: picture_sets.PictureChoice, layer: str) -> set_maps.Rows:
        found = rows_of(here, pictures, layer)
        monkeypatch.setattr(common, "make_room", refuse)
        return found

    monkeypatch.setattr(set_maps, "rows_of", rows_then_no_memory)
    app.button(key="draw_map").click().run()
    assert not app.exception
    assert "no memory" in app.warning[0].value
    assert asked[0] > 2 * 200 * 200 * 9
    assert embedding_live.KEY not in app.session_state


# ---- other maps -------------------------------------------------------------------------------------------------


def test_a_plane_of_principal_components_is_drawn_at_once_and_has_no_divergence() -> None:
    app = drawn(opened(map_by="PCA"))
    assert app.metric
    said = " ".join(texts(app))
    assert "PCA of the features" in said.replace("\\", "")
    assert "divergence" not in said
    assert not [toggle for toggle in app.toggle if toggle.key == "place"]
    found = results_of(scripts(app, "pca_map(rows")[0])["embedding"]
    assert found.params["method"] == "PCA"


@pytest.mark.slow
def test_umap_is_drawn_where_it_is_installed_and_otherwise_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert drawn(opened(map_by="UMAP")).metric
    common.results().clear()
    monkeypatch.setitem(sys.modules, "umap", None)
    app = drawn(opened(map_by="UMAP"))
    assert "requirements-umap.txt" in app.error[0].value.replace("\\", "")


@pytest.mark.parametrize(
    ("option", "shown", "name", "value"),
    [
        ("start", "Random", "start", "random"),
        ("metric", "Cosine", "metric", "cosine"),
        ("exaggeration", "1", "early_exaggeration", 1.0),
    ],
)
def test_what_can_be_played_with_gives_another_map(option: str, shown: str, name: str, value: object) -> None:
    way = WAY.but(**{name: value})
    maps = maps_on(drawn(opened(watch="false", **{option: shown})), way)
    common.results().clear()
    usual = maps_on(drawn(opened(watch="false")))
    assert maps.by_features.params[name] == way[name]
    assert not np.array_equal(maps.by_features.points, usual.by_features.points)


# ---- the current picture ---------------------------------------------------------------------------------------


def test_the_current_picture_is_placed_with_its_true_neighbours_kept_and_lost() -> None:
    app = drawn(opened(watch="false", digit="Digit 7"))
    here, choice = chosen(app), picture_sets.of_digits(200)
    rows, maps = common.recall(set_maps.rows_key(here, choice, "act4")), maps_on(app)
    key = set_maps.maps_key(here, choice, "act4", WAY)
    placed = embedding_placed.placed_of(here, rows, maps, key, "act4")
    assert len(placed.kept()) + len(placed.lost()) == NEIGHBOURS
    assert {rows.labels[row] for row in placed.true[0]} == {"7"}
    said = saying(app, "lies at the cross")
    assert f"{len(placed.kept())} are among its {NEIGHBOURS} nearest on the map" in said
    app.toggle(key="place").set_value(False).run()
    assert "lies at the cross" not in " ".join(texts(app))


def test_a_picture_of_the_set_itself_finds_itself_first() -> None:
    app = drawn(opened(watch="false"))
    here, choice = chosen(app), picture_sets.of_digits(200)
    app.session_state["pending"] = choice.picture(17)
    app.run()
    rows = common.recall(set_maps.rows_key(here, choice, "act4"))
    key = set_maps.maps_key(here, choice, "act4", WAY)
    placed = embedding_placed.placed_of(chosen(app), rows, maps_on(app), key, "act4")
    assert placed.true[0, 0] == 17
    assert placed.distances[0, 0] == pytest.approx(0, abs=1e-3)


# ---- trust ----------------------------------------------------------------------------------------------------


def test_trust_says_in_words_what_may_be_read_and_nine_maps_tell_what_a_seed_would_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedding_trust, "SEEDS", (0, 1))
    monkeypatch.setattr(embedding_trust, "FACTORS", (1.0, 2.0))
    app = drawn(opened(watch="false", closer="How far to trust it"))
    assert "may not be read" in app.info[0].value
    assert "share" not in app.info[0].value
    next(button for button in app.button if button.label == "Draw them all").click().run()
    assert not app.exception
    assert "share" in app.info[0].value
    saying(app, "Rows: perplexity; columns: seed")
    quality = results_of(scripts(app, "map_quality(rows")[0])["quality"]
    assert quality.trustworthiness[0] == pytest.approx(float(app.metric[0].value), abs=0.02)


def test_points_fade_by_the_neighbours_that_the_map_loses() -> None:
    app = drawn(opened(watch="false", fade="true"))
    here, choice = chosen(app), picture_sets.of_digits(200)
    rows, key = common.recall(set_maps.rows_key(here, choice, "act4")), set_maps.maps_key(here, choice, "act4", WAY)
    kept = embedding_trust.kept_of(here, rows, maps_on(app), key, WAY)
    assert kept.shape == (200,)
    assert kept.min() < kept.max() <= 1


def test_a_map_stopped_early_can_be_looked_at_closer_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_trust, "SEEDS", (0, 1))
    monkeypatch.setattr(embedding_trust, "FACTORS", (1.0,))
    app = drawn(opened(closer="How far to trust it"))
    app.button(key="pause the map").click().run()
    iterations = live_of(app).features.iteration
    app.button(key="stop the map").click().run()
    made = results_of(scripts(app, "map_quality(rows")[0])
    assert made["embedding"].params["iterations"] == iterations < 250
    next(button for button in app.button if button.label == "Draw them all").click().run()
    assert not app.exception
    assert not app.error
    saying(app, "Rows: perplexity; columns: seed")


def test_a_map_stopped_early_whose_run_is_gone_can_be_had_whole() -> None:
    app = drawn(opened())
    app.button(key="stop the map").click().run()
    del app.session_state[embedding_live.KEY]
    app.run()
    app.button(key="whole map").click().run()
    assert not app.metric
    app.toggle(key="watch").set_value(False).run()
    assert maps_on(drawn(app)).by_features.params["iterations"] == 300
    common.results().clear()
    app.run()
    assert app.button(key="draw_map")


def test_perplexities_that_few_pictures_lower_to_the_same_are_drawn_once() -> None:
    few = np.zeros((20, 3), np.float32)
    rows = set_maps.Rows(few, few, None, ("a",) * 20, ("a",) * 20, picture_map.Atlas("", 1))
    assert embedding_trust._perplexities(rows, Way()) == [6.3]
    assert embedding_trust._perplexities(rows, Way().but(perplexity=3.0)) == [1.0, 3.0, 6.3]


# ---- layers ---------------------------------------------------------------------------------------------------


def test_the_stages_become_a_curve_that_ends_at_the_layer_of_the_map() -> None:
    app = drawn(opened(watch="false", closer="Layer by layer"))
    next(button for button in app.button if button.label == "Map every stage").click().run()
    assert not app.exception
    said = saying(app, "A linear classifier on")
    assert "conv1" in said
    assert "act4" in said
    found = results_of(scripts(app, "separability_of_layers(rows")[0])["found"]
    assert [*found][:: len(found) - 1] == ["conv1", "act4"]
    assert found["act4"].linear > 0.9 > found["conv1"].linear
    assert f"{100 * found['act4'].linear:.0f} %" in said
