"""What the commands share: how they are described, what they are given, and where they write."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from vizcore.photos import Photo
    from vizcore.records import Model, Progress

DEFAULT_MODEL = "efficientnet_lite0"
VIEWS = ("absolute", "signed")
TOP = 5  # classes
PHOTO_SIDE = 1600  # pixels: as in the app, no net here looks closer


def command(commands: Any, name: str, do: Callable[[Any], None], short: str, text: str) -> argparse.ArgumentParser:
    """A command called ``name`` that does ``do``; ``text`` is what it is for, and after an empty line examples."""
    description, _, examples = text.partition("\n\n")
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=short,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(do=do)
    return parser


def add_photo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", help="A picture file: JPEG, PNG, WebP, GIF, BMP or TIFF")


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="A name that `models` lists, timm/NAME, or a weights file of your own. Default: %(default)s",
    )
    parser.add_argument("--architecture", help="Of a weights file of your own: a name that `models` lists, or timm's")
    parser.add_argument("--untrained", action="store_true", help="The structure with random weights")


def add_class(parser: argparse.ArgumentParser, several: bool = False) -> None:
    again = " May be given several times; evidence is gathered for the first." if several else ""
    parser.add_argument(
        "--class",
        dest="classes",
        action="append",
        metavar="CLASS",
        help=f"Its name or number. Default: what the network answers.{again}",
    )


def add_layer(parser: argparse.ArgumentParser, words: str) -> None:
    parser.add_argument("--layer", help=words)


def add_view(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--view", choices=VIEWS, help=f"How methods by pixel make one number of three colours. Default: {VIEWS[0]}"
    )


def any_of(names: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """What an option takes that is some of ``names`` with commas between."""

    def parts(given: str) -> tuple[str, ...]:
        found = tuple(part.strip() for part in given.split(","))
        if unknown := [part for part in found if part not in names]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(names)}")
        return found

    return parts


def add_output(parser: argparse.ArgumentParser, *endings: str, required: bool = False) -> None:
    def path(given: str) -> Path:
        if Path(given).suffix.lower() not in endings:
            raise argparse.ArgumentTypeError(f"{given!r} must end with {' or '.join(endings)}")
        return Path(given)

    parser.add_argument(
        "-o",
        "--output",
        type=path,
        action="append",
        default=[],
        required=required,
        metavar="FILE",
        help=f"Where to write: {', '.join(f'*{ending}' for ending in endings)}; may be given several times",
    )


def load(asked: Any) -> Model:
    """The network that is asked for."""
    from models import load_model

    return load_model(asked.model, **options_of_model(asked))


def options_of_model(asked: Any) -> dict[str, Any]:
    """What `load_model` is called with beside the name. Raises BadParameter."""
    from vizcore.records import BadParameter

    if asked.untrained and asked.architecture:
        raise BadParameter("--architecture is for a weights file of your own, and --untrained takes no weights.")
    return {"weights": None} if asked.untrained else {"architecture": asked.architecture}


def python_of_model(asked: Any) -> str:
    """The expression that loads it."""
    if asked.untrained:
        return f"load_model({asked.model!r}, weights=None)"
    own = f", architecture={asked.architecture!r}" if asked.architecture else ""
    return f"load_model({asked.model!r}{own})"


def open_photo(path: str | Path) -> Photo:
    """A picture file, larger ones reduced as in the app; what was changed to read it is said."""
    from vizcore import photos

    photo = photos.open_photo(path, max_side=PHOTO_SIDE)
    for note in photo.notes:
        print(f"{path}: {note}", file=sys.stderr)
    return photo


def logits_of(model: Model, photo: Photo) -> np.ndarray:
    """(K,) float32."""
    import torch

    from vizcore.images import prepare

    with torch.no_grad():
        logits: np.ndarray = model.logits(prepare(photo.pixels, model).pixels)[0].float().numpy()
    return logits


def find_class(model: Model, given: str | int, option: str = "--class") -> int:
    """A class by its number, its name, or a part of its name that no other has. Raises BadParameter."""
    from vizcore.records import BadParameter, check_target

    labels = [label.lower() for label in model.labels]
    wanted = str(given).strip().lower()
    if str(given) in model.labels:  # "cardigan" is a garment, "Cardigan" a dog
        return model.labels.index(str(given))
    having = [number for number, label in enumerate(labels) if label == wanted]
    if not having and wanted.isdecimal():
        return check_target(model, int(wanted))
    having = having or [number for number, label in enumerate(labels) if wanted and wanted in label]
    if len(having) == 1:
        return having[0]
    near = [model.labels[number] for number in having] or difflib.get_close_matches(wanted, model.labels, n=5, cutoff=0)
    raise BadParameter(
        f"{option} is {given!r}, which {'stands in the names of several classes' if having else 'is no class'} of "
        f"{model.title}. Choose one of {', '.join(near[:TOP])}, or a number from 0 to {len(labels) - 1}."
    )


def check_methods(asked: Any, methods: Sequence[str]) -> None:
    """Refuse --layer and --view where none of the ``methods`` has them. Raises BadParameter."""
    from vizcore.heatmaps import HEATMAP_METHODS
    from vizcore.records import BadParameter

    rows = {name: row for name, row in HEATMAP_METHODS.items() if name in methods}
    with_layer = [name for name, row in rows.items() if row.family == "cam" or name == "guided_grad_cam"]
    by_pixel = [name for name, row in rows.items() if row.family == "pixel"]
    for option, value, having in (("--layer", asked.layer, with_layer), ("--view", asked.view, by_pixel)):
        if value and rows and not having:
            raise BadParameter(f"{option} is {value!r}, but {', '.join(rows)} has none. Leave it out.")


def name_of(path: str | Path) -> str:
    """The name of a file as text: on Linux it may be bytes that are none."""
    return os.fsencode(Path(path).name).decode("utf-8", "replace")


def print_classes(model: Model, logits: np.ndarray) -> None:
    """The most probable classes, as a table."""
    import torch

    from vizcore.records import probabilities

    chances = probabilities(torch.from_numpy(logits)[None])[0]
    rows = [(f"{100 * chances[k]:.1f} %", model.labels[k], str(k)) for k in map(int, (-logits).argsort()[:TOP])]
    print_table([("", "class", "number"), *rows], right=(0,))


def print_table(rows: Sequence[Sequence[str]], right: tuple[int, ...] = ()) -> None:
    """Rows of text in columns; those numbered ``right`` end at one place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(n) if at in right else cell.ljust(n)
            for at, (cell, n) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A bar on standard error where that is a screen."""
    from tqdm import tqdm

    with tqdm(desc=what, disable=None, leave=False, file=sys.stderr) as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield tell


def check_output(asked: Any) -> None:
    """Refuse to begin what could not be written at the end. Raises BadParameter."""
    from vizcore.records import BadParameter

    for path in asked.output:
        if not path.parent.is_dir():
            raise BadParameter(f"--output is {str(path)!r}, but there is no folder {str(path.parent)!r}.")
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise BadParameter(f"--output is {str(path)!r}, which cannot be written.")


def write(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all, and say so."""
    from vizcore.whole_files import write_whole

    write_whole(path.parent, path.name, data)
    print(f"{path}: {len(data):,} bytes", file=sys.stderr)
