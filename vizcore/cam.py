"""Class activation maps: which places of a layer speak for a class.

Zhou et al. (*Learning Deep Features for Discriminative Localization*, CVPR 2016) read the map off the weights of a
net that ends in global average pooling and one linear layer; Selvaraju et al. (*Grad-CAM*, ICCV 2017) and those after
them weigh the channels of any layer by gradients, by their principal component, or by what hiding them does. Each is
one row of `CAM_METHODS`. With A the layer's maps and s the target's logit, Grad-CAM is relu(Σ_c mean_hw(∂s/∂A_c) ·
A_c).

Values are raw, at the layer's own resolution, in the unit that the formula gives: nothing is rescaled to [0, 1], so
maps of two classes can be compared. The net runs once for the gradient methods, and only what follows the layer is
differentiated; `cam_grid` takes several methods and classes of that one pass, `cam_of_layers` several layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vizcore.hooks import find_layer, layer_for, require_maps, trace
from vizcore.records import (
    BadParameter,
    Heatmap,
    Model,
    Progress,
    UnsupportedModel,
    check_pixels,
    check_target,
    check_whole,
)


@dataclass(frozen=True)
class CamMethod:
    """One row of the family. ``needs`` is what the formula reads: "weights", "gradient", "maps" or "passes"."""

    title: str
    reference: str
    needs: str
    formula: str
    reading: str
    weakness: str


def cam(
    model: Model,
    pixels: Tensor,
    target: int,
    method: str = "grad_cam",
    layer: str | None = None,
    *,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Heatmap:
    """The class activation map of ``target`` for one picture, ``pixels`` (1, 3, H, W) in [0, 1].

    ``layer`` is a dotted name whose output is maps (C, h, w); None takes ``model.layers["cam"]``. Values are (h, w),
    positive = evidence for the target; signed for ``cam`` and ``hires_cam``, class-blind for ``eigen_cam``, at
    least 0 for the rest. ``score`` is the target's logit.

    Cost: one pass up to the layer and about two after it; ``score_cam`` one pass a channel, ``ablation_cam`` one pass a
    channel from the layer on. Work goes ``batch_size`` pictures at a time (ablations of small maps more),
    so memory does not grow with the channels. Raises BadParameter, LayerNotFound, and UnsupportedModel where
    the net does not allow the method.
    """
    _check_method(method)
    check_pixels(pixels, one=True)
    check_whole("batch_size", batch_size, 1, 4096)
    needs = CAM_METHODS[method].needs
    (seen,) = _look(model, pixels, [target], [layer_for(model, "cam", layer)], needs == "gradient")
    (target,) = seen.scores
    heat = _heatmap(seen, method, target, batch_size, progress)
    if progress and needs != "passes":
        progress(1, 1)
    return heat


def cam_grid(
    model: Model, pixels: Tensor, targets: Sequence[int], methods: Sequence[str], layer: str | None = None
) -> dict[tuple[str, int], Heatmap | UnsupportedModel]:
    """The map of each of ``methods`` for each of ``targets``, by method and target; each as `cam` gives it alone.

    Cost: one pass up to the layer, one after it, and about one more after it for each class: all methods read the same
    maps and gradients. What does not allow a method for a class is not raised but stands in its place. Raises what
    `cam` does for the rest, and BadParameter for methods that take a pass for each channel.
    """
    for method in methods:
        _check_method(method, one_pass=True)
    check_pixels(pixels, one=True)
    needs_gradients = any(CAM_METHODS[method].needs == "gradient" for method in methods)
    (seen,) = _look(model, pixels, targets, [layer_for(model, "cam", layer)], needs_gradients)
    found: dict[tuple[str, int], Heatmap | UnsupportedModel] = {}
    for method in methods:
        for target in seen.scores:
            try:
                found[method, target] = _heatmap(seen, method, target)
            except UnsupportedModel as refusal:
                found[method, target] = refusal.with_traceback(None)  # that would hold all tensors of the pass
    return found


def cam_of_layers(
    model: Model, pixels: Tensor, target: int, layers: Sequence[str], method: str = "grad_cam"
) -> dict[str, Heatmap | UnsupportedModel]:
    """The map of ``target`` at each of ``layers``, dotted names, by name; each as `cam` gives it alone.

    Cost: one forward pass, and one backward pass down to the first of the layers, which gives the gradients of all. A
    layer that does not allow the method is not raised but stands in its place. Raises what `cam` does for the rest,
    and BadParameter for no layers and for methods that take a pass for each channel.
    """
    _check_method(method, one_pass=True)
    check_pixels(pixels, one=True)
    if isinstance(layers, str) or not layers:
        raise BadParameter(f"layers is {layers!r}; it must be one dotted name or more, in a list.")
    found: dict[str, Heatmap | UnsupportedModel] = {}
    for seen in _look(model, pixels, [target], layers, CAM_METHODS[method].needs == "gradient"):
        try:
            found[seen.layer] = _heatmap(seen, method, int(target))
        except UnsupportedModel as refusal:
            found[seen.layer] = refusal.with_traceback(None)
    return found


def _check_method(method: str, *, one_pass: bool = False) -> None:
    if method not in CAM_METHODS:
        raise BadParameter(f"method is {method!r}; it must be one of {', '.join(CAM_METHODS)}.")
    if one_pass and CAM_METHODS[method].needs == "passes":
        raise BadParameter(f"{CAM_METHODS[method].title} takes a pass for each channel; ask `cam` for it.")


@dataclass(frozen=True, eq=False)
class _Seen:
    """What every method starts from: the ``logits`` (K,) and ``maps`` (C, h, w) of one pass, and by target its
    score () and its gradient (C, h, w), or why there is none."""

    model: Model
    pixels: Tensor
    layer: str
    logits: Tensor
    maps: Tensor
    scores: dict[int, Tensor]
    gradients: dict[int, Tensor | UnsupportedModel]


def _look(
    model: Model, pixels: Tensor, targets: Sequence[int], layers: Sequence[str], needs_gradients: bool
) -> list[_Seen]:
    """One pass, and one back for each target; an answer for each layer, in their order."""
    targets = [check_target(model, target) for target in targets]
    layers = tuple(dict.fromkeys(layers))
    gradients: dict[int, list[Tensor | UnsupportedModel]] = {}
    with trace(model, layers, grad=needs_gradients) as seen:
        logits = model.logits(pixels)[0]
        scores = {check_target(model, target, len(logits)): logits[target] for target in targets}
        maps = [require_maps(model, layer, seen[layer]) for layer in layers]
        for target, score in scores.items() if needs_gradients else ():
            gradients[target] = _gradients(model, layers, score, maps)
    scores = {target: score.detach() for target, score in scores.items()}
    return [
        _Seen(model, pixels, layer, logits.detach(), one.detach()[0], scores, {k: g[n] for k, g in gradients.items()})
        for n, (layer, one) in enumerate(zip(layers, maps, strict=True))
    ]


def _heatmap(seen: _Seen, method: str, target: int, batch_size: int = 8, progress: Progress | None = None) -> Heatmap:
    model, layer, maps, score = seen.model, seen.layer, seen.maps, seen.scores[target]
    # The formulas take cubes of gradients and sums over thousands of numbers: float64 costs nothing here.
    wide = maps.double()
    if method in GRADIENT_FORMULAS:
        gradient = seen.gradients[target]
        if isinstance(gradient, UnsupportedModel):
            raise gradient
        values = GRADIENT_FORMULAS[method](wide, gradient.double())
    elif method == "cam":
        values = weighted_sum(_class_weights(model, layer, maps, seen.logits)[target].double(), wide)
    elif method == "eigen_cam":
        values = eigen_cam(wide)
    elif method == "score_cam":
        masked = _scores_of_masked(model, seen.pixels, target, maps, batch_size, progress)
        values = score_cam(wide, masked.double())
    else:
        if score == 0:
            raise UnsupportedModel(
                f"The score of class {target} is 0 for this picture, and Ablation-CAM divides by it. Choose another "
                "class or another method."
            )
        ablated = _scores_without_channel(model, seen.pixels, target, layer, maps, seen.logits, batch_size, progress)
        values = ablation_cam(wide, score.double(), ablated.double())
    if not torch.isfinite(values).all():
        raise UnsupportedModel(
            f"{CAM_METHODS[method].title} of {model.title} at “{layer}” gives NaN or infinity for class {target}: its "
            "maps or gradients there are not finite. Choose another layer."
        )
    return Heatmap(
        values=values.float().cpu().numpy(),
        method=method,
        model_name=model.name,
        layer=layer,
        target=target,
        score=float(score),
        params={"score": "logit"},
        notes=_notes(method, values, float(score)),
    )


def grad_cam(maps: Tensor, gradient: Tensor) -> Tensor:
    return F.relu(weighted_sum(gradient.mean((1, 2)), maps))


def grad_cam_pp(maps: Tensor, gradient: Tensor) -> Tensor:
    # The paper's closed form for a score exp(s); its factor exp(s), the same for every place, is left out.
    total = maps.sum((1, 2), keepdim=True)  # (C, 1, 1)
    alpha = _ratio(gradient**2, 2 * gradient**2 + total * gradient**3)
    return F.relu(weighted_sum((alpha * F.relu(gradient)).sum((1, 2)), maps))


def xgrad_cam(maps: Tensor, gradient: Tensor) -> Tensor:
    share = _ratio(maps, maps.sum((1, 2), keepdim=True))
    return F.relu(weighted_sum((share * gradient).sum((1, 2)), maps))


def hires_cam(maps: Tensor, gradient: Tensor) -> Tensor:
    return (gradient * maps).sum(0)


def layer_cam(maps: Tensor, gradient: Tensor) -> Tensor:
    return F.relu((F.relu(gradient) * maps).sum(0))


def eigen_cam(maps: Tensor) -> Tensor:
    places = maps.flatten(1).T  # (h·w, C), not centred, as in the paper
    _, _, components = torch.linalg.svd(places, full_matrices=False)
    projection = (places @ components[0]).view(maps.shape[1:])
    return projection if projection.sum() >= 0 else -projection  # a singular vector has no sign of its own


def score_cam(maps: Tensor, scores: Tensor) -> Tensor:
    """``scores`` (C,): the target's logit with the picture multiplied by each map, scaled to [0, 1]."""
    return F.relu(weighted_sum(scores.softmax(0), maps))


