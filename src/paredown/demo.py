"""The demonstration's network and data: the thesis's classifier of handwritten digits.

Layer by layer, one multiply-add = one MAC:
    conv1   5 x 5 x  1 ->  32, same,  28 x 28    28*28*25*32    =   627,200 MACs      832 parameters
    conv2   5 x 5 x 32 ->  64, same,  14 x 14    14*14*25*32*64 = 10,035,200           51,264
    conv3   7 x 7 x 64 -> 128, valid,  1 x  1    7*7*64*128     =   401,408          401,536
    scores  128 -> 10                            128*10         =     1,280            1,290
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paredown.data import Data
from paredown.errors import DataError
from paredown.recipe import Recipe
from paredown.transforms import FineTune, PruneChannels

LEARNING_RATE = 2e-3
#: What brings each to its accuracy: MNIST's 60,000 rows (99.15 to 99.19 % on its test images over three seeds), and
#: as few as the bundled digits' 1437 (99.2 to 100 % over three seeds; shifted copies stand in for more rows).
MANY_ROWS = {"epochs": 2, "batch_size": 128, "augment": "none"}
FEW_ROWS = {"epochs": 20, "batch_size": 32, "augment": "crop"}
MANY = 10_000
PATIENCE_S = 5.0


def classifier(classes: int = 10) -> Any:
    """The thesis's Table 2.2 as a Keras Functional model, untrained.

    Raw images go in, shape (n, 28, 28, 1) with values 0..255; class probabilities, shape (n, classes), come out.
    454,922 parameters and 11,065,088 MACs for ten classes.
    """
    import keras
    from keras import layers

    image = keras.Input((28, 28, 1), name="image")
    x = layers.Rescaling(1 / 255, name="rescale")(image)
    x = layers.Conv2D(32, 5, padding="same", activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.Conv2D(64, 5, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = layers.Conv2D(128, 7, padding="valid", activation="relu", name="conv3")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(classes, activation="softmax", name="scores")(x)
    return keras.Model(image, x, name="classifier")


def train_classifier(data: Data, epochs: int | None = None, seed: int = 0) -> Any:
    """The classifier, trained on `data.train` alone: Adam at 2e-3, falling to 0 along half a cosine.

    Args:
        data: Images, shape (n, 28, 28, 1), values 0..255, and their classes 0..9.
        epochs: Passes over the data; None: 2 where there are many rows (MNIST), 20 where there are few (digits).
        seed: Of initial weights and order; Keras's global seed is set to it.
    Returns:
        The compiled network.
    Raises:
        DataError: If the data have no labels to train on, or do not fit.
    """
    import keras

    if data.train is None or data.train.y is None:
        raise DataError(f"The classifier learns from labelled images. Received: {data!r}. Use digits or mnist.")
    keras.utils.set_random_seed(seed)
    model = classifier()
    model.compile(keras.optimizers.Adam(LEARNING_RATE), "sparse_categorical_crossentropy", metrics=["accuracy"])
    settings = dict(MANY_ROWS if len(data.train) >= MANY else FEW_ROWS)
    if epochs is not None:
        settings["epochs"] = epochs
    return FineTune(schedule="cosine", **settings)(model, data, seed=seed).model


def demo_data(source: str | None = None) -> Data:
    """The demonstration's data; `.note` says in one line which they are.

    Args:
        source: As for `Data.load`; None: MNIST where Keras's cache or the network has it, else the bundled digits.
    """
    if source is not None:
        data = Data.load(source)
        return _stated(data, f"Data: {data.name}" + (f" ({data.note})" if data.note else ""))
    try:
        with _short_waits():
            return _stated(Data.load("mnist"), "Data: MNIST, from Keras's cache or the network")
    except DataError:
        digits = Data.load("digits")
        return _stated(
            digits, "Data: scikit-learn's bundled digits, since MNIST is neither in Keras's cache nor on the network"
        )


def _stated(data: Data, note: str) -> Data:
    rows = ", ".join(f"{len(split):,} {name}" for name, split in data.parts())
    return Data(data.train, data.validation, data.calibration, name=data.name, note=f"{note}; {rows}.")


@contextmanager
def _short_waits() -> Iterator[None]:
    """A network that does not answer within seconds counts as none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def recipe(rows: int = MANY, quick: bool = False) -> Recipe:
    """The demonstration's recipe: two rounds of pruning and fine-tuning, then int8; `recipes/mnist.yaml` is the same.

    Args:
        rows: Training images; few of them are gone through more often, as in training.
        quick: One short round.
    """
    settings = dict(MANY_ROWS if rows >= MANY else FEW_ROWS)
    settings["epochs"] = 1 if quick else settings["epochs"] + 1
    tune = FineTune(schedule="cosine", **settings)
    rounds = (PruneChannels(criterion="l2_norm", macs=0.25), PruneChannels(criterion="l2_norm", macs=0.3))
    return Recipe([step for prune in rounds[: 1 if quick else 2] for step in (prune, tune)], "int8")
