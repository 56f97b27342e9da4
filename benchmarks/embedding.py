"""What a map by t-SNE costs: beside scikit-learn's of equal quality, and as the pictures become more.

Both lay out the same rows with the same perplexity and number of iterations, from the first two principal components,
on one thread. The rows are made, not pictures: twenty round clusters in 50 dimensions, their centres three times as
wide as they are, drawn from seed 0. Trustworthiness is over 5 neighbours, by one function for both; above 10 000 rows
2 000 of them are asked. Our time includes what comes with the map: its trustworthiness and its divergence.

    python benchmarks/embedding.py [size …] [--full]

Sizes are 1 000 and 5 000 unless given; --full adds 50 000, where scikit-learn takes a good while (an iteration of
Barnes and Hut's grows faster than the rows, and far neighbours are found in memory), and ends the scaling at 100 000.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from benchmarks.timing import Options, Row, columns, figure, machine, option_parser, options_of, table
from vizcore.embedding import trustworthiness, tsne

DIMENSIONS, CLUSTERS = 50, 20
PERPLEXITY, ITERATIONS = 30.0, 750
SIZES, FULL_SIZE = (1_000, 5_000), 50_000
SCALING, FULL_SCALING = (1_000, 2_000, 5_000, 10_000), (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
RATIOS_WANTED = {5_000: 1 / 1.7, 50_000: 1 / 5}
TRUST_WANTED = 0.01  # no further below


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("sizes", nargs="*", type=int, help=f"rows of both, {', '.join(map(str, SIZES))} unless given")
    parser.add_argument("--full", action="store_true", help="both at 50 000 rows, and ours up to 100 000")
    asked = parser.parse_args()
    options = options_of(asked)
    sizes = asked.sizes or ((300,) if options.quick else (*SIZES, FULL_SIZE) if asked.full else SIZES)
    scaling = (200, 300) if options.quick else FULL_SCALING if asked.full else () if asked.sizes else SCALING
    iterations = 250 if options.quick else ITERATIONS
    print(machine(options, "openTSNE", "scikit-learn"))
    print(f"Both on one thread; {DIMENSIONS} dimensions, perplexity {PERPLEXITY:g}, {iterations} iterations.")
    with threadpool_limits(limits=1):
        tsne(clusters(50), iterations=250)  # what is imported at the first call is not counted
        beside_scikit_learn(sizes, iterations, options)
        if scaling:
            grow(scaling, iterations, options)


def beside_scikit_learn(sizes: Iterable[int], iterations: int, options: Options) -> None:
    times, trusts = [], []
    for n in sizes:
        rows = clusters(n)
        taken, ours = timed_ours(rows, iterations, options)
        start = options.clock()
        drawn = TSNE(perplexity=PERPLEXITY, max_iter=iterations, init="pca", random_state=0, n_jobs=1)
        theirs = drawn.fit_transform(rows)
        peer = np.array([options.clock() - start])
        times.append(Row(f"{n:,} points", "scikit-learn", taken, peer, RATIOS_WANTED.get(n)))
        trust, other = trustworthiness(rows, ours), trustworthiness(rows, theirs)
        verdict = f"≥ theirs − {TRUST_WANTED:g}: {'met' if trust >= other - TRUST_WANTED else 'missed'}"
        trusts.append((f"{n:,} points", "scikit-learn", f"{trust:.4f}", f"{other:.4f}", figure(trust / other), verdict))
    print(f"\nTime of a map\n{table(times)}")
    heads = ("what", "against", "ours", "theirs", "ours ÷ theirs", "wanted")
    print(f"\nTrustworthiness, 0 to 1\n{columns(heads, trusts)}")


def grow(sizes: Iterable[int], iterations: int, options: Options) -> None:
    """Ours at each size, beside ours at the first."""
    rows, first = [], None
    for n in sizes:
        taken, _ = timed_ours(clusters(n), iterations, options)
        first = (n, taken) if first is None else first
        rows.append(Row(f"{n:,} points", f"{first[0]:,} points", taken, first[1]))
        print(f"ours, {n:,} points: {figure(taken[0])} s", flush=True)
    print(f"\nOurs as the points become more\n{table(rows, ('many', 'few'))}")


def timed_ours(rows: np.ndarray, iterations: int, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Seconds (1,), and the points."""
    start = options.clock()
    points = tsne(rows, perplexity=PERPLEXITY, iterations=iterations).points
    return np.array([options.clock() - start]), points


def clusters(n: int) -> np.ndarray:
    """(n, 50) float64, seeded; of as many rows, always the same."""
    random = np.random.default_rng(0)
    centres = 3 * random.normal(size=(CLUSTERS, DIMENSIONS))
    return centres[random.integers(0, CLUSTERS, n)] + random.normal(size=(n, DIMENSIONS))


if __name__ == "__main__":
    main()
