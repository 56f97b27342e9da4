"""What was found over a set of pictures, as figures that explain themselves."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vizcore.calibration import Reliability
from vizcore.colour import Scale, montage, tiles
from vizcore.export import DPI, to_figure
from vizcore.findings import Findings, calibration_of
from vizcore.images import prepare
from vizcore.predictions import Evaluation
from vizcore.records import Model
from vizcore.strongest import StrongestPatches

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS, MOST_COLUMNS = 40, 40  # of a table of confusions; beyond that its numbers cannot be read
MOST_CHANNELS, BLOCKS = 64, 4  # rows of patches on a sheet, and how many stand beside one another
PATCH, TILE = 48, 140  # pixels
FRAME = "#E69F00"
FIGURES = ("confusions", "calibration", "class_means")  # beside those of layers


def figures_of(model: Model, found: Findings, pictures: Sequence[np.ndarray]) -> Iterator[tuple[str, bytes]]:
    """Names and PNGs of what there is to draw: confusions, the reliability curve, mean heatmaps, strongest patches of
    each layer. ``pictures`` (n) are read anew, those that have a patch."""
    if found.evaluation is not None:
        yield "confusions", confusion_figure(found.evaluation, model.title)
        if found.evaluation.counted.any():
            yield "calibration", reliability_figure(calibration_of(found.evaluation), model.title)
    if found.means and found.evidence is not None:
        names = tuple(one.label for one in found.means)
        title = f"Mean heatmaps by {found.evidence.method} of {model.title}"
        yield "class_means", means_figure(np.stack([one.mean for one in found.means]), names, title)
    for number, ranked in enumerate(found.strongest, 1):
        yield f"strongest_{number}", patches_figure(model, ranked, pictures)


def confusion_figure(evaluation: Evaluation, title: str) -> bytes:
    """Folders down, answers across, the number of pictures in each cell, coloured by its share of the row; a frame
    marks the folder's own class. Of more than 40 folders the first, of more than 40 answers the commonest."""
    confusion = evaluation.confusion
    rows = np.arange(min(len(confusion.folders), MOST_ROWS))
    columns = np.arange(min(len(confusion.classes), MOST_COLUMNS))
    counts = confusion.counts[rows][:, columns]
    totals = confusion.counts[rows].sum(1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    figure = _figure(2.4 + 0.42 * len(columns), 2.0 + 0.36 * len(rows))
    axes = figure.subplots()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7, color=colour)
    from matplotlib.patches import Rectangle

    for row in rows:
        own = np.flatnonzero(confusion.classes[columns] == evaluation.mapping.classes[row])
        for column in own:
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=FRAME, linewidth=1.5))
    labels = [_short(evaluation.mapping.labels[k]) for k in confusion.classes[columns]]
    axes.xaxis.tick_top()
    axes.set_xticks(columns, labels, rotation=50, ha="left", fontsize=8, parse_math=False)
    axes.set_yticks(rows, [_short(name) for name in confusion.folders[: len(rows)]], fontsize=8, parse_math=False)
    axes.set_title(title, parse_math=False)
    words = "Rows: folders; columns: answers; numbers: pictures"
    left = len(confusion.folders) - len(rows), len(confusion.classes) - len(columns)
    if any(left):
        words += f"\n{left[0]} folders and {left[1]} answers more are in the table"
    figure.supxlabel(words, fontsize=8)
    figure.colorbar(drawn, ax=axes, label="share of the folder", shrink=0.7)
    return _png(figure)


def reliability_figure(curve: Reliability, title: str) -> bytes:
    """Accuracy over confidence, a point a bin, larger with more pictures; on the line a net knows how sure to be."""
    figure = _figure(5, 5)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "--", color="#888888", linewidth=1)
    there = curve.counts > 0
    axes.plot(curve.confidence[there], curve.accuracy[there], color="#0072B2")
    sizes = 20 + 200 * curve.counts[there] / curve.counts.max()
    axes.scatter(curve.confidence[there], curve.accuracy[there], sizes, color="#0072B2")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean confidence of a bin", ylabel="share that is right", aspect="equal")
    axes.set_title(title, parse_math=False)
    chance = f"by chance {curve.by_chance:.1%}, rarely above {curve.rarely:.1%}"
    figure.supxlabel(f"Expected calibration error {curve.error:.1%}; {chance}", fontsize=8)
    return _png(figure)


