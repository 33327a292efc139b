"""What does a layer lose as a product of smaller ones, and what does a network? Thesis, section 2.6.

Two parts, told apart by the case's "part". `layer`: the error of one layer against the rank, for every kind of
factorization, on images that were not calibrated with. `network`: whole networks at several budgets of MACs, with
kernels alone, with data, with the compressed predecessors' outputs, and with ranks chosen for all layers at once:
accuracy before and after a short fine-tuning, and latency in LiteRT beside the MACs.

The networks: the classifier of Table 2.2, trained here for each seed, and CIFAR-10's residual networks.
"""

import tempfile
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np

from paredown.data import Data, Split
from paredown.demo import train_classifier
from paredown.experiments import material
from paredown.experiments.criteria import DISTILLED, SGD, accuracy
from paredown.experiments.experiment import Experiment
from paredown.experiments.svd_page import page
from paredown.export import export_litert
from paredown.factors import FACTORIZATIONS, Candidate, Problem
from paredown.least_squares import Fit
from paredown.measure import measure_latency
from paredown.moments import Sums, input_sums
from paredown.network import Network
from paredown.patches import LinearLayer
from paredown.profiling import profile
from paredown.transforms import Factorize, FineTune

#: Network -> its data, and the layers whose errors are shown.
NETWORKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "classifier": ("mnist", ("conv2", "conv3", "scores")),
    "resnet20": ("cifar10", ("s1b1_conv1", "s3b0_conv1", "s3b1_conv2", "logits")),
    "resnet56": ("cifar10", ()),
}
#: Label on the page -> settings of Factorize; "share" stands for the share of MACs to keep.
METHODS: dict[str, dict[str, Any]] = {
    "kernels alone, uniform": {"layer_macs": "share", "data_aware": False},
    "data-aware, uniform": {"layer_macs": "share", "asymmetric": False},
    "asymmetric, uniform": {"layer_macs": "share"},
    "asymmetric, optimal": {"macs": "share"},
    "asymmetric, measured": {"macs": "share", "scope": "measured"},
}
FACTORS = (1.5, 2.0, 3.0)
SEEDS = 3
#: Ranks per curve, from 1 to this multiple of the rank below which a factorization saves.
RANKS, BEYOND = 8, 1.5
#: Canonical polyadic decompositions are found anew for every rank, and slowly where it is high.
RANKS_CP, MOST_CP = 5, 96
#: Images; those that train the classifier and fine-tune, by data set.
WHOLE = {"calibration": 512, "test": 1000}
TRAIN = {"mnist": 60_000, "cifar10": 10_000}
TUNING_STEPS, TIMINGS = 20, 40


def cases(quick: bool) -> list[dict]:
    if quick:
        small = {"calibration": 64, "test": 100, "train": 256, "epochs": 1, "seed": 0}
        methods = ("kernels alone, uniform", "asymmetric, optimal")
        return [
            *(_layer("classifier", "conv2", kind, small) for kind in ("svd", "spatial")),
            *(_network("classifier", m, 2.0, 2, 4, small) for m in methods),
        ]
    found = []
    for name, (data, layers) in NETWORKS.items():
        for seed in range(SEEDS):
            # One training of the classifier serves all cases of a seed that follow one another.
            sizes = {**WHOLE, "train": TRAIN[data], "epochs": None, "seed": seed}
            dense = ("scores", "logits")
            found += [_layer(name, x, k, sizes) for x in layers for k in FACTORIZATIONS if x not in dense or k == "svd"]
            factors = (2.0,) if name == "resnet56" else FACTORS
            # Factorizing each of 56 layers alone takes as long as all other cases of a seed together.
            methods = [m for m in METHODS if name != "resnet56" or METHODS[m].get("scope") != "measured"]
            # One seed is timed: ranks hardly differ between them, and a file takes as long to write as all the rest.
            timings = TIMINGS if seed == 0 else 0
            found += [_network(name, m, f, TUNING_STEPS, timings, sizes) for f in factors for m in methods]
    return found


def _layer(network: str, layer: str, kind: str, sizes: dict) -> dict:
    return {"part": "layer", "network": network, "layer": layer, "kind": kind, **sizes}


def _network(network: str, method: str, factor: float, steps: int, timings: int, sizes: dict) -> dict:
    case = {"part": "network", "network": network, "method": method, "factor": factor}
    return {**case, "steps": steps, "timings": timings, **sizes}


def run(case: dict) -> dict:
    return (_layer_figures if case["part"] == "layer" else _network_figures)(case)


def _layer_figures(case: dict) -> dict:
    """Errors over ranks, mean square as a share of the outputs' variance; of plain and data-aware factors."""
    name, kind = case["layer"], case["kind"]
    candidate, aware, seen, held_out = _problems(case, name)
    plain, row = Problem.plain(aware.linear), FACTORIZATIONS[kind]
    bound, ranks = candidate.bound(kind), _ranks(candidate, kind)
    solvers = {"plain": row.solver(plain, ranks[-1]), "aware": row.solver(aware, ranks[-1])}
    errors: dict[str, list[float]] = {f"{way}_{where}": [] for way in solvers for where in ("seen", "held_out")}
    for rank in ranks:
        for way, solver in solvers.items():
            kernel = solver.factors(rank)[1]
            # Plain factors know of no mean that could go into the bias.
            fit = Fit(kernel - aware.linear.matrix, (aware if way == "aware" else plain).shift(kernel))
            errors[f"{way}_seen"].append(fit.left(seen) / aware.variance)
            errors[f"{way}_held_out"].append(fit.left(held_out) / _variance(aware.linear, held_out))
    macs = [100 * candidate.cost(kind, rank) / candidate.own_cost for rank in ranks]
    shape = list(candidate.layer.kernel.shape)
    return {"shape": shape, "bound": bound, "most": candidate.most(kind), "ranks": ranks, "macs_percent": macs} | errors


