"""A report: several heatmaps of one picture with the evidence for each, gathered in one go, to be kept in one file.

It adds no numbers of its own. The maps are those of `vizcore.heatmaps`, the evidence that of `vizcore.faithfulness`,
`vizcore.randomisation` and `vizcore.agreement`; what a reader should beware of is put into sentences here.
`vizcore.report_file` makes a page of it, and reads that page again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from vizcore.agreement import Agreement, agreement
from vizcore.cam import CAM_METHODS
from vizcore.faithfulness import CONTROLS, KINDS, Faithfulness, curves, passes
from vizcore.heatmaps import BY_PIXEL, HEATMAP_METHODS, VIEW, heatmap, passes_of, title_of, usual_options
from vizcore.hooks import find_layer, layer_for
from vizcore.images import Box, View, prepare
from vizcore.photos import Photo
from vizcore.randomisation import Cascade, cascade
from vizcore.records import (
    VIEWS,
    BadParameter,
    Heatmap,
    Model,
    Progress,
    UnsupportedModel,
    check_target,
    check_whole,
    probabilities,
)
from vizcore.scripts import Origin
from vizcore.warp import by_place
from vizcore.weights import digest_of_weights

EVIDENCE = ("removal", "randomisation", "agreement")
MOST_MAPS = 24
FILLING, STEPS = "blur", 16
STAGES, REPEATS = 7, 3
QUICK = 6  # passes: randomisation asks for a map dozens of times
MUCH_UNSEEN = 0.05  # of the photo


@dataclass(frozen=True)
class Wish:
    """What a report shows: with the net and the picture, all that is needed to make it again.

    ``targets`` are classes, the first of which evidence is gathered for; ``methods`` of HEATMAP_METHODS; ``layer`` is
    that of the CAM methods, None the model's "cam"; ``view`` as in `heatmap`; ``evidence`` of EVIDENCE.
    """

    targets: tuple[int, ...]
    methods: tuple[str, ...] = ("grad_cam", "hires_cam")
    layer: str | None = None
    view: str = VIEW
    evidence: tuple[str, ...] = ("removal",)
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Finding:
    """One ``heat`` and what was found out about it: by ``removal`` of pixels, deletion and insertion, and by
    randomisation, ``fall``. ``by_place`` (h, w) are its values by place in the picture, which behind a learned warp is
    another than in the map."""

    heat: Heatmap
    by_place: np.ndarray
    removal: tuple[Faithfulness, ...] = ()
    fall: Cascade | None = None

    @property
    def title(self) -> str:
        return title_of(self.heat)


@dataclass(frozen=True, eq=False)
class Report:
    """What `gather` found: ``findings`` in the order of the wish, ``refused`` sentences for what the net does not
    allow, ``agreed`` where the agreement of the methods was asked for. ``logits`` (K,) float32."""

    wish: Wish
    model: Model
    photo: Photo
    title: str
    origin: Origin
    view: View
    logits: np.ndarray
    findings: tuple[Finding, ...]
    refused: tuple[str, ...] = ()
    agreed: Agreement | None = None

    @cached_property
    def chances(self) -> np.ndarray:
        """(K,) probabilities, 0 to 1."""
        return probabilities(torch.from_numpy(self.logits)[None])[0].numpy()

    @cached_property
    def weights_digest(self) -> str:
        return digest_of_weights(self.model)

    def label(self, target: int) -> str:
        return self.model.labels[target]

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader should know before believing a map, in sentences."""
        return tuple(dict.fromkeys(self._cautions()))

    def _cautions(self) -> Iterator[str]:
        top = int(self.logits.argmax())
        if self.model.weights is None:
            yield "The network is untrained: its weights are random, and its answers mean nothing."
        if (target := self.wish.targets[0]) != top:
            yield (
                f"{self.label(target)} is not what the network answers; that is {self.label(top)}, with "
                f"{100 * self.chances[top]:.1f} %."
            )
        if outside := share_outside(self.photo.pixels, self.view.box):
            yield outside
        yield from self.photo.notes
        for finding in self.findings:
            yield from _cautions_of(finding)


