"""Single weights at zero (thesis, section 2.2.1): from which density on is sparse faster, and what do zeros cost?

Four parts, told apart by the case's "part": `tensorflow`, sparse_dense_matmul against matmul; `litert`, a .tflite file
with sparse storage against the same weights stored in full; `accuracy`, what the zeros do to a trained classifier.
Timings are of pairs, dense and sparse in turn, at one thread; a speed-up is dense time / sparse time within a pair.
"""

import math
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from paredown.experiments.experiment import Experiment
from paredown.experiments.sparse_weights_page import SIDE, page

DENSITIES = (1.0, 0.7, 0.5, 0.33, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)
#: Layers of the litert part: pattern, kind, inputs and outputs, positions along each side.
LAYERS = (
    {"layer": "fully connected", "pattern": "block 4", "size": 1024},
    {"layer": "fully connected", "pattern": "block 4", "size": 256},
    {"layer": "fully connected", "pattern": "unstructured", "size": 1024},
    {"layer": "1x1 convolution", "pattern": "unstructured", "size": 128},
)
#: Label on the page -> settings of PruneWeights beside the sparsity.
VARIANTS: dict[str, dict[str, Any]] = {
    "random": {"method": "random"},
    "magnitude, per layer": {},
    "magnitude, global": {"scope": "global"},
    "OBD": {"method": "obd"},
    "OBS": {"method": "obs"},
    "magnitude, blocks of 4": {"pattern": "block 4"},
    "OBS, blocks of 4": {"method": "obs", "pattern": "block 4"},
}
#: The slowest variant, left out where it has least to show.
SLOW = "OBS, blocks of 4"
#: n:m patterns, whose density they say themselves.
FIXED = {0.5: "2:4", 0.25: "1:4"}
#: Shortest span that one timing covers; shorter ones are repeated.
SHORTEST_S = 1e-3


def cases(quick: bool) -> list[dict]:
    seeds = range(1 if quick else 3)
    densities = (0.5, 0.02) if quick else DENSITIES
    runs = 3 if quick else 9
    columns = (1, 32) if quick else (1, 32, 256)
    sizes = (256,) if quick else (256, 1024)
    timed = [
        {"part": "tensorflow", "size": size, "columns": list(columns), "densities": list(densities), "runs": runs}
        for size in sizes
    ]
    layers = [one for one in LAYERS if not quick or one["size"] < 1024]
    in_litert = (0.5, 0.1) if quick else (1.0, 0.5, 0.33, 0.25, 0.2, 0.15, 0.1, 0.05, 0.02)
    timed += [{"part": "litert", **one, "density": d, "runs": 4 * runs} for one in layers for d in in_litert]
    return [{**case, "seed": seed} for case in [*timed, *_accuracy_cases(quick)] for seed in seeds]


def _accuracy_cases(quick: bool) -> list[dict]:
    effort = {"part": "accuracy", "epochs": 2 if quick else 15, "tuning_epochs": 1 if quick else 2}
    variants = ("magnitude, per layer", "OBS") if quick else tuple(VARIANTS)
    densities = (0.1,) if quick else (0.5, 0.25, 0.1, 0.05)
    free = [{**effort, "variant": v, "density": d} for v in variants for d in densities if v != SLOW or d < 0.5]
    methods = () if quick else ("magnitude, n:m", "OBS, n:m")
    return free + [{**effort, "variant": v, "density": d} for v in methods for d in FIXED]


def run(case: dict) -> dict:
    return PARTS[case["part"]](case)


