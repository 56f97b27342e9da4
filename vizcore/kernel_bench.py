"""A kernel laid on a grid of numbers, by definition: what a convolution does, to be typed and watched.

With the kernel K over the grid X, padded with zeros, output (i, j) is Σ K[a, b] · X[i·s − p + a·d, j·s − p + b·d], for
stride s, padding p and dilation d; an axis of n numbers gives ⌊(n + 2p − d·(k − 1) − 1) / s⌋ + 1 of them (Dumoulin &
Visin, "A guide to convolution arithmetic for deep learning", 2016). The book's example, 0 1 2 3 on 0 … 8 gives
19 25 37 43, is that of Zhang et al., *Dive into Deep Learning*, section 7.2. Nets do not flip the kernel; neither is it
done here, so that what mathematics calls convolution is that with the kernel turned by 180°.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vizcore.records import GREY_FROM_RGB, BadParameter, check_whole
from vizcore.windows import places, read

MOST_KERNEL, MOST_STRIDE, MOST_PADDING, MOST_DILATION = 11, 8, 10, 8

BOOK_GRID = np.arange(9.0).reshape(3, 3)
KERNELS: dict[str, tuple[str, np.ndarray]] = {
    "book": ("The book's 0 1 2 3", np.arange(4.0).reshape(2, 2)),
    "identity": ("Identity", np.array([[0, 0, 0], [0, 1.0, 0], [0, 0, 0]])),
    "sobel_x": ("Sobel, edges upright", np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1.0]])),
    "sobel_y": ("Sobel, edges level", np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1.0]])),
    "laplace": ("Laplace", np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0.0]])),
    "blur": ("Blur, 3 × 3", np.full((3, 3), 1 / 9)),
    "gaussian": ("Gaussian, 5 × 5", np.outer([1, 4, 6, 4, 1.0], [1, 4, 6, 4, 1]) / 256),
    "sharpen": ("Sharpen", np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0.0]])),
}


@dataclass(frozen=True, eq=False)
class KernelRun:
    """A kernel laid on a grid: ``grid`` (H, W), ``kernel`` (kh, kw), ``values`` (h, w), all float64."""

    grid: np.ndarray
    kernel: np.ndarray
    values: np.ndarray
    stride: int
    padding: int
    dilation: int

    def window(self, row: int, column: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What output (row, column) reads: rows (kh,) and columns (kw,), and there (kh, kw) the numbers and which are
        not padding."""
        rows, columns = (
            places(index, size, self.stride, self.padding, self.dilation)
            for index, size in zip((row, column), self.kernel.shape, strict=True)
        )
        patch, inside = read(self.grid[None], np.zeros(1, int), rows, columns)
        return rows, columns, patch[0], inside


def slide(grid: np.ndarray, kernel: np.ndarray, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> KernelRun:
    """The kernel (kh, kw) laid on every place of the grid (H, W). Raises BadParameter where it nowhere fits."""
    grid, kernel = _checked("grid", grid, 4096), _checked("kernel", kernel, MOST_KERNEL)
    height, width = (
        output_size(size, extent, stride=stride, padding=padding, dilation=dilation)
        for size, extent in zip(grid.shape, kernel.shape, strict=True)
    )
    padded = np.pad(grid, padding)
    values = np.zeros((height, width))
    for a, b in np.ndindex(*kernel.shape):
        down, across = a * dilation, b * dilation
        rows = slice(down, down + (height - 1) * stride + 1, stride)
        with np.errstate(over="ignore", invalid="ignore"):
            values += kernel[a, b] * padded[rows, across : across + (width - 1) * stride + 1 : stride]
    if not np.isfinite(values).all():
        raise BadParameter("The sums are too large to be written down. Take smaller numbers.")
    return KernelRun(grid, kernel, values, stride, padding, dilation)


def output_size(size: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """⌊(n + 2p − d·(k − 1) − 1) / s⌋ + 1 of one axis. Raises BadParameter where that is less than 1."""
    check_whole("stride", stride, 1, MOST_STRIDE)
    check_whole("padding", padding, 0, MOST_PADDING)
    check_whole("dilation", dilation, 1, MOST_DILATION)
    found = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if found < 1:
        raise BadParameter(
            f"The kernel spans {dilation * (kernel - 1) + 1} numbers, and the grid has {size + 2 * padding} with its "
            "padding: it fits nowhere. Take a larger grid, more padding, or less dilation."
        )
    return found


def size_in_words(size: int, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> str:
    """The formula of the output size with its numbers filled in: "⌊(3 + 2·0 − 1·(2 − 1) − 1) / 1⌋ + 1 = 2"."""
    found = output_size(size, kernel, stride=stride, padding=padding, dilation=dilation)
    return f"⌊({size} + 2·{padding} − {dilation}·({kernel} − 1) − 1) / {stride}⌋ + 1 = {found}"


def kernel_named(name: str) -> np.ndarray:
    """A copy of one of KERNELS, or BadParameter with the nearest names."""
    if name in KERNELS:
        return KERNELS[name][1].copy()
    near = difflib.get_close_matches(str(name), list(KERNELS), n=3, cutoff=0.4)
    listed = ", ".join(f"“{known}”" for known in near or KERNELS)
    raise BadParameter(f"There is no kernel {name!r}. {'The nearest are' if near else 'There are'} {listed}.")


def grey_of(pixels: np.ndarray) -> np.ndarray:
    """RGB (H, W, 3), uint8, as grey (H, W) float64 from 0 (black) to 1 (white)."""
    return pixels.astype(np.float64) @ np.array(GREY_FROM_RGB) / 255


def _blurred(slices: np.ndarray) -> np.ndarray:
    """Each slice averaged over 3 × 3, as far as there are neighbours."""
    ones = np.ones((3, 3))
    counts = slide(np.ones(slices.shape[1:]), ones, padding=1).values
    return np.stack([slide(one, ones, padding=1).values / counts for one in slices])


# What can be done to the slices (C, kh, kw) of a kernel at once
CHANGES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "zero": ("Set to zero", np.zeros_like),
    "negate": ("Turn the sign", np.negative),
    "flip": ("Flip left to right", lambda slices: slices[:, :, ::-1].copy()),
    "blur": ("Blur", _blurred),
}


def _checked(name: str, values: np.ndarray, most: int) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not 1 <= min(values.shape, default=0) <= max(values.shape, default=0) <= most:
        raise BadParameter(f"The {name} has the shape {values.shape}; it must be (h, w), each from 1 to {most}.")
    if not np.isfinite(values).all():
        raise BadParameter(f"The {name} holds an empty cell, NaN or infinity; every cell needs a number.")
    return values
