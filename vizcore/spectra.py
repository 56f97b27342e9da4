"""Can the filters of a first layer be read? Trained, they are edges, gratings and blobs of colour; untrained, noise.

Asked of the spectrum P(f) = Σ_c |F_c(f)|² of each kernel, over its input channels c, padded with zeros. *Oriented*: the
energy lies in one direction. With θ the angle of the frequency f it is |Σ P e^{2iθ}| / Σ P, 0 for noise and 1 for a
grating (Bigün & Granlund, "Optimal Orientation Detection of Linear Symmetry", 1987); the derivative of a Gaussian, an
edge, has 1/2. *A blob of colour*: the energy lies at low frequencies of what differs between the channels. The measure
asks no more than that: a filter may be read by neither and still be useful.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vizcore.records import BadParameter, Filters

ORIENTED = 0.4  # an edge has 0.5, of 7 × 7 kernels of noise one in thousands so much
COLOURED = 0.5
LEAST = 7  # pixels along an axis
PADDED = 32  # frequencies along an axis


@dataclass(frozen=True, eq=False)
class Readability:
    """Of each of N filters: ``orientation`` (N,), 0 to 1, and ``colour`` (N,), the share of energy, 0 to 1."""

    orientation: np.ndarray
    colour: np.ndarray

    @property
    def oriented(self) -> np.ndarray:
        """(N,) whether the energy lies in one direction."""
        return self.orientation >= ORIENTED

    @property
    def coloured(self) -> np.ndarray:
        """(N,) whether it is a blob of colour."""
        return self.colour >= COLOURED

    @property
    def share(self) -> float:
        """Of the filters that are one or the other, 0 to 1."""
        return float((self.oriented | self.coloured).mean())


def readability(bank: Filters) -> Readability:
    """How far each filter of ``bank`` is an edge, a grating or a blob of colour. No forward pass.

    Low is a frequency of at most one period over the kernel. BadParameter for kernels smaller than LEAST: of those even
    noise often lies in one direction.
    """
    kernels = bank.values.astype(np.float64)  # (N, C, kh, kw)
    if min(kernels.shape[2:]) < LEAST:
        raise BadParameter(
            f"The kernels of {bank.layer} are {kernels.shape[3]} × {kernels.shape[2]}; only spectra of kernels from "
            f"{LEAST} × {LEAST} on tell something."
        )
    spectrum = _energy(kernels)  # (N, 32, 32)
    differences = _energy(kernels - kernels.mean(1, keepdims=True))
    down, across = np.meshgrid(np.fft.fftfreq(PADDED), np.fft.fftfreq(PADDED), indexing="ij")  # cycles a pixel
    turns = np.exp(2j * np.arctan2(down, across)) * ((down != 0) | (across != 0))
    low = (down * kernels.shape[2]) ** 2 + (across * kernels.shape[3]) ** 2 <= 1
    total = spectrum.sum((1, 2))
    total = np.where(total > 0, total, 1)  # a kernel of zeros is neither
    return Readability(
        orientation=np.abs((spectrum * turns).sum((1, 2))) / total,
        colour=(differences * low).sum((1, 2)) / total,
    )


def _energy(kernels: np.ndarray) -> np.ndarray:
    """(N, C, kh, kw) to the energy at each frequency, (N, 32, 32)."""
    return np.square(np.abs(np.fft.fft2(kernels, (PADDED, PADDED)))).sum(1)
