"""Which channels should go? Every criterion on CIFAR-10's residual networks, before and after fine-tuning.

Two parts. The *sweep* takes ResNet-20 through every criterion and five budgets with a very short fine-tuning. The
*protocol* takes ResNet-20 and ResNet-56 through a full epoch over 10,000 images, all test images scored.
"""

from typing import Any

import keras
import numpy as np

from paredown.criteria import CRITERIA
from paredown.data import Data
from paredown.experiments import material
from paredown.experiments.criteria_page import page
from paredown.experiments.experiment import Experiment
from paredown.profiling import profile
from paredown.rebuild import rebuild
from paredown.transforms import FineTune, PruneChannels

#: The training images that anything may look at, and the test images of the sweep.
TRAIN, SWEEP_TEST = 10_000, 2_500
#: Times fewer MACs.
FACTORS = (1.3, 1.6, 2.1, 2.57, 3.5)
#: What the protocol compares: all with the same scope and fine-tuning, but for the last two.
PLAIN = ("random", "l1_norm", "l2_norm", "batch_norm_scale", "taylor_2019", "fisher")
BEST, SCRATCH = "structured_obs, measured, refitted, distilled", "from scratch"
SGD = {"class_name": "SGD", "config": {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4}}


def cases(quick: bool) -> list[dict]:
    if quick:
        small = {"examples": 64, "train": 256, "test": 200, "steps": 2}
        sweep = [_sweep(criterion, 2.1, 0, small) for criterion in ("random", "structured_obs")]
        return [*sweep, _protocol("resnet20", 2.1, "l1_norm", 0, small), _protocol("resnet20", 2.1, BEST, 0, small)]
    whole = {"examples": 1024, "train": TRAIN, "test": 10_000, "steps": None}
    short = {"examples": 512, "train": TRAIN, "test": SWEEP_TEST, "steps": 20}
    protocol = [
        _protocol(network, factor, method, seed, whole)
        for seed in range(3)
        for network, factors in (("resnet20", (2.1,)), ("resnet56", (2.1, 2.57)))
        for factor in factors
        for method in (*PLAIN, BEST, SCRATCH)
        if seed == 0 or network == "resnet20"
    ]
    return [*protocol, *(_sweep(c, f, seed, short) for seed in range(3) for c in CRITERIA for f in FACTORS)]


def _sweep(criterion: str, factor: float, seed: int, sizes: dict) -> dict:
    return {"part": "sweep", "network": "resnet20", "factor": factor, "method": criterion, "seed": seed, **sizes}


def _protocol(network: str, factor: float, method: str, seed: int, sizes: dict) -> dict:
    return {"part": "protocol", "network": network, "factor": factor, "method": method, "seed": seed, **sizes}


def run(case: dict) -> dict:
    model = keras.models.load_model(material.network(f"{case['network']}_cifar10"), compile=False)
    data = _cifar10(case["train"], case["test"])
    original = {"macs": profile(model).macs, "accuracy": _accuracy(model, data)}
    figures = (_sweep_figures if case["part"] == "sweep" else _protocol_figures)(model, data, case)
    return {"original_accuracy": original["accuracy"], "original_macs": original["macs"], **figures}


def _sweep_figures(model: Any, data: Data, case: dict) -> dict:
    tune = FineTune(optimizer=SGD, steps_per_epoch=case["steps"], augment="crop_flip", schedule="cosine", **DISTILLED)
    figures = {}
    for name, refitted in (("compensated", False), ("refitted", True)):
        pruned = _pruner(model, case, case["method"], reconstruct=refitted)(model, data, seed=case["seed"]).model
        figures[f"{name}_accuracy"] = _accuracy(pruned, data)
    tuned = tune(pruned, data, seed=case["seed"], teacher=model).model
    return {**figures, "tuned_accuracy": _accuracy(tuned, data), "macs": profile(tuned).macs}


def _protocol_figures(model: Any, data: Data, case: dict) -> dict:
    plain = {"optimizer": SGD, "augment": "crop_flip", "schedule": "cosine", "steps_per_epoch": case["steps"]}
    method = case["method"]
    if method in (BEST, SCRATCH):
        settings = {"reconstruct": True, "scope": "measured"}
        prune = _pruner(model, case, "structured_obs", **settings)
    else:
        prune = _pruner(model, case, method)
    tune = FineTune(**plain)
    if method == BEST:
        # Refitting leaves little to mend: a lower rate, and the teacher's whole view.
        tune = FineTune(**(plain | {"learning_rate": 0.003}), **DISTILLED)
    pruned = prune(model, data, seed=case["seed"]).model
    if method == SCRATCH:
        pruned = _fresh(pruned, case["seed"])
        tune = FineTune(**(plain | {"learning_rate": 0.1}))
    figures = {"pruned_accuracy": _accuracy(pruned, data), "macs": profile(pruned).macs}
    tuned = tune(pruned, data, seed=case["seed"], teacher=model).model
    return {**figures, "tuned_accuracy": _accuracy(tuned, data)}


#: Matching the original's softened outputs; labels still count a little.
DISTILLED = {"teacher_weight": 0.95, "temperature": 4.0}


def _pruner(model: Any, case: dict, criterion: str, **settings: Any) -> PruneChannels:
    more = {"scope": "layer", "exclude": streams(model)} | settings
    if more["scope"] != "layer":
        del more["exclude"]
    return PruneChannels(criterion, macs=1 / case["factor"], examples=case["examples"], **more)


def streams(model: Any) -> tuple[str, ...]:
    """The first layer of each residual stream: what is coupled with it stays, and blocks lose inner channels alone."""
    return tuple(layer.name for layer in model.layers if layer.name == "conv1" or layer.name.endswith("b0_conv2"))


def _fresh(model: Any, seed: int) -> Any:
    """A network of the same shape with random weights; the normalization of its inputs stays."""
    keras.utils.set_random_seed(seed)
    fresh = rebuild(model)
    for layer in fresh.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            layer.kernel.assign(keras.initializers.HeNormal()(layer.kernel.shape))
            if layer.use_bias:
                layer.bias.assign(keras.ops.zeros_like(layer.bias))
        elif isinstance(layer, keras.layers.BatchNormalization):
            values = (layer.gamma, 1), (layer.beta, 0), (layer.moving_mean, 0), (layer.moving_variance, 1)
            for variable, value in values:
                variable.assign(np.full(variable.shape, value, "float32"))
    return fresh


def _cifar10(train: int, test: int) -> Data:
    """The first rows of each part; calibration is of the training rows."""
    whole = material.data("cifar10")
    parts = [whole.train.take(train), whole.validation.take(test)]  # pyright: ignore[reportOptionalMemberAccess]
    return Data(*[(split.x[:].astype("float32"), split.y[:]) for split in parts], name="cifar10")


def _accuracy(model: Any, data: Data) -> float:
    """Percent of the test images."""
    assert data.validation is not None
    scores = model.predict(data.validation.x, batch_size=250, verbose=0)
    return 100 * float((scores.argmax(-1) == data.validation.y).mean())


EXPERIMENT = Experiment(
    name="criteria",
    title="Which channels should go?",
    cases=cases,
    run=run,
    page=page,
    needs=("cifar10", "resnet20_cifar10", "resnet56_cifar10"),
)
