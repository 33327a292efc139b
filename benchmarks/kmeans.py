"""The exact 1-D k-means of `ShareWeights` against scikit-learn's best of 20 restarts: loss and seconds.

    python benchmarks/kmeans.py [--k 4 ...] [--values 1000000] [--restarts 20] [--seed 0] [--shape normal|tails]

Both are given the same float32 values: normally distributed ones, or with the tails of Student's t with 2 degrees of
freedom. scikit-learn's restarts are its KMeans as it comes (k-means++, Lloyd's algorithm), one by one, with the seeds
from `--seed` on; the exact one, its sorting counted, runs before the first and after the last, its slower run counts.
Seconds are of computing, on one core each, which other work on the machine does not lengthen. The loss of both is the
sum of squares around the means of the parts, in float64. Prints a row for each k, and each restart as it ends on
standard error.
"""

import argparse
import sys
import time

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from paredown.sharing import METHODS, Points

SHAPES = ("normal", "tails")
#: Restarts lose so much more than the optimum: the best of them, and their mean.
COLUMNS = ("k", "loss, exact", "best restart (%)", "mean restart (%)", "exact (s)", "restarts (s)", "faster by")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", type=int, nargs="+", default=[4, 16, 64, 256])
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shape", choices=SHAPES, default="normal")
    given = parser.parse_args(arguments)
    values = drawn(given.shape, given.values)
    seeds = range(given.seed, given.seed + given.restarts)
    print(f"| {' | '.join(COLUMNS)} |\n|{' ---: |' * len(COLUMNS)}", flush=True)
    with threadpool_limits(1):
        for k in given.k:
            print(row(values, k, seeds), flush=True)


def drawn(shape: str, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=count) if shape == "normal" else rng.standard_t(2, count)).astype("float32")


def row(values: np.ndarray, k: int, seeds: range) -> str:
    points = Points.of(values)
    first_s, loss = exact(values, k)
    losses, seconds = zip(*(restart(points, values, k, seed) for seed in seeds), strict=True)
    exact_s, restarts_s = max(first_s, exact(values, k)[0]), sum(seconds)
    above = [100 * (other / loss - 1) for other in (min(losses), sum(losses) / len(losses))]
    return (
        f"| {k} | {loss:.6g} | {above[0]:.3g} | {above[1]:.3g} | {exact_s:.3g} | {restarts_s:.3g} "
        f"| {restarts_s / exact_s:.0f} × |"
    )


def exact(values: np.ndarray, k: int) -> tuple[float, float]:
    """(seconds, loss)"""
    start = time.process_time()
    points = Points.of(values)
    edges = METHODS["optimal"](points, k)
    return time.process_time() - start, points.loss(edges)


def restart(points: Points, values: np.ndarray, k: int, seed: int) -> tuple[float, float]:
    """(loss, seconds) of one of scikit-learn's."""
    start = time.process_time()
    found = KMeans(k, n_init=1, random_state=seed).fit(values[:, None])
    seconds = time.process_time() - start
    centroids = np.sort(found.cluster_centers_.ravel().astype("float64")) - points.middle
    loss = points.loss(points.edges(centroids))
    print(f"k={k}, restart {seed}: {loss:.8g} in {seconds:.2f} s", file=sys.stderr, flush=True)
    return loss, seconds


if __name__ == "__main__":
    main()
