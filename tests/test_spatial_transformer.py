"""The spatial transformer, the LeNet behind it, its distorted digits, and the warp as it is shown."""

from __future__ import annotations

import hashlib
import math
import re
from collections import OrderedDict
from pathlib import Path

import nets
import numpy as np
import pytest
import reference
import torch
from streamlit.testing.v1 import AppTest
from test_contract import unchanged
from torch import Tensor, nn
from torch.nn import functional as F

from models import catalogue, load_model
from models.catalogue import find_card
from models.distorted import DEGREES, DIGIT, FRAME, SCALES, distorted, placements
from models.samples import digits, list_samples
from models.spatial_transformer import SpatialTransformer, SpatialTransformerLeNet, ToMatrix
from models.train_transformer import place
from vizcore.graph import aten, steps_of
from vizcore.images import prepare, read_image
from vizcore.incremental import Variants
from vizcore.occlusion import occlusion
from vizcore.records import BadParameter, Model, UnsupportedModel
from vizcore.warp import OUTLINE, UPPER_EDGE, Warp, is_behind_warp, laid_back, learned_warp, outlined, warping_layer

ROOT = Path(__file__).resolve().parent.parent
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


class Told(nn.Module):
    """A localisation net that answers the same matrix to every picture."""

    def __init__(self, matrix: object) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor(matrix, dtype=torch.float64).flatten())

    def forward(self, pictures: Tensor) -> Tensor:
        return self.matrix.to(pictures.dtype).expand(len(pictures), 6)


def warping(dtype: torch.dtype = torch.float32) -> Model:
    """A net of 41 × 29 pictures that reads 21 × 17 of each, as its random localisation net says."""

    def build() -> nn.Module:
        locate = nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten(), ToMatrix(24)
        )
        layers = {
            "transformer": SpatialTransformer(locate, (21, 17)),
            "conv1": nn.Conv2d(3, 6, 3, padding=1),
            "relu3": nn.ReLU(),
            "pool": nn.Sequential(nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten()),
            "classifier": nn.Linear(12, nets.CLASSES),
        }
        return nn.Sequential(OrderedDict(layers))

    model = nets.model_of(build, nets.ROLES, dtype)
    last = model.net.get_submodule("transformer.locate.4")
    last.weight.mul_(0.3)
    last.bias.add_(torch.eye(2, 3, dtype=dtype).flatten())
    return model


def told(matrix: object, size: tuple[int, int] = (20, 30)) -> Model:
    """A net that reads every picture through ``matrix``, and whose classes are the three colours' means."""
    model = nets.plain_pixels(nets.colours(torch.float64))
    net = nn.Sequential(OrderedDict(transformer=SpatialTransformer(Told(matrix), size), body=model.net))
    return Model("told", net.eval().requires_grad_(False), model.labels, nets.SIZE, model.mean, model.std, {})


# ---- the layer --------------------------------------------------------------------------------------------


def test_each_pixel_is_read_where_the_matrix_says_between_the_four_pixels_around_it() -> None:
    """By loops, in float64, as in the paper's equations 1 and 5; pixels have their centres at halves."""
    matrix = ((0.8, -0.5, 0.1), (0.3, 1.1, -0.2))
    picture = nets.picture(1, (9, 13))[0].numpy()
    height, width = picture.shape[1:]
    expected = np.zeros((3, 7, 5))
    for row in range(7):
        for column in range(5):
            place = np.array([(2 * column + 1) / 5 - 1, (2 * row + 1) / 7 - 1, 1])
            x, y = (np.array(matrix) @ place + 1) / 2 * (width, height) - 0.5
            for q in range(height):
                for p in range(width):
                    expected[:, row, column] += picture[:, q, p] * max(0, 1 - abs(x - p)) * max(0, 1 - abs(y - q))
    found = SpatialTransformer(Told(matrix), (7, 5))(torch.from_numpy(picture)[None])[0]
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-12)


