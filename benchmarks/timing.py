"""What all benchmarks share: contenders timed in turn, the ratio of each pair, and the table that shows them.

A time alone says more about the machine than about the code. So everyone runs once in every round, in turns (A B, B A,
A B, …), the ratio is taken within each round, and the table gives the median of these ratios with the lowest and the
highest: what slows a whole round down, such as somebody else's work, slows both sides of its ratio. Where others keep
every core busy that is not enough, for a pass on two threads waits for the slower one: ``--busy`` runs one thread and
counts the processor's seconds instead of the clock's.

Run as a program, this times a plain pass against itself: how far two equal things differ on this machine today.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Options:
    """What the command line asks for. ``quick``: every step once, on small things, for a test."""

    quick: bool
    busy: bool

    @property
    def clock(self) -> Callable[[], float]:
        return time.process_time if self.busy else time.perf_counter


def read_options(about: str | None) -> Options:
    return options_of(option_parser(about).parse_args())


def option_parser(about: str | None) -> argparse.ArgumentParser:
    """What reads the command line of every benchmark; one may add to it."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of little things, to see that all of it runs")
    parser.add_argument("--busy", action="store_true", help="one thread, and the processor's seconds, not the clock's")
    return parser


def options_of(asked: argparse.Namespace) -> Options:
    options = Options(asked.quick, asked.busy)
    if options.busy:
        torch.set_num_threads(1)
    return options


@dataclass(frozen=True, eq=False)
class Row:
    """``ours`` and ``theirs``, seconds (rounds,), of the same rounds; ``wanted`` is the highest ratio that is good."""

    what: str
    peer: str
    ours: np.ndarray
    theirs: np.ndarray
    wanted: float | None = None

    @property
    def ratios(self) -> np.ndarray:
        """(rounds,) ours ÷ theirs, round by round: below 1, ours is the faster one."""
        return self.ours / self.theirs

    @property
    def ratio(self) -> float:
        return float(np.median(self.ratios))

    def cells(self) -> tuple[str, ...]:
        verdict = ""
        if self.wanted is not None:
            verdict = f"≤ {self.wanted:g}: {'met' if self.ratio <= self.wanted else 'missed'}"
        return (
            self.what,
            self.peer,
            duration(float(np.median(self.ours))),
            duration(float(np.median(self.theirs))),
            figure(self.ratio),
            f"{figure(self.ratios.min())}–{figure(self.ratios.max())}",
            verdict,
        )


def time_in_turns(
    contenders: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float], *, warm: bool = True
) -> dict[str, np.ndarray]:
    """Seconds (rounds,) of each contender; each second round runs backwards.

    With ``warm`` one round goes before, uncounted. Rubbish is collected between the rounds, not within: nobody pays for
    what another left behind.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(-1 if warm else 0, rounds):
        gc.collect()
        gc.disable()
        try:
            for name in list(contenders)[:: -1 if turn % 2 else 1]:
                start = clock()
                contenders[name]()
                if turn >= 0:
                    seconds[name].append(clock() - start)
        finally:
            gc.enable()
    return {name: np.array(taken) for name, taken in seconds.items()}


def table(rows: Iterable[Row], sides: tuple[str, str] = ("ours", "theirs")) -> str:
    """The rows under their heads, in columns that line up; as Markdown, so that they can be pasted."""
    heads = ("what", "against", *sides, " ÷ ".join(sides), "lowest–highest", "wanted")
    lines = [heads, *(row.cells() for row in rows)]
    if not any(line[-1] for line in lines[1:]):
        lines = [line[:-1] for line in lines]
    return columns(lines[0], lines[1:])


def columns(heads: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table whose columns line up."""
    rows = [heads, *lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in rows]
    padded.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(padded)


def machine(options: Options, *packages: str) -> str:
    """Two lines for above the tables: the machine in words, how busy it is and how time is taken; then versions."""
    processor = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    if described.exists():
        names = [line.split(":")[1].strip() for line in described.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    clock = "the processor's seconds" if options.busy else "seconds by the clock"
    return (
        f"{processor}, {os.cpu_count()} cores, torch threads: {torch.get_num_threads()}{load}; {clock}.\n"
        f"Python {platform.python_version()}, {versions}."
    )


def peak_megabytes(run: Callable[[], object]) -> float:
    """The highest resident memory of this process while ``run`` runs, in MB above what it had before.

    What earlier work has freed is given back first, or ``run`` would find its room there and seem to need none. Linux
    only; NaN elsewhere.
    """
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not (status.exists() and reset.exists()):
        return float("nan")

    def kilobytes(field: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{field}:"))

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    reset.write_text("5")  # the high-water mark falls to what is resident now
    before = kilobytes("VmRSS")
    run()
    return (kilobytes("VmHWM") - before) / 1024


def figure(number: float) -> str:
    """Three digits that count, and no exponent."""
    return f"{number:.3g}" if number < 100 else f"{number:.0f}"


def duration(seconds: float) -> str:
    return f"{figure(seconds)} s" if seconds >= 1 else f"{figure(1000 * seconds)} ms"


def main() -> None:
    from models import load_model

    options = read_options(__doc__)
    name, rounds = ("lenet5", 2) if options.quick else ("efficientnet_lite0", 30)
    model = load_model(name, weights=None)
    pixels = torch.rand(1, 3, *model.input_size)

    def plain() -> Tensor:
        with torch.no_grad():
            return model.logits(pixels)

    seconds = time_in_turns({"one": plain, "other": plain}, rounds, options.clock)
    print(f"{machine(options, 'torch', 'timm')}\n\nTwo equal things, {rounds} rounds")
    print(table([Row(f"{model.title}, a plain pass", "the same", seconds["one"], seconds["other"])]))


if __name__ == "__main__":
    main()
