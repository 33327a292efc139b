"""search: does a search over all methods find more than a greedy one, or than each method alone, in the same time?

A classifier of five convolutions, trained here on MNIST for each seed; three tenths of its latency are the limit. Every
search may use the same processor time, training included. What counts is every network that was made: its loss on 5,000
rows held out of the training data, and its latency, predicted from measured operations.
"""

import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
from keras import layers

from paredown.data import Data
from paredown.experiments import material
from paredown.experiments.experiment import Experiment
from paredown.experiments.search_page import page
from paredown.recipe import Recipe
from paredown.search.bench import Bench
from paredown.search.budget import Budget
from paredown.search.limits import parse_limits
from paredown.search.methods import ALL
from paredown.search.searching import judge_of, propose
from paredown.search.study import open_study, sqlite_url
from paredown.transforms import FineTune

#: Label on the page -> strategy, methods.
SEARCHES: dict[str, tuple[str, tuple[str, ...]]] = {
    "all methods, Optuna": ("optuna", ALL),
    "greedy (NetAdapt-like)": ("greedy", ("prune_channels",)),
    "pruning alone": ("optuna", ("prune_channels",)),
    "factorizing alone": ("optuna", ("factorize",)),
    "substituting alone": ("optuna", ("substitute_conv",)),
    "quantizing alone": ("optuna", ("quantize",)),
}
LIMIT, SECONDS, SEEDS = "0.3x", 300, 3
MOST_EPOCHS = 20
#: Channels of the convolutions.
WIDTHS, QUICK_WIDTHS = (16, 16, 32, 32, 64), (4, 8)


def cases(quick: bool) -> list[dict]:
    if quick:
        return [_case(name, 10, 2, 0, "digits", 1) for name in ("quantizing alone", "pruning alone")]
    # One training of the classifier serves all searches of a seed.
    return [_case(name, SECONDS, None, seed, "mnist", MOST_EPOCHS) for seed in range(SEEDS) for name in SEARCHES]


def _case(name: str, seconds: float, trials: int | None, seed: int, data: str, epochs: int) -> dict:
    common = {"limit": LIMIT, "seconds": seconds, "trials": trials, "epochs": epochs}
    return {"search": name, "data": data, "seed": seed, **common}


def run(case: dict) -> dict:
    """Every network that a search made: its loss and its costs."""
    strategy, methods = SEARCHES[case["search"]]
    model, data = _classifier(case["data"], case["seed"])
    limits = parse_limits(max_latency=case["limit"])
    with tempfile.TemporaryDirectory() as folder:
        url = sqlite_url(Path(folder) / "study.db")
        # The processor's seconds of this process: another's work on the machine takes none of them.
        budget = Budget(case["seconds"], clock=time.process_time)
        judge = judge_of(model, data, limits, methods, seed=case["seed"])
        bench = Bench(
            open_study(url, "search", case["seed"]), url, judge, methods, budget, case["trials"], case["epochs"]
        )
        propose(bench, strategy)
        entries = bench.entries()
    made = [e for e in entries if e.judgement and _is_measured(e)]
    return {
        "used_seconds": budget.used,
        "original_accuracy": judge.original["score"],
        "original_macs": judge.original["macs"],
        "original_ms": judge.original["latency_ms"],
        "proposed": sum(e.stage == "cheap" for e in entries),
        "tuned": sum(e.stage != "cheap" and e.judgement is not None for e in entries),
        "points": [_point(e, judge.original) for e in made],
    }


def _is_measured(entry: Any) -> bool:
    """Whether the loss is that of the file, and not what the format lost of another network."""
    whole = not Recipe.from_yaml(entry.judgement.recipe).transforms
    return entry.stage != "cheap" or entry.attributes["format"] == "float32" or whole


def _point(entry: Any, original: dict) -> dict:
    judgement = entry.judgement
    return {
        "stage": entry.stage,
        "label": judgement.label,
        "drop": judgement.drop,
        "latency_share": judgement.latency_ms / original["latency_ms"],
        "size_share": judgement.size_bytes / original["size_bytes"],
        "macs_share": judgement.macs / original["macs"],
    }


@lru_cache(1)
def _classifier(name: str, seed: int) -> tuple[Any, Data]:
    data = material.data(name)
    keras.utils.set_random_seed(seed)
    model = _network(QUICK_WIDTHS if name == "digits" else WIDTHS)
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    tune = FineTune(epochs=1 if name == "digits" else 2, schedule="cosine", batch_size=64)
    return tune(model, data, seed=seed).model, data


def _network(widths: tuple[int, ...]) -> Any:
    """Pairs of 3×3 convolutions with BatchNormalization, halved in between, the mean over positions at the end."""
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Rescaling(1 / 255)(image)
    for place, width in enumerate(widths):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"conv{place + 1}")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.MaxPooling2D(2)(x) if place % 2 else x
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="scores")(x), name="five_convolutions")


EXPERIMENT = Experiment(
    name="search",
    title="Does a search over all methods find more than a greedy one, or each method alone?",
    cases=cases,
    run=run,
    page=page,
    needs=("mnist",),
)
