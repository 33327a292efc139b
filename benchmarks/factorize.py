"""How long `Factorize` takes for a large network without data, and how much memory beyond the network itself.

    python benchmarks/factorize.py [NETWORK ...] [--setting rank=64] [--setting layer_macs=0.5] [--size PIXELS]

Networks of keras.applications with random kernels (VGG16: 138 million weights, three quarters of them in one Dense
layer), each in a process of its own. Prints seconds by the clock and of computing (the
sum over cores, which other work on the machine does not lengthen), seconds of computing by kind of factorization and
layer, and the peak of the process's memory beyond what it held before, in multiples of the bytes of the network's
weights. Counted is everything beyond the network itself: the copy that the result is proven against
(`TransformResult.reference`, as large as the network), the result's own weights, and all that is held while it is
made. Targets: 60 s on two cores, twice the weights.
"""

import argparse
import contextlib
import os
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN keeps what TensorFlow has let go: what it kept since the network was made would hide what is taken now.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["VGG16"])
    parser.add_argument("--setting", action="append", help="Of Factorize; rank=64 and layer_macs=0.5 where none.")
    parser.add_argument("--size", type=int, default=224, help="Height and width of the images.")
    given = parser.parse_args(arguments)
    for name in given.networks:
        for setting in given.setting or ["rank=64", "layer_macs=0.5"]:
            # Peak memory only ever rises: a process of its own for each.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                print(pool.submit(measured, name, setting, given.size).result(), flush=True)


def measured(name: str, setting: str, size: int) -> str:
    """One network and setting, in words."""
    import keras

    from paredown import Factorize

    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    weight_bytes = 4 * model.count_params()
    key, value = setting.split("=")
    settings: dict[str, Any] = {key: float(value) if "." in value else int(value)}
    # What TensorFlow itself takes for a first call is not counted.
    Factorize(rank=1)(keras.Sequential([keras.Input((8,)), keras.layers.Dense(8)]))
    with timed_solvers() as seconds:
        before, start, computing = bytes_now(), time.perf_counter(), time.process_time()
        result = Factorize(**settings)(model)
        clock_s, computing_s = time.perf_counter() - start, time.process_time() - computing
    grown, kept = peak_bytes() - before, 4 * result.model.count_params()
    kinds = ", ".join(f"{kind} {s:.1f}" for kind, s in sorted(seconds.items(), key=lambda one: -one[1]))
    return (
        f"{name}, {setting}: {clock_s:.1f} s by the clock, {computing_s:.1f} s of computing ({kinds}); "
        f"peak memory +{grown / weight_bytes:.2f} x the weights of {weight_bytes / 2**20:.0f} MiB, of which the copy "
        f"1.00, the result {kept / weight_bytes:.2f}; {len(result.changes)} layers factorized"
    )


@contextlib.contextmanager
def timed_solvers() -> Iterator[dict[str, float]]:
    """Every solver notes its seconds of computing, by kind and whether the layer is a convolution."""
    import dataclasses

    from paredown.factors import FACTORIZATIONS, Solver

    seconds: dict[str, float] = defaultdict(float)
    running = []

    def noting(label, function):
        def noted(*arguments):
            if running:
                return function(*arguments)
            running.append(label)
            start = time.process_time()
            try:
                return function(*arguments)
            finally:
                seconds[label] += time.process_time() - start
                running.pop()

        return noted

    def solving(kind, make):
        def solver(problem, most):
            label = f"{kind} {'convolution' if len(problem.linear.kernel.shape) > 2 else 'dense'}"
            made: Solver = noting(label, make)(problem, most)
            for name in ("losses", "factors"):
                setattr(made, name, noting(label, getattr(made, name)))
            return made

        return solver

    rows = dict(FACTORIZATIONS)
    FACTORIZATIONS.update({k: dataclasses.replace(row, solver=solving(k, row.solver)) for k, row in rows.items()})
    try:
        yield seconds
    finally:
        FACTORIZATIONS.update(rows)


def bytes_now() -> int:
    """Resident memory of this process; Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
