"""``embed``: a folder of pictures as a map, and how far to trust it."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import common

if TYPE_CHECKING:
    import numpy as np

LEAST, MOST = 5, 100_000  # pictures
SIDE = 1024  # pixels: larger photos are reduced on being read, above what any net here looks at


def add(commands: Any) -> None:
    parser = common.command(
        commands,
        "embed",
        embed,
        "a folder of pictures as a map (t-SNE), and how far to trust it",
        "Features of all pictures of a folder, and their map by t-SNE: as a figure (.png), a table (.csv)\n"
        "or numbers (.npz, for numpy.load). Folders inside of it are classes.\n\n"
        "  python -m vizcore embed pictures/ -o map.png\n"
        "  python -m vizcore embed pictures/ --layer blocks.2 --perplexity 10 -o map.csv",
    )
    parser.add_argument("folder", type=Path, help=f"A folder of {LEAST} to {MOST:,} pictures")
    common.add_model(parser)
    common.add_layer(parser, "Whose output is compared. Default: the features before the last layer")
    parser.add_argument("--perplexity", type=float, default=30.0, help="About the neighbours that count. Default: 30")
    parser.add_argument("--seed", type=int, default=0, help="Of the start. Default: 0")
    common.add_output(parser, ".png", ".csv", ".npz")


def embed(asked: Any) -> None:
    """What ``embed`` does."""
    import numpy as np

    from vizcore.embedding import NEIGHBOURS, extract_features, neighbour_accuracy, tsne
    from vizcore.export import to_npz
    from vizcore.figures import embedding_figure
    from vizcore.records import BadParameter

    common.check_output(asked)
    files = _files_in(asked.folder)
    model = common.load(asked)
    with common.progress_bar("pictures") as progress:
        good, features = [], []
        for number, file in enumerate(files, 1):
            if (pixels := _read(file)) is not None:
                good.append(file)
                features.append(extract_features(model, [pixels], asked.layer)[0])
            progress(number, len(files))
    if len(good) < LEAST:
        raise BadParameter(f"{len(good)} pictures of {str(asked.folder)!r} can be read; a map takes {LEAST} at least.")
    rows = np.stack(features)
    with common.progress_bar("t-SNE") as progress:
        found = tsne(rows, perplexity=asked.perplexity, seed=asked.seed, progress=progress)
    classes = [file.relative_to(asked.folder).parts[0] if file.parent != asked.folder else "" for file in good]
    for path in asked.output:
        kind = path.suffix.lower()
        if kind == ".npz":
            common.write(path, to_npz(found, files=[_text(file) for file in good], classes=classes))
        elif kind == ".csv":
            common.write(path, _table(good, classes, found.points))
        else:
            lines = (
                f"{model.title}; {len(good)} pictures, perplexity {found.params['perplexity']:g}",
                str(asked.folder),
            )
            common.write(path, embedding_figure(found.points, classes, title="t-SNE of the features", lines=lines))
    print(f"{len(good)} pictures, {rows.shape[1]} features each.")
    print(f"Trustworthiness {found.trustworthiness:.2f} of 1, over {found.neighbours} neighbours.")
    near = min(NEIGHBOURS, len(good) - 1)
    if len(set(classes)) > 1:
        right = neighbour_accuracy(rows, classes, near)
        print(f"By features, the {near} nearest pictures name the folder right {100 * right:.0f} % of the time.")
    for note in found.notes:
        print(note)


def _files_in(folder: Path) -> list[Path]:
    """The pictures of a folder and of those inside of it, by name. Raises BadParameter."""
    from vizcore.folders import ENDINGS, pictures_in
    from vizcore.records import BadParameter

    files = [folder / name for name in pictures_in(folder)]
    if not LEAST <= len(files) <= MOST:
        raise BadParameter(
            f"{str(folder)!r} holds {len(files):,} pictures ({', '.join(ENDINGS)}); it must be {LEAST} to {MOST:,}."
        )
    return files


def _read(file: Path) -> np.ndarray | None:
    """A picture, uint8 (H, W, 3); or None where it cannot be read, which is said: one of many is no reason to stop."""
    from vizcore.photos import open_photo
    from vizcore.records import BadImage

    try:
        return open_photo(file, max_side=SIDE).pixels
    except BadImage as refusal:
        print(f"Left out: {file}: {refusal}", file=sys.stderr)
        return None


def _text(path: Path) -> str:
    """A path as text: on Linux it may be bytes that are none."""
    return os.fsencode(path).decode("utf-8", "replace")


def _table(files: Sequence[Path], classes: Sequence[str], points: np.ndarray) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "class", "x", "y"))
    writer.writerows(
        (_text(file), name, *map(float, point)) for file, name, point in zip(files, classes, points, strict=True)
    )
    return text.getvalue().encode()
