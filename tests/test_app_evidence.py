"""The page that asks whether a heatmap can be believed."""

from __future__ import annotations

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from test_app import chosen, compute_all, saying, texts, visit

from app_pages import common, evidence_cascade, evidence_fooled, evidence_layers, evidence_seeds, views
from app_pages.explained import COSTLY, METHODS, Explained
from vizcore.advice import passes_of
from vizcore.agreement import spread
from vizcore.attribution import attribution
from vizcore.cam import cam
from vizcore.faithfulness import curves
from vizcore.randomisation import cascade
from vizcore.records import LensError
from vizcore.warp import laid_back, learned_warp

TRANSFORMER = "Spatial-transformer LeNet"


def evidence(question: str, method: str = "Grad-CAM", model: str = "PhotoNet") -> AppTest:
    app = visit("evidence", model=model, question=question, evidence_method=method)
    assert not app.exception
    return app


def explained(app: AppTest, method: str = "grad_cam") -> Explained:
    here = chosen(app)
    return Explained(here, method, here.model.layers["cam"], "absolute")


def test_the_curves_show_their_price_first_and_then_a_verdict_for_each_control() -> None:
    app = evidence("Remove pixels")
    saying(app, "364 passes, about")
    compute_all(app)
    found = common.recall(("curves", *explained(app).key, chosen(app).target, "deletion", "blur"))
    assert found is not None
    for kind in ("Deletion", "Insertion"):
        saying(app, f"**{kind}**, missing pixels: blur")
    saying(app, f"Area **{found.curve.area:.3f}** (lower is better)")
    for sentence in found.verdicts.values():
        saying(app, common.plain(sentence))


def test_other_holes_are_another_question_and_the_first_answer_stays() -> None:
    app = compute_all(evidence("Remove pixels"))
    app.button_group(key="filling").set_value("mean").run()
    assert [button.key for button in app.button if str(button.key).startswith("compute")] == ["compute curves"]
    app.button_group(key="filling").set_value("blur").run()
    assert not [button.key for button in app.button if str(button.key).startswith("compute")]


def test_the_cascade_says_that_grad_cam_needs_what_was_learned_and_guided_backpropagation_hardly() -> None:
    app = compute_all(evidence("Randomise weights"))
    (verdict,) = app.success
    assert verdict.value.startswith("Falls apart")
    assert len([text for text in texts(app) if "SSIM" in text and "rank" in text]) >= 7
    app = compute_all(evidence("Randomise weights", "Guided backpropagation"))
    (verdict,) = app.warning
    assert verdict.value.startswith("Stands")


def test_the_network_that_is_looked_at_is_not_randomised() -> None:
    app = evidence("Randomise weights")
    before = {name: tensor.clone() for name, tensor in chosen(app).loaded.net.state_dict().items()}
    compute_all(app)
    after = chosen(app).loaded.net.state_dict()
    assert all((after[name] == tensor).all() for name, tensor in before.items())


def test_other_methods_are_compared_and_those_that_the_net_does_not_allow_are_left_out() -> None:
    app = compute_all(evidence("Other methods"))
    saying(app, "agree most")
    saying(app, "**Consensus**")
    app = compute_all(evidence("Other methods", model="LeNet-5"))  # it has no ReLU to guide
    found = common.recall(("agreement", *explained(app).key, explained(app).layer, chosen(app).target))
    assert "Grad-CAM" in found.names
    assert "Guided backpropagation" not in found.names


def test_another_layer_is_another_question_for_the_others_though_the_method_has_none() -> None:
    app = compute_all(evidence("Other methods", "Gradient"))
    saying(app, "**Consensus**")
    app.selectbox(key="evidence_layer").set_value("act2").run()
    assert "compute agreement" in [button.key for button in app.button]


def test_another_class_is_shown_on_one_scale_with_the_difference() -> None:
    app = evidence("Another class")
    saying(app, "the first less the second")
    saying(app, "Their rank correlation is")
    app = evidence("Another class", "Eigen-CAM")
    saying(app, "this method does not know the class")