def _cautions_of(finding: Finding) -> Iterator[str]:
    if not np.any(finding.heat.values):
        yield f"{finding.title}: the map is 0 everywhere."
    if finding.heat.method == "eigen_cam":
        yield "Eigen-CAM does not know the class: its map is the same for each."
    for found in finding.removal:
        not_beaten = [CONTROLS[name] for name, verdict in found.verdicts.items() if not verdict.startswith("Beats")]
        if not_beaten:
            yield f"{finding.title} by {found.curve.kind}: no better than {', '.join(not_beaten)}."
    if finding.fall and finding.fall.verdict.startswith("Stands"):
        yield f"{finding.title} hardly changes when the network forgets what it has learned."


def gather(
    model: Model,
    photo: Photo,
    wish: Wish,
    *,
    title: str = "photo",
    origin: Origin | None = None,
    progress: Progress | None = None,
) -> Report:
    """All maps and all evidence of ``wish`` for one photo; ``title`` is what it is called, ``origin`` the Python that
    loads it and the model, which without it is taken for one of the catalogue, and the photo for a file of that title.

    Cost: `passes_to_gather` forward passes, about and at most, by which ``progress`` counts. What the net does not
    allow is no error, but said in the report. Raises BadParameter, LayerNotFound, and UnsupportedModel where no map is
    left.
    """
    _check(model, wish)
    view = prepare(photo.pixels, model)
    with torch.no_grad():
        logits = model.logits(view.pixels)[0].float().cpu().numpy()
    plan = _Plan(model, view, wish, progress)
    findings, refused = [], []
    for target in wish.targets:
        for method in wish.methods:
            try:
                findings.append(plan.find(method, target))
            except UnsupportedModel as refusal:
                refused.append(f"{HEATMAP_METHODS[method].title} of {model.labels[target]}: {refusal}")
    agreed = None
    if "agreement" in wish.evidence:
        agreed = _agreement([one for one in findings if one.heat.target == wish.targets[0]], view)
    if not findings:
        raise UnsupportedModel(f"No map could be made. {' '.join(dict.fromkeys(refused))}")
    origin = origin or _usual_origin(model, title)
    refused = [*dict.fromkeys((*refused, *plan.left_out))]
    return Report(wish, model, photo, title, origin, view, logits, tuple(findings), tuple(refused), agreed)


def _usual_origin(model: Model, title: str) -> Origin:
    """Of a network of the catalogue, and a photo that lies under its title in the folder."""
    load = f"load_model({model.name!r}{'' if model.weights else ', weights=None'})"
    return Origin(load, f"read_image({title!r})", ("from vizcore.images import read_image",))


def passes_to_gather(model: Model, wish: Wish) -> int:
    """About how many forward passes `gather` takes, at most. Raises BadParameter and LayerNotFound."""
    _check(model, wish)
    return sum(_parts(model, wish, method, target) for target in wish.targets for method in wish.methods)


def _parts(model: Model, wish: Wish, method: str, target: int) -> int:
    """Forward passes of one map and of the evidence for it."""
    of_map = passes_of(model, method, wish.layer)
    total = of_map
    if target == wish.targets[0]:
        if "removal" in wish.evidence:
            total += len(KINDS) * passes(STEPS, controls=tuple(CONTROLS))
        if "randomisation" in wish.evidence and of_map <= QUICK:
            total += of_map * (1 + STAGES * REPEATS)
    return total


def _check(model: Model, wish: Wish) -> None:
    for target in wish.targets:
        check_target(model, target)
    for name, given, known in (("methods", wish.methods, HEATMAP_METHODS), ("evidence", wish.evidence, EVIDENCE)):
        if unknown := [one for one in given if one not in known]:
            raise BadParameter(f"{name} has {unknown[0]!r}; each must be one of {', '.join(known)}.")
    if not 1 <= len(wish.methods) * len(wish.targets) <= MOST_MAPS:
        raise BadParameter(
            f"{len(wish.methods)} methods and {len(wish.targets)} classes were asked for; a report has 1 to "
            f"{MOST_MAPS} maps, one for each method and class."
        )
    if wish.view not in VIEWS:
        raise BadParameter(f"view is {wish.view!r}; it must be one of {', '.join(VIEWS)}.")
    check_whole("seed", wish.seed, 0, 2**63 - 1)
    if needs_layer(wish):
        find_layer(model, layer_for(model, "cam", wish.layer))


