"""Results as figures that explain themselves: a heatmap on its photo, and the map of an embedding."""

from __future__ import annotations

import io
from collections.abc import Sequence
from textwrap import wrap

import numpy as np

from vizcore.colour import Scale
from vizcore.export import DPI, to_figure
from vizcore.heatmaps import BY_PIXEL, scale_of, title_of, unit_of
from vizcore.images import Box, overlay
from vizcore.records import Heatmap, Model

BLEND = 0.6
MOST_COLOURS = 20  # of classes that a legend names


def heatmap_figure(
    heat: Heatmap,
    by_place: np.ndarray,
    photo: np.ndarray,
    box: Box,
    model: Model,
    name: str,
    *,
    scale: Scale | None = None,
    blend: float = BLEND,
) -> bytes:
    """A heatmap laid over the part ``box`` of its photo, uint8 (H, W, 3), as a PNG with its scale and its facts.

    ``by_place`` (h, w) are the values by place in the picture; ``name`` is that of the photo. ``scale`` is the map's
    own unless given; ``blend`` as in `overlay`, where a map by pixel is always solid.
    """
    scale, solid = scale or scale_of(heat), heat.method in BY_PIXEL
    size = " × ".join(map(str, heat.values.shape))
    return to_figure(
        overlay(photo, by_place, box, scale=scale, alpha=1.0 if solid else blend, solid=solid),
        scale,
        title=f"{title_of(heat)} of {model.labels[heat.target]}",
        lines=(
            f"{model.title}, {heat.layer or 'input'}, {size}; score {heat.score:.4g}",
            ", ".join(f"{name} {value}" for name, value in heat.params.items()),
            *(line for note in heat.notes for line in wrap(note, 100)),
            name,
        ),
        unit=unit_of(heat),
    )


def embedding_figure(points: np.ndarray, classes: Sequence[str], *, title: str, lines: tuple[str, ...]) -> bytes:
    """``points`` (n, 2) as a PNG, coloured by their ``classes``, n names; the axes have no unit, and so no numbers.

    A legend names up to MOST_COLOURS classes; more than that are drawn in one colour, for nobody tells so many apart.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7 + 0.17 * len(lines)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    names = sorted(set(classes))
    told_apart = 1 < len(names) <= MOST_COLOURS
    markers = "os^Dv<>P*X"
    for number, name in enumerate(names if told_apart else [""]):
        chosen = points[[one == name for one in classes]] if told_apart else points
        colour = colormaps["tab20" if len(names) > 10 else "tab10"](number % 20)
        marker = markers[number % len(markers)]  # colours alone do not reach everybody
        axes.scatter(chosen[:, 0], chosen[:, 1], s=14, color=colour, marker=marker, linewidths=0, label=name)
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.set_title(title, parse_math=False)
    if told_apart:
        legend = axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
    figure.supxlabel("\n".join(lines), fontsize=8, parse_math=False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
