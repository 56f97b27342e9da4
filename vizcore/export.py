"""A result as a file: raw numbers with the parameters that made them, for NumPy; a figure with its scale, for a page.

``numpy.load(file)`` gives the record's arrays under the names of its fields, and ``facts``, a JSON text with
everything else: method, model, layer, target, score, options, notes.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import numpy as np

from vizcore.colour import Scale, colour_table
from vizcore.records import ActivationMaps, Embedding, Filters, Heatmap, Scores

DPI = 150


def to_npz(record: Scores | Heatmap | ActivationMaps | Filters | Embedding, **facts: Any) -> bytes:
    """The record as a compressed ``.npz`` file; ``facts`` (such as the picture's digest) are added to its own.

    No pickles inside: it opens with ``numpy.load(file)``, and ``json.loads(str(file["facts"]))`` reads the rest.
    """
    arrays, words = {}, {"record": type(record).__name__, **facts}
    for field in fields(record):
        value = getattr(record, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif is_dataclass(value) and not isinstance(value, type):
            words[field.name] = asdict(value)
        else:
            words[field.name] = dict(value) if field.name == "params" else value
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, facts=np.array(json.dumps(words, ensure_ascii=False)), **arrays)
    return file.getvalue()


def to_figure(
    picture: np.ndarray,
    scale: Scale | None,
    *,
    title: str,
    lines: tuple[str, ...],
    unit: str = "",
    colormap: str | None = None,
) -> bytes:
    """A picture, uint8 (H, W, 3), as a PNG that explains itself: title, scale bar with numbers, and lines of facts.

    Without ``scale`` there is no bar: the lines then say what the colours mean.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.figure import Figure

    height, width = picture.shape[:2]
    inches = max(6.4, width / DPI)
    besides = 1.1 + 0.17 * len(lines)  # inches for the title, the bar, and the facts line by line
    figure = Figure(figsize=(inches, inches * height / width + besides), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()
    # The title and the facts are plain text: a class may be called "$x$".
    axes.set_title(title, parse_math=False)
    figure.supxlabel("\n".join(lines), fontsize=8, parse_math=False)
    if scale:
        limits = Normalize(-(scale.high or 1.0) if scale.signed else 0.0, scale.high or 1.0)
        colours = ScalarMappable(limits, ListedColormap(colour_table(scale.signed, colormap) / 255))
        figure.colorbar(colours, ax=axes, orientation="horizontal", shrink=0.7, label=unit, pad=0.02)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
