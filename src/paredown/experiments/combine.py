"""combine: do the methods add up? Alone, in pairs, all together, in both orders.

A case is a chain of steps on one network: channels pruned, layers factorized, convolutions substituted, weights
shared, in that order or another, then one short fine-tuning towards the original's outputs. Its result is written
twice, in float32 (packed where weights are shared) and in int8, and both files are timed in turns with the original's;
quantization is the last step of every chain.

A chain of steps that save MACs ends at the same share of the network's MACs as each of them alone. Each is also run
alone at the share that it has in a chain of two, so that the pair's loss can be held against the sum of its parts'.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from paredown.experiments import mnist
from paredown.experiments.combine_nets import subject
from paredown.experiments.combine_page import page
from paredown.experiments.experiment import Experiment
from paredown.export import export_litert
from paredown.measure import measure_latency, score_litert
from paredown.profiling import profile
from paredown.transform import Transform
from paredown.transforms import Factorize, FineTune, PruneChannels, ShareWeights, SubstituteConv


@dataclass(frozen=True)
class Effort:
    """What the steps of a chain may look at.

    Args:
        examples: To calibrate with.
        k: Values of each shared kernel.
    """

    examples: int
    k: int


#: Steps of a chain: a method, and the share of the original's MACs that is left after it (None: it leaves them).
Steps = tuple[tuple[str, float | None], ...]

#: Network -> the share of MACs that every chain ends at, and how many seeds.
NETWORKS: dict[str, tuple[float, int]] = {"classifier": (0.1667, 3), "ResNet-20": (0.5, 2), "MobileNetV2": (0.7, 1)}
#: Network -> images, epochs of its own training (0: given), steps and batch of the fine-tuning.
SETTINGS: dict[str, dict[str, int]] = {
    "classifier": {"train": 20_000, "test": 5000, "calibration": 512, "epochs": 2, "tuning_steps": 40, "batch": 128},
    "ResNet-20": {"train": 10_000, "test": 2000, "calibration": 256, "epochs": 0, "tuning_steps": 20, "batch": 64},
    "MobileNetV2": {"train": 250, "test": 250, "calibration": 64, "epochs": 0, "tuning_steps": 8, "batch": 16},
}
#: Learning rate of the fine-tuning.
RATES = {"classifier": 5e-4, "ResNet-20": 5e-4, "MobileNetV2": 1e-4}
#: Values of each shared kernel; with 16 MobileNetV2 gives nothing that is right (see `weight-sharing`).
VALUES = {"classifier": 16, "ResNet-20": 16, "MobileNetV2": 64}
#: Methods that save MACs. Substitution is left out where convolutions are 1×1 or depthwise as they are, and where
#: `Factorize` chooses the same structure by itself (its kind "depthwise").
REDUCING = {"classifier": ("prune", "factorize", "substitute")}
USUAL = ("prune", "factorize")
SHARING = "share"
#: After which of them weights are shared, and before which; all together they are shared on every network.
SHARED_AFTER = {"classifier": ("prune", "factorize", "substitute"), "ResNet-20": ("prune",)}
SHARED_BEFORE = {"classifier": ("prune",)}
TURNS, SUBSTITUTE_EPOCHS = 50, 5
#: Shares of each layer's MACs that are tried, over the share that is to be left of the network's.
TRIES = (0.7, 0.85, 0.95, 1.02, 1.1, 1.25, 1.5)
QUICK = {"train": 200, "test": 100, "calibration": 32, "epochs": 1, "tuning_steps": 2, "batch": 32, "rate": 5e-4}
QUICK |= {"k": 4, "turns": 3}


def cases(quick: bool) -> list[dict]:
    if quick:
        chains: list[Steps] = [(), (("prune", 0.5),), (("prune", 0.5), (SHARING, None))]
        return [_case("classifier", chain, 0, QUICK) for chain in chains]
    found = []
    for network, (share, seeds) in NETWORKS.items():
        common = {**SETTINGS[network], "rate": RATES[network], "k": VALUES[network], "turns": TURNS}
        for seed in range(seeds):
            found += [_case(network, chain, seed, common) for chain in chains_of(network, share)]
    return found


def _case(network: str, steps: Steps, seed: int, settings: dict) -> dict:
    return {"network": network, "steps": steps, "seed": seed, **settings}


def chains_of(network: str, share: float) -> list[Steps]:
    """Nothing, each alone, all pairs in both orders, all together."""
    reducing, half, sharing = REDUCING.get(network, USUAL), round(share**0.5, 4), (SHARING, None)
    chains: list[Steps] = [(), (sharing,)]
    for method in reducing:
        chains += [((method, half),), ((method, share),)]
        chains += [((method, share), sharing)] if method in SHARED_AFTER.get(network, ()) else []
    # What comes after sharing fits weights anew: once is enough to show it.
    chains += [(sharing, (method, share)) for method in SHARED_BEFORE.get(network, ())]
    chains += [((a, half), (b, share)) for a in reducing for b in reducing if a != b]
    third = [round(share ** ((place + 1) / len(reducing)), 4) for place in range(len(reducing))]
    # Factors are no convolutions that could be substituted: what factorizes comes last.
    order = sorted(reducing, key=("prune", "substitute", "factorize").index)
    return [*chains, (*zip(order, [*third[:-1], share], strict=True), sharing)]


def run(case: dict) -> dict:
    """Accuracy of one chain step by step, and of both of its files; their sizes and times."""
    steps: Steps = tuple((method, share) for method, share in case["steps"])
    original, data = _subject(case)
    effort = Effort(case["calibration"], case["k"])
    stepped, macs = original, []
    for place in range(len(steps)):
        stepped = _stepped(case["network"], steps[: place + 1], effort, *_settings(case))
        macs.append(profile(stepped).macs)
    tuned = _tuned(stepped, original, data, case) if steps else original
    return {
        "original_percent": _original_percent(case["network"], *_settings(case)),
        "stepped_percent": mnist.percent(stepped, data),
        "original_macs": profile(original).macs,
        "macs": macs,
        **_files(case, tuned, data, shared=any(method == SHARING for method, _ in steps)),
    }


def _settings(case: dict) -> tuple[int, ...]:
    return tuple(case[key] for key in ("seed", "train", "test", "calibration", "epochs"))


def _subject(case: dict) -> tuple[Any, Any]:
    return subject(case["network"], *_settings(case))


@lru_cache(4)
def _stepped(network: str, steps: Steps, effort: Effort, *settings: int) -> Any:
    """The network after a chain's steps; the beginning of one chain is often that of the next."""
    original, data = subject(network, *settings)
    *before, (method, share) = steps
    model = _stepped(network, tuple(before), effort, *settings) if before else original
    left = 1.0 if share is None else min(1.0, share * profile(original).macs / profile(model).macs)
    return METHODS[method](model, left, effort)(model, data, seed=settings[0]).model


