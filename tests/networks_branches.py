"""Small networks: branches, shared layers, nested models, several inputs and outputs."""

from typing import Any

import keras
from keras import layers, ops

from network_parts import conv, head, image, network


# Branches.
@network
def residual():
    i = image()
    x = conv(i, 8)
    y = conv(conv(x, 12, strides=2), 12, act=None)
    x = layers.ReLU()(layers.Add()([y, conv(x, 12, 1, strides=2, act=None)]))
    return i, head(layers.ReLU()(layers.Add()([x, conv(conv(x, 6), 12, act=None)])))


@network
def residual_from_input():
    i = image()
    return i, head(conv(layers.Add()([i, conv(conv(i, 8), 3)]), 6))


@network
def dense_block():
    i = image()
    x = conv(i, 6)
    for _ in range(3):
        x = layers.Concatenate()([x, conv(layers.ReLU()(layers.BatchNormalization()(x)), 4)])
    return i, head(conv(layers.Concatenate()([x, i]), 8, 1))


@network
def merges():
    i = image()
    a, b, c = (conv(i, 8, act=act) for act in ("relu", "sigmoid", None))
    x = layers.Multiply()([a, b])
    y = layers.Maximum()([layers.Subtract()([a, c]), layers.Average()([a, b, c])])
    return i, head(conv(layers.Concatenate()([x, layers.Minimum()([y, x])]), 6))


@network
def concatenated_positions():
    i = image()
    a, b = conv(i, 8), conv(i, 8, 5)
    return i, head(conv(layers.Concatenate(axis=1)([a, b]), 6))


@network
def attention_over_joined_positions():
    """The positions carry two layers' channels; what scales them is coupled with both."""
    i = image()
    x = layers.Concatenate(axis=1)([conv(i, 8), conv(i, 8, 5)])
    y = layers.Reshape((1, 1, 8))(layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D()(i)))
    return i, head(conv(layers.Multiply()([x, y]), 6))


@network
def broadcast_attention():
    i = image()
    x = conv(i, 8)
    x = layers.Multiply()([x, layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)])
    return i, head(conv(x, 6))


def _squeeze(x: Any, how: str) -> Any:
    channels = x.shape[-1]
    if how == "keepdims":
        y = layers.GlobalAveragePooling2D(keepdims=True)(x)
        y = layers.Conv2D(channels, 1, activation="sigmoid")(layers.Conv2D(3, 1, activation="relu")(y))
        return layers.Multiply()([x, y])
    y = layers.GlobalAveragePooling2D()(x) if how == "reshape" else ops.mean(x, axis=(1, 2))
    y = layers.Dense(channels, activation="sigmoid")(layers.Dense(3, activation="relu")(y))
    if how == "reshape":
        return layers.Multiply()([layers.Reshape((1, 1, channels))(y), x])
    if how == "slices":
        return x * y[:, None, None]
    return x * ops.expand_dims(ops.expand_dims(y, 1), 1)


@network
def squeeze_and_excitation():
    i = image()
    x = i
    for how in ("reshape", "keepdims", "ops", "slices"):
        x = _squeeze(conv(x, 8), how)
    return i, head(x)


def _aggregated(x, groups: int):
    """ResNeXt's block: 1x1, 3x3 in groups, 1x1, and the shortcut."""
    width = x.shape[-1]
    y = conv(conv(conv(x, 12, 1), 12, groups=groups), width, 1, act=None)
    return layers.ReLU()(layers.Add()([x, y]))


@network
def resnext():
    i = image()
    x = conv(i, 8)
    return i, head(_aggregated(_aggregated(x, 6), 2))


@network
def shufflenet():
    """Grouped 1x1 convolutions with a channel shuffle between them, and one layer for two tensors."""
    i = image()
    x = conv(i, 12)
    y = conv(x, 8, 1, groups=2)
    y = layers.Reshape((8, 8, 8))(layers.Permute((1, 2, 4, 3))(layers.Reshape((8, 8, 2, 4))(y)))
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(y))
    x = layers.ReLU()(layers.Add()([x, conv(y, 12, 1, act=None, groups=2)]))
    twice = layers.Conv2D(12, 1, groups=2)
    return i, head(conv(twice(layers.ReLU()(twice(x))), 6))


# Layers and models more than once.
@network
def shared_layers():
    a, b = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    first, norm, second = layers.Conv2D(8, 3), layers.BatchNormalization(), layers.Conv2D(6, 3)
    x, y = (second(layers.ReLU()(norm(first(t)))) for t in (a, b))
    x = conv(layers.Subtract()([x, y]), 6)
    twice = layers.Conv2D(6, 3, padding="same")
    return [a, b], head(twice(twice(x)))


@network
def shared_reshape():
    """One Reshape, two tensors: what is left of both must have one shape."""
    i = image()
    together = layers.Reshape((16, 4, 6))
    x = layers.Concatenate()([together(conv(i, 6)), together(conv(i, 6))])
    return i, head(conv(x, 5))


def _inner(name: str, size: int = 8, channels: int = 6) -> keras.Model:
    i = keras.Input((size, size, channels), name=f"{name}_input")
    x = conv(conv(i, 8), channels)
    x = layers.Reshape((size * size, channels))(x)
    return keras.Model(i, layers.Reshape((size, size, channels))(x), name=name)


@network
def nested():
    i = image()
    deep_in = keras.Input((8, 8, 6))
    stem = keras.Sequential([image(), layers.Conv2D(6, 3, padding="same"), layers.BatchNormalization()], name="stem")
    deep = keras.Model(deep_in, layers.Add()([deep_in, _inner("deepest")(deep_in)]), name="deep")
    x = deep(stem(i))
    return i, head(conv(x, 5))


@network
def nested_twice():
    i = image()
    inner = _inner("inner")
    x = conv(i, 6)
    return i, head(layers.Concatenate()([inner(inner(x)), conv(inner(conv(i, 6)), 5)]))


@network
def nested_and_own():
    """The same layer inside a nested model and beside it."""
    shared = layers.Conv2D(8, 3, padding="same", name="shared")
    inner_in = image()
    inner = keras.Model(inner_in, layers.ReLU()(shared(inner_in)), name="inner")
    i = image()
    return i, head(conv(layers.Concatenate()([inner(i), layers.Activation("tanh")(shared(i))]), 6))


@network
def nested_structures():
    """Nested models with dictionaries in and out."""
    z, a = keras.Input((6,), name="z"), keras.Input((4,), name="a")
    inner = keras.Model(
        {"z": z, "a": a},
        {"sum": layers.Add()([layers.Dense(8)(z), layers.Dense(8)(a)]), "left": layers.Dense(5)(z)},
        name="inner",
    )
    i = keras.Input((7,))
    out = inner({"z": layers.Dense(6)(i), "a": layers.Dense(4)(i)})
    return i, layers.Dense(2)(layers.Concatenate()([out["left"], layers.ReLU()(out["sum"])]))


# Several inputs and outputs.
@network
def dictionaries():
    inputs = {"wide": keras.Input((8, 8, 3), name="wide"), "deep": keras.Input((6,), name="deep")}
    x = layers.Flatten()(conv(inputs["wide"], 4))
    y = layers.Dense(7, activation="relu")(inputs["deep"])
    x = layers.Dense(9, activation="relu")(layers.Concatenate()([y, x]))
    return inputs, {"score": layers.Dense(1)(x), "again": [layers.Dense(4)(y), layers.Dense(2)(x)]}


@network
def intermediate_output():
    i = image()
    x = conv(i, 8)
    y = conv(x, 6)
    return i, [head(conv(y, 5)), y, i]
