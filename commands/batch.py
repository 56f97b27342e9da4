"""``batch``: the same for every picture of a folder, on this machine or on several."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from commands import common

KINDS = ("predictions", "features", "heatmaps", "channels")


def add(commands: Any) -> None:
    parser = common.command(
        commands,
        "batch",
        batch,
        "the same for every picture of a folder, into Parquet files",
        "Predictions, features, heatmaps and strongest channels of every picture of a folder, and of the\n"
        "folders inside of it, on all cores of this machine or, by Ray, on several machines. OUT becomes a\n"
        "folder of Parquet files, one folder a kind, which pandas.read_parquet reads, with a manifest. The\n"
        "same command again does only what is missing. A picture that cannot be read is a row that says why.\n\n"
        "  python -m vizcore batch pictures/ --do features -o out/\n"
        "  python -m vizcore batch pictures/ --do predictions,heatmaps --method layer_cam --png -o out/\n"
        "  python -m vizcore batch /nfs/pictures --do features --engine ray --address auto --workers 64 -o /nfs/out",
    )
    parser.add_argument("folder", type=Path, help="A folder of pictures")
    parser.add_argument(
        "--do", dest="kinds", type=common.any_of(KINDS), required=True, metavar="WHAT", help=",".join(KINDS)
    )
    common.add_model(parser)
    heatmaps = parser.add_argument_group("heatmaps")
    heatmaps.add_argument("--method", help="A name that `methods` lists. Default: grad_cam")
    heatmaps.add_argument("--class", dest="target", metavar="CLASS", help="Default: what the network answers")
    heatmaps.add_argument("--heatmaps-layer", metavar="LAYER", help="Of the CAM methods. Default: the advised one")
    common.add_view(heatmaps)
    heatmaps.add_argument("--png", action="store_true", help="Also lay each over its photo, in OUT/overlays")
    layers = parser.add_argument_group("layers")
    layers.add_argument("--features-layer", metavar="LAYER", help="Default: the one before the last")
    layers.add_argument("--channels-layer", metavar="LAYER", help="Default: the last with maps")
    how = parser.add_argument_group("how it is computed")
    how.add_argument("--engine", choices=("local", "ray"), default="local", help="Default: %(default)s")
    how.add_argument("--workers", type=int, help="Processes of one core each. Default: one a core of this machine")
    how.add_argument(
        "--address",
        help="A Ray cluster that runs: HOST:PORT, or auto on one of its machines. FOLDER and OUT must be there under "
        "the same names on all of them. Default: a Ray of this machine alone",
    )
    how.add_argument("--gpus", type=float, default=0.0, help="Of Ray: for each worker, such as 1 or 0.5. Default: 0")
    how.add_argument("--batch-size", type=int, default=8, help="Pictures that go through the net at a time. Default: 8")
    how.add_argument("--shard-size", type=int, default=256, help="Pictures in a Parquet file. Default: 256")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="The folder of the results")


def batch(asked: Any) -> None:
    """What ``batch`` does."""
    from models import load_model
    from vizcore.batch import Job
    from vizcore.batch import batch as compute

    target = None if asked.target is None else common.find_class(common.load(asked), asked.target)
    job = Job(
        asked.kinds,
        target=target,
        features_layer=asked.features_layer,
        heatmaps_layer=asked.heatmaps_layer,
        channels_layer=asked.channels_layer,
        png=asked.png,
        batch_size=asked.batch_size,
        shard_size=asked.shard_size,
        device="cuda" if asked.gpus else "cpu",
        **{name: value for name in ("method", "view") if (value := getattr(asked, name)) is not None},
    )
    with common.progress_bar("pictures") as progress:
        done = compute(
            partial(load_model, asked.model, **common.options_of_model(asked)),
            asked.folder,
            asked.output,
            job,
            engine=asked.engine,
            workers=asked.workers,
            address=asked.address,
            gpus=asked.gpus,
            progress=progress,
        )
    print(f"{done.pictures:,} pictures in {asked.output}, {done.errors:,} of them errors.")
    if done.new:
        speed = done.new / done.seconds
        print(f"{done.new:,} of them now, in {done.seconds:.1f} s: {speed:.1f} pictures a second.")
    else:
        print("All of them were done before.", file=sys.stderr)
