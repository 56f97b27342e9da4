"""The doctor: what each oddity of a network is called, what works on it, and that nothing of it is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import nets
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vizcore.attribution import ATTRIBUTION_METHODS
from vizcore.cam import CAM_METHODS, cam
from vizcore.doctor import FAULT, GOOD, NOTICE, Finding, Report, examine, state_of
from vizcore.records import BadParameter, LensError, Model


def report(model: Model, **options: bool) -> Report:
    found = examine(model, nets.picture(dtype=model.dtype), **options)
    assert found.unchanged
    assert found.before == state_of(model)
    assert nets.lock_is_free(model)
    return found


def finding(found: Report, subject: str) -> Finding:
    (one,) = (one for one in found.findings if one.subject == subject)
    return one


def works(found: Report) -> dict[str, bool]:
    return {verdict.title: verdict.works for verdict in found.verdicts}


def test_a_plain_net_has_nothing_to_notice_and_everything_works() -> None:
    found = report(nets.gap(), guessed=())
    assert {one.state for one in found.findings} == {GOOD}
    assert all(works(found).values())
    assert {row.title for row in CAM_METHODS.values()} < set(works(found))


@pytest.mark.parametrize(
    "build", [nets.gap, nets.in_place, nets.deep_head, nets.branching, nets.residual, nets.grey, nets.odd, nets.reused]
)
def test_a_method_works_exactly_where_it_is_said_to(build: Callable[[], Model]) -> None:
    model = build()
    found = report(model)
    top = found.normalisations[0].top
    for name, row in CAM_METHODS.items():
        said = ""
        try:
            cam(model, nets.picture(dtype=torch.float32), top, name)
        except LensError as refusal:
            said = str(refusal)
        assert next(verdict for verdict in found.verdicts if verdict.title == row.title).reason == said
        assert works(found)[row.title] == (not said)


def test_training_mode_is_noticed_and_comes_back() -> None:
    model = nets.gap()
    model.net.bn1.train()
    statistics = model.net.bn1.running_mean.clone()
    one = finding(report(model), "Mode")
    assert (one.state, one.sentence[:9]) == (NOTICE, "1 of its ")
    assert model.net.bn1.training
    assert torch.equal(model.net.bn1.running_mean, statistics)


def test_in_place_reused_and_functional_activations_are_told_apart() -> None:
    in_place = report(nets.in_place())
    assert "3 modules overwriting" in finding(in_place, "In-place activations").sentence
    reused = report(nets.reused())
    assert "1 module running more than once in a pass (relu)" in finding(reused, "Reused modules").sentence
    assert finding(reused, "Functional activations").state == GOOD
    functional = report(nets.branching())
    assert "2 activations called as functions (relu 2 ×)" in finding(functional, "Functional activations").sentence
    assert finding(functional, "Reused modules").state == GOOD


class TensorMethods(nn.Module):
    """Activations that only the tensors know of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.conv1(x).relu_())
        return torch.tanh(x).sigmoid().mean((2, 3))


def test_activations_called_in_whatever_way_are_counted() -> None:
    model = nets.model_of(TensorMethods, {"first_conv": "conv1", "cam": "conv1"}, classes=4)
    sentence = finding(report(model), "Functional activations").sentence
    assert sentence.startswith("4 activations")
    assert all(f"{name} 1 ×" in sentence for name in ("relu", "silu", "tanh", "sigmoid"))


@pytest.mark.parametrize(
    ("wrap", "state", "said"),
    [
        (lambda y: y, GOOD, "5 logits"),
        (lambda y: y.softmax(1), NOTICE, "a softmax is inside already"),
        (lambda y: y.log_softmax(1), GOOD, "5 logarithms of probabilities"),
        (lambda y: (y, y), FAULT, "answers with a tuple"),
        (lambda y: {"logits": y}, FAULT, "answers with a dict"),
        (lambda y: y[:, :, None], FAULT, "the shape (1, 5, 1)"),
        (lambda y: y * float("nan"), FAULT, "NaN or infinity"),
        (lambda y: y[:, :4], FAULT, "4 scores for 5 class names"),
    ],
)
def test_the_head_is_called_what_it_is(wrap: Callable[[Tensor], object], state: str, said: str) -> None:
    found = report(nets.answering(wrap))
    one = finding(found, "Answer")
    assert (one.state, said in one.sentence) == (state, True), one
    assert bool(found.normalisations) == (state != FAULT)


def test_numbers_between_0_and_1_that_do_not_sum_to_1_may_come_from_a_sigmoid_and_are_no_softmax() -> None:
    one = finding(report(nets.answering(lambda y: y.sigmoid())), "Answer")
    assert one.state == NOTICE
    assert "a sigmoid may be inside" in one.sentence


def test_one_logit_is_called_one_score() -> None:
    one = finding(report(nets.one_logit()), "Answer")
    assert one.state == NOTICE
    assert "sigmoid" in one.sentence


def test_nan_and_infinity_are_named_by_tensor_and_the_maps_refuse() -> None:
    model = nets.gap()
    model.net.conv2.weight[0, 0, 0, 0] = float("nan")
    model.net.bn2.running_var[1] = float("inf")
    found = report(model)
    one = finding(found, "NaN and infinity")
    assert one.state == FAULT
    assert "2 of 17 tensors hold NaN or infinity (conv2.weight, bn2.running_var)" in one.sentence
    assert [title for title, fine in works(found).items() if fine] == ["Filters", "Anatomy"]