def ablation_cam(maps: Tensor, score: Tensor, scores: Tensor) -> Tensor:
    """``scores`` (C,): the target's logit with each map set to zero."""
    return F.relu(weighted_sum((score - scores) / score, maps))


def weighted_sum(weights: Tensor, maps: Tensor) -> Tensor:
    """Σ_c weights_c · maps_c: (C,), (C, h, w) -> (h, w)."""
    return torch.einsum("c,chw->hw", weights, maps)


GRADIENT_FORMULAS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {f.__name__: f for f in (grad_cam, grad_cam_pp, xgrad_cam, hires_cam, layer_cam)}
)

CAM_METHODS: Mapping[str, CamMethod] = MappingProxyType(
    {
        "cam": CamMethod(
            "CAM",
            "Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016",
            "weights",
            r"\sum_c w_c^{k} A_c",
            "The class's own weights, spread over the maps that they read. Mean of the map plus bias = logit.",
            "Only for nets that end in global average pooling and one linear layer.",
        ),
        "grad_cam": CamMethod(
            "Grad-CAM",
            "Selvaraju et al., Grad-CAM, ICCV 2017",
            "gradient",
            r"\mathrm{relu}\Big(\sum_c \overline{\partial s/\partial A_c}\; A_c\Big)",
            "Channels that raise the class's score, each weighed by its mean gradient, added up.",
            "Averaging the gradient over the map can light up places that the score does not depend on.",
        ),
        "grad_cam_pp": CamMethod(
            "Grad-CAM++",
            "Chattopadhay et al., Grad-CAM++, WACV 2018",
            "gradient",
            r"\mathrm{relu}\Big(\sum_c \sum_{ij} \alpha_{cij}\,\mathrm{relu}(\partial s/\partial A_{cij})\; A_c\Big)",
            "Like Grad-CAM, with places of positive gradient counted more: several objects of one class all show.",
            "Ignores negative gradients, so it is less able to tell classes apart.",
        ),
        "xgrad_cam": CamMethod(
            "XGrad-CAM",
            "Fu et al., Axiom-based Grad-CAM, BMVC 2020",
            "gradient",
            r"\mathrm{relu}\Big(\sum_c \sum_{ij} \tfrac{A_{cij}}{\sum A_c}\,\partial s/\partial A_{cij}\; A_c\Big)",
            "Grad-CAM with the gradient averaged where the channel is active.",
            "A channel whose values sum to nearly zero gets a large, unstable weight.",
        ),
        "hires_cam": CamMethod(
            "HiResCAM",
            "Draelos & Carin, Use HiResCAM instead of Grad-CAM, 2020",
            "gradient",
            r"\sum_c \partial s/\partial A_c \odot A_c",
            "Gradient times activation, place by place. Where the rest of the net is linear, it sums to the score.",
            "Signed and noisier at early layers.",
        ),
        "layer_cam": CamMethod(
            "LayerCAM",
            "Jiang et al., LayerCAM, IEEE TIP 2021",
            "gradient",
            r"\mathrm{relu}\Big(\sum_c \mathrm{relu}(\partial s/\partial A_c) \odot A_c\Big)",
            "Each place weighed by its own positive gradient: sharp at early layers too.",
            "Evidence against the class is thrown away before the sum.",
        ),
        "eigen_cam": CamMethod(
            "Eigen-CAM",
            "Muhammad & Yeasin, Eigen-CAM, IJCNN 2020",
            "maps",
            r"A^{\top} v_1,\quad A = U \Sigma V^{\top}",
            "The first principal component of the maps: what the layer sees most of.",
            "Knows nothing of the class: the map is the same for each.",
        ),
        "score_cam": CamMethod(
            "Score-CAM",
            "Wang et al., Score-CAM, CVPR Workshops 2020",
            "passes",
            r"\mathrm{relu}\Big(\sum_c \mathrm{softmax}_c\big(s(x \odot \hat A_c)\big)\; A_c\Big)",
            "The picture is masked with each map in turn; maps that keep the score high count.",
            "One pass a channel; pictures dimmed by a mask are unlike any that the net was trained on.",
        ),
        "ablation_cam": CamMethod(
            "Ablation-CAM",
            "Ramaswamy & Desai, Ablation-CAM, WACV 2020",
            "passes",
            r"\mathrm{relu}\Big(\sum_c \tfrac{s - s_{\setminus c}}{s}\; A_c\Big)",
            "Each channel is set to zero in turn; those whose loss lowers the score count.",
            "One pass a channel; the division by the score turns signs around where the score is negative.",
        ),
    }
)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below, and 0 where below is 0 (a channel that is silent, or without gradient, has no say)."""
    return torch.where(below == 0, 0.0, above / torch.where(below == 0, 1.0, below))


def _gradients(
    model: Model, layers: Sequence[str], score: Tensor, maps: list[Tensor]
) -> list[Tensor | UnsupportedModel]:
    """The gradient (C, h, w) of each layer's maps (1, C, h, w), or why there is none."""
    if not score.requires_grad:
        said = "The score of {} does not depend on the layer “{}” in a differentiable way."
        return [UnsupportedModel(said.format(model.title, layer)) for layer in layers]
    found = torch.autograd.grad(score, maps, allow_unused=True, retain_graph=True)  # for other classes
    return [
        UnsupportedModel(f"The score of {model.title} does not depend on the layer “{layer}”.")
        if gradient is None
        else gradient[0]
        for layer, gradient in zip(layers, found, strict=True)
    ]


