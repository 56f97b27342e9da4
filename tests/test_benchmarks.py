"""The benchmarks run and say what they found. How fast anything is, on which machine, is not for a test."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import timing
from benchmarks.timing import Row, peak_megabytes, table, time_in_turns

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))


def run_quickly(script: str) -> str:
    """What ``python benchmarks/script.py --quick`` prints, as `make bench` runs it."""
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}.py", "--quick"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def read_tables(printed: str) -> list[dict[str, str]]:
    """The rows of all tables, by the heads of their columns."""
    rows: list[dict[str, str]] = []
    heads: list[str] = []
    for line in printed.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            heads = []
        elif not heads:
            heads = cells
        elif not cells[0].startswith("--"):
            rows.append(dict(zip(heads, cells, strict=True)))
    return rows


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [pytest.param(name, marks=pytest.mark.browser if name == "start" else ()) for name in SCRIPTS],
)
def test_a_benchmark_prints_a_ratio_in_every_row(script: str) -> None:
    printed = run_quickly(script)
    rows = read_tables(printed)
    assert rows, printed
    for row in rows:
        (ratio,) = (float(cell) for head, cell in row.items() if " ÷ " in head)
        assert math.isfinite(ratio), row
        assert ratio > 0, row
        assert row["what"], row
        assert row["against"], row
    assert "cores, torch threads: " in printed
    assert f"Python {sys.version.split()[0]}, " in printed


def test_every_subject_has_its_benchmark() -> None:
    assert {"cam", "embedding", "montage", "occlusion", "start"} <= set(SCRIPTS)


def test_the_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    # The machine was ten times slower in the second round. The ratio of the medians would be 3 ÷ 1.
    row = Row("ours", "theirs", np.array([3.0, 20.0, 2.0]), np.array([1.0, 10.0, 1.0]), wanted=2.5)
    assert row.ratios.tolist() == [3, 2, 2]
    (shown,) = read_tables(table([row]))
    assert (shown["ours"], shown["theirs"], shown["ours ÷ theirs"], shown["lowest–highest"]) == (
        "3 s",
        "1 s",
        "2",
        "2–3",
    )
    assert shown["wanted"] == "≤ 2.5: met"


def test_everyone_runs_once_a_round_and_the_order_turns_around() -> None:
    order: list[str] = []
    ticks = iter(range(1000))
    seconds = time_in_turns({name: lambda name=name: order.append(name) for name in "ab"}, 2, lambda: next(ticks))
    assert "".join(order) == "ba" + "ab" + "ba"  # the first round is not counted
    assert {name: taken.tolist() for name, taken in seconds.items()} == {"a": [1, 1], "b": [1, 1]}


def test_the_peak_counts_what_was_given_back() -> None:
    def fill_and_drop() -> None:
        np.ones(50 * 2**20 // 8)

    assert 45 < peak_megabytes(fill_and_drop) < 60
    assert peak_megabytes(lambda: None) < 5


@pytest.mark.parametrize(("number", "shown"), [(0.02857, "0.0286"), (1.3, "1.3"), (62.14, "62.1"), (1234.5, "1234")])
def test_figures_have_three_digits_and_no_exponent(number: float, shown: str) -> None:
    assert timing.figure(number) == shown
