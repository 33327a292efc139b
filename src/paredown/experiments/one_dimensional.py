"""one-dimensional: the thesis's classifier of MNIST with every convolution as a pair of one-dimensional ones.

Section 2.3.1 of the thesis: a convolution with a kernel of N x N from K to L channels becomes N x 1 to P channels and
1 x N to L. That saves multiply-adds where P < NKL / (rK + L), r being positions between the two / positions of the
output. P is a share of that bound, the same in every layer, below and above 1; the pairs are trained from scratch or
made of the trained network's kernels, with and without ReLU in between.
"""

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from paredown.blocks import formulas
from paredown.experiments import mnist
from paredown.experiments.experiment import Experiment
from paredown.experiments.one_dimensional_page import page

#: P as shares of each layer's bound.
SHARES = (0.25, 0.5, 0.9, 1.25)
WEIGHTS = ("from scratch", "from the trained weights")
BETWEEN = ("nothing", "ReLU")
BATCH, RATE, TUNING_RATE = 128, 2e-3, 1e-3
#: What is trained on what: images, and those of them that kernels are fitted to.
EFFORT = {"train": 20_000, "test": 10_000, "calibration": 1024, "epochs": 2, "tuning_epochs": 1, "runs": 50}
QUICK = {"train": 256, "test": 200, "calibration": 64, "epochs": 1, "tuning_epochs": 1, "runs": 3}


#: What the images depend on.
DATA = ("train", "test", "calibration", "seed")


def cases(quick: bool) -> list[dict]:
    if quick:
        return [_case(WEIGHTS[0], BETWEEN[1], 0.25, 0, QUICK), _case(WEIGHTS[1], BETWEEN[0], 0.5, 0, QUICK)]
    # Seed by seed: the trained network is made once for all cases of one.
    return [
        _case(weights, between, share, seed, EFFORT)
        for seed in range(3)
        for weights in WEIGHTS
        for between in BETWEEN
        for share in SHARES
    ]


def _case(weights: str, between: str, share: float, seed: int, effort: dict) -> dict:
    return {"weights": weights, "between": between, "share": share, "seed": seed, **effort}


def run(case: dict) -> dict:
    """One network of pairs beside the plain one of the same seed."""
    from paredown import FineTune, profile

    of_plain = (case["epochs"], *(case[key] for key in DATA))
    data, plain = mnist.images(*of_plain[1:]), _plain(*of_plain)
    widths = {name: width(layer, case["share"]) for name, layer in convolutions(plain).items()}
    paired = pairs(plain, widths, case["between"], case["seed"])
    if case["weights"] == WEIGHTS[0]:
        tune = FineTune(epochs=case["epochs"], learning_rate=RATE, batch_size=BATCH, schedule="cosine")
    else:
        tune = FineTune(epochs=case["tuning_epochs"], learning_rate=TUNING_RATE, batch_size=BATCH, schedule="cosine")
        take_over(paired, plain, widths, case["share"], data, case["seed"])
    trained = tune(paired, data, seed=case["seed"]).model
    return {
        "channels": list(widths.values()),
        "bounds": [
            {"layer": name} | {key: float(value) for key, value in bounds(layer).items()}
            for name, layer in convolutions(plain).items()
        ],
        "macs": profile(trained).macs,
        "plain_macs": profile(plain).macs,
        "params": trained.count_params(),
        "plain_params": plain.count_params(),
        "plain_percent": mnist.percent(plain, data),
        "before_percent": mnist.percent(paired, data),
        "after_percent": mnist.percent(trained, data),
        **_latency(_plain_file(*of_plain), trained, case["runs"]),
    }


def convolutions(model: Any) -> dict[str, Any]:
    """Name -> layer, in order."""
    import keras

    return {layer.name: layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}


def bounds(layer: Any) -> dict[str, Any]:
    """What a pair in the place of a square convolution depends on, in the letters of `formulas`, and the P below which
    it saves "macs" and "params"."""
    N, K, L = layer.kernel_size[0], layer.input.shape[-1], layer.filters
    r = formulas.intermediate_ratio(layer.input.shape[1:], layer.kernel_size, layer.strides, layer.padding)
    both = {"macs": formulas.one_dimensional_bound(N, K, L, r), "params": formulas.one_dimensional_bound(N, K, L)}
    return {"N": N, "K": K, "L": L, "r": r, **both}


