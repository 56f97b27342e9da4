"""The spectrum of a filter tells edges and blobs of colour from noise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models import load_model
from vizcore.filters import filters
from vizcore.records import BadParameter, Filters
from vizcore.spectra import ORIENTED, readability

ROWS, COLUMNS = np.meshgrid(np.arange(7) - 3.0, np.arange(9) - 4.0, indexing="ij")  # kernels 7 high, 9 wide


def bank_of(*kernels: np.ndarray) -> Filters:
    return Filters(np.stack(kernels).astype(np.float32), "net", "conv1", ("red", "green", "blue"))


def grey(kernel: np.ndarray) -> np.ndarray:
    return np.stack([kernel] * 3)


def blob(width: float) -> np.ndarray:
    return np.exp(-(ROWS**2 + COLUMNS**2) / (2 * width**2))


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, 7, 7))


@pytest.mark.parametrize("degrees", [0, 20, 45, 90, 160])
def test_an_edge_is_oriented_whatever_its_direction(degrees: float) -> None:
    angle = math.radians(degrees)
    edge = (COLUMNS * math.cos(angle) + ROWS * math.sin(angle)) * blob(1.5)
    found = readability(bank_of(grey(edge)))
    assert found.orientation[0] == pytest.approx(0.5, abs=0.05)  # that of the derivative of a Gaussian
    assert found.oriented[0]
    assert not found.coloured[0]


def test_a_fine_grating_is_the_most_oriented() -> None:
    edge, grating = COLUMNS * blob(1.5), np.cos(0.7 * math.pi * COLUMNS) * blob(3)
    orientation = readability(bank_of(grey(edge), grey(grating))).orientation
    assert orientation[1] > 0.9 > orientation[0]


def test_a_blob_of_one_colour_against_another_is_coloured_and_a_grey_one_is_not() -> None:
    opponent = blob(2.5) * np.array([1.0, -0.5, -0.5])[:, None, None]
    found = readability(bank_of(opponent, grey(blob(2.5))))
    assert found.coloured.tolist() == [True, False]
    assert not found.oriented.any()
    assert found.share == 0.5


def test_noise_is_neither() -> None:
    found = readability(Filters(noise(500).astype(np.float32), "net", "conv1", None))
    assert found.share < 0.01
    assert found.orientation.max() < ORIENTED


def test_neither_the_scale_nor_the_sign_of_a_filter_matters() -> None:
    kernels = noise(5)
    one, other = (readability(Filters(k.astype(np.float32), "net", "conv1", None)) for k in (kernels, -7 * kernels))
    np.testing.assert_allclose(one.orientation, other.orientation, rtol=1e-5)
    np.testing.assert_allclose(one.colour, other.colour, rtol=1e-5)


def test_a_filter_of_zeros_cannot_be_read() -> None:
    assert readability(bank_of(np.zeros((3, 7, 9)))).share == 0


def test_small_kernels_are_refused_as_noise_of_their_size_looks_oriented() -> None:
    with pytest.raises(BadParameter, match=r"5 × 3.*7 × 7"):
        readability(Filters(np.ones((4, 3, 3, 5), np.float32), "net", "conv1", None))


def test_photonets_first_filters_are_edges_and_colours_and_untrained_ones_are_noise() -> None:
    trained, untrained = (
        readability(filters(load_model("photonet", weights=weights))) for weights in ("default", None)
    )
    assert len(trained.oriented) == 64
    assert trained.share > 0.5
    assert untrained.share < 0.1
    assert trained.oriented.any()
    assert trained.coloured.any()
