"""deep-compression: pruned weights, shared values, entropy-coded codes, one upon the other.

Two parts, told apart by the case's "part": `lenet`, LeNet-300-100 and LeNet-5 trained here, pruned step by step, their
weights shared, and packed; `squeezenet`, the network that Deep Compression's authors published, as they compressed it,
packed by us, and with fewer values than they kept.

Source: Han et al. 2016, arXiv:1510.00149.
"""

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from paredown.data import Split
from paredown.experiments import lenets, material, mnist, squeezenet
from paredown.experiments.deep_compression_page import page
from paredown.experiments.experiment import Experiment

#: Shares of zeros, rising, and the bits of an index.
SHARES, BITS = (0.6, 0.8, 0.9, 0.92), 5
SQUEEZENET = "compressed_SqueezeNet.net"
#: Bits of SqueezeNet's indices; None: as its authors left it, 8.
SQUEEZENET_BITS = (None, 6, 5, 4, 3)
BATCH, RATE, SHARED_RATE = 64, 1e-3, 1e-4
EFFORT = {"train": 30_000, "test": 10_000, "calibration": 512, "epochs": 5}
#: Passes after each step of pruning, and after the last one.
TUNING = {
    "LeNet-300-100": {"tuning_epochs": 2, "last_epochs": 10},
    "LeNet-5": {"tuning_epochs": 1, "last_epochs": 5},
}
QUICK = {"train": 200, "test": 100, "calibration": 64, "epochs": 1, "tuning_epochs": 1, "last_epochs": 1}


def cases(quick: bool) -> list[dict]:
    if quick:
        return [
            {"part": "lenet", "network": "LeNet-300-100", "seed": 0, **QUICK},
            {"part": "squeezenet", "bits": 4, "test": 4},
        ]
    trained = [
        {"part": "lenet", "network": name, "seed": seed, **EFFORT, **TUNING[name]}
        for seed in range(3)
        for name in lenets.NAMES
    ]
    return [*trained, *({"part": "squeezenet", "bits": bits, "test": 500} for bits in SQUEEZENET_BITS)]


def run(case: dict) -> dict:
    return (_lenet if case["part"] == "lenet" else _squeezenet)(case)


def _lenet(case: dict) -> dict:
    """Stage by stage: accuracy, share of weights that are not zero, and the sizes."""
    from paredown import FineTune, PruneWeights, ShareWeights

    data = mnist.images(*(case[key] for key in ("train", "test", "calibration", "seed")))
    judged: Any = data.validation

    def tuned(model: Any, epochs: int, rate: float, **kept: Any) -> Any:
        tune = FineTune(epochs=epochs, learning_rate=rate, batch_size=BATCH, schedule="cosine", **kept)
        return tune(model, data, seed=case["seed"]).model

    model = tuned(lenets.lenet(case["network"], case["seed"]), case["epochs"], RATE)
    stages = [_stage("trained", model, judged)]
    for share in SHARES:
        model = PruneWeights(sparsity=share, scope="global")(model, data, seed=case["seed"]).model
        last = share == SHARES[-1]
        model = tuned(model, case["last_epochs" if last else "tuning_epochs"], RATE, keep_zeros=True)
    stages.append(_stage("pruned", model, judged))
    model = ShareWeights(bits=BITS, weighting="hessian")(model, data, seed=case["seed"]).model
    stages.append(_stage("shared", model, judged))
    model = tuned(model, case["tuning_epochs"], SHARED_RATE, keep_zeros=True, keep_shared=True)
    stages.append(_stage("shared, trained on", model, judged))
    return {"stages": stages, "bits": BITS}


def _squeezenet(case: dict) -> dict:
    from paredown import ShareWeights

    path = material.network(SQUEEZENET)
    model = squeezenet.network(path)
    if case["bits"] is not None:
        model = ShareWeights(bits=case["bits"])(model, seed=0).model
    return {"stages": [_stage("shared", model, _photographs(case["test"]))], "their_bytes": path.stat().st_size}


@lru_cache(1)
def _photographs(count: int) -> Split:
    """The first photographs of each tenth of the set, as large as the network wants them."""
    import keras

    split: Any = material.data("imagenet_val500").validation
    x, y = split.rows(np.linspace(0, len(split) - 1, count).astype(int))
    side = squeezenet.SIZE
    large = [keras.ops.convert_to_numpy(keras.ops.image.resize(row[None].astype("float32"), (side, side))) for row in x]
    return Split(np.concatenate(large), y)


def _stage(name: str, model: Any, split: Split) -> dict:
    """A network at one stage: what comes back out of its container runs in LiteRT, and is what is judged."""
    from paredown import export_litert
    from paredown.container import pack_file, unpack_file
    from paredown.measure import score_litert

    with tempfile.TemporaryDirectory() as folder:
        file, container, back = (Path(folder) / name for name in ("model.tflite", "model.pdz", "back.tflite"))
        export_litert(model, file)
        packed = pack_file(file, container)
        unpack_file(container, back)
        accuracy = score_litert(back, split).value
    weights = np.concatenate([np.ravel(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")])
    return {
        "stage": name,
        "accuracy_percent": 100 * accuracy,
        "left_percent": 100 * float((weights != 0).mean()),
        "file_bytes": packed.size_bytes,
        "zipped_bytes": packed.zipped_bytes,
        "container_bytes": packed.packed_bytes,
    }


EXPERIMENT = Experiment(
    name="deep-compression",
    title="How small does a network become, pruned, shared and packed?",
    cases=cases,
    run=run,
    page=page,
    needs=("mnist", "imagenet_val500", SQUEEZENET),
)
