"""Adversarial pictures: within their bounds to the bit, as the papers say, and as Captum makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import captum.robust
import nets
import numpy as np
import pytest
import reference
import reference_checks
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_contract import Cancelled, mixed_modes, unchanged
from torch import Tensor, nn

from models import load_model
from models.samples import list_samples
from vizcore.adversarial import ATTACKS, LADDER, attack, least_epsilon, margin
from vizcore.images import open_photo, prepare
from vizcore.records import BadParameter, Model, UnsupportedModel

EPSILON = 4 / 255
SMALL = (11, 7)  # where each pixel is changed by itself


def answer(model: Model, pixels: Tensor) -> int:
    with torch.no_grad():
        return int(model.logits(pixels)[0].argmax())


def linear(dtype: torch.dtype = torch.float64) -> Model:
    """Class k is the mean of colour k."""
    return nets.colours(dtype)


def photo(name: str, key: str = "cat") -> tuple[Model, Tensor, int]:
    model = load_model(name)
    pixels = prepare(open_photo(next(one for one in list_samples() if one.key == key).read()).pixels, model).pixels
    return model, pixels, answer(model, pixels)


# ---- identities ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ATTACKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_epsilon_of_0_changes_nothing(method: str, dtype: torch.dtype) -> None:
    model, pixels = nets.gap(dtype), nets.picture(dtype=dtype)
    found = attack(model, pixels, 1, method=method, epsilon=0)
    assert torch.equal(found.pixels, pixels)
    assert not found.perturbation.any()
    assert np.array_equal(found.before, found.after)
    assert not found.fooled


@settings(max_examples=40, deadline=None)
@given(
    epsilon=st.one_of(st.sampled_from([n / 255 for n in (1, 2, 8)]), st.floats(0, 1)),
    seed=st.integers(0, 99),
    method=st.sampled_from(list(ATTACKS)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    step_size=st.one_of(st.none(), st.floats(0, 1)),
)
def test_no_number_changes_by_more_than_epsilon_or_leaves_0_to_1(
    epsilon: float, seed: int, method: str, dtype: torch.dtype, step_size: float | None
) -> None:
    pixels = nets.picture(seed, SMALL, dtype)
    pixels[0, :, 0, :3] = torch.tensor([0.0, 1.0, 1e-4])
    found = attack(nets.gap(dtype), pixels, 0, method=method, epsilon=epsilon, steps=2, step_size=step_size, seed=seed)
    assert found.pixels.dtype == dtype
    assert float((found.pixels.double() - pixels.double()).abs().max()) <= epsilon
    assert np.abs(found.perturbation).max() <= np.float32(epsilon)
    assert float(found.pixels.min()) >= 0
    assert float(found.pixels.max()) <= 1


@pytest.mark.parametrize("towards", [None, 3])
@pytest.mark.parametrize("make", [nets.gap, nets.branching, nets.grey])
def test_one_step_of_epsilon_from_the_picture_is_the_fast_gradient_sign(
    make: Callable[..., Model], towards: int | None
) -> None:
    model, pixels = make(torch.float64), nets.picture()
    once = attack(model, pixels, 1, method="fgsm", epsilon=EPSILON, towards=towards)
    one_step = {"steps": 1, "step_size": EPSILON, "random_start": False}
    stepped = attack(model, pixels, 1, method="pgd", epsilon=EPSILON, towards=towards, **one_step)
    assert torch.equal(once.pixels, stepped.pixels)


def test_the_default_step_is_that_of_the_paper() -> None:
    model, pixels = nets.gap(torch.float64), nets.picture()
    found = attack(model, pixels, 1, method="pgd", epsilon=EPSILON, steps=5)
    assert found.params["step_size"] == 2.5 * EPSILON / 5
    given_size = attack(model, pixels, 1, method="pgd", epsilon=EPSILON, steps=5, step_size=2.5 * EPSILON / 5)
    assert torch.equal(found.pixels, given_size.pixels)


def test_the_margin_rises_where_the_cross_entropy_does_and_not_less_where_that_is_0() -> None:
    logits = torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64, requires_grad=True)
    (of_margin,) = torch.autograd.grad(margin(logits, 0), logits)
    (of_loss,) = torch.autograd.grad(nn.functional.cross_entropy(logits[None], torch.tensor([0])), logits)
    odds = 1 - float(logits.detach().softmax(0)[0])
    assert torch.allclose(of_loss, odds * of_margin, rtol=1e-12)
    sure = torch.tensor([200.0, 0.0], dtype=torch.float64, requires_grad=True)
    (of_margin,) = torch.autograd.grad(margin(sure, 0), sure)
    assert of_margin.tolist() == [-1, 1]


def test_a_net_that_is_entirely_sure_is_fooled_as_any_other() -> None:
    model = linear(torch.float32)
    model.net.classifier.weight.mul_(1e5)
    pixels = torch.tensor([0.5, 0.48, 0.2]).view(1, 3, 1, 1).expand(1, 3, 9, 5).clone().requires_grad_()
    loss = nn.functional.cross_entropy(model.logits(pixels).double(), torch.tensor([0]))
    assert not torch.autograd.grad(loss, pixels)[0].any()  # nothing to follow
    assert attack(model, pixels, 0, epsilon=0.02).fooled


# ---- the papers, and Captum ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "size", "towards"),
    [
        *((nets.gap, SMALL, towards) for towards in (None, 3)),
        *((nets.deep_head, (17, 15), towards) for towards in (None, 3)),
        *((nets.one_logit, SMALL, towards) for towards in (None, 0)),
    ],
)
def test_the_picture_is_that_of_the_papers(
    make: Callable[..., Model], size: tuple[int, int], towards: int | None
) -> None:
    model, pixels = make(torch.float64), nets.picture(4, size)
    aim, sign = (0, 1) if towards is None else (towards, -1)

    def losses(pictures: list[np.ndarray]) -> list[float]:
        shown = torch.cat([reference.net_input(model, picture) for picture in pictures])
        with torch.no_grad():
            return [reference_checks.cross_entropy(scores, aim) for scores in model.net(shown).numpy()]

    start = pixels[0].numpy()
    steps: dict[str, Any] = {"method": "pgd", "steps": 2, "step_size": 0.7 * EPSILON, "random_start": False}
    found = attack(model, pixels, 0, epsilon=EPSILON, towards=towards, **steps).pixels[0].numpy()
    wanted = reference_checks.descended(losses, start, EPSILON, 2, 0.7 * EPSILON, sign)
    clear = np.abs(reference_checks.slope(losses, start)) > 1e-7  # of the others differences do not know the sign
    assert clear.mean() > 0.7
    np.testing.assert_allclose(found[clear], wanted[clear], atol=1e-12)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.parametrize("towards", [None, 3])
@pytest.mark.parametrize("make", [nets.gap, nets.deep_head, nets.branching, nets.grey])
def test_pictures_are_captums(make: Callable[..., Model], towards: int | None) -> None:
    model, pixels = make(torch.float64), nets.picture()
    options: dict[str, Any] = {
        "loss_func": nn.CrossEntropyLoss(reduction="none"),
        "lower_bound": 0.0,
        "upper_bound": 1.0,
    }
    label = torch.tensor([1 if towards is None else towards])
    once, many = captum.robust.FGSM(nets.PixelNet(model), **options), captum.robust.PGD(nets.PixelNet(model), **options)
    once.zero_thresh = many.fgsm.zero_thresh = 0.0  # by default it takes gradients below 1e-6 for 0
    targeted = towards is not None
    wanted = once.perturb(pixels.clone(), EPSILON, label, targeted=targeted)
    found = attack(model, pixels, 1, epsilon=EPSILON, towards=towards)
    np.testing.assert_allclose(found.pixels.numpy(), wanted.detach().numpy(), atol=1e-12)
    wanted = many.perturb(pixels.clone(), EPSILON, EPSILON / 3, 5, label, targeted=targeted, random_start=False)
    steps = {"method": "pgd", "steps": 5, "step_size": EPSILON / 3, "random_start": False}
    found = attack(model, pixels, 1, epsilon=EPSILON, towards=towards, **steps)
    np.testing.assert_allclose(found.pixels.numpy(), wanted.numpy(), atol=1e-12)


# ---- nets whose answer is known ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ATTACKS)
def test_of_a_linear_net_each_colour_goes_all_the_way(method: str) -> None:
    model = linear()
    pixels = torch.tensor([0.5, 0.48, 0.2], dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, 9, 5).clone()
    found = attack(model, pixels, 0, method=method, epsilon=0.02)
    np.testing.assert_allclose(found.perturbation[0], -0.02, atol=1e-7)
    np.testing.assert_allclose(found.perturbation[1:], 0.02, atol=1e-7)
    np.testing.assert_allclose(found.after - found.before, [-0.02, 0.02, 0.02], atol=1e-6)
    assert found.fooled
    assert found.after.argmax() == 1
    assert not attack(model, pixels, 0, method=method, epsilon=0.009).fooled
    aimed = attack(model, pixels, 0, method=method, epsilon=0.02, towards=2)
    np.testing.assert_allclose(aimed.perturbation[:, 0, 0], [-0.02, -0.02, 0.02], atol=1e-7)
    assert not aimed.fooled  # the answer is now open between red and green, and not blue
    assert attack(model, pixels, 0, method=method, epsilon=0.16, towards=2).fooled


def test_the_least_epsilon_of_a_linear_net_is_the_first_above_half_of_the_gap() -> None:
    pixels = torch.tensor([0.5, 0.48, 0.2], dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, 9, 5).clone()
    calls: list[tuple[int, int]] = []
    ladder = (0.004, 0.008, 0.012, 0.016)
    found = least_epsilon(linear(), pixels, 0, ladder=ladder, progress=lambda *call: calls.append(call))
    assert found.params["epsilon"] == 0.012
    assert found.fooled
    assert calls == [(1, 4), (2, 4), (4, 4)]
    least = attack(linear(), pixels, 0, epsilon=0.012)
    assert torch.equal(found.pixels, least.pixels)


def test_where_no_epsilon_does_it_the_largest_is_shown_and_said_to_fail() -> None:
    pixels = torch.tensor([0.9, 0.1, 0.2], dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, 9, 5).clone()
    found = least_epsilon(linear(), pixels, 0)
    assert not found.fooled
    assert found.params["epsilon"] == LADDER[-1]
    assert found.notes == ("No change of up to 16/255 of a pixel's range did it.",)


def test_a_net_with_one_logit_answers_with_its_class_above_0() -> None:
    model, pixels = nets.one_logit(torch.float64), nets.picture()
    bias = model.net.classifier.bias
    with torch.no_grad():
        bias -= float(model.logits(pixels)) - 1e-3
    away = attack(model, pixels, 0, epsilon=EPSILON)
    assert away.before[0] > 0 > away.after[0]
    assert away.fooled
    with torch.no_grad():
        bias -= 2e-3
    towards = attack(model, pixels, 0, epsilon=EPSILON, towards=0)
    assert towards.before[0] < 0 < towards.after[0]
    assert towards.fooled


@pytest.mark.parametrize("name", ["photonet", pytest.param("efficientnet_lite0", marks=pytest.mark.slow)])
def test_what_cannot_be_seen_fools_a_trained_net(name: str) -> None:
    model, pixels, target = photo(name)
    found = least_epsilon(model, pixels, target, method="pgd", ladder=LADDER[2:5], steps=3)
    assert found.fooled
    assert answer(model, found.pixels) != target
    towards = (target + 1) % len(model.labels)
    aimed = attack(model, pixels, target, method="pgd", epsilon=8 / 255, steps=5, towards=towards)
    assert aimed.after[towards] - aimed.after[target] > aimed.before[towards] - aimed.before[target] + 1
    assert answer(model, aimed.pixels) == towards
    assert aimed.fooled


# ---- what comes with it --------------------------------------------------------------------------------------------


def test_a_random_start_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    model, pixels = nets.deep_head(), nets.picture(dtype=torch.float32)
    options: dict[str, Any] = {"method": "pgd", "epsilon": EPSILON, "steps": 2, "step_size": EPSILON / 8}
    one, same, other = (attack(model, pixels, 1, seed=seed, **options).pixels for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    noise = attack(model, pixels, 1, **{**options, "step_size": 0.0}).perturbation / EPSILON
    inside = (pixels[0] > 0.05) & (pixels[0] < 0.95)
    assert abs(noise[inside].mean()) < 0.05  # uniform from −1 to 1: 0 and 1/√3
    assert noise[inside].std() == pytest.approx(3**-0.5, abs=0.03)


def test_where_there_is_nothing_to_fool_a_note_says_so() -> None:
    model, pixels = nets.gap(), nets.picture(dtype=torch.float32)
    said = answer(model, pixels)
    other = (said + 1) % nets.CLASSES
    missed = attack(model, pixels, other, epsilon=0)
    assert not missed.fooled
    assert missed.notes == ("The net did not answer with this class before any change: there was nothing to fool.",)
    there = attack(model, pixels, other, epsilon=0, towards=said)
    assert not there.fooled
    assert there.notes == ("The net answered with the class aimed at before any change: there was nothing to fool.",)
    assert not attack(model, pixels, said, epsilon=0).notes


def test_a_picture_whose_gradient_is_0_stays_and_a_note_says_so() -> None:
    model = nets.gap()
    model.net.conv1.weight.zero_()
    pixels = nets.picture(dtype=torch.float32)
    found = attack(model, pixels, answer(model, pixels), epsilon=EPSILON)
    assert not found.perturbation.any()
    assert found.notes == ("Nothing changed: the gradient is 0 everywhere, so that no direction is known.",)


@pytest.mark.parametrize("method", ATTACKS)
def test_the_model_and_the_pixels_come_back_as_they_were(method: str) -> None:
    model, pixels = nets.in_place(), nets.picture(dtype=torch.float32)
    kept = pixels.clone()
    expected = attack(model, pixels, 1, method=method).pixels
    mixed_modes(model.net)
    model.net.requires_grad_()
    with unchanged(model):
        assert torch.equal(attack(model, pixels, 1, method=method).pixels, expected)
    with unchanged(model), torch.inference_mode():
        assert torch.equal(attack(model, pixels, 1, method=method).pixels, expected)
    with unchanged(model), torch.no_grad():
        assert torch.equal(attack(model, pixels.requires_grad_(), 1, method=method).pixels, expected)
    assert torch.equal(pixels, kept)
    assert pixels.grad is None

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    for run in (attack, least_epsilon):
        with unchanged(model), pytest.raises(Cancelled):
            run(model, pixels, 1, method=method, progress=cancel)  # type: ignore[operator]


def test_steps_are_counted() -> None:
    calls: list[tuple[int, int]] = []
    pixels = nets.picture(dtype=torch.float32)
    attack(nets.gap(), pixels, 1, method="pgd", steps=3, progress=lambda *call: calls.append(call))
    attack(nets.gap(), pixels, 1, progress=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3), (1, 1)]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"method": "cw"}, "method is 'cw'; it must be one of fgsm, pgd"),
        ({"epsilon": -0.1}, "epsilon is -0.1; it must be a number from 0 to 1"),
        ({"epsilon": 8}, "epsilon is 8; it must be"),
        ({"epsilon": float("nan")}, "epsilon is nan"),
        ({"epsilon": "2/255"}, "epsilon is '2/255'"),
        ({"epsilon": True}, "epsilon is True"),
        ({"step_size": 2}, "step_size is 2; it must be"),
        ({"steps": 0}, "steps is 0; it must be a whole number from 1"),
        ({"seed": -1}, "seed is -1"),
        ({"target": nets.CLASSES}, "target is 5"),
        ({"towards": -1}, "target is -1"),
        ({"towards": 1}, "towards is 1, the target itself"),
        ({"pixels": torch.full((1, 3, 9, 5), 1.01)}, "pixels go from 1.01 to 1.01; they must be in"),
        ({"pixels": torch.full((1, 3, 9, 5), -0.01)}, "pixels go from -0.01 to -0.01"),
        ({"pixels": torch.zeros(2, 3, 9, 5)}, "pixels holds 2 pictures"),
    ],
)
def test_what_makes_no_attack_is_refused(wrong: dict[str, Any], words: str) -> None:
    options = {"pixels": torch.full((1, 3, 9, 5), 0.5), "target": 1, **wrong}
    with pytest.raises(BadParameter, match=words):
        attack(nets.gap(), options.pop("pixels"), options.pop("target"), **options)


@pytest.mark.parametrize("ladder", [(), (0.1, 0.1), (0.2, 0.1), (0.1, 3)])
def test_a_ladder_that_does_not_rise_is_refused(ladder: tuple[float, ...]) -> None:
    with pytest.raises(BadParameter, match="ladder is"):
        least_epsilon(nets.gap(), torch.full((1, 3, 9, 5), 0.5), 1, ladder=ladder)


def test_a_net_without_a_gradient_is_refused() -> None:
    pixels = nets.picture(dtype=torch.float32)
    with pytest.raises(UnsupportedModel, match="no gradient to follow"):
        attack(nets.answering(torch.Tensor.detach), pixels, 1)
    endless = replace(nets.answering(lambda answer: (answer - answer).abs().sqrt() + answer.detach()), title="Endless")
    with pytest.raises(UnsupportedModel, match="gradient of Endless is NaN or infinite for class 1"):
        attack(endless, pixels, 1)
