"""t-SNE's cost and trustworthiness written out from their papers: loops, float64, no library."""

from __future__ import annotations

import math

import numpy as np


def trustworthiness(features: np.ndarray, points: np.ndarray, k: int) -> float:
    """Venna & Kaski 2001, equation 2 with the normalisation of section 3."""
    n = len(features)
    penalty = 0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        by_features = sorted(others, key=lambda j: math.dist(features[i], features[j]))
        by_map = sorted(others, key=lambda j: math.dist(points[i], points[j]))
        for j in by_map[:k]:
            rank = by_features.index(j) + 1
            if rank > k:
                penalty += rank - k
    return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * penalty


def continuity(features: np.ndarray, points: np.ndarray, k: int) -> float:
    """Venna & Kaski 2001, equation 3: what of the features' neighbours the map sends away, by its rank there."""
    return trustworthiness(points, features, k)


def kept(features: np.ndarray, points: np.ndarray, k: int) -> list[float]:
    """Of each row, the share of its k nearest in the features that are among its k nearest on the map."""
    shares = []
    for i in range(len(features)):
        others = [j for j in range(len(features)) if j != i]
        by_features = sorted(others, key=lambda j: math.dist(features[i], features[j]))[:k]
        by_map = sorted(others, key=lambda j: math.dist(points[i], points[j]))[:k]
        shares.append(len(set(by_features) & set(by_map)) / k)
    return shares


def affinities(features: np.ndarray, perplexity: float) -> np.ndarray:
    """p_ij of van der Maaten & Hinton 2008, equation 1: the perplexity of each row is 2 to its entropy."""
    return affinities_of(np.array([[math.dist(one, other) for other in features] for one in features]), perplexity)


def affinities_of(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """The same of any distances (n, n)."""
    n = len(distances)
    conditional = np.zeros((n, n))
    for i in range(n):
        squares = distances[i] ** 2
        others = np.arange(n) != i
        low, high = -40.0, 40.0  # of the logarithm of 1 / (2 sigma²)
        for _ in range(100):
            middle = (low + high) / 2
            row = np.exp(-(squares - squares[others].min()) * math.exp(middle), where=others, out=np.zeros(n))
            row /= row.sum()
            entropy = -sum(p * math.log2(p) for p in row if p > 0)
            low, high = (middle, high) if entropy > math.log2(perplexity) else (low, middle)
        conditional[i] = row
    return (conditional + conditional.T) / (2 * n)


def kl_divergence(p: np.ndarray, points: np.ndarray) -> float:
    """Equations 2 (its sum) and 4 of the same paper: the sum over i ≠ j of p_ij log(p_ij / q_ij), in nats."""
    n = len(points)
    closeness = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                closeness[i, j] = 1 / (1 + math.dist(points[i], points[j]) ** 2)
    q = closeness / closeness.sum()
    return sum(p[i, j] * math.log(p[i, j] / q[i, j]) for i in range(n) for j in range(n) if p[i, j] > 0)


def neighbour_accuracy(features: np.ndarray, labels: list, k: int) -> float:
    """Leave one out, ask the k nearest; of tied classes the one with the nearest voter."""
    right = 0
    for i in range(len(features)):
        others = sorted((j for j in range(len(features)) if j != i), key=lambda j: math.dist(features[i], features[j]))
        votes = [labels[j] for j in others[:k]]
        most = max(votes.count(label) for label in votes)
        right += next(label for label in votes if votes.count(label) == most) == labels[i]
    return right / len(features)
