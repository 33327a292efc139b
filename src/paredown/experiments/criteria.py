"""Which channels should go? Every criterion on CIFAR-10's residual networks, before and after fine-tuning.

Two parts. The *protocol* fine-tunes for one epoch over 10,000 images and scores all test images, with the criteria
that other tools have too. The *sweep* takes ResNet-20 through every criterion and five budgets, with a fine-tuning of
a few steps at one of them.
"""

from functools import cache
from typing import Any

import keras
import numpy as np

from paredown.criteria import CRITERIA
from paredown.data import Data, Split
from paredown.experiments import material
from paredown.experiments.criteria_page import page
from paredown.experiments.experiment import Experiment
from paredown.profiling import profile
from paredown.rebuild import rebuild
from paredown.transforms import FineTune, PruneChannels

#: The training images that anything may look at, and the test images of the sweep.
TRAIN, SWEEP_TEST = 10_000, 1_000
#: Training images that criteria look at, in the protocol and in the sweep.
CALIBRATION, SWEEP_CALIBRATION = 2048, 512
#: Times fewer MACs.
FACTORS = (1.3, 1.6, 2.1, 2.57, 3.5)
#: What the protocol compares; a case of ResNet-56 takes minutes: one seed there.
PLAIN = ("random", "l1_norm", "l2_norm", "batch_norm_scale", "taylor_2019", "fisher")
FEW = ("random", "l1_norm", "taylor_2019", "fisher")
BEST, SCRATCH, REFITTED = "structured_obs, measured, refitted, distilled", "from scratch", ", refitted"
#: Steps of the sweep's fine-tuning, and the budget at which there is one.
SWEEP_STEPS, SWEEP_TUNED = 20, 2.1
SGD = {"class_name": "SGD", "config": {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4}}


def cases(quick: bool) -> list[dict]:
    if quick:
        small = {"examples": 16, "train": 64, "test": 50, "steps": 2}
        return [_sweep("l2_norm", 2.1, 0, small), _protocol("resnet20", 2.1, "l1_norm" + REFITTED, 0, small)]
    whole = {"examples": 2048, "train": TRAIN, "test": 10_000, "steps": None}
    short = {"examples": 256, "train": TRAIN, "test": SWEEP_TEST, "steps": SWEEP_STEPS}
    less = {**whole, "examples": 512}
    refitted = [criterion + REFITTED for criterion in PLAIN]
    few = [criterion + REFITTED for criterion in FEW]
    protocol = [
        *(_protocol("resnet20", 2.1, BEST, seed, whole) for seed in range(3)),
        *(_protocol("resnet20", 2.1, method, seed, less) for seed in range(3) for method in refitted),
        *(_protocol("resnet20", 2.1, method, 0, less) for method in (*PLAIN, SCRATCH)),
        *(_protocol("resnet56", factor, BEST, 0, whole) for factor in (2.1, 2.57)),
        *(_protocol("resnet56", 2.1, method, 0, less) for method in (*refitted, SCRATCH)),
        *(_protocol("resnet56", 2.57, method, 0, less) for method in few),
    ]
    sweep = [_sweep(criterion, f, seed, short) for seed in range(3) for criterion in CRITERIA for f in FACTORS]
    return [*protocol, *sweep]


def _sweep(criterion: str, factor: float, seed: int, sizes: dict) -> dict:
    return {"part": "sweep", "network": "resnet20", "factor": factor, "method": criterion, "seed": seed, **sizes}


def _protocol(network: str, factor: float, method: str, seed: int, sizes: dict) -> dict:
    return {"part": "protocol", "network": network, "factor": factor, "method": method, "seed": seed, **sizes}


def run(case: dict) -> dict:
    data = _cifar10(case["train"], case["test"], CALIBRATION if case["part"] == "protocol" else SWEEP_CALIBRATION)
    model, original = _original(case["network"], case["train"], case["test"])
    figures = (_sweep_figures if case["part"] == "sweep" else _protocol_figures)(model, data, case)
    return {"original_accuracy": original, "original_macs": profile(model).macs, **figures}


@cache
def _original(network: str, train: int, test: int) -> tuple[Any, float]:
    """The trained network, which nothing changes, and its accuracy in percent."""
    model = keras.models.load_model(material.network(f"{network}_cifar10"), compile=False)
    return model, accuracy(model, _cifar10(train, test, CALIBRATION))


def _sweep_figures(model: Any, data: Data, case: dict) -> dict:
    pruned = _pruner(model, case, case["method"], reconstruct=True)(model, data, seed=case["seed"]).model
    tuned = None
    if case["factor"] == SWEEP_TUNED:
        tuned = FineTune(**_plain(case) | DISTILLED)(pruned, data, seed=case["seed"], teacher=model).model
    return _figures(pruned, tuned, data)


def _protocol_figures(model: Any, data: Data, case: dict) -> dict:
    method, seed, tuning = case["method"], case["seed"], _plain(case)
    if method in (BEST, SCRATCH):
        prune = _pruner(model, case, "structured_obs", reconstruct=True, scope="measured")
    else:
        prune = _pruner(model, case, method.removesuffix(REFITTED), reconstruct=method.endswith(REFITTED))
    pruned = prune(model, data, seed=seed).model
    if method == BEST:
        tuning |= DISTILLED
    elif method == SCRATCH:
        pruned = _fresh(pruned, seed)
        tuning["learning_rate"] = 0.1
    tuned = FineTune(**tuning)(pruned, data, seed=seed, teacher=model).model
    return _figures(pruned, tuned, data)


def _figures(pruned: Any, tuned: Any, data: Data) -> dict:
    after = None if tuned is None else accuracy(tuned, data)
    return {"pruned_accuracy": accuracy(pruned, data), "tuned_accuracy": after, "macs": profile(pruned).macs}


def _plain(case: dict) -> dict[str, Any]:
    return {"optimizer": SGD, "augment": "crop_flip", "schedule": "cosine", "steps_per_epoch": case["steps"]}


#: Matching the original's softened outputs, at a lower rate: refitting leaves little to mend. Labels count a little.
DISTILLED: dict[str, Any] = {"teacher_weight": 0.95, "temperature": 4.0, "learning_rate": 0.003}


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


@cache
def _cifar10(train: int, test: int, calibration: int) -> Data:
    """The first rows of each part; calibration is of the training rows."""
    whole = material.data("cifar10")
    parts = [whole.train.take(train), whole.validation.take(test)]  # pyright: ignore[reportOptionalMemberAccess]
    train_split, test_split = (Split(part.x[:].astype("float32"), part.y[:]) for part in parts)
    return Data(train_split, test_split, calibration=train_split.take(calibration), name="cifar10")


def accuracy(model: Any, data: Data) -> float:
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
