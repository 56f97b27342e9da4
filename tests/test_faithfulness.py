"""Deletion and insertion curves, their controls, and the filling in of removed pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nets
import numpy as np
import pytest
import reference_faithfulness as reference
import torch
from torch import Tensor, nn

from models import load_model
from models.samples import list_samples
from models.torchvision_guard import guarded_import
from vizcore import faithfulness, imputation
from vizcore.baselines import filling_of
from vizcore.cam import cam
from vizcore.faithfulness import (
    CONTROLS,
    FILLINGS,
    KINDS,
    Curve,
    Faithfulness,
    curves,
    edges_of,
    order_of,
    passes,
)
from vizcore.images import open_photo, prepare
from vizcore.imputation import noisy_linear
from vizcore.records import BadParameter, Heatmap, Model, UnsupportedModel, probabilities
from vizcore.scores import SCORES

PERTURBED = guarded_import("pytorch_grad_cam.metrics.perturbation_confidence")
PeersImputer = guarded_import("pytorch_grad_cam.metrics.road").NoisyLinearImputer
TARGET = 2
TOP, BOTTOM, LEFT, RIGHT = 6, 18, 15, 25  # what `RectangleNet` looks at


class RectangleNet(nn.Module):
    """Class 0 is how much the rectangle looks like a chequerboard, class 1 is the opposite; nothing else counts."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        part = x[:, :, TOP:BOTTOM, LEFT:RIGHT]
        score = 2 * self.gain * (part * board(part.shape[2:]).to(part)).mean((1, 2, 3))
        return torch.stack([score, -score], 1)


def board(size: tuple[int, ...]) -> Tensor:
    """Of −1 and 1, fields of one pixel."""
    return 1 - 2 * ((torch.arange(size[0])[:, None] + torch.arange(size[1])) % 2).float()


def rectangle() -> tuple[Model, Tensor, np.ndarray]:
    """The net, a picture that is a chequerboard all over, and the map that marks what the net looks at."""
    model = nets.model_of(RectangleNet, {}, classes=2, mean=(0.5,) * 3, std=(0.5,) * 3)
    with torch.no_grad():
        model.net.gain.fill_(1.0)
    marked = np.zeros(nets.SIZE, np.float32)
    marked[TOP:BOTTOM, LEFT:RIGHT] = 1
    side = BOTTOM - TOP, RIGHT - LEFT
    pixels = torch.full((1, 3, *nets.SIZE), 0.5)
    pixels[..., TOP:BOTTOM, LEFT:RIGHT] = (1 + 0.8 * board(side)) / 2
    pixels[..., 25:, :12] = (1 + board((16, 12))) / 2  # sharper edges, and of no concern
    return model, pixels, marked


def distinct(seed: int = 3, size: tuple[int, int] = nets.SIZE) -> np.ndarray:
    """A map without ties."""
    return np.random.default_rng(seed).permutation(size[0] * size[1]).reshape(size) / 100


def score_of(model: Model, pixels: Tensor, target: int = TARGET, score: str = "probability") -> float:
    with torch.no_grad():
        logits = model.logits(pixels)
    return float((logits if score == "logit" else probabilities(logits))[0, target])


# ---- identities --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize("make", [nets.gap, nets.grey, nets.one_logit])
def test_insertion_of_all_pixels_gives_the_score_and_deletion_begins_with_it(
    make: Callable[[], Model], filling: str, score: str
) -> None:
    model, pixels = make(), nets.picture(dtype=torch.float32)
    target = len(model.labels) - 1
    empty = noisy_linear(pixels, np.ones(nets.SIZE, bool)) if filling == "road" else filling_of(pixels, filling)
    whole, nothing = (score_of(model, one, target, score) for one in (pixels, empty))
    for kind, ends in (("deletion", (whole, nothing)), ("insertion", (nothing, whole))):
        found = curves(model, pixels, target, distinct(), kind=kind, filling=filling, score=score, steps=3)
        for curve in (found.curve, *(one for several in found.controls.values() for one in several)):
            assert (curve.scores[0], curve.scores[-1]) == ends
            assert (curve.shares[0], curve.shares[-1]) == (0, 1)