def _prune(model: Any, share: float, effort: Effort) -> Transform:
    return PruneChannels("structured_obs", macs=share, scope="optimal", reconstruct=True, examples=effort.examples)


def _factorize(model: Any, share: float, effort: Effort) -> Transform:
    return Factorize(macs=share, examples=effort.examples)


def _substitute(model: Any, share: float, effort: Effort) -> Transform:
    """Depthwise separable layers, each with that share of its MACs with which the network comes nearest to its own.

    Widths are whole numbers, so that the network's MACs rise in steps over the layers' share.
    """

    def transform(of_layers: float, **settings: Any) -> SubstituteConv:
        return SubstituteConv("separable", layer_macs=of_layers, **settings)

    def macs(of_layers: float) -> float:
        return profile(transform(of_layers, epochs=0)(model).model).macs

    found = {of_layers: macs(of_layers) for of_layers in (min(0.99, share * factor) for factor in TRIES)}
    fitting = [of_layers for of_layers in found if found[of_layers] <= share * profile(model).macs]
    # Where a share is too small for any width the layer stays, dearer than with a larger share.
    best = max(fitting, key=found.__getitem__) if fitting else min(found, key=found.__getitem__)
    return transform(best, epochs=SUBSTITUTE_EPOCHS, examples=effort.examples)


def _share(model: Any, share: float, effort: Effort) -> Transform:
    return ShareWeights(k=effort.k, weighting="hessian", examples=effort.examples)


#: Name on the page -> model, share of its MACs to keep, effort -> transform.
METHODS: dict[str, Callable[[Any, float, Effort], Transform]] = {
    "prune": _prune,
    "factorize": _factorize,
    "substitute": _substitute,
    SHARING: _share,
}


def _tuned(model: Any, original: Any, data: Any, case: dict) -> Any:
    """A few steps towards the original's outputs; refitted statistics and shared weights are kept."""
    labelled = data.train.y is not None
    tune = FineTune(
        optimizer="adam",
        learning_rate=case["rate"],
        schedule="cosine",
        steps_per_epoch=case["tuning_steps"],
        batch_size=case["batch"],
        frozen_statistics=True,
        keep_shared=True,
        teacher_weight=0.95 if labelled else 0.0,
        temperature=4.0 if labelled else 1.0,
    )
    return tune(model, data, seed=case["seed"], teacher=original).model


def _files(case: dict, model: Any, data: Any, shared: bool) -> dict:
    """Of the float32 file (packed where weights are shared) and of the int8 file."""
    original = _original_file(case["network"], *_settings(case))
    figures: dict[str, Any] = {"original_bytes": original.stat().st_size}
    with tempfile.TemporaryDirectory() as folder:
        exports = {
            "float": export_litert(model, Path(folder) / "float.tflite", pack="run" if shared else None),
            "int8": export_litert(model, Path(folder) / "int8.tflite", "int8", data),
        }
        report = measure_latency([original, *(e.path for e in exports.values())], threads=1, runs=case["turns"])
        for (name, export), row in zip(exports.items(), report.rows[1:], strict=True):
            figures |= {
                f"{name}_percent": 100 * score_litert(export.path, data.validation).value,
                f"{name}_bytes": export.size_bytes,
                f"{name}_zipped_bytes": export.zipped_bytes,
                f"{name}_latency_ratio": 1 / row.speedup_median,
                f"{name}_latency_ratio_p10": 1 / row.speedup_p90,
                f"{name}_latency_ratio_p90": 1 / row.speedup_p10,
            }
    packing = exports["float"].packing
    return {
        **figures,
        "original_ms": report.rows[0].median_ms,
        "packed_kernels": None if packing is None else len(packing.kernels),
        "unpacked_kernels": None if packing is None else len(packing.skips),
        "layers": sum(bool(layer.macs) for layer in profile(model).layers),
    }


#: The original's file, written once for the cases of a network that follow one another.
_FOLDERS: list[Any] = []


@lru_cache(1)
def _original_file(network: str, *settings: int) -> Path:
    _FOLDERS[:] = [tempfile.TemporaryDirectory()]
    path = Path(_FOLDERS[0].name) / "original.tflite"
    export_litert(subject(network, *settings)[0], path)
    return path


@lru_cache(1)
def _original_percent(network: str, *settings: int) -> float:
    return mnist.percent(*subject(network, *settings))


EXPERIMENT = Experiment(
    name="combine",
    title="Do the methods add up?",
    cases=cases,
    run=run,
    page=page,
    needs=("mnist", "cifar10", "imagenet_val500", "resnet20_cifar10", "mobilenet_v2_imagenet"),
)
