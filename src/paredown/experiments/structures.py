"""Which structure makes most of its multiply-adds, and of its milliseconds?

Sections 2.3.2, 2.3.3, 2.4 and 2.5 of the thesis. Three parts, told apart by a case's "part": `accuracy`, plain,
inception, bottleneck and separable networks with and without residual connections, as wide as a plain network's MACs
or parameters allow, shortly trained; `latency`, the same networks as .tflite files in LiteRT, in turn; `depth`, plain
networks of more and more layers with and without residual connections.
"""

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import keras

from paredown.data import Data
from paredown.experiments import material
from paredown.experiments.experiment import Experiment
from paredown.experiments.structures_nets import STRUCTURES, Frame, cost, network, solved_scale, stage_widths
from paredown.experiments.structures_page import page
from paredown.export import export_litert
from paredown.measure import measure_latency
from paredown.profiling import profile
from paredown.transforms import FineTune, ReestimateBatchNorm

#: Data -> images' shape.
SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
#: First-stage width of the plain network that gives the budgets, and of the networks of the depth sweep.
PLAIN_SCALE, DEPTH_SCALE = 16.0, 8.0
#: What is made equal -> the budget of the plain network.
EQUAL = ("macs", "params")
#: Data -> passes over the training images.
EPOCHS = {"mnist": 2, "cifar10": 3}
#: Blocks per stage of the depth sweep, two layers each.
DEPTHS = (1, 3, 5, 7, 9)


def cases(quick: bool) -> list[dict]:
    seeds = range(1 if quick else 3)
    size = {"train": 256, "test": 200} if quick else {"train": 10_000, "test": 10_000}
    data = ("mnist",) if quick else tuple(SHAPES)
    structures = ("plain",) if quick else tuple(STRUCTURES)
    accuracy = [
        {"part": "accuracy", "data": name, "equal": equal, "structure": structure, "residual": residual, **size}
        for name in data
        for structure in structures
        # The plain network gives both budgets: it is one network.
        for equal in (EQUAL[:1] if structure == "plain" else EQUAL)
        for residual in (False, True)
    ]
    latency = [
        {"part": "latency", "data": name, "equal": equal, "structures": list(structures), "runs": 5 if quick else 100}
        for name in data
        for equal in (EQUAL[:1] if quick else EQUAL)
    ]
    depth = [
        {"part": "depth", "data": data[-1], "per_stage": n, "residual": residual, **size}
        for n in (DEPTHS[:1] if quick else DEPTHS)
        for residual in ((True,) if quick else (False, True))
    ]
    trained = [{**case, "epochs": 1 if quick else EPOCHS[case["data"]]} for case in [*accuracy, *depth]]
    return [{**case, "seed": seed} for seed in seeds for case in [*latency, *trained]]


def run(case: dict) -> dict:
    return PARTS[case["part"]](case)


def _accuracy(case: dict) -> dict:
    frame = Frame(SHAPES[case["data"]])
    scale = _scale(frame, case["structure"], case["equal"])
    return _trained(network(frame, case["structure"], case["residual"], scale), case) | _described(scale)


def _depth(case: dict) -> dict:
    frame = Frame(SHAPES[case["data"]], case["per_stage"])
    return _trained(network(frame, "plain", case["residual"], DEPTH_SCALE), case) | _described(DEPTH_SCALE)


def _latency(case: dict) -> dict:
    """All networks of one budget, interleaved, the plain one first; weights are random, which takes no less time."""
    frame = Frame(SHAPES[case["data"]])
    ways = [(structure, residual) for structure in case["structures"] for residual in (False, True)]
    with tempfile.TemporaryDirectory() as folder:
        files = list(_files(frame, ways, case["equal"], Path(folder)))
        report = measure_latency(files, threads=1, runs=case["runs"])
    points = [
        {
            "structure": structure,
            "residual": residual,
            "latency_ms": row.median_ms,
            "latency_ratio": 1 / row.speedup_median,
            "latency_ratio_p10": 1 / row.speedup_p90,
            "latency_ratio_p90": 1 / row.speedup_p10,
        }
        for (structure, residual), row in zip(ways, report.rows, strict=True)
    ]
    return {"points": points, "threads": report.threads}


def _files(frame: Frame, ways: list[tuple[str, bool]], equal: str, folder: Path) -> Iterator[Path]:
    for structure, residual in ways:
        model = network(frame, structure, residual, _scale(frame, structure, equal))
        yield export_litert(model, folder / f"{structure}-{residual}.tflite").path


def _scale(frame: Frame, structure: str, equal: str) -> float:
    if structure == "plain":
        return PLAIN_SCALE
    return solved_scale(frame, structure, equal, getattr(cost(frame, "plain", PLAIN_SCALE), equal))


def _described(scale: float) -> dict[str, Any]:
    return {"widths": list(stage_widths(scale))}


def _trained(model: Any, case: dict) -> dict:
    """Accuracy on the test images after a short training, and what the network costs as it was built."""
    data = _data(case["data"], case["train"], case["test"])
    tune = FineTune(epochs=case["epochs"], batch_size=64, optimizer="adam", learning_rate=2e-3, schedule="cosine")
    trained = tune(model, data, seed=case["seed"])
    # After so few steps the averages that BatchNormalization keeps are still those of its first ones.
    settled = ReestimateBatchNorm()(trained.model, data, seed=case["seed"])
    found = profile(model)
    convolutions = sum(layer.kind == "Conv2D" for layer in found.layers)
    return {
        "accuracy_percent": _percent(settled.model, data),
        "loss": trained.log["history"]["loss"][-1],
        "macs": found.macs,
        "params": found.params,
        "layers": convolutions + 1,
    }


def _percent(model: keras.Model, data: Data) -> float:
    assert data.validation is not None
    x, y = data.validation.x[:].astype("float32"), data.validation.y[:]
    return 100 * float((model.predict(x, batch_size=250, verbose=0).argmax(-1) == y).mean())


@cache
def _data(name: str, train: int, test: int) -> Data:
    """The first rows of each part."""
    whole = material.data(name)
    return Data(whole.train.take(train), whole.validation.take(test), name=name)  # pyright: ignore[reportOptionalMemberAccess]


PARTS = {"accuracy": _accuracy, "latency": _latency, "depth": _depth}

EXPERIMENT = Experiment(
    name="structures",
    title="Which structure makes most of its multiply-adds?",
    cases=cases,
    run=run,
    page=page,
    needs=("mnist", "cifar10"),
)