@pytest.mark.parametrize("filling", ["mean", "road"])
@pytest.mark.parametrize("steps", [1, 7, 10])
def test_insertion_is_deletion_in_the_opposite_order_read_backwards(steps: int, filling: str) -> None:
    model, pixels, values = nets.deep_head(torch.float64), nets.picture(), distinct()
    options: dict[str, Any] = {"steps": steps, "filling": filling, "controls": ()}
    comes = curves(model, pixels, TARGET, values, kind="insertion", **options).curve
    goes = curves(model, pixels, TARGET, -values, kind="deletion", **options).curve
    np.testing.assert_allclose(comes.scores, goes.scores[::-1], rtol=1e-12)
    np.testing.assert_allclose(comes.shares, 1 - goes.shares[::-1], atol=1e-15)
    assert comes.area == pytest.approx(goes.area, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_is_its_own_filling_gives_a_flat_curve_and_nobody_wins(kind: str) -> None:
    model, pixels = nets.gap(), nets.picture(dtype=torch.float32)
    found = curves(model, pixels, TARGET, distinct(), kind=kind, filling=pixels, steps=4, batch_size=1)
    assert np.ptp(found.curve.scores) == 0
    assert found.curve.area == pytest.approx(score_of(model, pixels))
    assert all(words.startswith("No better than") for words in found.verdicts.values())


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_neither_batches_nor_scaling_change_a_curve(batch_size: int) -> None:
    model, pixels, values = nets.deep_head(torch.float64), nets.picture(), distinct()
    one = curves(model, pixels, TARGET, values, steps=6)
    other = curves(model, pixels, TARGET, 7 * values - 3, steps=6, batch_size=batch_size)
    np.testing.assert_allclose(other.curve.scores, one.curve.scores, rtol=1e-12)
    np.testing.assert_allclose(other.mean("random").scores, one.mean("random").scores, rtol=1e-12)
    assert other.spread("random") == pytest.approx(one.spread("random"))


def test_a_small_map_counts_as_it_is_shown_enlarged_bilinearly() -> None:
    model, pixels = nets.deep_head(torch.float64), nets.picture()
    small = np.random.default_rng(0).random((6, 4)).astype(np.float32)
    large = torch.nn.functional.interpolate(torch.from_numpy(small).double()[None, None], nets.SIZE, mode="bilinear")
    heat = Heatmap(small, "grad_cam", model.name, "act2", TARGET, 0.0)
    found = [curves(model, pixels, TARGET, one, controls=()).curve.scores for one in (heat, small, large[0, 0].numpy())]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


# ---- orders ------------------------------------------------------------------------------------------------------


def test_an_order_has_every_pixel_once_and_the_most_important_first() -> None:
    values = np.maximum(np.random.default_rng(1).normal(size=(23, 17)), 0).astype(np.float32)  # half of it ties
    order = order_of(values)
    assert sorted(order) == list(range(values.size))
    assert (np.diff(values.ravel()[order]) <= 0).all()


def test_ties_are_broken_by_the_seed_and_not_by_where_a_pixel_lies() -> None:
    ties = np.zeros((40, 30))
    ties[3, 4] = 1
    order = order_of(ties, seed=1)
    assert order[0] == 3 * 30 + 4
    np.testing.assert_array_equal(order, order_of(ties, seed=1))
    assert not np.array_equal(order, order_of(ties, seed=2))
    rows = order[1:600] // 30
    assert rows.mean() == pytest.approx(19.5, abs=1.5)  # read row by row, it would be 9.5


def test_whole_numbers_and_masks_are_maps_too() -> None:
    mask = np.zeros((5, 4), bool)
    mask[2, 1] = True
    assert order_of(mask)[0] == order_of(mask.astype(np.uint8))[0] == 9


# ---- against the papers, done slowly -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("filling", ["mean", "blur", "black"])
def test_curves_are_those_of_the_paper(kind: str, filling: str) -> None:
    model, pixels, values = nets.deep_head(torch.float64), nets.picture(), distinct()
    empty = filling_of(pixels, filling)[0].numpy()
    slow = {"deletion": reference.deletion, "insertion": reference.insertion}[kind]
    wanted = slow(lambda x: score_of(model, torch.from_numpy(x)[None]), pixels[0].numpy(), empty, values, 9)
    found = curves(model, pixels, TARGET, values, kind=kind, filling=filling, steps=9, controls=()).curve
    np.testing.assert_allclose(found.scores, wanted, rtol=1e-10)
    assert found.area == pytest.approx(reference.area(list(found.shares), wanted), rel=1e-10)
    np.testing.assert_allclose(found.shares, np.arange(10) / 9, atol=1 / values.size)


def test_edges_are_sobels() -> None:
    pixels = nets.picture()
    np.testing.assert_allclose(edges_of(pixels), reference.edges(pixels[0].numpy()), rtol=1e-9, atol=1e-12)


HOLES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "sprinkled": lambda y, x: np.random.default_rng(0).random(y.shape) < 0.6,
    "a disc": lambda y, x: np.hypot(y - 18, x - 12) < 9,
    "all but a corner": lambda y, x: (y > 0) | (x > 0),
    "the border": lambda y, x: (y == 0) | (x == 0) | (y == y.max()) | (x == x.max()),
    "one pixel": lambda y, x: (y == 5) & (x == 7),
    "nothing": lambda y, x: y < 0,
}


