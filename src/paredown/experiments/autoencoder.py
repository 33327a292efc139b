"""autoencoder: how far the thesis's six ways of pruning narrow a convolutional autoencoder of MNIST.

Section 2.2.3 of the thesis: encoders of 3x3 convolutions with stride 2, decoders of 3x3 transposed convolutions with
stride 2, each with BatchNormalization and ReLU; [32, 64, 32] channels, the last decoder gives the image. Each encoder
quarters the number of positions, so 4 times the channels of its input lose nothing: [4, 16, 4].
"""

from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from paredown.data import Data
from paredown.experiments import markdown, material, plots
from paredown.experiments.experiment import Experiment
from paredown.experiments.rows import spread, summarized
from paredown.transforms import FineTune, PruneChannels, PruneCycle, PruneGradually, Transform

BLOCKS = ("encoder1", "encoder2", "decoder1")
WIDTHS, FLOOR = (32, 64, 32), (4, 16, 4)
THESIS = (16, 64, 22)
BATCH = 128
#: Settings that say how much is trained on what.
SIZE = ("train", "test", "epochs")
#: Digits of each picture on the page.
PICTURED = 8

COUNT = {"criterion": "activation_count", "threshold": 0.0}
OUTLIERS = {"criterion": "outliers", "threshold": -2.0}
PROBABILITY = {"criterion": "activation_probability", "threshold": 0.25}
L1 = {"regularization": "l1_activations", "strength": 1e-3}
DISTORTED = {"distortion": 0.25, "patience": 2}

#: Variant -> what is pruned in each cycle, what is added to the training, and the cycle's own settings.
VARIANTS: dict[str, tuple[dict, dict, dict]] = {
    "vanilla": (COUNT, {}, {}),
    "distorted": (COUNT, {}, DISTORTED),
    "regularized": (COUNT, L1, {}),
    "outliers": (OUTLIERS, {}, {}),
    "regularized + distorted outliers": (OUTLIERS, L1, DISTORTED),
    "activation probability": (PROBABILITY, {}, {}),
}
#: Ours, at the widths of the theory.
OBS = "structured OBS"


def cases(quick: bool) -> list[dict]:
    if quick:
        size = {"train": 256, "test": 128, "epochs": 1, "max_cycles": 1}
        return [{"variant": name, "seed": 0, **size} for name in ("activation probability",)]
    size = {"train": 10_000, "test": 10_000, "epochs": 3, "max_cycles": 5}
    return [{"variant": name, "seed": seed, **size} for name in (*VARIANTS, OBS) for seed in range(3)]


def run(case: dict) -> dict:
    """One variant and seed: the autoencoder trained, then pruned in cycles."""
    data = images(case["train"], case["test"], case["seed"])
    pruning, training, cycle = VARIANTS.get(case["variant"], (None, {}, {}))
    trained = autoencoder(case["seed"])
    trained.set_weights(_trained_weights(*(case[key] for key in SIZE), case["seed"], tuple(training.items())))
    if pruning is None:
        transforms = to_the_floor(case)
    else:
        tune = _tune(case, epochs=1, **training)
        transforms = [PruneCycle(tune, PruneChannels(**pruning), max_cycles=case["max_cycles"], **cycle)]
    pruned, rounds = trained, []
    for transform in transforms:
        result = transform(pruned, data, seed=case["seed"])
        pruned, rounds = result.model, [*rounds, *result.log["rounds"]]
    # What pruning costs is told after the same last training, without penalties, for every variant.
    final = _tune(case, schedule="cosine")(pruned, data, seed=case["seed"]).model
    digits = data.validation.rows(np.arange(PICTURED))[0]  # pyright: ignore[reportOptionalMemberAccess]
    pictures = [digits, *(model.predict(digits, verbose=0) for model in (trained, final))]
    return {
        "channels": [_width(final, name) for name in BLOCKS],
        "rounds": [[r["units"].get(n, 1) for n in BLOCKS] for r in rounds],
        "error_before": error_of(trained, data),
        "error_after": error_of(final, data),
        "params_before": trained.count_params(),
        "params_after": final.count_params(),
        "pictures": [np.round(255 * np.clip(p[..., 0], 0, 1)).astype(int).tolist() for p in pictures],
    }


@cache
def _trained_weights(train: int, test: int, epochs: int, seed: int, training: tuple) -> list[np.ndarray]:
    """What the first training gives: variants that train alike share it, whichever of them comes first."""
    tune = _tune({"epochs": 2 * epochs}, **dict(training))
    return tune(autoencoder(seed), images(train, test, seed), seed=seed).model.get_weights()


def images(train: int, test: int, seed: int) -> Data:
    """MNIST's images in [0, 1], the network's own target; the rows are drawn by the seed."""
    mnist = material.data("mnist")
    parts = []
    for split, count in ((mnist.train, train), (mnist.validation, test)):
        assert split is not None  # MNIST has both.
        rows = np.sort(np.random.default_rng(seed).permutation(len(split))[:count])
        x = split.rows(rows)[0].astype("float32") / 255
        parts.append((x, x))
    return Data(*parts, name="mnist")


