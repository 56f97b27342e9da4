"""Every method that answers with a heatmap, by one name: what it is called, what its numbers are, how to ask for it.

For who has the name of a method and not the method: the command line, a report, a loop over all of them. It adds
nothing to what they compute; who knows which one they want calls that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor

from vizcore.attribution import (
    ATTRIBUTION_METHODS,
    GUIDED_GRAD_CAM,
    MOST_STEPS,
    SAMPLES,
    attribution,
    guided_grad_cam,
)
from vizcore.cam import CAM_METHODS, cam
from vizcore.colour import Scale
from vizcore.hooks import layer_for, list_layers
from vizcore.occlusion import count_windows, occlusion
from vizcore.records import VIEWS, BadParameter, Heatmap, Model, Progress
from vizcore.rise import above_mean, rise
from vizcore.superpixels import SEGMENTS, superpixel_ablation

VIEW = "absolute"
MASKS = 1000
FORTH_AND_BACK = 3  # times as long as forth, at most: measured
SHARE_OF_PIXELS = 0.99  # of a map by pixel, that its scale holds
SYMBOLS = "A: the layer's maps, c: channel, s: the logit of the class, x: the picture."
SYMBOLS_BY_PIXEL = (
    "x: the picture, s: the logit of the class, b: the baseline; at a ReLU, f: what it is given, R: what comes back."
)


@dataclass(frozen=True)
class HeatmapMethod:
    """How a method is called, read and doubted. ``formula`` is LaTeX; ``family`` is "cam", "pixel" or "hiding"."""

    title: str
    family: str
    formula: str
    symbols: str
    reading: str
    weakness: str
    reference: str


HIDING_METHODS: Mapping[str, HeatmapMethod] = MappingProxyType(
    {
        "occlusion": HeatmapMethod(
            "Occlusion",
            "hiding",
            r"\text{drop} = s(x) - s(x \text{ with the window hidden})",
            "s: the score of the class, x: the picture.",
            "Each pixel shows the mean drop of the windows that cover it, in units of the score. Red: hiding it lowers "
            "the score, so it speaks for the class; blue: against it.",
            "A hidden square is itself something that the network never saw, and evidence that stands in two places "
            "does not show.",
            "Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014. Nakandala, Kumar & "
            "Papakonstantinou, Incremental and Approximate Inference for Faster Occlusion-based Deep CNN Explanations, "
            "SIGMOD 2019",
        ),
        "superpixel_ablation": HeatmapMethod(
            "Super-pixels",
            "hiding",
            r"\text{drop} = s(x) - s(x \text{ with the super-pixel hidden})",
            "s: the logit of the class, x: the picture, cut along its own edges by SLIC.",
            "Each patch shows the drop of the score when it takes the mean colour of the picture. Red speaks for the "
            "class, blue against it.",
            "The drop is that of a whole patch: a large one has more to hide. Evidence in two patches does not show.",
            "Achanta et al., SLIC Superpixels, TPAMI 2012; Zeiler & Fergus, ECCV 2014",
        ),
        "rise": HeatmapMethod(
            "RISE",
            "hiding",
            r"S = \frac{1}{\mathbb{E}[M]\,N} \sum_i s(x \odot M_i)\, M_i",
            "s: the probability of the class, x: the picture, M: a random mask, N: how many there are.",
            "How probable the class is where a pixel is seen, over many pictures of which half is black. Shown is how "
            "far that lies above (red) or below (blue) its mean.",
            "It is an estimate: what it would be with other masks is said below the map. Fine parts do not show.",
            "Petsiuk, Das & Saenko, RISE, BMVC 2018",
        ),
    }
)
ADDS_UP = ("gradient_x_input", "integrated_gradients")  # by pixel, but in shares of the score
BY_PIXEL = MappingProxyType({**ATTRIBUTION_METHODS, "guided_grad_cam": GUIDED_GRAD_CAM})
HEATMAP_METHODS: Mapping[str, HeatmapMethod] = MappingProxyType(
    {
        name: HeatmapMethod(row.title, family, row.formula, symbols, row.reading, row.weakness, row.reference)
        for family, symbols, table in (("cam", SYMBOLS, CAM_METHODS), ("pixel", SYMBOLS_BY_PIXEL, BY_PIXEL))
        for name, row in table.items()
    }
    | dict(HIDING_METHODS)
)


def heatmap(
    model: Model,
    pixels: Tensor,
    target: int,
    method: str = "grad_cam",
    layer: str | None = None,
    *,
    view: str = VIEW,
    progress: Progress | None = None,
    **options: Any,
) -> Heatmap:
    """The heatmap of ``target`` by any of HEATMAP_METHODS, for one picture, ``pixels`` (1, 3, H, W) in [0, 1].

    ``layer`` is that of the CAM methods and of Guided Grad-CAM, None the model's ``"cam"``; ``view``, one of VIEWS, is
    how methods by pixel make one number of three; ``options`` are those of the method's own function. Values and cost
    are that function's, but that RISE is given above and below its mean. Raises BadParameter for an option that the
    method does not have, and what the method raises.
    """
    if method not in HEATMAP_METHODS:
        raise BadParameter(f"method is {method!r}; it must be one of {', '.join(HEATMAP_METHODS)}.")
    if view not in VIEWS:
        raise BadParameter(f"view is {view!r}; it must be one of {', '.join(VIEWS)}.")
    if method == "guided_grad_cam":
        _check_options(method, options, lambda: None)
        guided = attribution(model, pixels, target, "guided_backpropagation")
        heat = guided_grad_cam(guided, cam(model, pixels, target, "grad_cam", layer)).heatmap(view)
        if progress:
            progress(1, 1)
        return heat
    if method in CAM_METHODS:
        _check_options(method, options, cam)
        return cam(model, pixels, target, method, layer, progress=progress, **options)
    if method in ATTRIBUTION_METHODS:
        _check_options(method, options, attribution)
        return attribution(model, pixels, target, method, progress=progress, **options).heatmap(view)
    ask = _HIDING[method]
    _check_options(method, options, ask)
    heat = ask(model, pixels, target, progress=progress, **options)
    return above_mean(heat) if method == "rise" else heat


_HIDING: Mapping[str, Callable[..., Heatmap]] = MappingProxyType(
    {"occlusion": occlusion, "superpixel_ablation": superpixel_ablation, "rise": rise}
)


def _check_options(method: str, options: Mapping[str, Any], ask: Callable[..., Any]) -> None:
    given = ("model", "pixels", "target", "method", "layer", "progress", "partial")
    known = [name for name in inspect.signature(ask).parameters if name not in given]
    if unknown := [name for name in options if name not in known]:
        allowed = f"it has {', '.join(known)}" if known else "it has none"
        raise BadParameter(f"{HEATMAP_METHODS[method].title} has no option {unknown[0]!r}; {allowed}.")


def usual_options(model: Model, method: str) -> dict[str, Any]:
    """The options that pages and reports ask with: windows by the size of the input (32 and 16 of 224 pixels), 1,000
    masks."""
    shorter = min(model.input_size)
    if method == "occlusion":
        return {"window": max(2, shorter // 7), "stride": max(1, shorter // 14)}
    return {"masks": MASKS} if method == "rise" else {}


def passes_of(model: Model, method: str, layer: str | None = None) -> int:
    """About how many forward passes a map with `usual_options` costs, at most; a pass forth and back counts as three.

    Itself takes a pass where the method needs one for each channel of ``layer``. Raises BadParameter, LayerNotFound.
    """
    if method not in HEATMAP_METHODS:
        raise BadParameter(f"method is {method!r}; it must be one of {', '.join(HEATMAP_METHODS)}.")
    if method in CAM_METHODS and CAM_METHODS[method].needs == "passes":
        name = layer_for(model, "cam", layer)
        return next(known.shape[0] for known in list_layers(model) if known.name == name)
    if method == "occlusion":
        return count_windows(model.input_size, **usual_options(model, method))
    many = {"superpixel_ablation": SEGMENTS, "rise": MASKS}
    forth_and_back = {"integrated_gradients": MOST_STEPS, "smooth_grad": SAMPLES, "guided_grad_cam": 2}
    return many.get(method) or FORTH_AND_BACK * forth_and_back.get(method, 1)


def scale_of(*heats: Heatmap) -> Scale:
    """One scale for heatmaps; of those by pixel it holds all pixels but a few, which would dwarf the others."""
    scales = [Scale.of(heat, share=SHARE_OF_PIXELS if heat.method in BY_PIXEL else 1.0) for heat in heats]
    high = max(scale.high for scale in scales)
    return Scale(-high if any(scale.signed for scale in scales) else 0.0, high)


def title_of(heat: Heatmap) -> str:
    """What a heatmap is called: "Grad-CAM"."""
    return HEATMAP_METHODS[heat.method].title if heat.method in HEATMAP_METHODS else "Estimated occlusion"


def unit_of(heat: Heatmap) -> str:
    """What the numbers of a heatmap are, in words: "drop of the logit"."""
    if heat.method in BY_PIXEL:
        return BY_PIXEL[heat.method].unit
    if heat.method == "rise":
        return f"{heat.params['score']} above its mean"
    if heat.method in CAM_METHODS:
        return f"{title_of(heat)}, raw"
    return f"drop of the {heat.params['score']}"


def quantity_of(heat: Heatmap) -> str:
    """What there is more of where a value is larger, for a sentence: "evidence"."""
    if heat.method == "eigen_cam":
        return "response"
    if heat.method == "rise":
        return "score above its mean"
    if heat.method in BY_PIXEL and not (heat.method in ADDS_UP and heat.params["view"] == "signed"):
        return "sensitivity"  # a slope below 0 speaks against nothing
    return "evidence"


def python_of(heat: Heatmap) -> tuple[str, ...]:
    """The imports and, last, the lines that compute a heatmap from ``model`` and ``view``; one that was stopped early
    is computed to its end."""
    options = ", ".join(f"{name}={value!r}" for name, value in heat.params.items())
    if heat.method == "occlusion_estimate":
        call = f"(heat,) = estimate_occlusion(model, view.pixels, [{heat.target}], {options})"
        return "from vizcore.occlusion import estimate_occlusion", call
    if heat.method in BY_PIXEL:
        return _python_of_attribution(heat)
    if heat.method in CAM_METHODS:
        call = f"heat = cam(model, view.pixels, {heat.target}, {heat.method!r}, {heat.layer!r})"
        return "from vizcore.cam import cam", call
    if heat.method == "rise":
        call = f"heat = above_mean(rise(model, view.pixels, {heat.target}, {options}))"
        return "from vizcore.rise import above_mean, rise", call
    module = "occlusion" if heat.method == "occlusion" else "superpixels"
    call = f"heat = {heat.method}(model, view.pixels, {heat.target}, {options})"
    return f"from vizcore.{module} import {heat.method}", call


def _python_of_attribution(heat: Heatmap) -> tuple[str, ...]:
    params = dict(heat.params)
    view = params.pop("view")
    if heat.method == "guided_grad_cam":
        call = (
            f'guided = attribution(model, view.pixels, {heat.target}, "guided_backpropagation")\n'
            f'coarse = cam(model, view.pixels, {heat.target}, "grad_cam", {params["layer"]!r})\n'
            f"heat = guided_grad_cam(guided, coarse).heatmap({view!r})"
        )
        return "from vizcore.attribution import attribution, guided_grad_cam", "from vizcore.cam import cam", call
    options = "".join(f", {name}={value!r}" for name, value in params.items())
    call = f"heat = attribution(model, view.pixels, {heat.target}, {heat.method!r}{options}).heatmap({view!r})"
    return "from vizcore.attribution import attribution", call