@pytest.mark.parametrize("hole", HOLES)
def test_removed_pixels_are_the_weighted_means_of_their_neighbours(hole: str) -> None:
    pixels, removed = nets.picture(), HOLES[hole](*np.mgrid[: nets.SIZE[0], : nets.SIZE[1]])
    found = noisy_linear(pixels, removed, noise=0)[0].numpy()
    np.testing.assert_allclose(found, reference.imputed(pixels[0].numpy(), removed), rtol=0, atol=2e-6)
    np.testing.assert_array_equal(found[:, ~removed], pixels[0].numpy()[:, ~removed])


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept")  # the peer's
@pytest.mark.parametrize("hole", sorted(set(HOLES) - {"nothing"}))
def test_removed_pixels_are_pytorch_grad_cams(hole: str) -> None:
    """To 1e-5 of the range of the pixels: the peer answers in float32."""
    pixels, removed = nets.picture(dtype=torch.float32), HOLES[hole](*np.mgrid[: nets.SIZE[0], : nets.SIZE[1]])
    wanted = PeersImputer(noise=0)(pixels[0], torch.from_numpy(~removed).float())
    np.testing.assert_allclose(noisy_linear(pixels, removed, noise=0)[0].numpy(), wanted.numpy(), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept")  # the peer's
@pytest.mark.parametrize("kind", KINDS)
def test_scores_at_given_shares_are_pytorch_grad_cams(kind: str) -> None:
    """Probabilities to 1e-5. The peer adds noise of its own drawing, so it is handed ours; it cuts by a percentile,
    which is put between two values; and it leaves what is below, so that insertion takes minus the map."""
    model, pixels, values = nets.deep_head(), nets.picture(dtype=torch.float32), distinct().astype(np.float32)
    nothing = noisy_linear(pixels, np.ones(nets.SIZE, bool))[0]
    noise = nothing - noisy_linear(pixels, np.ones(nets.SIZE, bool), noise=0)[0]

    def with_our_noise(picture: Tensor, mask: Tensor) -> Tensor:
        return PeersImputer(noise=0)(picture, mask) + noise * (mask == 0)

    def net(x: Tensor) -> Tensor:
        return model.net(model.normalise(x)).softmax(1)

    found = curves(model, pixels, TARGET, values, kind=kind, filling="road", steps=10, controls=()).curve
    removed_first = values if kind == "deletion" else -values
    for share, score in list(zip(found.shares, found.scores, strict=True))[1:-1]:
        gone = round((share if kind == "deletion" else 1 - share) * values.size)
        percentile = 100 * (values.size - gone - 0.5) / (values.size - 1)
        measure = PERTURBED.PerturbationConfidenceMetric(PERTURBED.RemoveMostRelevantFirst(percentile, with_our_noise))
        wanted = measure(pixels, removed_first[None], [lambda output: output[TARGET]], net, return_diff=False)
        assert score == pytest.approx(float(wanted[0]), abs=1e-5)


def test_noise_is_of_the_stated_size_and_the_same_whatever_else_is_removed() -> None:
    pixels = nets.picture(size=(120, 90))
    some = np.random.default_rng(0).random((120, 90)) < 0.5
    more = some | (np.random.default_rng(1).random((120, 90)) < 0.5)
    noises = [(noisy_linear(pixels, one, seed=4) - noisy_linear(pixels, one, noise=0)).numpy() for one in (some, more)]
    np.testing.assert_allclose(noises[0][0, :, some], noises[1][0, :, some], atol=1e-12)
    assert float(noises[1][0, :, more].std()) == pytest.approx(0.01, rel=0.03)
    assert not torch.allclose(noisy_linear(pixels, some, seed=4), noisy_linear(pixels, some, seed=5), atol=1e-3)


def test_without_anything_left_every_pixel_is_the_mean_of_the_picture() -> None:
    pixels = nets.picture()
    found = noisy_linear(pixels, np.ones(nets.SIZE, bool), noise=0)
    np.testing.assert_allclose(found.numpy(), filling_of(pixels, "mean").numpy(), atol=1e-12)


def test_a_slope_is_filled_in_as_a_slope() -> None:
    """It is its own mean everywhere: a hole of any shape inside of it leaves no trace, in a large picture as well."""
    y, x = np.mgrid[:224, :192]
    slope = torch.from_numpy(np.stack([y, x, y + x]) / 500)[None]
    removed = (np.hypot(y - 100, x - 90) < 80) | (np.random.default_rng(0).random(y.shape) < 0.5)
    removed[[0, -1]] = removed[:, [0, -1]] = False
    np.testing.assert_allclose(noisy_linear(slope, removed, noise=0).numpy(), slope.numpy(), rtol=0, atol=2e-5)


# ---- nets whose answer is known ----------------------------------------------------------------------------------


@pytest.mark.parametrize("filling", ["mean", "blur", "road"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_map_of_what_the_net_looks_at_beats_random_orders_and_edges(kind: str, filling: str) -> None:
    model, pixels, marked = rectangle()
    options: dict[str, Any] = {"kind": kind, "filling": filling, "steps": 16}
    found = curves(model, pixels, 0, marked, **options)
    assert all(words.startswith("Beats ") for words in found.verdicts.values()), found.verdict
    assert found.lead("random") > 0.1
    assert found.lead("edges") > 0.05
    # and the map that marks all else is worse than both
    other = curves(model, pixels, 0, 1 - marked, **options)
    assert all(words.startswith("Worse than ") for words in other.verdicts.values()), other.verdict


@pytest.mark.parametrize("size", [(24, 17), (7, 224), (3, 2), (1, 5)])
def test_a_map_is_pushed_by_a_quarter_of_its_sides_at_least_either_way(size: tuple[int, int]) -> None:
    """Seen by its one spot, and by how often each push is drawn: all of them are."""
    spot = np.zeros(size)
    spot[0, 0] = 1
    moved = faithfulness._moved_maps(torch.zeros(1), spot, 600, 3)
    places = np.array([np.unravel_index(one.argmax(), size) for one in moved])
    assert all(one.sum() == 1 for one in moved)
    for axis, side in enumerate(size):
        away = np.minimum(places[:, axis], side - places[:, axis])  # by the shorter way round
        assert away.min() >= side // 4
        assert away.max() == side // 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_of_what_the_net_looks_at_is_better_than_each_of_its_moved_copies(kind: str) -> None:
    model, pixels, marked = rectangle()
    found = curves(model, pixels, 0, marked, kind=kind, steps=16, controls=("moved",), random_orders=10)
    sign = 1 if kind == "insertion" else -1
    assert all(sign * (found.curve.area - one.area) > 0 for one in found.controls["moved"])
    assert found.lead("moved") > 0.1


def test_random_maps_are_seldom_told_from_random_orders() -> None:
    model, pixels, _ = rectangle()
    told = 0
    for seed in range(30):
        values = np.random.default_rng(1000 + seed).random(nets.SIZE)
        found = curves(model, pixels, 0, values, controls=("random",), seed=seed, steps=8, batch_size=64)
        told += not found.verdict.startswith("No better than a random order (5 of them spread over ±")
    assert told <= 5  # 1.5 on average


@pytest.mark.parametrize("count", [2, 5, 20])
def test_chance_tells_one_map_in_twenty_from_what_it_is_one_of(count: int) -> None:
    draws = np.random.default_rng(0)
    told = 0
    for _ in range(1500):
        area, *randoms = draws.normal(0.4, 0.03, count + 1)
        told += not measured("insertion", area, randoms).verdict.startswith("No better")
    assert told / 1500 == pytest.approx(0.05, abs=0.017)  # three standard deviations


def test_a_constant_map_is_a_random_order() -> None:
    model, pixels, _ = rectangle()
    found = curves(model, pixels, 0, np.ones((4, 3)), controls=("random", "moved"), steps=12)
    assert found.verdicts["random"].startswith("No better than a random order")
    assert found.verdicts["moved"].startswith("No better than the same map in a random place")


# ---- what is said ------------------------------------------------------------------------------------------------


def measured(kind: str, area: float, randoms: list[float], edges: float | None = None) -> Faithfulness:
    def flat(order: str, height: float) -> Curve:
        return Curve(kind, order, np.array([0.0, 1.0]), np.array([height, height]))

    controls = {"random": tuple(flat("random", one) for one in randoms)} if randoms else {}
    if edges is not None:
        controls["edges"] = (flat("edges", edges),)
    return Faithfulness(flat("map", area), controls, "net", 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_verdicts_weigh_the_difference_against_the_spread(sign: int) -> None:
    """For insertion a large area is good, for deletion a small one; the sentences are the same."""
    kind = "insertion" if sign == 1 else "deletion"
    randoms = [0.5 + 0.01 * k for k in (-1, 0, 1)]  # a standard deviation of 0.01: chance reaches to 0.0497
    for lead, words in (
        (0.21, "Beats a random order by 0.21 (3 of them spread over ±0.01)."),
        (0.051, "Beats a random order by 0.051 (3 of them spread over ±0.01)."),
        (0.049, "No better than a random order (3 of them spread over ±0.01)."),
        (-0.049, "No better than a random order (3 of them spread over ±0.01)."),
        (-0.051, "Worse than a random order by 0.051 (3 of them spread over ±0.01)."),
    ):
        found = measured(kind, 0.5 + sign * lead, randoms)
        assert found.verdict == words
        assert found.lead("random") == pytest.approx(lead)
    beside = measured(kind, 0.5 + sign * 0.3, randoms, edges=0.5 + sign * 0.29)
    assert beside.verdicts["edges"] == "No better than the edges of the picture."  # by the spread of random orders
    alone = measured(kind, 0.5 + sign * 0.3, [], edges=0.5 + sign * 0.29)
    assert alone.verdict == "Beats the edges of the picture by 0.01."
    assert measured(kind, 0.3, []).verdict == ""


def test_the_mean_curve_and_its_band_are_over_the_orders() -> None:
    found = curves(nets.gap(), nets.picture(dtype=torch.float32), TARGET, distinct(), steps=5, random_orders=4)
    several = found.controls["random"]
    assert len(several) == 4
    assert found.mean("random").area == pytest.approx(np.mean([one.area for one in several]))
    np.testing.assert_allclose(found.band("random"), np.std([one.scores for one in several], axis=0, ddof=1))
    assert found.band("random")[0] == found.band("edges").max() == 0
    assert len({one.area for one in several}) == 4


@pytest.mark.parametrize("controls", [(), ("edges",), ("random",), ("moved", "edges"), tuple(CONTROLS)])
def test_it_costs_as_many_passes_as_was_said_and_progress_counts_them(controls: tuple[str, ...]) -> None:
    model, shown, seen = nets.gap(), [], []
    model.net.register_forward_hook(lambda net, given, output: shown.append(len(output)))
    options: dict[str, Any] = {"steps": 7, "controls": controls, "random_orders": 3}
    curves(model, nets.picture(dtype=torch.float32), 0, distinct(), progress=lambda *at: seen.append(at), **options)
    total = passes(7, controls=controls, random_orders=3)
    assert sum(shown) == total
    assert max(shown) <= 8
    assert seen[-1] == (total, total)
    assert passes() == 2 + 31 * 7


def test_the_same_seed_gives_the_same_and_another_one_others() -> None:
    model, pixels, values = nets.gap(), nets.picture(dtype=torch.float32), np.zeros((5, 4))
    state = torch.random.get_rng_state()
    one, again, other = (
        curves(model, pixels, 0, values, filling="road", steps=3, controls=("random",), seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.curve.scores, again.curve.scores)
    np.testing.assert_array_equal(one.mean("random").scores, again.mean("random").scores)
    assert not np.array_equal(one.curve.scores, other.curve.scores)
    assert not np.array_equal(one.mean("random").scores, other.mean("random").scores)
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_cancel_passes_through_and_the_arguments_stay_as_they_were() -> None:
    class Cancelled(BaseException):
        pass

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    model, pixels, values = nets.gap(), nets.picture(dtype=torch.float32), distinct()
    model.net.train()
    before = pixels.clone(), values.copy()
    with pytest.raises(Cancelled):
        curves(model, pixels, 0, values, progress=cancel)
    assert nets.lock_is_free(model)
    assert model.net.training
    assert torch.equal(pixels, before[0])
    np.testing.assert_array_equal(values, before[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "removal"}, "kind is 'removal'; it must be one of deletion, insertion"),
        ({"score": "loss"}, "score is 'loss'; it must be one of logit, probability"),
        ({"filling": "noise"}, "filling is 'noise'; it must be one of mean, black, white, blur, road"),
        ({"filling": 3}, "filling is 3; it must be"),
        ({"filling": torch.zeros(1, 3, 2, 2)}, "of the shape of pixels"),
        ({"steps": 0}, "steps is 0; it must be a whole number from 1 to 1000"),
        ({"pixels": torch.rand(1, 3, 5, 6), "steps": 31}, "steps is 31; the picture has 30 pixels"),
        ({"controls": "random"}, "controls is 'random'; it must be a tuple of some of random, moved, edges"),
        ({"controls": ("colour",)}, r"controls is \('colour',\); it must be"),
        ({"controls": ("edges", "edges")}, "controls is .*; it must be"),
        ({"random_orders": 1}, "random_orders is 1; it must be a whole number from 2 to 100"),
        ({"seed": -1}, "seed is -1"),
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number from 1 to 4096"),
        ({"target": 5}, "target is 5; it must be a class index of GapNet, 0 to 4"),
        ({"pixels": torch.zeros(2, 3, 9, 8)}, "pixels holds 2 pictures"),
        ({"values": np.zeros((3, 4, 4))}, r"values is float64 \(3, 4, 4\); it must be a heatmap"),
        ({"values": np.zeros((0, 4))}, r"values is float64 \(0, 4\)"),
        ({"values": np.array([["a"]])}, "values is <U1"),
        ({"values": [[1.0]]}, "values is a list; it must be"),
        ({"values": np.array([[1.0, np.nan]])}, "values holds NaN or infinity"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(options: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"pixels": nets.picture(dtype=torch.float32), "target": 0, "values": distinct(), **options}
    with pytest.raises(BadParameter, match=words):
        curves(nets.gap(), **given)


def test_a_class_beyond_what_the_net_answers_is_refused() -> None:
    model = nets.answering(lambda logits: logits[:, :3])
    with pytest.raises(BadParameter, match="0 to 2"):
        curves(model, nets.picture(dtype=torch.float32), 4, distinct())


@pytest.mark.parametrize("removed", [np.zeros(nets.SIZE), np.zeros((3, 3), bool), [[True]]])
def test_what_marks_no_pixels_is_refused(removed: Any) -> None:
    with pytest.raises(BadParameter, match=r"removed is .*; it must be an array of booleans of the sh"):
        noisy_linear(nets.picture(), removed)


def test_a_system_that_does_not_converge_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imputation, "cg", lambda matrix, known, start, **options: (start, 1000))
    with pytest.raises(UnsupportedModel, match="did not converge"):
        noisy_linear(nets.picture(), HOLES["a disc"](*np.mgrid[: nets.SIZE[0], : nets.SIZE[1]]))


@pytest.mark.slow
def test_grad_cam_of_a_cat_beats_random_orders_where_pixels_come_into_a_blur() -> None:
    model = load_model("efficientnet_lite0")
    photo = next(sample for sample in list_samples() if sample.title == "Cat").read()
    pixels = prepare(open_photo(photo).pixels, model).pixels
    with torch.no_grad():
        target = int(model.logits(pixels)[0].argmax())
    found = curves(model, pixels, target, cam(model, pixels, target), kind="insertion", steps=12, controls=("random",))
    assert found.verdict.startswith("Beats a random order by"), found.verdict
