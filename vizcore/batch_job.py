"""What a batch job is asked, and whether a model can be asked it: the records that go to every worker."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vizcore.heatmaps import HEATMAP_METHODS, VIEW
from vizcore.hooks import find_layer, layer_for
from vizcore.records import BadParameter, Model, check_target, check_whole

KINDS = ("predictions", "features", "heatmaps", "channels")
MOST_ROWS = 100_000  # of a shard, which is held in memory


@dataclass(frozen=True)
class Job:
    """What is asked of every picture: ``do``, any of KINDS.

    ``predictions``: the five most probable classes, and the entropy of all in nats. ``features``: those of
    ``features_layer``, as `extract_features`. ``heatmaps``: ``method`` of HEATMAP_METHODS with its usual options and
    ``view``, at ``heatmaps_layer`` where it has one, for the class ``target``, None the most probable one of each
    picture; with ``png`` also laid over the photo, which is reduced to 1024 pixels a side. ``channels``: of each
    channel of ``channels_layer`` the highest activation and where in its map it stands. A layer of None is the
    model's own: "features", and "cam" for the two others.

    ``batch_size`` pictures (1 to 4096) go through the net at a time, on ``device``, and ``shard_size`` (1 to 100 000)
    into one Parquet file, which is held in memory until it is written.
    """

    do: tuple[str, ...]
    method: str = "grad_cam"
    target: int | None = None
    view: str = VIEW
    features_layer: str | None = None
    heatmaps_layer: str | None = None
    channels_layer: str | None = None
    png: bool = False
    batch_size: int = 8
    shard_size: int = 256
    device: str = "cpu"


@dataclass(frozen=True)
class Shard:
    """Neighbours in a folder: their ``names`` from there, their ``labels``, and the place of the ``first`` in all."""

    number: int
    first: int
    names: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """A column that a job fills: of one number a picture, or of ``width`` numbers."""

    kind: str
    name: str
    dtype: str
    width: int | None


@dataclass(frozen=True)
class Plan:
    """A job that a model can do: its layers named, and the ``columns`` that it fills."""

    job: Job
    columns: tuple[Column, ...]


def settled(model: Model, job: Job) -> Job:
    """``job`` with what it leaves to the model filled in, and its kinds in the order of KINDS.

    What is said of a kind that is not done is refused rather than ignored. Raises BadParameter and LayerNotFound.
    """
    if not job.do:
        raise BadParameter(f"do is empty; name at least one of {', '.join(KINDS)}.")
    for kind in job.do:
        if kind not in KINDS:
            raise BadParameter(f"do names {kind!r}; it must be of {', '.join(KINDS)}.")
    check_whole("batch_size", job.batch_size, 1, 4096)
    job = replace(job, do=tuple(kind for kind in KINDS if kind in job.do))
    return _with_layers(model, _with_heatmaps(model, job))


def _with_heatmaps(model: Model, job: Job) -> Job:
    """``job`` with its heatmaps checked; what is said of heatmaps and not done is refused rather than ignored."""
    if "heatmaps" not in job.do:
        asked = {"target": job.target is not None, "heatmaps_layer": job.heatmaps_layer is not None, "png": job.png}
        if idle := [name for name, given in asked.items() if given]:
            raise BadParameter(f"{idle[0]} is given, but do names no heatmaps, which it is for. Leave it out.")
        return replace(job, method=Job.method, view=VIEW)
    if job.method not in HEATMAP_METHODS:
        raise BadParameter(f"method is {job.method!r}; it must be one of {', '.join(HEATMAP_METHODS)}.")
    if job.view != VIEW and HEATMAP_METHODS[job.method].family != "pixel":
        raise BadParameter(f"view is {job.view!r}, but {job.method} has none. Leave it out.")
    if job.target is not None:
        check_target(model, job.target)
    if _has_layer(job.method):
        return replace(job, heatmaps_layer=layer_for(model, "cam", job.heatmaps_layer))
    if job.heatmaps_layer is not None:
        raise BadParameter(f"heatmaps_layer is {job.heatmaps_layer!r}, but {job.method} has none. Leave it out.")
    return job


def _has_layer(method: str) -> bool:
    return HEATMAP_METHODS[method].family == "cam" or method == "guided_grad_cam"


def _with_layers(model: Model, job: Job) -> Job:
    """``job`` with the layers of features and of channels checked."""
    features, channels = (
        _layer(model, job, kind, role, layer)
        for kind, role, layer in (
            ("features", "features", job.features_layer),
            ("channels", "cam", job.channels_layer),
        )
    )
    return replace(job, features_layer=features, channels_layer=channels)


def _layer(model: Model, job: Job, kind: str, role: str, layer: str | None) -> str | None:
    if kind in job.do:
        layer = layer_for(model, role, layer)
        find_layer(model, layer)
    elif layer is not None:
        raise BadParameter(f"{kind}_layer is {layer!r}, but do names no {kind}, which it is for. Leave it out.")
    return layer
