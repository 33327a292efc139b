"""What `QuantizeAware` saves of what quantizing costs, beside `FineTune` of the same length.

    python benchmarks/quantize_aware.py CASE [--data mnist] [--seeds 3] [--steps 100] [--epochs 3] [--test 10000]

CASE is a row of CASES, trained on the data first, or the path of a `.keras` file. For the float32 file, the quantized
file, and the quantized files after either training, prints accuracy, the share of test examples on which the file says
what the untrained float32 file says, and the root mean square of the difference to its outputs.

    separable   depthwise and pointwise convolutions, whose channels then are scaled by factors from 1/8 to 8 each, and
                what reads them by the inverse: the same function, but one range per tensor fits no channel. int8.
    dense       four dense layers of 24 units. int4.
"""

import argparse
import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

from paredown import Data, FineTune, QuantizeAware, export_litert
from paredown.data import Split
from paredown.measure.litert_runner import LiteRTRunner
from paredown.model_file import load_model

TRAIN, CALIBRATION = 30_000, 200
LARGEST_FACTOR = 3  # Powers of two.


def separable(shape: tuple[int, ...]) -> Any:
    def block(x: Any, layer: Any) -> Any:
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9, name=f"{layer.name}_norm")(layer(x)))

    image = keras.Input(shape)
    x = layers.Rescaling(1 / 255)(image)
    x = block(x, layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem"))
    for k, (width, strides) in enumerate(((16, 1), (24, 2), (32, 1), (32, 1))):
        x = block(x, layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False, name=f"depthwise{k}"))
        x = block(x, layers.Conv2D(width, 1, use_bias=False, name=f"pointwise{k}"))
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)), name="separable")


def unevenly_scaled(model: Any) -> Any:
    """The same function with the channels between convolutions scaled apart."""
    rng = np.random.default_rng(0)
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D)]
    for layer, reader in itertools.pairwise(convolutions):
        norm = model.get_layer(f"{layer.name}_norm")
        factors = 2.0 ** rng.uniform(-LARGEST_FACTOR, LARGEST_FACTOR, norm.gamma.shape)
        for weight in (norm.gamma, norm.beta):
            weight.assign(np.asarray(weight) * factors)
        reader.kernel.assign(np.asarray(reader.kernel) / factors[:, None])
    return model


def dense(shape: tuple[int, ...]) -> Any:
    hidden = [layers.Dense(24, activation="relu") for _ in range(3)]
    parts = [keras.Input(shape), layers.Rescaling(1 / 255), layers.Flatten(), *hidden, layers.Dense(10)]
    return keras.Sequential(parts, name="dense")


#: Name -> network for images of a shape, what is done to it once it is trained, and its number format.
CASES = {"separable": (separable, unevenly_scaled, "int8"), "dense": (dense, lambda model: model, "int4")}


def trained(name: str, train: Split, epochs: int) -> Any:
    keras.utils.set_random_seed(0)
    make, then, _ = CASES[name]
    model = make(tuple(train.x.shape[1:]))
    rate = keras.optimizers.schedules.CosineDecay(5e-3, epochs * len(train) // 64)
    model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = train.rows(np.arange(len(train)))
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return then(model)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3, help="Of either training.")
    parser.add_argument("--steps", type=int, default=100, help="Of 128 examples, per epoch.")
    parser.add_argument("--rate", type=float, default=3e-4, help="Learning rate at the start.")
    parser.add_argument("--teacher", type=float, default=0.5, help="Share of the network's own float outputs.")
    parser.add_argument("--augment", default="none")
    parser.add_argument("--test", type=int, default=10_000, help="Examples to test on.")
    parser.add_argument("--before", type=int, default=3, help="Epochs that a case's network is trained first.")
    given = parser.parse_args(arguments)
    data = Data.load(given.data)
    train = data.train.take(TRAIN) if given.case in CASES else data.train
    data = Data(train, data.validation.take(given.test), train.take(CALIBRATION))
    model = trained(given.case, train, given.before) if given.case in CASES else load_model(Path(given.case))
    number_format = CASES[given.case][2] if given.case in CASES else "int8"
    report(model, data, number_format, given)


def report(model: Any, data: Data, number_format: str, given: argparse.Namespace) -> None:
    tune = FineTune(
        epochs=given.epochs,
        steps_per_epoch=given.steps,
        learning_rate=given.rate,
        schedule="cosine",
        teacher_weight=given.teacher,
        augment=given.augment,
        frozen_statistics=True,
    )
    reference = outputs(model, data, None)
    print("| | accuracy (%) | as float32 (%) | difference |\n|---|---|---|---|")
    row("float32", [reference], reference, data)
    row(number_format, [outputs(model, data, number_format)], reference, data)
    for label, transform in (("FineTune", tune), ("QuantizeAware", QuantizeAware(tune, number_format))):
        results = [transform(model, data, seed=seed).model for seed in range(given.seeds)]
        row(f"{number_format} after {label}", [outputs(r, data, number_format) for r in results], reference, data)


def outputs(model: Any, data: Data, number_format: str | None) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        export_litert(model, path, number_format, data)
        x, _ = data.validation.rows(np.arange(len(data.validation)))
        return LiteRTRunner(path.read_bytes()).run((x.astype("float32"),))[0]


def row(label: str, results: list[np.ndarray], reference: np.ndarray, data: Data) -> None:
    _, y = data.validation.rows(np.arange(len(data.validation)))
    right = [100 * np.mean(r.argmax(-1) == y) for r in results]
    alike = [100 * np.mean(r.argmax(-1) == reference.argmax(-1)) for r in results]
    apart = [np.sqrt(np.mean(np.square(r - reference))) for r in results]
    print(f"| {label} | {spread(right, '.2f')} | {spread(alike, '.2f')} | {spread(apart, '.3g')} |", flush=True)


def spread(values: list[float], form: str) -> str:
    """Mean ± standard deviation of the sample."""
    mean = format(np.mean(values), form)
    return f"{mean} ± {format(np.std(values, ddof=1), form)}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