def _tensorflow(case: dict) -> dict:
    """In a process of its own: TensorFlow takes its number of threads when it starts, once."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return {"points": pool.submit(_products, case).result(), "threads": 1}


def _products(case: dict) -> list[dict]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rng, size = np.random.default_rng(case["seed"]), case["size"]
    points = []
    for columns in case["columns"]:
        dense_matrix = tf.constant(rng.normal(size=(size, columns)), tf.float32)
        for density in case["densities"]:
            weights = tf.constant(_with_density(rng, size, density))
            sparse = tf.sparse.from_dense(weights)
            pair = (
                lambda w=weights, x=dense_matrix: tf.matmul(w, x).numpy(),
                lambda w=sparse, x=dense_matrix: tf.sparse.sparse_dense_matmul(w, x).numpy(),
            )
            dense_s, sparse_s = _in_turn(pair, case["runs"])
            speedups = dense_s / sparse_s
            low, median, high = np.percentile(speedups, (10, 50, 90))
            points.append(
                {"columns": columns, "density": density, "speedup": median, "speedup_p10": low, "speedup_p90": high}
                | {"dense_ms": np.median(dense_s) * 1e3, "sparse_ms": np.median(sparse_s) * 1e3}
                | {"difference": float(np.abs(pair[0]() - pair[1]()).max() / np.abs(pair[0]()).max())}
            )
    return [{key: float(value) for key, value in point.items()} for point in points]


def _with_density(rng: np.random.Generator, size: int, density: float) -> np.ndarray:
    """A square matrix of which that share, at random places, is not zero."""
    weights = rng.normal(size=size * size).astype("float32")
    weights[rng.permutation(weights.size)[round(density * weights.size) :]] = 0
    return weights.reshape(size, size)


def _in_turn(pair: tuple[Callable[[], Any], ...], runs: int) -> np.ndarray:
    """Seconds of each, taken in turn, shape (2, runs)."""
    repeats = [max(1, math.ceil(SHORTEST_S / _seconds(one, 3))) for one in pair]
    return np.array([[_seconds(one, n) for one, n in zip(pair, repeats, strict=True)] for _ in range(runs)]).T


def _seconds(one: Callable[[], Any], repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        one()
    return (time.perf_counter() - start) / repeat


def _litert(case: dict) -> dict:
    """One layer, exported twice from the same pruned weights: with its zeros and without them."""
    from paredown import PruneWeights, export_litert, measure_latency
    from paredown.checks import largest_difference
    from paredown.measure.litert_runner import LiteRTRunner

    model, x = _one_layer(case)
    pruned = (
        PruneWeights(sparsity=1 - case["density"], pattern=case["pattern"])(model).model
        if case["density"] < 1
        else model
    )
    with tempfile.TemporaryDirectory() as folder:
        dense, sparse = (Path(folder) / f"{name}.tflite" for name in ("dense", "sparse"))
        sizes = [export_litert(pruned, dense).size_bytes, export_litert(pruned, sparse, sparse=True).size_bytes]
        outputs = [LiteRTRunner(path).run(x) for path in (dense, sparse)]
        report = measure_latency([dense, sparse], threads=1, runs=case["runs"])
    row = report.rows[1]
    return {
        "speedup": row.speedup_median,
        "speedup_p10": row.speedup_p10,
        "speedup_p90": row.speedup_p90,
        "dense_ms": report.rows[0].median_ms,
        "sparse_ms": row.median_ms,
        "dense_bytes": sizes[0],
        "sparse_bytes": sizes[1],
        "difference": largest_difference(*outputs),
        "threads": report.threads,
    }


def _one_layer(case: dict) -> tuple[Any, np.ndarray]:
    """A network of one layer, square, with random weights; and a few inputs."""
    import keras
    from keras import layers

    size, rng = case["size"], np.random.default_rng(case["seed"])
    dense = case["layer"] == "fully connected"
    image = keras.Input((size,) if dense else (SIDE, SIDE, size))
    layer = layers.Dense(size) if dense else layers.Conv2D(size, 1)
    model = keras.Model(image, layer(image))
    layer.kernel.assign(rng.normal(size=layer.kernel.shape) / math.sqrt(size))
    return model, rng.normal(size=(4, *image.shape[1:])).astype("float32")


def _accuracy(case: dict) -> dict:
    """Zeros in a trained classifier of digits, then a short training that keeps them."""
    from paredown import FineTune, PruneWeights
    from paredown.measure import score_keras

    data, model = _trained(case["seed"], case["epochs"])
    name, density = case["variant"], case["density"]
    budget: dict[str, Any] = {"sparsity": 1 - density, **VARIANTS.get(name, {})}
    if name.endswith("n:m"):
        budget = {"pattern": FIXED[density], "method": name.split(",")[0].lower()}
    # The last layer and the first are treated like the others; the first reads one channel and takes no pattern.
    pruned = PruneWeights(**budget)(model, data, seed=case["seed"]).model
    tuned = FineTune(epochs=case["tuning_epochs"], batch_size=32, keep_zeros=True)(
        pruned, data, seed=case["seed"]
    ).model
    figures = {"original": model, "pruned": pruned, "tuned": tuned}
    return {f"{key}_percent": 100 * score_keras(one, data.validation, None).value for key, one in figures.items()}


@lru_cache(1)
def _trained(seed: int, epochs: int) -> tuple[Any, Any]:
    """(digits, a small classifier trained on them); the same for all cases of a seed."""
    import keras
    from keras import layers

    from paredown import Data, FineTune

    keras.utils.set_random_seed(seed)
    data = Data.load("digits")
    image = keras.Input((28, 28, 1))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(16, 3, strides=2, activation="relu", name="conv1")(x)
    x = layers.Conv2D(32, 3, strides=2, activation="relu", name="conv2")(x)
    x = layers.Dense(64, activation="relu", name="hidden")(layers.Flatten()(x))
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="scores")(x))
    return data, FineTune(epochs=epochs, batch_size=32, schedule="cosine")(model, data, seed=seed).model


#: A case's "part" -> what makes its figures.
PARTS: dict[str, Callable[[dict], dict]] = {"tensorflow": _tensorflow, "litert": _litert, "accuracy": _accuracy}

EXPERIMENT = Experiment(
    "sparse-weights", "Single weights at zero: from which density on is sparse faster?", cases, run, page, ("digits",)
)