def test_a_net_that_has_learnt_nothing_sees_the_whole_picture() -> None:
    with torch.random.fork_rng():
        net = SpatialTransformerLeNet()
    picture = torch.rand(2, 1, FRAME, FRAME, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(picture, (DIGIT, DIGIT), mode="bilinear", align_corners=False)
    for one in (net, load_model("stn_lenet", weights=None).net):
        torch.testing.assert_close(one.get_submodule("transformer")(picture), whole)


# ---- occlusion, for which the net is drawn up as a graph -----------------------------------------------------


def test_what_is_read_through_a_grid_counts_as_reading_everything() -> None:
    model = warping()
    steps = steps_of(model, (3, *nets.SIZE))
    (reading,) = (step for step in steps if step.call.operation is aten.grid_sampler_2d.default)
    assert not reading.is_local
    assert Variants(model, nets.picture().float()).is_traced


@pytest.mark.parametrize(("window", "stride"), [((7, 5), (6, 4)), ((41, 3), (9, 5)), ((2, 3), (13, 11))])
def test_occlusion_is_that_of_full_passes_though_hiding_a_part_moves_the_warp(window, stride) -> None:
    model, pixels = warping(torch.float64), nets.picture(2)
    black = np.zeros((3, *nets.SIZE))
    expected = reference.occlusion(model, pixels[0].numpy(), 2, window, stride, black)
    heat = occlusion(model, pixels, 2, window, stride, baseline="black")
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(heat.values, expected, rtol=1e-5, atol=1e-8)


def test_occlusion_of_the_shipped_net_is_that_of_full_passes() -> None:
    model = load_model("stn_lenet")
    pixels = prepare(read_image(sample("distorted-5").read()), model).pixels
    expected = reference.occlusion(model, pixels[0].numpy(), 5, (9, 7), (11, 9), np.zeros((3, FRAME, FRAME)))
    heat = occlusion(model, pixels, 5, (9, 7), (11, 9), baseline="black")
    np.testing.assert_allclose(heat.values, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


# ---- the warp of a picture -----------------------------------------------------------------------------------


def test_the_warp_is_what_the_net_computes_and_leaves_the_net_as_it_was() -> None:
    model, pixels = warping(), nets.picture(3, dtype=torch.float32)
    with unchanged(model):
        warp = learned_warp(model, pixels)
    assert (warp.before.shape, warp.after.shape) == ((3, *nets.SIZE), (3, 21, 17))
    np.testing.assert_allclose(warp.before, pixels[0].numpy(), atol=1e-6)
    transformer = model.net.get_submodule("transformer")
    matrix = transformer.locate(model.normalise(pixels)).view(2, 3)
    np.testing.assert_allclose(warp.matrix, matrix.numpy(), rtol=1e-6)
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (model.mean, model.std))
    np.testing.assert_allclose(warp.after, transformer(model.normalise(pixels))[0] * std + mean, atol=1e-6)


def test_a_net_without_a_warp_has_none_and_says_so() -> None:
    assert warping_layer(warping()) == "transformer"
    assert warping_layer(nets.gap()) is None
    with pytest.raises(UnsupportedModel, match="no layer that warps"):
        learned_warp(nets.gap(), nets.picture().float())
    with pytest.raises(BadParameter, match="holds 2 pictures"):
        learned_warp(warping(), nets.picture(n=2).float())


def test_layers_behind_the_warp_are_those_that_see_only_what_it_gives() -> None:
    model = warping()
    behind = {name: is_behind_warp(model, name) for name in ("transformer", "conv1", "transformer.locate.0", None)}
    assert behind == {"transformer": True, "conv1": True, "transformer.locate.0": False, None: False}
    assert not is_behind_warp(nets.gap(), "conv2")


def test_corners_are_places_in_pixels_of_the_picture_before() -> None:
    whole, quarter = (warp_of(matrix) for matrix in (IDENTITY, ((0.5, 0, -0.5), (0, 0.5, 0.5))))
    assert whole.corners.tolist() == [[0, 0], [29, 0], [29, 41], [0, 41]]
    assert quarter.corners.tolist() == [[0, 20.5], [14.5, 20.5], [14.5, 41], [0, 41]]  # below on the left


def warp_of(matrix: object, size: tuple[int, int] = (20, 30)) -> Warp:
    return learned_warp(told(matrix, size), nets.picture(dtype=torch.float64))


def test_the_turn_and_the_zoom_are_those_of_the_picture_not_of_the_grid() -> None:
    """A picture of 41 × 29 read at half its size in pixels, turned by 30° clockwise: the grid turns the other way."""
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    h, w = 40, 50
    in_pixels = np.array([[cos, sin], [-sin, cos]]) * 2  # a step to the right goes to the right and up
    matrix = np.zeros((2, 3))
    matrix[:, :2] = in_pixels * (w, h) / np.array([[29], [41]])
    warp = warp_of(matrix.tolist(), (h, w))
    assert warp.degrees == pytest.approx(30, abs=1e-4)
    assert warp.zoom == pytest.approx(0.5, abs=1e-5)
    assert not warp.mirrors
    assert warp_of(((-1, 0, 0), (0, 1, 0))).mirrors


def test_what_is_laid_back_lies_where_it_was_read() -> None:
    """A map that is the warped picture itself comes back as the picture, where that was read and is smooth."""
    matrix = ((0.5, -0.25, 0.1), (0.2, 0.6, -0.05))
    rows, columns = np.mgrid[0:1:41j, 0:1:29j]
    smooth = torch.from_numpy(np.stack([rows, columns, rows * columns]))[None]
    warp = learned_warp(told(matrix, (80, 60)), smooth)
    inside = laid_back(np.ones((4, 3), np.float32), warp) > 0
    assert 0.2 < inside.mean() < 0.5
    for channel in range(3):
        back = laid_back(warp.after[channel], warp)
        assert np.abs(back - warp.before[channel])[inside].max() < 0.01
        assert not back[~inside].any()


def test_a_warp_to_a_line_has_no_way_back_and_one_way_words() -> None:
    warp = warp_of(((0.5, 0, 0), (0.5, 0, 0)))
    assert warp.zoom == math.inf
    with pytest.raises(UnsupportedModel, match="flattens this picture to a line"):
        laid_back(np.ones((4, 3), np.float32), warp)
    with pytest.raises(BadParameter, match="int64"):
        laid_back(np.ones((4, 3), int), warp)


def test_the_outline_goes_through_the_corners_and_its_upper_edge_is_marked() -> None:
    warp = warp_of(((0, 0.5, 0), (-0.5, 0, 0)))  # a quarter turn: what becomes the upper edge is the left one
    picture = outlined(warp)
    factor = picture.shape[1] / 29
    assert picture.shape[:2] == (41 * factor, 29 * factor)
    middle = picture.shape[0] // 2
    for x, colour in ((0.25 * 29, UPPER_EDGE), (0.75 * 29, OUTLINE)):
        around = picture[middle, int(x * factor) - 5 : int(x * factor) + 6]
        assert (around == colour).all(1).any()


def test_an_outline_beyond_the_picture_is_drawn_on_grey_around_it() -> None:
    picture = outlined(warp_of(((1.2, 0, 0), (0, 1.0, 0))))
    assert picture.shape[1] > picture.shape[0] * 29 / 41
    assert picture[len(picture) // 2, 20].tolist() == [128, 128, 128]


# ---- distorted digits ----------------------------------------------------------------------------------------


def test_the_digits_of_the_samples_are_distorted_as_those_of_the_training() -> None:
    """Pillow's way against torch's, on digits, which are black at their edges."""
    pictures = digits()[0][7::501]
    matrices = placements(len(pictures), np.random.default_rng(5))
    by_torch = place(torch.from_numpy(pictures.copy())[:, None].float(), matrices)[:, 0].numpy()
    by_pillow = np.stack([distorted(*pair) for pair in zip(pictures, matrices, strict=True)])
    assert by_pillow.shape == (len(pictures), FRAME, FRAME)
    assert np.abs(by_pillow - by_torch).max() < 3


def test_a_digit_is_turned_resized_and_moved_as_far_as_is_said_and_stays_in_its_frame() -> None:
    matrices = placements(4000, np.random.default_rng(0))
    turns = matrices[:, :, :2]
    scales = np.linalg.det(turns) ** -0.5
    angles = np.degrees(np.arctan2(turns[:, 0, 1], turns[:, 0, 0]))
    for values, low, high in ((scales, *SCALES), (angles, -DEGREES, DEGREES)):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high >= values.max() > high - 0.01 * (high - low)
    moves = -np.linalg.inv(turns) @ matrices[:, :, 2:]
    assert (np.abs(moves[:, :, 0]) <= (FRAME - DIGIT * scales[:, None]) / 2 + 1e-9).all()
    ink = np.full((DIGIT, DIGIT), 255, np.uint8)
    ink[:4], ink[-4:], ink[:, :4], ink[:, -4:] = 0, 0, 0, 0  # MNIST's digits have 20 × 20
    for matrix in matrices[np.argsort(scales)[-20:]]:
        assert abs(distorted(ink, matrix).sum() / 255 / (400 * np.linalg.det(matrix[:, :2]) ** -1) - 1) < 0.03


def test_an_angle_above_zero_is_clockwise() -> None:
    digit = np.zeros((DIGIT, DIGIT), np.uint8)
    digit[2:6, 12:16] = 255  # ink above the middle
    cos, sin = math.cos(0.5), math.sin(0.5)
    picture = distorted(digit, np.array([[cos, sin, 0], [-sin, cos, 0]]))
    rows, columns = np.nonzero(picture > 128)
    assert columns.mean() > FRAME / 2 + 3
    assert rows.mean() < FRAME / 2


# ---- the net that is shipped ---------------------------------------------------------------------------------


def sample(key: str):
    return next(sample for sample in list_samples() if sample.key == key)


def seen(pictures: np.ndarray) -> Tensor:
    return (torch.from_numpy(pictures)[:, None].float() / 255).expand(-1, 3, -1, -1)


def test_it_reads_distorted_digits_that_lenet_5_cannot() -> None:
    """Digits of the training set: this guards the weights and the preprocessing, not the accuracy."""
    pictures, labels = digits()[0][::5], digits()[1][::5]
    matrices = placements(len(pictures), np.random.default_rng(7))
    shown = np.stack([distorted(*pair) for pair in zip(pictures, matrices, strict=True)])
    read = load_model("stn_lenet").logits(seen(shown)).argmax(1).numpy() == labels
    reduced = F.interpolate(seen(shown), (28, 28), mode="bilinear", antialias=True)
    without = load_model("lenet5").logits(reduced).argmax(1).numpy() == labels
    assert read.mean() > 0.98
    assert without.mean() < 0.7


def test_its_warp_turns_digits_some_of_the_way_upright() -> None:
    """Of ten upright digits, each turned either way by as much: how much of the difference the warp takes back."""
    model = load_model("stn_lenet")
    taken_back = []
    for row in range(20, 5000, 500):
        turned = []
        for angle in (-35, 35):
            cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            picture = distorted(digits()[0][row], np.array([[cos, sin, 0], [-sin, cos, 0]]))
            turned.append(learned_warp(model, seen(picture[None])).degrees)
        taken_back.append((turned[0] - turned[1]) / 70)
    assert min(taken_back) > 0
    assert np.median(taken_back) > 0.3


def test_each_distorted_sample_is_read_as_what_its_title_says() -> None:
    model = load_model("stn_lenet")
    for digit in range(10):
        pixels = prepare(read_image(sample(f"distorted-{digit}").read()), model).pixels
        assert pixels.shape == (1, 3, FRAME, FRAME)
        assert model.logits(pixels).softmax(1)[0, digit] > 0.8


def test_the_card_states_its_digest_and_its_accuracy_on_the_test_set() -> None:
    card = (catalogue.WEIGHTS_FOLDER / "stn_lenet.md").read_text(encoding="utf-8")
    digest = hashlib.sha256((catalogue.WEIGHTS_FOLDER / "stn_lenet.safetensors").read_bytes()).hexdigest()
    accuracy = re.search(r"\*\*(\d+\.\d+)%\*\* of the 10,000 test pictures \(([\d,]+) right\)", card)
    assert digest in card
    assert accuracy
    assert float(accuracy[1]) == int(accuracy[2].replace(",", "")) / 100 >= 98.5


# ---- on the page ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stn_lenet", "lenet5"])
def test_the_overview_shows_the_picture_before_and_after_the_warp_of_a_net_that_has_one(name: str) -> None:
    app = AppTest.from_file(ROOT / "app.py", default_timeout=120)
    app.query_params["model"] = find_card(name).title
    app.query_params["digit"] = sample("distorted-4").title
    app.run()
    assert not app.exception
    words = [element.value for element in (*app.subheader, *app.caption, *app.markdown)]
    shown = any("warps the picture" in text for text in words)
    assert shown == (name == "stn_lenet")
    if shown:
        assert any("turned by" in text and "times as large" in text for text in words)
