"""The table of small networks, what they are built of, and what the tests do with any network."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

#: Name -> builder; `networks` fills it.
NETWORKS: dict[str, Callable[[], keras.Model]] = {}


def network(build: Callable[[], Any]) -> Callable[[], Any]:
    """Enters a builder into the table; one that returns (inputs, outputs) gives `keras.Model` of them."""

    def built() -> keras.Model:
        keras.utils.clear_session(free_memory=False)  # layers are numbered from the first again
        made = build()
        return made if isinstance(made, keras.Model) else keras.Model(*made, name=build.__name__)

    NETWORKS[build.__name__] = built
    return built


@keras.saving.register_keras_serializable("paredown_tests")
class CrossChannel(layers.Layer):
    """A layer that paredown has no rule for: mixes each channel with its neighbour."""

    def build(self, input_shape):
        self.weight = self.add_weight(shape=(input_shape[-1],), name="weight")

    def call(self, inputs):
        return inputs * self.weight + ops.roll(inputs, 1, -1)


@keras.saving.register_keras_serializable("paredown_tests")
def over_channels(x):
    """An activation that computes one channel from the others."""
    return x / (1 + ops.sum(ops.abs(x), -1, keepdims=True))


def randomize(model: Any, seed: int = 0) -> Any:
    """Gives every weight a value that is not its initial one, so that nothing is equal by accident."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if not str(weight.dtype).startswith(("float", "bfloat")):
            continue
        if weight.path.split("/")[-2].startswith("normalization"):
            continue  # adapted, not trained
        if weight.name == "moving_variance":
            value = rng.uniform(0.5, 2, shape)
        elif weight.name == "gamma":
            value = rng.uniform(0.5, 1.5, shape) * rng.choice([1, 1, 1, -1], shape)
        elif len(shape) < 2:
            value = rng.normal(0, 0.3, shape)
        else:
            fan_in = np.prod(shape) / max(shape[-1], 1) if len(shape) > 2 else shape[0]
            value = rng.normal(0, 1.2 / np.sqrt(max(1.0, fan_in)), shape)
        weight.assign(value)
    return model


def examples(model: Any, count: int = 2, seed: int = 1) -> list[np.ndarray]:
    """One array per network input, shape (count, ...); sizes that are left open are 12."""
    rng = np.random.default_rng(seed)
    arrays = []
    for tensor in model.inputs:
        shape = (tensor.shape[0] or count, *(size or 12 for size in tensor.shape[1:]))
        integer = str(tensor.dtype).startswith("int")
        arrays.append(rng.integers(0, 10, shape) if integer else rng.normal(0, 1, shape).astype("float32"))
    return arrays


def conv(x: Any, filters: int, size: int = 3, norm: bool = True, act: str | None = "relu", **kwargs: Any) -> Any:
    x = layers.Conv2D(filters, size, padding=kwargs.pop("padding", "same"), use_bias=not norm, **kwargs)(x)
    if norm:
        x = layers.BatchNormalization()(x)
    return layers.Activation(act)(x) if act else x


def head(x: Any, classes: int = 4) -> Any:
    return layers.Dense(classes, activation="softmax")(layers.GlobalAveragePooling2D()(x))


def image(channels: int = 3, size: int | None = 8) -> Any:
    return keras.Input((size, size, channels))