def test_every_stage_is_shown_with_its_size_and_what_it_sees_and_the_best_is_told_when_asked() -> None:
    app = evidence("Another layer")
    stages = [stage.name for stage in views.stages_of(chosen(app))]
    assert len(stages) == 16
    for name in stages:
        saying(app, f"**{name}**")
    saying(app, common.plain("16 × 16 places; each sees 12 × 12 pixels"))
    saying(app, common.plain("8 × 8 places; each sees the whole picture"))
    here = chosen(app)
    heats = [common.recall(views.heat_key(here, "grad_cam", here.target, stage)) for stage in stages]
    saying(app, f"{passes_of(sum(heat.values.any() for heat in heats)):,} passes, about")
    compute_all(app)
    found = common.recall(("advice", here.model.title, here.digest, "grad_cam", here.target, tuple(stages), "blur"))
    said = [element.value for kind in (app.success, app.info) for element in kind]
    assert common.plain(found.sentence) in said
    for one in found.layers:
        saying(app, common.plain(evidence_layers.words_of_merit(one)))


def test_a_layer_of_the_strip_can_be_chosen_and_what_is_known_of_all_stays_known() -> None:
    app = compute_all(evidence("Another layer", model="LeNet-5"))
    app.button(key="use conv2").click().run()
    assert not app.exception
    assert app.selectbox(key="evidence_layer").value == "conv2"
    assert "use conv2" not in [button.key for button in app.button]
    assert not [button.key for button in app.button if str(button.key).startswith("compute")]


def test_the_maps_of_the_strip_are_those_of_each_layer_alone() -> None:
    app = evidence("Another layer", "HiResCAM")
    here = chosen(app)
    for layer in ("conv1", "block2", "act4"):
        shown = common.recall(views.heat_key(here, "hires_cam", here.target, layer))
        alone = cam(here.model, here.view.pixels, here.target, "hires_cam", layer)
        np.testing.assert_allclose(shown.values, alone.values, rtol=1e-4, atol=1e-6 * np.abs(alone.values).max())


def test_a_method_without_layers_says_so_and_a_layer_that_does_not_allow_the_method_says_why() -> None:
    saying(evidence("Another layer", "Gradient"), "has no layer to choose")
    app = evidence("Another layer", "CAM")
    saying(app, "**act4**")
    assert any("global average pooling" in text for text in texts(app))


def fooled(**query: str) -> tuple[AppTest, evidence_fooled.Question, evidence_fooled.Fooling]:
    """The page behind its button, if there is one; what was asked, and what came of it."""
    app = visit("evidence", **{"model": "PhotoNet", **query}, question="A fooled network")
    app = compute_all(app)
    here = chosen(app)
    towards = app.selectbox(key=f"attack_towards of {here.loaded.name}").value
    number = None if towards == evidence_fooled.ANY else here.model.labels.index(towards)
    method, size = app.button_group(key="attack").value, app.slider(key="attack_size").value
    question = evidence_fooled.Question(here, method, size, number)
    return app, question, common.recall(question.key)


def test_a_change_that_nobody_sees_fools_the_network_and_the_page_says_into_what() -> None:
    app, question, made = fooled()
    assert made.found.fooled
    assert np.abs(made.found.perturbation).max() <= 2 / 255
    (said,) = app.success
    assert f"**{question.here.label(question.answer)}**" in said.value
    assert f"**{question.here.label(int(made.after.argmax()))}**" in said.value
    saying(app, "magnified 64 ×")
    assert len([text for text in texts(app) if text.startswith("Their rank correlation is")]) == 2


def test_the_maps_of_the_changed_picture_are_of_its_pixels_and_those_of_the_photo_stay() -> None:
    app, question, made = fooled()
    here, before = question.here, explained(app)
    changed = evidence_fooled._as_chosen(question, made)
    for target in (question.answer, int(made.after.argmax())):
        of_changed = Explained(changed, "grad_cam", before.layer, "absolute").heat(target)
        wanted = cam(here.model, made.found.pixels, target, "grad_cam", before.layer)
        np.testing.assert_allclose(of_changed.values, wanted.values, rtol=1e-4, atol=1e-6)
        wanted = cam(here.model, here.view.pixels, target, "grad_cam", before.layer)
        np.testing.assert_allclose(before.heat(target).values, wanted.values, rtol=1e-4, atol=1e-6)
        assert not np.allclose(before.heat(target).values, of_changed.values, rtol=1e-2)