def _class_weights(model: Model, layer: str, maps: Tensor, logits: Tensor) -> Tensor:
    """The (K, C) weights of the last layer, after proving that the net is GAP and one linear layer behind ``layer``.

    The layer may also be a convolution of 1 × 1, and stand before the pooling: these two change places freely.
    """
    name = model.layers.get("classifier", "")
    classifier = find_layer(model, name) if name else None
    if isinstance(classifier, (nn.Linear, nn.Conv2d)):
        weights = classifier.weight.detach().flatten(1)  # (K, C)
        # Not classifier(…): outside of the lock, that would run into what others watch.
        if weights.shape[1] == len(maps):
            expected = F.linear(maps.mean((1, 2)), weights, classifier.bias)
            if torch.allclose(expected, logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max())):
                return weights
    raise UnsupportedModel(
        f"CAM needs a net that ends in global average pooling and one linear layer; behind “{layer}” {model.title} "
        "does something else. Grad-CAM works here and means the same where CAM is defined."
    )


def _scores_of_masked(
    model: Model, pixels: Tensor, target: int, maps: Tensor, batch_size: int, progress: Progress | None
) -> Tensor:
    """The target's logit (C,) with the picture multiplied by each map, upsampled and scaled to [0, 1].

    Black is what a mask of 0 leaves. A constant map has no shape to mask with: its mask is 0 everywhere.
    """
    scores = []
    for start in range(0, len(maps), batch_size):
        part = maps[start : start + batch_size, None]  # (b, 1, h, w)
        mask = F.interpolate(part, pixels.shape[2:], mode="bilinear", align_corners=False)  # (b, 1, H, W)
        low, high = mask.amin((2, 3), keepdim=True), mask.amax((2, 3), keepdim=True)
        mask = _ratio(mask - low, high - low) * (part.amax((2, 3), keepdim=True) > part.amin((2, 3), keepdim=True))
        with torch.no_grad():
            scores.append(model.logits(pixels.to(mask) * mask)[:, target])
        if progress:
            progress(min(start + batch_size, len(maps)), len(maps))
    return torch.cat(scores)