def test_a_net_without_convolutions_has_no_maps_and_still_an_embedding() -> None:
    found = report(nets.no_conv())
    assert finding(found, "Input").state == NOTICE
    by_pixel = [row.title for row in ATTRIBUTION_METHODS.values()]
    assert [title for title, fine in works(found).items() if fine] == [
        *("Anatomy", *by_pixel, "Occlusion", "Super-pixels and RISE", "Hide", "Arithmetic", "Embedding")
    ]
    assert all("cam" in verdict.reason for verdict in found.verdicts if verdict.title == "Grad-CAM")


@pytest.mark.parametrize("at", [1, 2, 7])
def test_a_net_that_raises_is_said_to_and_left_as_it_was(at: int) -> None:
    found = report(nets.tripping(at))
    sentences = [one.sentence for one in found.findings] + [verdict.reason for verdict in found.verdicts]
    assert any("stopped in the middle of a pass with RuntimeError: tripped" in one for one in sentences)


def test_double_precision_frozen_or_not_is_no_matter() -> None:
    model = nets.gap(torch.float64)
    model.net.requires_grad_(True)
    found = report(model)
    assert all(works(found).values())
    assert "float64" in finding(found, "Parameters").sentence
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.net.parameters())


def test_a_net_without_memory_is_said_to_have_none() -> None:
    model = nets.gap()
    model = replace(model, net=model.net.to("meta"))
    found = examine(model, nets.picture(dtype=torch.float32))
    assert "no weights in memory" in finding(found, "Answer").sentence
    assert [title for title, fine in works(found).items() if fine] == ["Anatomy"]  # it needs no numbers


@pytest.mark.slow
def test_a_compiled_net_is_sent_back_for_the_plain_one() -> None:
    model = nets.gap()
    found = examine(replace(model, net=torch.compile(model.net, backend="eager")), nets.picture(dtype=torch.float32))
    assert "_orig_mod" in finding(found, "Answer").sentence


def test_the_swing_is_that_of_the_probability_of_the_top_class() -> None:
    model, pixels = nets.gap(), nets.picture(dtype=torch.float32)
    found = report(model)
    chances = [
        replace(model, mean=mean, std=std).logits(pixels).softmax(1)[0]
        for mean, std in [
            (model.mean, model.std),
            ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ((0.5,) * 3, (0.5,) * 3),
            ((0.0,) * 3, (1.0,) * 3),
        ]
    ]
    top = int(chances[0].argmax())
    assert [one.chance_of_first for one in found.normalisations] == pytest.approx([float(c[top]) for c in chances])
    assert [one.top for one in found.normalisations] == [int(c.argmax()) for c in chances]
    assert found.swing == pytest.approx(max(float(c[top]) for c in chances) - min(float(c[top]) for c in chances))


def test_a_guess_is_called_a_guess_and_a_given_one_is_not() -> None:
    model = nets.residual()
    guess, given = (finding(report(model, guessed=guessed), "Normalisation") for guessed in (("normalisation",), ()))
    assert (guess.state, "guessed" in guess.sentence) == (NOTICE, True)
    assert (given.state, "as given" in given.sentence) == (GOOD, True)
    guess, given = (finding(report(model, guessed=guessed), "Input") for guessed in (("input size",), ()))
    assert ("guessed" in guess.sentence, "guessed" in given.sentence) == (True, False)


def test_channels_that_the_first_convolution_does_not_read_are_a_fault() -> None:
    model = replace(nets.gap(), mean=(0.5,), std=(0.5,))
    one = finding(report(model), "Input")
    assert one.state == FAULT
    assert "reads 3 channels" in one.sentence


def test_every_change_shows_in_the_digest() -> None:
    model = nets.gap()
    before = state_of(model)
    changes: list[Callable[[], object]] = [
        lambda: model.net.conv1.weight.neg_(),
        lambda: model.net.bn1.running_mean.add_(1e-3),
        lambda: model.net.conv1.weight.requires_grad_(True),
        lambda: setattr(model.net.conv1.weight, "grad", torch.ones_like(model.net.conv1.weight)),
        lambda: model.net.train(),
        lambda: model.net.relu1.register_forward_hook(lambda *_: None),
    ]
    for change in changes:
        change()
        after = state_of(model)
        assert after != before
        before = after


def test_other_pixels_are_refused() -> None:
    with pytest.raises(BadParameter):
        examine(nets.gap(), nets.picture(n=2))


def test_progress_counts_the_methods_and_may_stop_the_examination_at_each() -> None:
    model, pixels, seen = nets.gap(), nets.picture(dtype=torch.float32), list[tuple[int, int]]()
    found = examine(model, pixels, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, len(found.verdicts)) for done in range(len(found.verdicts))]

    class Stop(BaseException): ...

    def stop(done: int, total: int) -> None:
        if done == total // 2:
            raise Stop

    with pytest.raises(Stop):
        examine(model, pixels, progress=stop)
    assert nets.lock_is_free(model)
    assert examine(model, pixels).before == found.before