def test_every_option_of_an_attack_is_another_question() -> None:
    app, question, _ = fooled()
    keys = {question.key}
    app.button_group(key="attack").set_value("fgsm").run()
    app.slider(key="attack_size").set_value(5).run()
    app.selectbox(key="attack_towards of photonet").set_value("ship").run()
    compute_all(app)
    for method, size, towards in (("pgd", 3, None), ("fgsm", 5, question.here.model.labels.index("ship"))):
        keys.add(evidence_fooled.Question(question.here, method, size, towards).key)
    assert len(keys) == 3
    made = common.recall(
        evidence_fooled.Question(question.here, "fgsm", 5, question.here.model.labels.index("ship")).key
    )
    assert made.found.params["towards"] == question.here.model.labels.index("ship")


def test_an_attack_that_fails_says_so_and_what_to_try() -> None:
    app, _, made = fooled(model="LeNet-5", attack="Fast gradient sign method", attack_size="1")
    assert not made.found.fooled
    (said,) = app.warning
    assert "It did not work" in said.value
    assert "Try a larger change or projected gradient descent" in said.value
    assert len([text for text in texts(app) if text.startswith("Their rank correlation is")]) == 1


def test_what_was_added_is_shown_with_mid_grey_for_nothing_and_the_largest_change_at_black_and_white() -> None:
    _, question, made = fooled()
    added, times = evidence_fooled._magnified(made)
    assert times == pytest.approx(255 / (2 * question.size))
    change = made.found.perturbation.transpose(1, 2, 0)
    assert (added[change > 1.99 / 255] == 255).all()
    assert (added[change < -1.99 / 255] == 0).all()
    middle = np.abs(change) < 1e-3 / 255
    assert (np.abs(added[middle].astype(int) - 127.5) <= 1).all()


def test_behind_a_learned_warp_the_pixels_go_where_the_map_is_shown() -> None:
    app = evidence("Remove pixels", model=TRANSFORMER)
    one = explained(app)
    heat, there = one.heat(), one.in_place()
    warp = learned_warp(one.here.model, one.here.view.pixels)
    np.testing.assert_allclose(there.values, laid_back(heat.values, warp), rtol=1e-5, atol=1e-7)
    assert there.values.shape != heat.values.shape or not np.allclose(there.values, heat.values)
    compute_all(app)
    found = common.recall(("curves", *one.key, one.here.target, "insertion", "blur"))
    wanted = curves(
        one.here.model, one.here.view.pixels, one.here.target, there, kind="insertion", steps=16, filling="blur"
    )
    np.testing.assert_allclose(found.curve.scores, wanted.curve.scores, rtol=1e-4, atol=1e-6)
    assert any("laid_back(heat.values, learned_warp(model, view.pixels))" in code.value for code in app.code)


def test_a_map_that_says_nothing_gets_no_verdict_that_looks_like_one() -> None:
    app = evidence("Randomise weights")
    one = explained(app)
    key = ("cascade", *one.key, one.here.target, evidence_cascade.STAGES, evidence_cascade.REPEATS)
    flat = cascade(one.here.model, lambda model: np.zeros((8, 8), np.float32), stages=2)
    common.results().put(key, flat, 0.0)
    app.run()
    assert not app.exception
    assert not app.success
    assert not app.warning
    saying(app, "No verdict")
    common.results().clear()


@pytest.mark.parametrize("model", ["PhotoNet", "LeNet-5"])
@pytest.mark.parametrize("method", METHODS)
def test_the_map_of_another_model_is_that_of_the_same_method(method: str, model: str) -> None:
    app = evidence("Another class", model=model)
    one = explained(app, method)
    try:
        heat = one.heat()
    except LensError as refusal:
        with pytest.raises(type(refusal)):
            one.values(one.here.model)
        return
    np.testing.assert_allclose(one.values(one.here.model), heat.values, rtol=1e-4, atol=1e-6)


def test_an_untrained_network_has_nothing_to_forget() -> None:
    app = visit("evidence", model="ResNet-18", untrained="true", question="Randomise weights")
    assert not app.exception
    saying(app, "there is nothing that it could forget")


