"""The exact 1-D k-means of `ShareWeights` against scikit-learn's best of 20 restarts: loss and seconds.

    python benchmarks/kmeans.py [--k 4 ...] [--values 1000000] [--restarts 20] [--shape normal|tails] [--tolerance 0.0001]

Both are given the same float32 values: normally distributed ones, or with the tails of Student's t with 2 degrees of
freedom. scikit-learn's restarts (k-means++, Lloyd's algorithm, all cores) are run and timed one by one; the exact one (one
core, sorting counted) before the first and after the last, and its slower run counts. The loss of both is the sum of
squares around the means of the parts, in float64. Prints a row of a table for each k.
"""

import argparse
import time

SHAPES = ("normal", "tails")
HEADER = """| k | loss, exact | scikit-learn's best, above it (%) | its mean, above it (%) | exact (s) | scikit-learn (s) | faster by |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--k", type=int, nargs="+", default=[4, 16, 64, 256])
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--shape", choices=SHAPES, default="normal")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="Where scikit-learn stops; 1e-4 by default.")
    given = parser.parse_args(arguments)
    values = drawn(given.shape, given.values)
    print(HEADER, flush=True)
    for k in given.k:
        print(row(values, k, given.restarts, given.tolerance), flush=True)


def drawn(shape: str, count: int):
    import numpy as np

    rng = np.random.default_rng(0)
    return (rng.normal(size=count) if shape == "normal" else rng.standard_t(2, count)).astype("float32")


def row(values, k: int, restarts: int, tolerance: float) -> str:
    from paredown.sharing import Points

    points = Points.of(values)
    first_s, loss = exact(values, k)
    losses, seconds = zip(*(restart(points, values, k, seed, tolerance) for seed in range(restarts)), strict=True)
    exact_s, restarts_s = max(first_s, exact(values, k)[0]), sum(seconds)
    above = [100 * (other / loss - 1) for other in (min(losses), sum(losses) / restarts)]
    return (
        f"| {k} | {loss:.6g} | {above[0]:.3g} | {above[1]:.3g} | {exact_s:.2f} | {restarts_s:.1f} "
        f"| {restarts_s / exact_s:.0f} × |"
    )


def exact(values, k: int) -> tuple[float, float]:
    """(seconds, loss)"""
    from paredown.sharing import METHODS, Points

    start = time.perf_counter()
    points = Points.of(values)
    edges = METHODS["optimal"](points, k)
    return time.perf_counter() - start, points.loss(edges)


def restart(points, values, k: int, seed: int, tolerance: float) -> tuple[float, float]:
    """(loss, seconds) of one of scikit-learn's."""
    import numpy as np
    from sklearn.cluster import KMeans

    start = time.perf_counter()
    found = KMeans(k, n_init=1, random_state=seed, tol=tolerance).fit(values[:, None])
    seconds = time.perf_counter() - start
    centroids = np.sort(found.cluster_centers_.ravel().astype("float64")) - points.middle
    return points.loss(points.edges(centroids)), seconds


if __name__ == "__main__":
    main()