def autoencoder(seed: int) -> keras.Model:
    """The thesis's network, without the biases that BatchNormalization makes redundant."""
    keras.utils.set_random_seed(seed)
    image = x = keras.Input((28, 28, 1), name="image")
    for name, width in zip((*BLOCKS, "decoder2"), (*WIDTHS, 1), strict=True):
        kind = layers.Conv2D if name.startswith("encoder") else layers.Conv2DTranspose
        x = kind(width, 3, 2, "same", use_bias=False, name=name)(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
    return keras.Model(image, x, name="autoencoder")


def to_the_floor(case: dict) -> list[Transform]:
    """Structured OBS with reconstruction, in steps with training in between, down to the theory's widths."""
    tune = _tune(case, epochs=1)
    return [
        PruneGradually(structured_obs(1 - floor / width, kept), tune, steps=2)
        for floor, width, kept in ((4, 32, ("encoder2",)), (16, 64, ("encoder1", "decoder1")))
    ]


def structured_obs(sparsity: float, kept: tuple[str, ...]) -> PruneChannels:
    return PruneChannels("structured_obs", sparsity=sparsity, exclude=kept, reconstruct=True)


def error_of(model: Any, data: Data) -> float:
    """Mean squared difference of the images, grey values in [0, 1]."""
    x, y = data.validation.rows(np.arange(len(data.validation)))  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]
    return float(np.mean((model.predict(x, batch_size=500, verbose=0).astype("float64") - y) ** 2))


def _tune(case: dict, **more: Any) -> FineTune:
    settings = {"epochs": case["epochs"], "batch_size": BATCH, "steps_per_execution": 10} | more
    return FineTune(optimizer="adam", learning_rate=2e-3, loss="mean_squared_error", **settings)


def _width(model: Any, name: str) -> int:
    return int(model.get_layer(name).output.shape[-1])


def page(rows: list[dict], folder: Path) -> str:
    flat = [
        {
            "variant": row["variant"],
            **dict(zip(BLOCKS, row["channels"], strict=True)),
            **{key: 1000 * row[key] for key in ("error_before", "error_after")},
            "cycles": len(row["rounds"]),
            "params_after": row["params_after"],
        }
        for row in rows
    ]
    figures = (*BLOCKS, "cycles", "params_after", "error_before", "error_after")
    cells = [
        (m["variant"], *(f"{m[name]:.1f}" for name in BLOCKS), f"{m['cycles']:.1f}", f"{m['params_after']:,.0f}",
         *(f"{m[name]:.2f}" for name in ("error_before", "error_after")))
        for m in summarized(flat, ["variant"], figures)
    ]  # fmt: skip
    columns = ["variant", *BLOCKS, "cycles", "parameters", "error before (1/1000)", "error after (1/1000)"]
    return "\n\n".join([_setting(rows), markdown.table(columns, cells), _said(flat), _pictures(rows, folder)])


def _setting(rows: list[dict]) -> str:
    row = rows[0]
    return (
        f"MNIST, {row['train']:,} training images of the 60,000, drawn by the seed (a deviation from the thesis, for "
        f"time), errors on {row['test']:,} test images: the mean squared difference of grey values in [0, 1], in "
        f"thousandths. The autoencoder {list(WIDTHS)} is trained for {2 * row['epochs']} epochs (Adam, 0.002, batches "
        f"of {BATCH}), then in cycles of one epoch and a pruning until nothing goes, {row['max_cycles']} at most; "
        f"last, the same for every variant, {row['epochs']} epochs without penalties. Pruned is: vanilla, what is "
        f"never active on the training images; distorted, the same with {DISTORTED['distortion']:g} of the thesis's "
        f"random values after each pruning; regularized, with {L1['strength']:g} times the L1 norm of the activations "
        f"in the loss; outliers, below mean − 2 standard deviations of the layer; activation probability, active at "
        f"{100 * PROBABILITY['threshold']:g} % of the positions at most. {row['params_before']:,} parameters before. "
        f"The thesis reached {list(THESIS)}; theory says {list(FLOOR)}."
    )


def _said(flat: list[dict]) -> str:
    ours = [row for row in flat if row["variant"] == OBS]
    told = (
        f"`structured_obs` with `reconstruct=True`, {list(FLOOR)} given as its budget, in four steps with an epoch of "
        f"training after each: error {spread(ours, 'error_before'):.2f} thousandths before, "
        f"{spread(ours, 'error_after'):.2f} after. "
        if ours
        else ""
    )
    return told + (
        f"{list(FLOOR)} channels hold as many numbers as the image in every layer, which is enough for a lossless "
        "linear code. ReLU and one layer of 3x3 on the way there and back make less of it.\n\n"
        "Counting finds little here because of BatchNormalization: it shifts and scales each channel so that part of "
        "it is above zero, whatever the weights before it: neither distorted weights nor a penalty on weights or "
        "activations silences a channel altogether. How often a channel is active still differs, and that is what "
        "activation probability prunes by."
    )


def _pictures(rows: list[dict], folder: Path) -> str:
    first = [row for row in rows if row["seed"] == rows[0]["seed"]]
    strips = [("original", first[0]["pictures"][0]), ("before pruning", first[0]["pictures"][1])]
    strips += [(row["variant"], row["pictures"][2]) for row in first]
    figure, panel = plots.axes("test images", "")
    panel.imshow(np.concatenate([np.concatenate(np.array(s), 1) for _, s in strips]), cmap="gray", vmin=0, vmax=255)
    panel.set_yticks([28 * i + 14 for i in range(len(strips))], [label for label, _ in strips], fontsize=7)
    panel.set_xticks([])
    panel.grid(False)
    return plots.save(
        figure, folder, "autoencoder-digits", "Digits: original, before and after pruning by each variant"
    )


EXPERIMENT = Experiment(
    "autoencoder", "How narrow does pruning make an autoencoder of digits?", cases, run, page, needs=("mnist",)
)