def means_figure(means: np.ndarray, names: Sequence[str], title: str) -> bytes:
    """Mean heatmaps (K, h, w), each summing to 1, each above its name, on one scale; of more than 40 the first."""
    scale, shown = Scale.of(means), means[:MOST_ROWS]
    sheet = montage(shown, scale, columns=1, tile=TILE, gap=0)
    maps = sheet.picture.reshape(len(shown), *sheet.tile, 3)
    strips = [_lettered(_short(name), sheet.tile[1], TILE // 8) for name in names]
    labelled = np.stack([np.concatenate(pair) for pair in zip(maps, strips, strict=False)])
    more = f"; {len(means) - len(shown)} more are in the table" if len(means) > len(shown) else ""
    return to_figure(
        tiles(labelled, columns=min(5, len(shown)), gap=6, gap_colour=(255, 255, 255)).picture,
        scale,
        title=title,
        lines=(f"Each picture of a folder has one vote{more}",),
        unit="share of the evidence in a cell",
    )


def patches_figure(model: Model, ranked: StrongestPatches, pictures: Sequence[np.ndarray]) -> bytes:
    """A row a channel, the first 64 of those that answer, with its number: the patches that excite it most, the
    strongest first."""
    dead = set(map(int, ranked.dead))
    alive = [row for row, channel in enumerate(ranked.channels) if int(channel) not in dead]
    shown = alive[:MOST_CHANNELS]
    read = _as_seen(model, pictures)
    rows = []
    for row in shown:
        each = zip(ranked.pictures[row], ranked.boxes[row], strict=True)
        patches = [_patch(read(int(place)), box) for place, box in each]
        rows.append(
            np.stack([_lettered(str(int(ranked.channels[row])), PATCH, PATCH), *patches])
        )  # (1 + k, PATCH, PATCH, 3)
    down = -(-len(rows) // BLOCKS) or 1  # of each of the blocks beside one another
    blank = np.full((1 + ranked.pictures.shape[1], PATCH, PATCH, 3), 255, np.uint8)
    rows += [blank] * (down * BLOCKS - len(rows))
    order = [rows[block * down + row] for row in range(down) for block in range(BLOCKS)]
    sheet = tiles(np.concatenate(order), columns=BLOCKS * len(blank), gap=3, gap_colour=(255, 255, 255))
    return to_figure(
        sheet.picture,
        None,
        title=f"What excites {ranked.layer}",
        lines=(
            f"{model.title}, {ranked.count} pictures. After the number of the channel, its strongest patch comes first",
            f"{len(dead)} dead channels are left out, and {len(alive) - len(shown)} others",
        ),
    )


def _as_seen(model: Model, pictures: Sequence[np.ndarray]) -> Callable[[int], np.ndarray]:
    """What the net sees of a picture, uint8 (H, W, 3), by its number; each is read once."""

    @cache
    def read(number: int) -> np.ndarray:
        pixels = prepare(pictures[number], model).pixels[0].permute(1, 2, 0).numpy()
        return np.rint(255 * pixels).astype(np.uint8)

    return read


def _lettered(word: str, width: int, height: int) -> np.ndarray:
    """A word in the middle of a white strip, uint8 (height, width, 3)."""
    image = Image.new("RGB", (width, height), "white")
    font = ImageFont.load_default(min(16, height - 2))
    ImageDraw.Draw(image).text((width / 2, height / 2), word, "black", font, anchor="mm")
    return np.array(image)


def _patch(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The part ``box`` of a picture as a square of PATCH pixels, as wide or high as it is; white beside it."""
    left, top, right, bottom = map(int, box)
    square = np.full((PATCH, PATCH, 3), 255, np.uint8)
    if left >= right or top >= bottom:  # nothing but padding
        return square
    part = picture[top:bottom, left:right]
    factor = PATCH / max(part.shape[:2])
    height, width = (max(1, round(side * factor)) for side in part.shape[:2])
    method = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    square[:height, :width] = np.array(Image.fromarray(part).resize((width, height), method))
    return square


def _short(name: str) -> str:
    name = name.split(",")[0]
    return name if len(name) <= 24 else f"{name[:23]}…"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