def width(layer: Any, share: float) -> int:
    """P at a share of the bound: at least 1, and no more than the kernel's rank, with which nothing is lost."""
    of = bounds(layer)
    return min(max(1, int(share * of["macs"])), of["N"] * min(of["K"], of["L"]))


def pairs(plain: Any, widths: dict[str, int], between: str, seed: int) -> Any:
    """The classifier with a pair in the place of each convolution, weights at random.

    Args:
        plain: The network, a chain of layers; its other layers are made again.
        widths: Name of a convolution -> P.
        between: Row of `BETWEEN`.
        seed: Of the weights.
    """
    import keras

    from paredown.blocks import one_dimensional

    keras.utils.set_random_seed(seed)
    image = x = keras.Input(plain.input.shape[1:], name="image")
    for layer in plain.layers[1:]:
        if layer.name not in widths:
            x = type(layer).from_config(layer.get_config())(x)
            continue
        x = one_dimensional(
            x,
            layer.filters,
            layer.kernel_size,
            layer.strides,
            layer.padding,
            width=widths[layer.name],
            between="relu" if between == BETWEEN[1] else None,
            normalize=False,
            name=layer.name,
        )
    return keras.Model(image, x, name="pairs")


def take_over(paired: Any, plain: Any, widths: dict[str, int], share: float, data: Any, seed: int) -> None:
    """Gives a network of pairs the trained network's weights; a ReLU in between was not there when those were made.

    Up to the bound the pairs are those of `Factorize`, fitted to data; what it leaves as it is, since it would not
    become cheaper, is split as its kernel alone says.
    """
    from paredown import Factorize

    source = Factorize(kinds=("spatial",), layer_macs=share)(plain, data, seed=seed).model if share < 1 else plain
    factored = {layer.name: layer for layer in source.layers}
    for name in widths:
        vertical, horizontal = _kernels(factored, name, widths[name])
        last = factored.get(f"{name}_horizontal") or factored[name]
        paired.get_layer(f"{name}_vertical").set_weights([vertical, np.zeros(vertical.shape[-1])])
        paired.get_layer(f"{name}_horizontal_conv").set_weights([horizontal, np.array(last.bias)])
    paired.get_layer("scores").set_weights(factored["scores"].get_weights())


def _kernels(factored: dict[str, Any], name: str, width: int) -> list[np.ndarray]:
    """(N, 1, K, P) and (1, N, P, L)."""
    from paredown.factors import FACTORIZATIONS, Problem
    from paredown.patches import LinearLayer

    if name in factored:
        return FACTORIZATIONS["spatial"].solver(Problem.plain(LinearLayer(factored[name])), width).factors(width)[0]
    return [np.array(factored[f"{name}_{part}"].kernel) for part in ("vertical", "horizontal")]


@lru_cache(1)
def _plain(epochs: int, *images: int) -> Any:
    """The classifier of Table 2.2, trained as the pairs from scratch are."""
    from paredown.demo import train_classifier

    return train_classifier(mnist.images(*images), epochs=epochs, seed=images[-1])


@lru_cache(1)
def _plain_file(*of_plain: int) -> bytes:
    return _exported(_plain(*of_plain))


def _exported(model: Any) -> bytes:
    from paredown import export_litert

    with tempfile.TemporaryDirectory() as folder:
        return export_litert(model, Path(folder) / "model.tflite").path.read_bytes()


def _latency(plain: bytes, trained: Any, runs: int) -> dict:
    """Both networks in LiteRT, one inference in turn, at one thread."""
    from paredown import measure_latency

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{name}.tflite" for name in ("plain", "pairs")]
        for content, path in zip((plain, _exported(trained)), files, strict=True):
            path.write_bytes(content)
        first, second = measure_latency(files, threads=1, runs=runs).rows
    return {
        "speedup": second.speedup_median,
        "speedup_p10": second.speedup_p10,
        "speedup_p90": second.speedup_p90,
        "plain_ms": first.median_ms,
        "pairs_ms": second.median_ms,
    }


EXPERIMENT = Experiment(
    "one-dimensional", "What do pairs of one-dimensional convolutions save, and cost?", cases, run, page, ("mnist",)
)
