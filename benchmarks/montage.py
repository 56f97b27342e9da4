"""A montage of 512 activation maps, as PNG, against 512 matplotlib axes saved as PNG."""

from __future__ import annotations

import io

import numpy as np

from benchmarks.timing import Row, machine, read_options, table, time_in_turns
from vizcore.images import Scale, montage, to_png

WANTED = 0.1  # ten times faster


def main() -> None:
    options = read_options(__doc__)
    count, rounds = (32, 1) if options.quick else (512, 3)
    maps = np.random.default_rng(0).standard_normal((count, 28, 28)).astype(np.float32)
    contenders = {"ours": lambda: one_sheet(maps), "axes": lambda: one_axes_a_map(maps)}
    seconds = time_in_turns(contenders, rounds, options.clock)
    row = Row("montage and PNG", f"{count} matplotlib axes", seconds["ours"], seconds["axes"], WANTED)
    print(machine(options, "numpy", "pillow", "matplotlib"))
    print(f"\n{count} maps of 28 × 28 as one picture, {rounds} rounds")
    print(f"{table([row])}\n\n{1 / row.ratio:.0f} times faster.")


def one_sheet(maps: np.ndarray) -> bytes:
    return to_png(montage(maps, Scale.of(maps)).picture)


def one_axes_a_map(maps: np.ndarray) -> bytes:
    """About as many pixels as our sheet has; without ticks and frames, which would only slow it down."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = int(np.ceil(np.sqrt(len(maps) * 4 / 3)))
    rows = int(np.ceil(len(maps) / columns))
    figure = Figure(figsize=(columns * 0.29, rows * 0.29), dpi=100)  # 29 pixels a map: 28 and the gap
    FigureCanvasAgg(figure)
    limit = float(np.abs(maps).max())
    for place, values in enumerate(maps):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axes.set_axis_off()
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


if __name__ == "__main__":
    main()
