"""``report``: heatmaps of one photo and the evidence for each, in one HTML file."""

from __future__ import annotations

import datetime
import sys
from typing import Any

from commands import common


def add(commands: Any) -> None:
    parser = common.command(
        commands,
        "report",
        report,
        "one HTML file: picture, classes, maps, and whether to believe them",
        "Heatmaps of one photo and the evidence for each, in one HTML file that opens offline. The app\n"
        "opens it again, on its page Report.\n\n"
        "  python -m vizcore report cat.jpg -o cat.html\n"
        "  python -m vizcore report cat.jpg --class tabby --class lynx --methods grad_cam,occlusion -o cat.html\n"
        "  python -m vizcore report cat.jpg --evidence removal,randomisation,agreement -o cat.html",
    )
    common.add_photo(parser)
    common.add_model(parser)
    common.add_class(parser, several=True)
    parser.add_argument(
        "--methods",
        default="grad_cam,hires_cam",
        help="Names that `methods` lists, with commas. Default: %(default)s",
    )
    common.add_layer(parser, "Layer of the CAM methods, by its dotted name. Default: the advised one")
    common.add_view(parser)
    parser.add_argument(
        "--evidence",
        default="removal",
        help="With commas: removal (the score as pixels go and come), randomisation (of the weights), agreement (of "
        "the methods); or none. Default: %(default)s",
    )
    parser.add_argument("--seed", type=int, default=0, help="Of all that is random. Default: 0")
    common.add_output(parser, ".html", required=True)


def report(asked: Any) -> None:
    """What ``report`` does."""
    from vizcore.report import Wish, gather, passes_to_gather
    from vizcore.report_file import to_html
    from vizcore.scripts import Origin

    common.check_output(asked)
    common.check_methods(asked, _names(asked.methods))
    model, photo = common.load(asked), common.open_photo(asked.photo)
    answer = int(common.logits_of(model, photo).argmax())
    wish = Wish(
        targets=tuple(dict.fromkeys(common.find_class(model, name) for name in asked.classes or [answer])),
        methods=_names(asked.methods),
        layer=asked.layer,
        view=asked.view or common.VIEWS[0],
        evidence=() if asked.evidence == "none" else _names(asked.evidence),
        seed=asked.seed,
    )
    print(f"About {passes_to_gather(model, wish):,} passes of {model.title}.", file=sys.stderr)
    read = f"open_photo({str(asked.photo)!r}, max_side={common.PHOTO_SIDE}).pixels"
    origin = Origin(common.python_of_model(asked), read, ("from vizcore.photos import open_photo",))
    with common.progress_bar("passes") as progress:
        found = gather(model, photo, wish, title=common.name_of(asked.photo), origin=origin, progress=progress)
    page = to_html(found, made=f"Made on {datetime.date.today()}.")
    for path in asked.output:
        common.write(path, page)
    for sentence in (*found.cautions, *found.refused):
        print(sentence)


def _names(given: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