def _ranks(candidate: Candidate, kind: str) -> list[int]:
    """From 1 to beyond the bound, dense where ranks are low."""
    most = min(candidate.most(kind), max(2, round(BEYOND * candidate.bound(kind))))
    if kind == "cp":
        most = min(most, MOST_CP)
    return np.unique(np.geomspace(1, most, RANKS_CP if kind == "cp" else RANKS).round().astype(int)).tolist()


def _problems(case: dict, name: str) -> tuple[Candidate, Problem, Sums, Sums]:
    """A layer as it is and priced, what its factors are to give, and the sums over its rows on both sets of images."""
    model = _trained(case["network"], case["seed"], case["train"], case["epochs"])
    seen, held_out = _rows(case["network"], *(case[key] for key in ("seed", "train", "epochs", "calibration", "test")))
    linear = LinearLayer(model.get_layer(name))
    problem = Problem.unchanged(linear, seen[name], with_bias=True)
    shape = (1, *linear.layer.input.shape[1:])
    use_bias = linear.layer.use_bias
    candidate = Candidate(name, problem, (shape,), use_bias, lambda piece: piece.macs, ())
    return candidate, problem, seen[name], held_out[name]


@lru_cache(1)
def _rows(
    network: str, seed: int, train: int, epochs: int | None, calibration: int, test: int
) -> tuple[dict[str, Sums], dict[str, Sums]]:
    """Sums over the rows that the shown layers read: on calibration images and on test images."""
    model, data = _trained(network, seed, train, epochs), _data(network, train, test)
    layers = {name: LinearLayer(model.get_layer(name)) for name in NETWORKS[network][1]}
    assert data.validation is not None
    splits = data.calibration.sample(calibration, seed), data.validation
    seen, held_out = (input_sums(Network(model), layers, split, seed) for split in splits)
    return seen, held_out


def _variance(linear: LinearLayer, sums: Sums) -> float:
    """Of a layer's outputs, summed over them."""
    return float((linear.matrix * (sums.covariance() @ linear.matrix)).sum())


def _network_figures(case: dict) -> dict:
    seed, network = case["seed"], case["network"]
    model = _trained(network, seed, case["train"], case["epochs"])
    data = _data(network, case["train"], case["test"])
    share = 1 / case["factor"]
    settings = {key: share if value == "share" else value for key, value in METHODS[case["method"]].items()}
    result = Factorize(**settings, examples=case["calibration"])(model, data, seed=seed)
    augment = "crop_flip" if network != "classifier" else "crop"
    tune = FineTune(
        optimizer=SGD, augment=augment, schedule="cosine", steps_per_epoch=case["steps"], batch_size=128, **DISTILLED
    )
    tuned = tune(result.model, data, seed=seed, teacher=model).model
    kinds = Counter(kind for kind, _ in result.log["ranks"].values())
    return {
        "original_accuracy": _original_accuracy(network, seed, case["train"], case["epochs"], case["test"]),
        "factorized_accuracy": accuracy(result.model, data),
        "tuned_accuracy": accuracy(tuned, data),
        "original_macs": profile(model).macs,
        "macs": profile(result.model).macs,
        "kinds": dict(kinds),
        "kept_layers": len(result.skips),
        **(_latency(case, result.model) if case["timings"] else {}),
    }


def _latency(case: dict, factorized: Any) -> dict:
    """Both files in LiteRT, in turn; they hold the float32 networks, checked against Keras when written."""
    original = _exported(case["network"], case["seed"], case["train"], case["epochs"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "factorized.tflite"
        export_litert(factorized, path)
        report = measure_latency([original, path], threads=1, runs=case["timings"])
    row = report.rows[1]
    return {
        "original_ms": report.rows[0].median_ms,
        "factorized_ms": row.median_ms,
        "speedup": row.speedup_median,
        "speedup_p10": row.speedup_p10,
        "speedup_p90": row.speedup_p90,
        "threads": report.threads,
    }


#: The original's file, written once for the cases of a network and seed that follow one another.
_FOLDERS: list[Any] = []


@lru_cache(1)
def _exported(network: str, seed: int, train: int, epochs: int | None) -> Path:
    _FOLDERS[:] = [tempfile.TemporaryDirectory()]
    path = Path(_FOLDERS[0].name) / "original.tflite"
    export_litert(_trained(network, seed, train, epochs), path)
    return path


@lru_cache(1)
def _trained(network: str, seed: int, train: int, epochs: int | None) -> Any:
    """A trained network, which nothing changes."""
    if network != "classifier":
        return keras.models.load_model(material.network(f"{network}_cifar10"), compile=False)
    return train_classifier(Data(_data(network, train, 1).train), epochs, seed)


@lru_cache(1)
def _data(network: str, train: int, test: int) -> Data:
    """The first rows of each part; calibration images are drawn from the training rows."""
    name = NETWORKS[network][0]
    whole = material.data(name)
    assert whole.train is not None
    assert whole.validation is not None
    parts = whole.train.take(train), whole.validation.take(test)
    train_split, test_split = (Split(part.x[:].astype("float32"), part.y[:]) for part in parts)
    return Data(train_split, test_split, calibration=train_split, name=name)


@lru_cache(1)
def _original_accuracy(network: str, seed: int, train: int, epochs: int | None, test: int) -> float:
    return accuracy(_trained(network, seed, train, epochs), _data(network, train, test))


EXPERIMENT = Experiment(
    name="svd",
    title="Layers as products of smaller ones: what do they lose, and are they faster?",
    cases=cases,
    run=run,
    page=page,
    needs=("mnist", "cifar10", "resnet20_cifar10", "resnet56_cifar10"),
)
