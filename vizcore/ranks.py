"""Ranks of numbers, and how far two rankings agree (Spearman, *The Proof and Measurement of Association between Two
Things*, 1904).

Maps of two methods have two units, so that only the order of their places can be compared.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each number, 1 for the smallest, in the shape of ``values``; equal ones share their mean rank."""
    return np.asarray(rankdata(values)).reshape(values.shape)


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's ρ of two arrays of one shape, −1 to 1: Pearson's correlation of their ranks. NaN where all numbers of
    one are equal: they have no order."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(ranks(one).ravel(), ranks(other).ravel())[0, 1])
