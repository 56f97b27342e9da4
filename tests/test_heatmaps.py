"""By its name, a method gives what its own function gives; and the Python of a map makes that map."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from nets import gap, picture

from vizcore.attribution import attribution, guided_grad_cam
from vizcore.cam import CAM_METHODS, cam
from vizcore.heatmaps import BY_PIXEL, HEATMAP_METHODS, heatmap, passes_of, python_of, quantity_of, title_of, unit_of
from vizcore.occlusion import estimate_occlusion, occlusion
from vizcore.records import BadParameter, Heatmap
from vizcore.rise import above_mean, rise

OPTIONS = {"occlusion": {"window": 4, "stride": 3}, "rise": {"masks": 24, "seed": 3}, "smooth_grad": {"samples": 4}}


def made(method: str, **options: object) -> Heatmap:
    return heatmap(gap(), picture(), 1, method, **{**OPTIONS.get(method, {}), **options})


@pytest.mark.parametrize("method", HEATMAP_METHODS)
def test_the_python_of_a_map_makes_that_map(method: str) -> None:
    heat = made(method)
    *imports, call = python_of(heat)
    names = {"model": gap(), "view": SimpleNamespace(pixels=picture())}
    exec("\n".join([*imports, call]), names)
    again = names["heat"]
    assert isinstance(again, Heatmap)
    np.testing.assert_array_equal(again.values, heat.values)
    assert (again.method, again.layer, again.target, again.params) == (
        heat.method,
        heat.layer,
        heat.target,
        heat.params,
    )


def test_the_python_of_an_estimate_makes_that_estimate() -> None:
    (heat,) = estimate_occlusion(gap(), picture(), [1], window=4, stride=3)
    *imports, call = python_of(heat)
    names = {"model": gap(), "view": SimpleNamespace(pixels=picture())}
    exec("\n".join([*imports, call]), names)
    np.testing.assert_array_equal(names["heat"].values, heat.values)  # type: ignore[attr-defined]
    assert title_of(heat) == "Estimated occlusion"


def test_a_method_by_its_name_is_its_own_function() -> None:
    model, pixels = gap(), picture()
    np.testing.assert_array_equal(made("layer_cam").values, cam(model, pixels, 1, "layer_cam").values)
    np.testing.assert_array_equal(made("occlusion").values, occlusion(model, pixels, 1, 4, 3).values)
    signed = attribution(model, pixels, 1, "gradient").signed
    np.testing.assert_array_equal(made("gradient", view="signed").values, signed)
    guided = guided_grad_cam(attribution(model, pixels, 1, "guided_backpropagation"), cam(model, pixels, 1))
    np.testing.assert_array_equal(made("guided_grad_cam").values, guided.absolute)


def test_rise_is_shown_about_its_mean_and_otherwise_unchanged() -> None:
    raw = rise(gap(), picture(), 1, masks=24, seed=3)
    shown = made("rise")
    assert abs(shown.values.mean()) < 1e-6
    np.testing.assert_allclose(shown.values - raw.values, -raw.values.mean(), atol=1e-6)
    assert shown.notes[:-1] == raw.notes
    assert "above and below the mean" in above_mean(raw).notes[-1]


def test_every_method_says_how_it_is_read_and_doubted() -> None:
    for name, row in HEATMAP_METHODS.items():
        assert all((row.title, row.formula, row.symbols, row.reading, row.weakness, row.reference)), name
        assert row.reading.endswith(".")
        assert row.weakness.endswith(".")
    assert {row.family for row in HEATMAP_METHODS.values()} == {"cam", "pixel", "hiding"}
    assert set(CAM_METHODS) | set(BY_PIXEL) < set(HEATMAP_METHODS)


def test_a_map_says_what_its_numbers_are() -> None:
    assert unit_of(made("occlusion", score="probability")) == "drop of the probability"
    assert unit_of(made("rise")) == "probability above its mean"
    assert unit_of(made("grad_cam")) == "Grad-CAM, raw"
    assert unit_of(made("gradient")) == BY_PIXEL["gradient"].unit
    assert quantity_of(made("gradient", view="absolute")) == "sensitivity"
    assert quantity_of(made("gradient", view="signed")) == "sensitivity"
    assert quantity_of(made("gradient_x_input", view="signed")) == "evidence"
    assert quantity_of(made("gradient_x_input", view="absolute")) == "sensitivity"
    assert quantity_of(made("rise")) == "score above its mean"
    assert quantity_of(made("occlusion")) == "evidence"
    assert quantity_of(made("eigen_cam")) == "response"


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("grad_cams", {}, "it must be one of cam, grad_cam"),
        ("gradient", {"view": "both"}, "it must be one of signed, absolute"),
        ("grad_cam", {"view": "both"}, "it must be one of signed, absolute"),
        ("occlusion", {"windows": 3}, "Occlusion has no option 'windows'; it has window, stride"),
        ("grad_cam", {"window": 3}, "Grad-CAM has no option 'window'"),
        ("guided_grad_cam", {"steps": 3}, "it has none"),
        ("smooth_grad", {"masks": 3}, "SmoothGrad has no option 'masks'"),
    ],
)
def test_what_a_method_does_not_have_is_refused(method: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        heatmap(gap(), picture(), 1, method, **options)


def test_the_price_of_a_method_that_there_is_not_is_refused() -> None:
    with pytest.raises(BadParameter, match="method is 'grad_cams'; it must be one of cam, grad_cam"):
        passes_of(gap(), "grad_cams")


@pytest.mark.parametrize("method", ["grad_cam", "guided_grad_cam", "gradient", "occlusion", "rise"])
def test_a_method_by_its_name_tells_how_far_it_is(method: str) -> None:
    told: list[tuple[int, int]] = []
    made(method, progress=lambda done, total: told.append((done, total)))
    assert told
    assert told[-1][0] == told[-1][1]