class _Plan:
    """The work of one report, which tells ``progress`` in forward passes how far it is."""

    def __init__(self, model: Model, view: View, wish: Wish, progress: Progress | None) -> None:
        self.model, self.pixels, self.wish = model, view.pixels, wish
        self.left_out: list[str] = []
        self._progress, self._done, self._total = progress, 0, passes_to_gather(model, wish)

    def find(self, method: str, target: int) -> Finding:
        done_then = self._done + _parts(self.model, self.wish, method, target)
        try:
            return self._find(method, target)
        finally:  # what is refused is done as well
            self._done = done_then

    def _find(self, method: str, target: int) -> Finding:
        wish, of_map = self.wish, passes_of(self.model, method, self.wish.layer)
        options = usual_options(self.model, method)
        if method in ("rise", "smooth_grad"):
            options["seed"] = wish.seed

        def explain(model: Model, tell: Progress | None = None) -> Heatmap:
            return heatmap(model, self.pixels, target, method, wish.layer, view=wish.view, progress=tell, **options)

        heat = explain(self.model, self._part(of_map))
        found = Finding(heat, by_place(self.model, self.pixels, heat))
        if target != wish.targets[0]:
            return found
        if "removal" in wish.evidence:
            found = replace(found, removal=self._removal(target, found.by_place))
        if "randomisation" in wish.evidence:
            if of_map > QUICK:
                self.left_out.append(
                    f"Randomisation of {found.title} was left out: a map takes {of_map:,} passes, and it asks for "
                    f"{1 + STAGES * REPEATS}."
                )
            elif self.model.weights is None:
                self.left_out.append("Randomisation was left out: an untrained network has nothing to forget.")
            else:
                found = replace(found, fall=self._fall(explain, of_map))
        return found

    def _removal(self, target: int, values: np.ndarray) -> tuple[Faithfulness, ...]:
        count = passes(STEPS, controls=tuple(CONTROLS))
        return tuple(
            curves(
                self.model,
                self.pixels,
                target,
                values,
                kind=kind,
                steps=STEPS,
                filling=FILLING,
                controls=tuple(CONTROLS),
                seed=self.wish.seed,
                progress=self._part(count),
            )
            for kind in KINDS
        )

    def _fall(self, explain: Callable[[Model], Heatmap], of_map: int) -> Cascade:
        tell = self._part(of_map * (1 + STAGES * REPEATS))
        return cascade(
            self.model,
            lambda model: explain(model).values,
            stages=STAGES,
            repeats=REPEATS,
            seed=self.wish.seed,
            progress=tell,
        )

    def _part(self, passes_of_it: int) -> Progress:
        """``progress`` of a part that takes so many passes, whatever it counts itself."""
        begun = self._done
        self._done += passes_of_it

        def tell(done: int, total: int) -> None:
            if self._progress:
                self._progress(min(begun + round(passes_of_it * done / total), self._total), self._total)

        return tell


def _agreement(findings: list[Finding], view: View) -> Agreement:
    """Of several methods for one class; of those by pixel the magnitude counts, as in `vizcore.agreement`."""
    maps = {one.title: np.abs(one.by_place) if one.heat.method in BY_PIXEL else one.by_place for one in findings}
    if not maps:
        return Agreement((), np.empty((0, 0), np.float32), *np.zeros((2, 1, 1), np.float32))
    return agreement(maps, (view.pixels.shape[2], view.pixels.shape[3]))


def share_outside(photo: np.ndarray, box: Box) -> str:
    """A sentence, where much of a photo (H, W, 3) lies outside of the ``box`` that the network saw; else ""."""
    left, upper, right, lower = box
    unseen = 1 - (right - left) * (lower - upper) / (photo.shape[0] * photo.shape[1])
    if unseen <= MUCH_UNSEEN:
        return ""
    return f"{100 * unseen:.0f} % of the photo lies outside of the frame: the network did not see it."


def needs_layer(wish: Wish) -> bool:
    """Whether any of its methods reads the maps of a layer."""
    return any(method in CAM_METHODS or method == "guided_grad_cam" for method in wish.methods)
