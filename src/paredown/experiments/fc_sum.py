"""fc-sum: how many of 1000 ReLU units does y = i1 + i2 need, and why counting activations does not find out.

Section 2.2.2 of the thesis: 2 inputs, uniform in [-1, 1] -> 1000 ReLU units -> 1 output, mean squared error, batches
of 1000 out of 1,000,000 samples, 10 epochs, learning rate 0.01, momentum 0.3. Then cycles of one epoch each: train,
lock, count activations over all training data, prune what was never active, until nothing goes.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from paredown.data import Data
from paredown.experiments import markdown, plots
from paredown.experiments.experiment import Experiment
from paredown.experiments.rows import spread, summarized
from paredown.transforms import FineTune, PruneChannels, PruneCycle, PruneGradually

#: What reads removed channels is refitted, where this PruneChannels can.
RECONSTRUCT: dict[str, Any] = {"reconstruct": True} if "reconstruct" in PruneChannels.__dataclass_fields__ else {}

#: Every optimizer at the thesis's learning rate.
RATE = 0.01
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"class_name": "SGD", "config": {"learning_rate": RATE}},
    "Momentum": {"class_name": "SGD", "config": {"learning_rate": RATE, "momentum": 0.3}},
    "RMSProp": {"class_name": "RMSprop", "config": {"learning_rate": RATE}},
    "Adam": {"class_name": "Adam", "config": {"learning_rate": RATE}},
}
#: Variant -> settings of the training and of the cycle.
VARIANTS: dict[str, tuple[dict, dict]] = {
    "vanilla": ({}, {}),
    "distorted": ({}, {"distortion": 1.0, "patience": 2}),
    "regularized + distorted": (
        {"regularization": "l1_weights", "strength": 1e-5},
        {"distortion": 1.0, "patience": 2},
    ),
}
#: Kernels and biases start from a normal distribution of this standard deviation; see the page on what hangs on it.
SPREAD = 0.7
#: Of fresh samples, for every loss on the page.
JUDGED = 20_000


def cases(quick: bool) -> list[dict]:
    if quick:
        size = {"units": 100, "samples": 5000, "batch": 100, "epochs": 1, "max_cycles": 2}
        return [{"optimizer": "Momentum", "seed": 0, **size}]
    size = {"units": 1000, "samples": 10**6, "batch": 1000, "epochs": 10, "max_cycles": 8}
    return [{"optimizer": name, "seed": seed, **size} for name in OPTIMIZERS for seed in range(3)]


def run(case: dict) -> dict:
    """One optimizer and seed: all variants, and what the redundancy criterion makes of the first one's result."""
    data = Data(train=sums(case["samples"], case["seed"]), validation=sums(JUDGED, case["seed"] + 1000))
    start = network(case["units"], case["seed"])
    variants, trained = {}, {}
    for name, (training, cycle) in VARIANTS.items():
        tune = _tune(case, OPTIMIZERS[case["optimizer"]], **training)
        key = str(training)
        # Variants that train alike share the first training.
        trained[key] = trained.get(key) or tune(start, data, seed=case["seed"]).model
        variants[name], model = _cycled(trained[key], data, case, tune, cycle)
        if name == "vanilla":
            left = model
    return {"variants": variants, "left": anatomy(left, data), "merged": merged(left, data, case)}