def _scores_without_channel(
    model: Model,
    pixels: Tensor,
    target: int,
    layer: str,
    maps: Tensor,
    logits: Tensor,
    batch_size: int,
    progress: Progress | None,
) -> Tensor:
    """The target's logit (C,) with each channel of the layer set to zero.

    What precedes the layer does not depend on the channel: it runs with one picture, which becomes a batch of ablated
    copies at the layer. Where the net joins that batch with something computed for one picture only, and cannot,
    the whole batch runs from the start.
    """

    def run(ablate: Callable[[Tensor], Tensor], copies: int, rows: int) -> Tensor:
        with trace(model, [], replace={layer: ablate}):
            return model.logits(pixels.expand(copies, -1, -1, -1), rows=rows)

    channels = len(maps)
    # As many floats as `batch_size` pictures of 224×224 have, where the maps are smaller than that.
    chunk = min(max(batch_size, batch_size * 3 * 224 * 224 // maps.numel()), 256, channels)
    try:
        spread = torch.allclose(
            run(lambda out: out.expand(2, -1, -1, -1), 1, 2), logits.expand(2, -1), rtol=1e-3, atol=1e-3
        )
    except (RuntimeError, UnsupportedModel):
        spread = False
    if not spread:
        chunk = min(batch_size, channels)

    scores = []
    for start in range(0, channels, chunk):
        removed = torch.arange(start, min(start + chunk, channels))

        def ablate(out: Tensor, removed: Tensor = removed) -> Tensor:
            copies = out.expand(len(removed), -1, -1, -1).clone()
            copies[torch.arange(len(removed)), removed] = 0
            return copies

        scores.append(run(ablate, 1 if spread else len(removed), len(removed))[:, target])
        if progress:
            progress(min(start + chunk, channels), channels)
    return torch.cat(scores)


def _notes(method: str, values: Tensor, score: float) -> tuple[str, ...]:
    notes = []
    if values.numel() == 1:
        notes.append("The layer has one place only (1 × 1), so the map cannot say where.")
    if not bool(values.any()):
        notes.append("The map is zero everywhere: at this layer the method finds no evidence for the class.")
    elif values.numel() > 1 and bool((values == values.flatten()[0]).all()):
        notes.append("The map has the same value everywhere: the method prefers no place to another.")
    if method == "ablation_cam" and score <= 0:
        notes.append("The class's score is not positive, and the formula divides by it: signs are turned around.")
    return tuple(notes)
