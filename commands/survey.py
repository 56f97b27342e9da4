"""``survey``: what a network does over a whole folder of pictures, as tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from commands import common

QUESTIONS = ("answers", "features", "channels", "shortcuts")


def add(commands: Any) -> None:
    parser = common.command(
        commands,
        "survey",
        survey,
        "what a network does over a folder: right and wrong, channels, shortcuts",
        "Accuracy and confusions of a folder whose folders are the classes; channels that are dead, alike, or\n"
        "carry a class, and the pictures that excite each most; mean heatmaps of each class, and classes known by\n"
        "what lies at the edge. OUT becomes a folder of Parquet files, which pandas.read_parquet reads, with a\n"
        "manifest. One process: for very many pictures see `batch`.\n\n"
        "  python -m vizcore survey pictures/ --model photonet -o out/\n"
        "  python -m vizcore survey pictures/ --do channels --layer blocks.2 --layer blocks.4 --png -o out/\n"
        "  python -m vizcore survey pictures/ --means 'my cats=tabby' -o out/",
    )
    parser.add_argument("folder", type=Path, help="A folder of pictures; the folders inside of it are the classes")
    parser.add_argument(
        "--do",
        dest="questions",
        type=common.any_of(QUESTIONS),
        default=QUESTIONS,
        metavar="WHAT",
        help=f"{','.join(QUESTIONS)}; answers are always given. Default: all",
    )
    common.add_model(parser)
    parser.add_argument(
        "--means",
        action="append",
        default=[],
        metavar="FOLDER=CLASS",
        help="Which class a folder shows that is not named after one; may be given several times",
    )
    parser.add_argument(
        "--layer",
        dest="layers",
        action="append",
        default=[],
        metavar="LAYER",
        help="Of channels; may be given several times. Default: the last with maps",
    )
    parser.add_argument(
        "--method", help="Of the heatmaps of shortcuts, a CAM method that knows of the class. Default: hires_cam"
    )
    parser.add_argument("--without", type=int, default=10, help="Channels that are ablated for each class. Default: 10")
    parser.add_argument("--png", action="store_true", help="Also draw figures")
    parser.add_argument(
        "--batch-size", type=int, default=8, help="Pictures that go through the net at a time. Default: 8"
    )
    parser.add_argument("--seed", type=int, default=0, help="Of what is random. Default: 0")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="The folder of the results")


def survey(asked: Any) -> None:
    """What ``survey`` does."""
    from vizcore.survey import Asked
    from vizcore.survey import survey as compute

    model = common.load(asked)
    done = compute(
        model,
        asked.folder,
        asked.output,
        Asked(
            asked.questions,
            classes=_meanings(model, asked.means),
            layers=tuple(asked.layers),
            without=asked.without,
            png=asked.png,
            batch_size=asked.batch_size,
            seed=asked.seed,
            **({"method": asked.method} if asked.method else {}),
        ),
        bars=common.progress_bar,
    )
    print(f"{done.pictures:,} pictures in the folder, {done.errors:,} of them errors.")
    for sentence in done.sentences:
        print(sentence)
    print(f"{len(done.files)} files in {asked.output}", file=sys.stderr)


def _meanings(model: Any, means: Sequence[str]) -> dict[str, int]:
    """Folders and the classes that they are said to show. Raises BadParameter."""
    from vizcore.records import BadParameter

    classes: dict[str, int] = {}
    for given in means:
        folder, equals, name = given.rpartition("=")
        if not equals:
            raise BadParameter(f"--means is {given!r}; it must be FOLDER=CLASS.")
        if folder in classes:
            raise BadParameter(f"--means is given twice for the folder {folder!r}. Say once what it shows.")
        classes[folder] = common.find_class(model, name, "--means")
    return classes
