"""A heatmap in words: where it is strong, for who cannot see it, and for a report that is read aloud.

Pure numbers: how the sum of what is positive lies over the thirds, quarters and halves of the map, on how little of it
half of that sum lies, and how many places stand out. No reference: the words are ours, and each says how it is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from vizcore.records import BadParameter, Heatmap

MOST = 0.5  # the share of the sum that a ninth or a quarter must hold to be named
MOST_OF_LARGE = 0.6  # the same of larger parts: of two halves, one always holds half of it
STANDS_OUT = 0.5  # of the largest value
EVIDENCE = "evidence"
WORTH_SAYING = 0.01  # times what speaks for: less that speaks against is dust
SIDE = 28  # cells: finer maps are averaged before places that stand out are counted, or specks would be

_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "middle", "right")


@dataclass(frozen=True)
class Description:
    """Where the positive values of a map lie. ``place`` is the smallest part that holds MOST of their sum (of larger
    parts than a quarter, MOST_OF_LARGE), "" where none does; ``share``, 0 to 1, is what it holds, and ``half_on`` the
    share of the area that the strongest half of the sum takes. ``regions`` stand out: connected places of half of the
    largest value or more; ``peak`` is the ninth of the map with the largest. ``against`` is the sum of the negative
    values over that of the positive, and ``place_against`` where they lie. Where ``is_flat``, all values are one."""

    place: str
    share: float
    half_on: float
    regions: int
    peak: str
    against: float
    place_against: str
    is_flat: bool = False
    quantity: str = EVIDENCE

    @property
    def sentences(self) -> tuple[str, ...]:
        return tuple(self._sentences())

    def __str__(self) -> str:
        return " ".join(self.sentences)

    def _sentences(self) -> Iterator[str]:
        is_signed = self.against >= WORTH_SAYING and self.quantity == EVIDENCE
        positive = f"positive {self.quantity}" if is_signed else self.quantity
        if not self.regions:
            yield f"There is no {positive} anywhere."
        elif self.is_flat:
            yield "The map is the same everywhere: it points nowhere."
            return
        elif self.place:
            yield f"{_percent(self.share)} of the {positive} lies in {self.place} of what the network saw."
        else:
            yield f"The {positive} is spread over the whole map: no half holds more than {_percent(self.share)} of it."
        if self.regions:
            several = "One region stands" if self.regions == 1 else f"{_count(self.regions)} regions stand"
            yield f"Half of it lies on {_percent(self.half_on)} of the area. {several} out, the peak in {self.peak}."
        if is_signed:
            much = f"{self.against:.2g} times as much" if self.regions else "all there is"
            where = f", most of it in {self.place_against}" if self.place_against else ""
            yield f"What speaks against is {much}{where}."


def describe(heat: Heatmap | np.ndarray, quantity: str = EVIDENCE) -> Description:
    """What can be said of a map (h, w) of finite numbers; ``quantity`` is what a larger number has more of. Only of
    evidence it is said how much speaks against: of other quantities a number below 0 means no such thing.

    Costs a sort of h · w numbers. Raises BadParameter.
    """
    values = np.asarray(heat.values if isinstance(heat, Heatmap) else heat)
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind != "f" or not np.isfinite(values).all():
        raise BadParameter(f"heat is {values.dtype} of the shape {values.shape}; it must be finite floats, (h, w).")
    positive, negative = np.maximum(values, 0).astype(np.float64), np.maximum(-values, 0).astype(np.float64)
    against = negative.sum() / (positive.sum() or 1.0)
    place, share = _place(positive)
    return Description(
        place,
        share,
        _half_on(positive),
        _regions(positive),
        _ninth_of_peak(positive),
        float(against),
        _place(negative)[0],
        bool(np.ptp(values) == 0),
        quantity,
    )


def _place(values: np.ndarray) -> tuple[str, float]:
    """The smallest part that holds most of the sum of ``values`` (h, w), at least 0, and the share that it holds;
    where none does, "" and the largest share of a half."""
    if not values.any():
        return "", 0.0
    shares = _shares(values)
    best: tuple[str, float] = ("", 0.0)
    for parts, least in (
        (_ninths(), MOST),
        (_quarters(), MOST),
        (_middle(), MOST_OF_LARGE),
        (_halves(), MOST_OF_LARGE),
    ):
        found = {name: float(shares[rows, columns].sum()) for name, (rows, columns) in parts.items()}
        name = max(found, key=found.__getitem__)
        if found[name] >= least:
            return name, found[name]
        best = ("", found[name])
    return best


def _shares(values: np.ndarray) -> np.ndarray:
    """(6, 6) shares of the sum of ``values`` by sixths of the height and width; a cell over an edge is divided."""
    summed = _overlaps(values.shape[0], 6) @ values @ _overlaps(values.shape[1], 6).T
    return summed / summed.sum()


def _overlaps(size: int, parts: int) -> np.ndarray:
    """(parts, size): which share of each of ``size`` cells along an axis lies in each of so many equal ``parts``."""
    edges, cells = np.arange(parts + 1) * size / parts, np.arange(size)
    return np.maximum(np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells), 0)


Parts = dict[str, tuple[slice, slice]]  # rows and columns of sixths, by name


def _ninths() -> Parts:
    return {
        _ninth(row, column): (slice(2 * row, 2 * row + 2), slice(2 * column, 2 * column + 2))
        for row in range(3)
        for column in range(3)
    }


def _ninth(row: int, column: int) -> str:
    """ "the upper left ninth"; that in the middle of both is "the middle ninth"."""
    names = dict.fromkeys((_ROWS[row], _COLUMNS[column]))
    return f"the {' '.join(names)} ninth"


def _quarters() -> Parts:
    first, last = slice(0, 3), slice(3, 6)
    rows, columns = {"upper": first, "lower": last}, {"left": first, "right": last}
    return {f"the {row} {column} quarter": (rows[row], columns[column]) for row in rows for column in columns}


def _middle() -> Parts:
    return {"the middle four ninths": (slice(1, 5), slice(1, 5))}


def _halves() -> Parts:
    first, last, all_of_it = slice(0, 3), slice(3, 6), slice(0, 6)
    return {
        "the upper half": (first, all_of_it),
        "the lower half": (last, all_of_it),
        "the left half": (all_of_it, first),
        "the right half": (all_of_it, last),
    }


def _half_on(values: np.ndarray) -> float:
    """The smallest share of the cells that holds half of the sum; the last cell counts by its part."""
    ordered = np.sort(values, axis=None)[::-1]
    if not ordered[0]:
        return 0.0
    so_far = np.cumsum(ordered)
    half = so_far[-1] / 2
    whole = int(np.searchsorted(so_far, half))
    before = so_far[whole - 1] if whole else 0.0
    return float((whole + (half - before) / ordered[whole]) / ordered.size)


def _regions(values: np.ndarray) -> int:
    """How many connected places, corners included, have half of the largest value or more."""
    coarse = _averaged(values)
    if not coarse.any():
        return 0
    return int(ndimage.label(coarse >= STANDS_OUT * coarse.max(), np.ones((3, 3)))[1])


def _averaged(values: np.ndarray) -> np.ndarray:
    """``values`` as means over at most SIDE × SIDE parts of equal size."""
    height, width = values.shape
    rows, columns = _overlaps(height, min(height, SIDE)), _overlaps(width, min(width, SIDE))
    return rows @ values @ columns.T / (rows.sum(1)[:, None] * columns.sum(1))


def _ninth_of_peak(values: np.ndarray) -> str:
    coarse = _averaged(values)
    row, column = np.unravel_index(int(coarse.argmax()), coarse.shape)
    third = [min(int(3 * (at + 0.5) / size), 2) for at, size in zip((row, column), coarse.shape, strict=True)]
    return _ninth(third[0], third[1])


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 1 else "less than 1 %"


def _count(number: int) -> str:
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
    return words[number] if number < len(words) else str(number)