def test_a_method_that_the_net_does_not_allow_is_refused_in_a_sentence() -> None:
    app = evidence("Remove pixels", "CAM", model="LeNet-5")
    saying(app, "CAM needs a net that ends in global average pooling")


COSTLY_LABELS = {"occlusion": "Occlusion", "superpixel_ablation": "Super-pixels", "rise": "RISE"} | {
    "integrated_gradients": "Integrated gradients",
    "smooth_grad": "SmoothGrad",
    "score_cam": "Score-CAM",
    "ablation_cam": "Ablation-CAM",
}


def test_the_costly_methods_are_these() -> None:
    assert COSTLY_LABELS == COSTLY


@pytest.mark.parametrize("method", COSTLY_LABELS)
def test_a_costly_map_waits_for_a_button_with_its_price_and_then_its_pixels_are_removed(method: str) -> None:
    common.results().clear()
    app = evidence("Remove pixels", COSTLY[method])
    one = explained(app, method)
    assert not one.is_known()
    saying(app, common.plain(one.price))
    saying(app, "takes its time")
    assert [button.key for button in app.button if str(button.key).startswith("compute")] == ["compute map"]
    compute_all(app)
    found = common.recall(("curves", *one.key, one.here.target, "deletion", "blur"))
    wanted = curves(
        one.here.model, one.here.view.pixels, one.here.target, one.in_place(), kind="deletion", steps=16, filling="blur"
    )
    np.testing.assert_allclose(found.curve.scores, wanted.curve.scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["occlusion", "superpixel_ablation", "smooth_grad", "ablation_cam"])
def test_a_costly_map_that_the_heatmaps_page_has_is_known_here_and_the_other_way_round(method: str) -> None:
    common.results().clear()
    app = visit("heatmaps", model="PhotoNet")
    by_pixel = method == "smooth_grad"
    app.button_group(key="methods").set_value([] if by_pixel else [method])
    app.button_group(key="methods_by_pixel").set_value([method] if by_pixel else []).run()
    compute_all(app)
    app = evidence("Another class", COSTLY[method])  # both classes were shown there
    assert explained(app, method).is_known()
    assert not [button.key for button in app.button if str(button.key).startswith("compute")]
    saying(app, "Their rank correlation is")


def test_the_rival_of_a_costly_map_waits_for_its_own_button() -> None:
    common.results().clear()
    app = evidence("Another class", "SmoothGrad")
    app.button(key="compute map").click().run()
    saying(app, common.plain(explained(app, "smooth_grad").price))
    app.button(key="compute rival").click().run()
    saying(app, "Their rank correlation is")


def test_randomising_says_what_the_maps_of_a_costly_method_would_take() -> None:
    app = compute_all(evidence("Randomise weights", "SmoothGrad"))
    saying(app, "It takes 22 maps, and one of SmoothGrad takes about")
    app = compute_all(evidence("A fooled network", "SmoothGrad"))
    saying(app, "before and after would take about")
    assert not [code.value for code in app.code if "before = heat" in code.value]


def test_a_method_that_draws_nothing_is_the_same_at_every_seed_and_smoothgrad_shows_what_others_do() -> None:
    app = compute_all(evidence("Other methods"))
    saying(app, common.plain("Grad-CAM") + " draws nothing by chance: it is the same at every seed")
    one = explained(app, "smooth_grad")
    found = common.recall(("seeds", *one.key, one.here.target, 3))
    maps = [
        attribution(one.here.model, one.here.view.pixels, one.here.target, "smooth_grad", seed=seed).absolute
        for seed in range(3)
    ]
    wanted = spread(maps)
    np.testing.assert_allclose(found.deviation, wanted.deviation, rtol=1e-2, atol=1e-4 * maps[0].max())
    assert found.chance == pytest.approx(wanted.chance, abs=1e-2)
    assert 0 < found.chance < 1
    saying(app, evidence_seeds.in_words("SmoothGrad", found))


def test_more_seeds_are_another_question_and_those_that_are_known_stay() -> None:
    app = compute_all(evidence("Other methods"))
    one = explained(app, "smooth_grad")
    known = [evidence_seeds.Drawn(one, seed).key for seed in (1, 2)]
    assert None not in map(common.recall, known)
    app.button_group(key="seeds").set_value(5).run()
    assert "compute seeds" in [button.key for button in app.button]
