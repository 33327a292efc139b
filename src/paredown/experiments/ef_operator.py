"""ef-operator: networks of sums in the place of products, beside ordinary ones of the same shape.

Section 2.7 of the thesis, which left the operator undone. LeNet-300-100 and LeNet-5 on MNIST, every layer of the
ef-operator, with the trainable scale and without; from random weights, and in the place of a trained network's layers.
"""

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from paredown.experiments import lenets, mnist
from paredown.experiments.ef_operator_page import page
from paredown.experiments.experiment import Experiment

ORDINARY, SCALED, UNSCALED, SUBSTITUTED = "ordinary", "sums, scaled", "sums, no scale", "sums for a trained network"
WAYS = (ORDINARY, SCALED, UNSCALED, SUBSTITUTED)
BATCH, RATE, TUNING_RATE = 64, 1e-3, 5e-4
EFFORT = {"train": 15_000, "test": 10_000, "calibration": 512, "epochs": 4, "tuning_epochs": 2, "runs": 100}
QUICK = {"train": 200, "test": 100, "calibration": 64, "epochs": 1, "tuning_epochs": 1, "runs": 3}
#: What the images depend on.
DATA = ("train", "test", "calibration", "seed")


def cases(quick: bool) -> list[dict]:
    if quick:
        return [{"network": "LeNet-300-100", "way": way, "seed": 0, **QUICK} for way in WAYS]
    return [
        {"network": network, "way": way, "seed": seed, **EFFORT}
        for seed in range(3)
        for network in lenets.NAMES
        for way in WAYS
    ]


def run(case: dict) -> dict:
    from paredown import FineTune, SubstituteAdditive, profile

    of_ordinary = (case["network"], case["epochs"], *(case[key] for key in DATA))
    data, ordinary = mnist.images(*of_ordinary[2:]), _ordinary(*of_ordinary)
    model, before = ordinary, None
    if case["way"] == SUBSTITUTED:
        model = SubstituteAdditive(examples=case["calibration"])(ordinary, data, seed=case["seed"]).model
        before = mnist.percent(model, data)
        tune = FineTune(
            epochs=case["tuning_epochs"],
            learning_rate=TUNING_RATE,
            batch_size=BATCH,
            schedule="cosine",
            teacher_weight=0.5,
        )
        model = tune(model, data, seed=case["seed"], teacher=ordinary).model
    elif case["way"] != ORDINARY:
        model = _trained(_additive(case["network"], case["seed"], case["way"] == SCALED), data, case)
    costs = profile(model)
    return {
        "before_percent": before,
        "accuracy_percent": mnist.percent(model, data),
        "params": model.count_params(),
        "macs": costs.macs,
        "additions": costs.additions,
        "sign_changes": costs.sign_changes,
        **_measured(ordinary, model, case["runs"]),
    }


def _additive(network: str, seed: int, scaled: bool) -> Any:
    """The network, each layer with a kernel one of sums."""
    from paredown.blocks import AdditiveConv2D, AdditiveDense

    return lenets.lenet(
        network,
        seed,
        lambda *sizes, **settings: AdditiveDense(*sizes, use_scale=scaled, **settings),
        lambda *sizes, **settings: AdditiveConv2D(*sizes, use_scale=scaled, **settings),
    )


@lru_cache(1)
def _ordinary(network: str, epochs: int, *images: int) -> Any:
    """Trained once for all ways of a seed."""
    return _trained(lenets.lenet(network, images[-1]), mnist.images(*images), {"epochs": epochs, "seed": images[-1]})


def _trained(model: Any, data: Any, case: dict) -> Any:
    from paredown import FineTune

    tune = FineTune(epochs=case["epochs"], learning_rate=RATE, batch_size=BATCH, schedule="cosine")
    return tune(model, data, seed=case["seed"]).model


def _measured(ordinary: Any, model: Any, runs: int) -> dict:
    """Size, and time beside the ordinary network's, in turns."""
    from paredown import export_litert, measure_latency

    with tempfile.TemporaryDirectory() as folder:
        files = [export_litert(m, Path(folder) / f"{n}.tflite").path for n, m in enumerate((ordinary, model))]
        report = measure_latency(files, runs=runs)
        return {
            "file_bytes": files[1].stat().st_size,
            "latency_ms": report.rows[1].median_ms,
            "latency_ratio": 1 / report.rows[1].speedup_median,
        }


EXPERIMENT = Experiment(
    name="ef-operator",
    title="What do sums in the place of products lose?",
    cases=cases,
    run=run,
    page=page,
    needs=("mnist",),
)
