"""``filters``: the kernels of a convolution, as pictures or numbers."""

from __future__ import annotations

import math
from typing import Any

from commands import common


def add(commands: Any) -> None:
    parser = common.command(
        commands,
        "filters",
        filters,
        "the kernels of a convolution, as pictures or numbers",
        "The kernels of the first convolution, or of --layer: on one scale, zero mid-grey (.png), or as\n"
        "raw weights (.npz, for numpy.load).\n\n"
        "  python -m vizcore filters -o filters.png\n"
        "  python -m vizcore filters --model photonet -o filters.png -o filters.npz",
    )
    common.add_model(parser)
    common.add_layer(parser, "A convolution, by its dotted name. Default: the first")
    common.add_output(parser, ".png", ".npz", required=True)


def filters(asked: Any) -> None:
    """What ``filters`` does."""
    import numpy as np

    from vizcore.colour import Scale, tiles, to_colours
    from vizcore.export import to_figure, to_npz
    from vizcore.filters import as_rgb
    from vizcore.filters import filters as kernels_of

    common.check_output(asked)
    model = common.load(asked)
    bank = kernels_of(model, asked.layer)
    n, c, h, w = bank.values.shape
    for path in asked.output:
        if path.suffix.lower() == ".npz":
            common.write(path, to_npz(bank))
            continue
        if bank.channel_names and c == 3:
            pictures, words = np.rint(as_rgb(bank) * 255).astype(np.uint8), "weights as colours, mid-grey is 0"
        else:
            shown = bank.values.mean(1)  # (n, h, w)
            pictures = to_colours(shown, Scale.of(shown, signed=True), "gray")
            words = f"{'weights' if c == 1 else f'mean over {c} channels'}, mid-grey is 0"
        sheet = tiles(pictures, columns=math.ceil(math.sqrt(2 * n)), tile=40, gap=3, gap_colour=(255, 255, 255))
        lines = (f"{model.title}; one scale for all", words)
        common.write(path, to_figure(sheet.picture, None, title=f"Kernels of {bank.layer}", lines=lines))
    print(f"{bank.layer} of {model.title}: {n} kernels of {c} × {h} × {w}.")