def sums(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs uniform in [-1, 1]², shape (count, 2), and their sums, shape (count, 1)."""
    x = np.random.default_rng(seed).uniform(-1, 1, (count, 2)).astype("float32")
    return x, x.sum(1, keepdims=True)


def network(units: int, seed: int) -> keras.Model:
    def normal(number: int) -> keras.Initializer:
        return keras.initializers.RandomNormal(0, SPREAD, seed=10 * seed + number)

    inputs = keras.Input((2,), name="i")
    hidden = keras.layers.Dense(units, "relu", kernel_initializer=normal(0), bias_initializer=normal(1), name="hidden")(
        inputs
    )
    out = keras.layers.Dense(1, kernel_initializer=normal(2), bias_initializer=normal(3), name="out")(hidden)
    return keras.Model(inputs, out, name="fc_sum")


def loss_of(model: Any, data: Data) -> float:
    """Mean squared error on the validation data, summed in float64."""
    x, y = data.validation.rows(np.arange(len(data.validation)))  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]
    predicted = model.predict(x, batch_size=2000, verbose=0)
    return float(np.mean((predicted.astype("float64") - y) ** 2))


def _tune(case: dict, optimizer: dict, **more: Any) -> FineTune:
    settings = {"epochs": case["epochs"], "batch_size": case["batch"], "steps_per_execution": 100} | more
    return FineTune(optimizer=optimizer, loss="mean_squared_error", **settings)


def _cycled(model: Any, data: Data, case: dict, tune: FineTune, cycle: dict) -> tuple[dict, Any]:
    """The cycles of one variant: its figures, and what is left."""
    first = {"units": case["units"], "loss": loss_of(model, data)}
    prune = PruneChannels("activation_count", threshold=0.0, batch_size=min(10_000, case["samples"]))
    epoch = FineTune(**{**tune.settings(), "epochs": 1})
    result = PruneCycle(epoch, prune, max_cycles=case["max_cycles"], **cycle)(model, data, seed=case["seed"])
    rounds = [{"units": r["units"]["hidden"], "loss": r["loss"]} for r in result.log["rounds"]]
    figures = {"units": rounds[-1]["units"], "loss": loss_of(result.model, data), "cycles": result.log["cycles"]}
    return {**figures, "ended": result.log["ended"], "course": [first, *rounds]}, result.model


def anatomy(model: Any, data: Data) -> dict:
    """What the units that are left do: why counting finds nothing more to prune.

    Returns:
        `always_on`: Units above zero for every sample, each an exact linear function of the inputs.
        `rank`: Dimensions that hold 99.9999 % of the variance of the units' contributions to the output.
        `collinear_percent`: Units with a correlation beyond ±0.95 with another one.
        `idle_percent`: Units without which the output changes by less than a thousandth of its standard deviation.
        `rarely_on`: Units above zero for fewer than 1 % of the samples.
    """
    x, _ = data.validation.rows(np.arange(len(data.validation)))  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]
    hidden, out = model.get_layer("hidden"), model.get_layer("out")
    kernel, bias, outgoing = (np.array(w, "float64") for w in (hidden.kernel, hidden.bias, out.kernel))
    active = np.maximum(x @ kernel + bias, 0)
    share_on = (active > 0).mean(0)
    spreads = active.std(0)
    varied = active[:, spreads > 1e-9]
    correlation = np.abs(np.corrcoef(varied.T).reshape(varied.shape[1], -1)) - np.eye(varied.shape[1])
    contributions = active * outgoing[:, 0]
    values = np.maximum(np.linalg.eigvalsh(np.atleast_2d(np.cov(contributions.T)))[::-1], 0)
    held = np.cumsum(values) / max(values.sum(), 1e-300)
    # The outputs are sums of two uniform numbers: variance 2/3.
    return {
        "units": len(share_on),
        "always_on": int((share_on == 1).sum()),
        "rarely_on": int((share_on < 0.01).sum()),
        "rank": int(np.searchsorted(held, 1 - 1e-6) + 1),
        "collinear_percent": 100 * float((correlation.max(0) > 0.95).mean()),
        "idle_percent": 100 * float((contributions.std(0) < 1e-3 * np.sqrt(2 / 3)).mean()),
    }


def merged(model: Any, data: Data, case: dict) -> dict:
    """Down to two units: what the others can say goes, its outgoing weights are handed over, and Adam trains on."""
    units = model.get_layer("hidden").units
    if units <= 2:
        return {"units": units, "loss": loss_of(model, data), "course": []}
    prune = redundancy(1 - 2 / units)
    tune = _tune(case, OPTIMIZERS["Adam"], schedule="cosine", epochs=max(1, case["epochs"] // 4))
    result = PruneGradually(prune, tune, steps=3)(model, data, seed=case["seed"])
    return {
        "units": result.log["rounds"][-1]["units"]["hidden"],
        "loss": loss_of(result.model, data),
        "untrained_loss": loss_of(prune(model, data, seed=case["seed"]).model, data),
        "course": [{"units": r["units"]["hidden"], "loss": r["loss"]} for r in result.log["rounds"]],
    }


def redundancy(sparsity: float) -> PruneChannels:
    """What others can say goes; they take over its outgoing weights."""
    return PruneChannels("redundancy", sparsity=sparsity, min_channels=2, **RECONSTRUCT)


def page(rows: list[dict], folder: Path) -> str:
    flat = [{**_settings(row), "variant": name, **row["variants"][name]} for row in rows for name in row["variants"]]
    merged_rows = [{**_settings(row), **row["merged"]} for row in rows]
    return "\n\n".join(
        [
            _setting(rows[0]),
            "## What the cycle leaves",
            _table_of_variants(flat),
            _courses(flat, folder),
            "## Why no more goes",
            _why(rows),
            "## Two units, by redundancy",
            _two(merged_rows),
        ]
    )


def _settings(row: dict) -> dict:
    return {key: row[key] for key in ("optimizer", "seed")}


def _setting(row: dict) -> str:
    cycle = VARIANTS["distorted"][1]
    strength = VARIANTS["regularized + distorted"][0]["strength"]
    return (
        f"Inputs uniform in [-1, 1]², {row['units']} ReLU units, one output, y = i1 + i2, mean squared error; "
        f"{row['samples']:,} samples, batches of {row['batch']}, {row['epochs']} epochs at a learning rate of {RATE} "
        f"(Momentum: 0.3), then cycles of one epoch of training, counting over all training samples, and pruning at "
        f"a count of 0, until nothing goes ({row['max_cycles']} cycles at most). Losses are on {JUDGED:,} "
        f"fresh samples. "
        f"Distorted: random(shape)·(1 − var(w)) on the hidden kernel after each pruning, ended after "
        f"{cycle['patience']} cycles in a row in which nothing went. Regularized: {strength:g} times the sum of all "
        f"|weights and biases| in the loss.\n\n"
        f"All weights and biases start from a normal distribution with standard deviation {SPREAD}, since the thesis "
        f"does not say what it used, and everything hangs on it: at 0.1 or with Keras's defaults nearly every unit is "
        f"active somewhere in the square and stays so, and counting prunes next to nothing. At {SPREAD} the output "
        f"layer's curvature (the sum of the squared activations) exceeds what a learning rate of {RATE} can follow: "
        f"plain gradient steps overshoot at first, and push most units to where they are never active again."
    )


def _table_of_variants(flat: list[dict]) -> str:
    means = summarized(flat, ["optimizer", "variant"], ["units", "loss", "cycles"])
    cells = [
        (m["optimizer"], m["variant"], f"{m['units']:.0f}", f"{m['loss']:.2e}", f"{m['cycles']:.1f}") for m in means
    ]
    return markdown.table(["optimizer", "variant", "units left", "loss (mean squared)", "cycles"], cells, left=2)


def _courses(flat: list[dict], folder: Path) -> str:
    links = []
    for figure_of, label in (("units", "units left"), ("loss", "training loss (mean squared, with penalty)")):
        names = list(dict.fromkeys(row["optimizer"] for row in flat))
        figure, panels = plots.axes(["cycle"] * len(names), label, names)
        for panel, name in zip(panels, names, strict=True):
            points = [
                {"cycle": cycle, "variant": row["variant"], figure_of: max(at[figure_of], 1e-16)}
                for row in flat
                if row["optimizer"] == name
                for cycle, at in enumerate(row["course"])
            ]
            plots.lines(panel, points, x="cycle", y=figure_of, by="variant")
            panel.set_yscale("log")
        shows = f"{label} over the cycles, for each optimizer and variant"
        links.append(plots.save(figure, folder, f"fc-sum-{figure_of}", shows))
    return "\n\n".join(links)


def _why(rows: list[dict]) -> str:
    flat = [{**_settings(row), **row["left"]} for row in rows]
    names = ["units", "always_on", "rarely_on", "rank", "collinear_percent", "idle_percent"]
    cells = [(m["optimizer"], *(f"{m[name]:.0f}" for name in names)) for m in summarized(flat, ["optimizer"], names)]
    table = markdown.table(
        [
            "optimizer",
            "units left (vanilla)",
            "always on",
            "on for < 1 %",
            "rank",
            "collinear (%)",
            "without effect (%)",
        ],
        cells,
    )
    return (
        "Counting takes away what is never active. What is left is active, for some sample at least, and does not "
        "become less so by training: a unit that helps nothing gets no gradient that would switch it off, and units "
        "that say the same share the work. Always on: above zero for every sample, so an exact linear function of the "
        "two inputs, of which two linearly independent ones are enough for any linear target. Rank: dimensions that "
        "hold 99.9999 % of the variance of the units' contributions to the output. Collinear: correlated beyond ±0.95 "
        "with another unit. Without effect: taking the unit away moves the output by less than a thousandth of its "
        "standard deviation. A count sees none of the four.\n\n" + table
    )


def _two(rows: list[dict]) -> str:
    means = summarized(rows, ["optimizer"], ["units", "untrained_loss", "loss"])
    cells = [(m["optimizer"], f"{m['units']:.0f}", f"{m['untrained_loss']:.1e}", f"{m['loss']:.1e}") for m in means]
    worst = max(spread([row], "loss").mean for row in rows)
    return (
        "From what vanilla pruning left, `PruneGradually` takes units by the `redundancy` criterion in three steps: "
        "those that the others can say, whose outgoing weights are handed over by least squares (`reconstruct=True`); "
        "Adam trains after each step. One unit is the least: relu(i1 + i2 + b) − b with b ≥ 2 is i1 + i2 on the "
        "square; the thesis's optimum, relu(i1 + i2) without biases, is wrong for negative sums. "
        f"The worst loss of all runs is {worst:.1e}.\n\n"
        + markdown.table(["optimizer before", "units left", "loss, one step, untrained", "loss (mean squared)"], cells)
    )


EXPERIMENT = Experiment("fc-sum", "How many units does a sum of two numbers need?", cases, run, page)
