"""weight-sharing: few values for each kernel, by number, beside the number formats of LiteRT.

Section 2.7 of the thesis, which holds sharing to be impossible with 32-bit indices. Networks trained here (the
classifier of Table 2.2, LeNet-300-100, LeNet-5) and given ones (CIFAR-10's ResNet-20, ImageNet's MobileNetV2): accuracy
with k values for each kernel, of the kernels alone, weighted by their inputs, and trained on; three sizes; time.
"""

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from paredown.data import Data
from paredown.experiments import lenets, material, mnist
from paredown.experiments.experiment import Experiment
from paredown.experiments.weight_sharing_page import page

#: Network -> whether it is trained here.
NETWORKS = {"classifier": True, "LeNet-300-100": True, "LeNet-5": True, "ResNet-20": False, "MobileNetV2": False}
KS = (2, 4, 8, 16, 64, 256)
FORMATS = ("int8", "int4")
SEEDS = 3
BATCH, RATE, TUNING_RATE = 64, 1e-3, 1e-4
EFFORT = {"train": 20_000, "test": 10_000, "calibration": 512, "epochs": 3, "tuning_epochs": 1}
GIVEN = {
    # So few images would shift the statistics of its BatchNormalization.
    "ResNet-20": {"train": 5000, "test": 2000, "frozen_statistics": True},
    "MobileNetV2": {"train": 0, "test": 500, "tuning_epochs": 0},
}
QUICK = {"train": 200, "test": 100, "calibration": 32, "epochs": 1, "tuning_epochs": 1}


def cases(quick: bool) -> list[dict]:
    if quick:
        small = {"network": "LeNet-300-100", "seed": 0, **QUICK}
        return [{**small, "k": 4, "format": None}, {**small, "k": None, "format": "int8"}]
    return [
        {"network": name, "k": k, "format": None if k else form, "seed": seed, **EFFORT, **GIVEN.get(name, {})}
        for name, trained in NETWORKS.items()
        for seed in range(SEEDS if trained else 1)
        for k, form in (*((k, None) for k in KS), *((None, form) for form in FORMATS))
    ]


def run(case: dict) -> dict:
    from paredown import FineTune, ShareWeights

    settings = (case["network"], case["epochs"], *(case[key] for key in ("train", "test", "calibration", "seed")))
    data, model = _data(*settings), _network(*settings)
    if case["k"] is None:
        return {"plain_percent": mnist.percent(model, data), **_quantized(model, data, case["format"])}
    alone = ShareWeights(k=case["k"])(model, seed=case["seed"]).model
    shared = ShareWeights(k=case["k"], weighting="hessian", examples=case["calibration"])
    weighted = shared(model, data, seed=case["seed"]).model
    last, tuned = weighted, None
    if case["tuning_epochs"]:
        tune = FineTune(
            epochs=case["tuning_epochs"],
            learning_rate=TUNING_RATE,
            batch_size=BATCH,
            schedule="cosine",
            keep_shared=True,
            frozen_statistics=case.get("frozen_statistics", False),
        )
        last = tune(weighted, data, seed=case["seed"]).model
        tuned = mnist.percent(last, data)
    return {
        "plain_percent": mnist.percent(model, data),
        "alone_percent": mnist.percent(alone, data),
        "weighted_percent": mnist.percent(weighted, data),
        "tuned_percent": tuned,
        **_packed(last),
    }


def _packed(model: Any) -> dict:
    """The three sizes of each form, the container's, and each form's time as a share of the plain file's."""
    from paredown import export_litert
    from paredown.container import pack_file
    from paredown.packed import pack_litert

    with tempfile.TemporaryDirectory() as folder:
        plain = export_litert(model, Path(folder) / "plain.tflite").path
        container = pack_file(plain, Path(folder) / "plain.pdz")
        figures: dict[str, Any] = {"container_bytes": container.packed_bytes}
        for form in ("ship", "run"):
            packing = pack_litert(plain, Path(folder) / f"{form}.tflite", form)
            figures |= {f"{form}_{name}": value for name, value in vars(packing.after).items()}
            figures |= {f"{form}_time": 1 / packing.speeds[form] if form in packing.speeds else None}
            figures |= {f"plain_{name}": value for name, value in vars(packing.before).items()}
    return figures


def _quantized(model: Any, data: Data, form: str) -> dict:
    from paredown import export_litert, measure_latency
    from paredown.measure import running_bytes, score_litert

    judged: Any = data.validation
    with tempfile.TemporaryDirectory() as folder:
        plain = export_litert(model, Path(folder) / "plain.tflite").path
        export = export_litert(model, Path(folder) / "small.tflite", form, data)
        return {
            "tuned_percent": 100 * score_litert(export.path, judged).value,
            "run_file_bytes": export.size_bytes,
            "run_zipped_bytes": export.zipped_bytes,
            "run_running_bytes": running_bytes(export.path),
            "run_time": 1 / measure_latency([plain, export.path], runs=50).rows[1].speedup_median,
        }


@lru_cache(1)
def _network(name: str, epochs: int, *images: int) -> Any:
    """Trained once for all k of a seed, or read."""
    import keras

    from paredown import FineTune
    from paredown.demo import train_classifier

    if name == "MobileNetV2":
        return keras.models.load_model(material.network("mobilenet_v2_imagenet"))
    if name == "ResNet-20":
        return keras.models.load_model(material.network("resnet20_cifar10"))
    if name == "classifier":
        return train_classifier(mnist.images(*images), epochs=epochs, seed=images[-1])
    tune = FineTune(epochs=epochs, learning_rate=RATE, batch_size=BATCH, schedule="cosine")
    return tune(lenets.lenet(name, images[-1]), mnist.images(*images), seed=images[-1]).model


@lru_cache(1)
def _data(name: str, epochs: int, train: int, test: int, calibration: int, seed: int) -> Data:
    """What the network is fed, scaled as it was in training; of the photographs a fifth calibrates, none trains."""
    if name == "MobileNetV2":
        photographs: Any = material.data("imagenet_val500").validation
        x, y = photographs.rows(np.arange(500))
        # Its class 0 is none of ImageNet's.
        return Data(None, (x / np.float32(127.5) - 1, y + 1), calibration=x[::5] / np.float32(127.5) - 1)
    if name == "ResNet-20":
        whole: Any = material.data("cifar10")
        rows = np.sort(np.random.default_rng(seed).permutation(len(whole.train))[:train])
        parts = [whole.train.rows(rows), whole.validation.rows(np.arange(test))]
        (x, y), tested = [(x.astype("float32"), y) for x, y in parts]
        return Data((x, y), tested, calibration=x[:calibration])
    return mnist.images(train, test, calibration, seed)


EXPERIMENT = Experiment(
    name="weight-sharing",
    title="How few values do weights need?",
    cases=cases,
    run=run,
    page=page,
    needs=("mnist", "cifar10", "imagenet_val500", "resnet20_cifar10", "mobilenet_v2_imagenet"),
)
