"""Small named networks, one for each way in which channels can flow, and what the tests do with any network."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

NETWORKS: dict[str, Callable[[], keras.Model]] = {}


def network(build: Callable[[], Any]) -> Callable[[], Any]:
    """Enters a builder into the table; one that returns (inputs, outputs) gives `keras.Model` of them."""

    def built() -> keras.Model:
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


# Chains.
@network
def plain():
    i = image()
    return i, head(conv(conv(i, 8), 12))


@network
def without_norm():
    i = image()
    return i, head(conv(conv(i, 8, norm=False), 12, norm=False, padding="valid"))


@network
def without_bias():
    i = image()
    x = layers.Conv2D(8, 3, use_bias=False, activation="tanh")(i)
    x = layers.Flatten()(x)
    return i, layers.Dense(3, use_bias=False)(layers.Dense(7, use_bias=False, activation="relu")(x))


@network
def sequential():
    return keras.Sequential(
        [
            image(),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.5),
            layers.Conv2D(6, 2),
            layers.LeakyReLU(),
            layers.Flatten(),
            layers.Dense(5),
        ],
        name="sequential",
    )


@network
def open_size():
    i = image(size=None)
    x = conv(conv(i, 8), 6, strides=2)
    return i, layers.Conv2D(2, 1)(x)


@network
def autoencoder():
    """The thesis's, section 2.2.3: stride 2, a bias beside BatchNormalization."""
    i = image(1)
    x = i
    for filters, layer in (
        (32, layers.Conv2D),
        (64, layers.Conv2D),
        (32, layers.Conv2DTranspose),
        (1, layers.Conv2DTranspose),
    ):
        x = layer(filters, 3, strides=2, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return i, x


@network
def mlp():
    i = keras.Input((10,))
    x = layers.Dense(16, activation="gelu")(i)
    x = layers.LayerNormalization()(x)
    x = layers.Dense(12, activation="relu")(x)
    return i, layers.Dense(3)(layers.Dense(9, activation="elu")(x))


@network
def one_dimensional():
    i = keras.Input((16, 3))
    x = layers.Conv1D(8, 3, padding="causal", activation="relu")(i)
    x = layers.BatchNormalization()(x)
    x = layers.SeparableConv1D(8, 3, depth_multiplier=2)(x)
    x = layers.ZeroPadding1D(1)(layers.MaxPooling1D()(layers.ReLU()(x)))
    x = layers.DepthwiseConv1D(3)(layers.Cropping1D((0, 1))(layers.UpSampling1D(2)(x)))
    x = layers.Conv1DTranspose(6, 3, strides=2)(x)
    return i, layers.Dense(2)(layers.GlobalMaxPooling1D()(x))


@network
def three_dimensional():
    i = keras.Input((6, 6, 6, 2))
    x = layers.Conv3D(6, 3, activation="relu")(i)
    x = layers.BatchNormalization()(layers.ZeroPadding3D()(x))
    x = layers.Conv3DTranspose(5, 2, strides=2)(layers.AveragePooling3D(2)(x))
    return i, layers.Dense(2)(layers.GlobalAveragePooling3D()(x))


@network
def depthwise():
    i = image()
    x = conv(i, 8)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu")(conv(x, 6, 1))
    return i, head(conv(x, 10, 1))


@network
def separable():
    i = image()
    x = layers.SeparableConv2D(8, 3, activation="relu")(i)
    x = layers.SeparableConv2D(10, 3, depth_multiplier=2, padding="same")(x)
    return i, head(layers.BatchNormalization()(x))


@network
def grouped():
    i = image()
    x = conv(conv(conv(i, 8), 8, groups=4), 6)
    return i, head(x)


@network
def prelu():
    i = image()
    x = layers.PReLU(shared_axes=[1, 2])(conv(i, 8, act=None))
    x = layers.PReLU()(conv(x, 6, act=None))
    x = layers.PReLU(shared_axes=[1, 2, 3])(conv(x, 6, act=None))
    return i, layers.Dense(3)(layers.PReLU()(layers.Dense(8)(layers.Flatten()(x))))


@network
def resampled():
    i = image()
    x = layers.ZeroPadding2D(((1, 0), (0, 2)))(conv(i, 8))
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.MaxPooling2D(2)(x))
    x = layers.AveragePooling2D(2, padding="same")(layers.Cropping2D(1)(x))
    return i, head(conv(x, 6))


@network
def frozen():
    i = image()
    x = layers.Conv2D(8, 3, name="frozen_conv", trainable=False)(i)
    x = layers.BatchNormalization(name="frozen_norm", trainable=False)(x)
    inner_in = keras.Input((6, 6, 8))
    inner = keras.Model(inner_in, layers.Conv2D(6, 3, name="frozen_inner", trainable=False)(inner_in), name="inner")
    return i, head(conv(inner(x), 7))


@network
def frozen_whole():
    i = image()
    model = keras.Model(i, head(conv(conv(i, 8), 6)))
    model.trainable = False
    model.layers[-1].trainable = True
    return model


@network
def compiled():
    i = image()
    model = keras.Model(i, head(conv(i, 8)))
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


@network
def mixed_precision():
    i = image()
    x = layers.Conv2D(8, 3, dtype="mixed_bfloat16", activation="relu")(i)
    x = layers.BatchNormalization(dtype="mixed_bfloat16")(x)
    return i, layers.Dense(3, dtype="float32")(layers.Flatten()(x))


@network
def normalized_input():
    i = image()
    norm = layers.Normalization()
    norm.adapt(np.random.default_rng(0).normal(3, 2, (16, 8, 8, 3)).astype("float32"))
    x = norm(layers.Rescaling(0.5, offset=-1.0)(i))
    x = layers.RandomFlip("horizontal")(layers.GaussianNoise(0.1)(x))
    return i, head(conv(x, 8))


@network
def embedded():
    i = keras.Input((9,), dtype="int32")
    x = layers.Embedding(10, 8)(i)
    x = layers.Conv1D(6, 3, activation="relu")(layers.SpatialDropout1D(0.2)(x))
    return i, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))


# Constants that a removed channel leaves behind.
@network
def constants_left():
    """Behind a sigmoid of its own a removed channel is 0.5; softplus leaves log 2."""
    i = image()
    x = layers.Activation("sigmoid")(layers.Conv2D(8, 3)(i))
    x = layers.Activation("softplus")(layers.Conv2D(6, 3)(x))
    x = layers.Flatten()(layers.AveragePooling2D(2)(x))
    x = layers.Rescaling(2.0, offset=0.25)(layers.Dense(8)(x))
    return i, layers.Dense(3)(x)


@network
def constants_stay():
    """Zero padding, a missing bias and a transposed convolution cannot take up a constant."""
    i = image()
    x = layers.Activation("sigmoid")(layers.Conv2D(8, 3)(i))
    x = layers.Activation("sigmoid")(layers.Conv2D(8, 3, padding="same")(x))
    x = layers.Activation("sigmoid")(layers.Conv2D(8, 3, use_bias=False)(x))
    x = layers.Activation("sigmoid")(layers.Conv2DTranspose(8, 3)(x))
    return i, head(layers.Conv2D(4, 3)(layers.ZeroPadding2D()(x)))


@network
def depthwise_after_constant():
    """A depthwise channel goes as a whole, whatever it would have read."""
    i = image()
    x = layers.Activation("sigmoid")(layers.Conv2D(8, 3)(i))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    return i, head(layers.BatchNormalization()(layers.Activation("sigmoid")(x)))


@network
def shared_after_constant():
    """One layer reads a channel once behind a sigmoid and once as it is: two constants, one bias."""
    i = image()
    x = layers.Conv2D(8, 3)(i)
    shared = layers.Conv2D(6, 3)
    return i, head(layers.Add()([shared(x), shared(layers.Activation("sigmoid")(x))]))


@network
def unknown_then_relu():
    """Padding makes a removed channel's value vary over positions; a ReLU must not forget that."""
    i = image()
    x = layers.ZeroPadding2D()(layers.Activation("sigmoid")(layers.Conv2D(8, 3)(i)))
    x = layers.ReLU(max_value=0.25)(x)
    return i, head(layers.Conv2D(4, 3)(x))


@network
def maximum_with_start():
    i = image()
    x = ops.max(conv(i, 8), axis=(1, 2), initial=0.75)
    return i, layers.Dense(3)(x)


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
    return x * ops.expand_dims(ops.expand_dims(y, 1), 1)


@network
def squeeze_and_excitation():
    i = image()
    x = i
    for how in ("reshape", "keepdims", "ops"):
        x = _squeeze(conv(x, 8), how)
    return i, head(x)


# Moved data.
@network
def flattened():
    i = image()
    x = layers.Flatten()(conv(i, 6, padding="valid"))
    return i, layers.Dense(4)(layers.Dense(9, activation="relu")(x))


@network
def reshaped():
    i = keras.Input((5,))
    x = layers.Dense(4 * 4 * 6, activation="relu")(i)
    x = layers.Conv2DTranspose(5, 3, strides=2)(layers.Reshape((4, 4, 6))(x))
    return i, layers.Reshape((-1, 5))(x)


@network
def reshaped_partly():
    """Channel pairs: what is left of the tensor must stay rectangular."""
    i = image()
    x = layers.Reshape((64, 2, 4))(conv(i, 8))
    x = layers.Reshape((8, 8, 8))(layers.Permute((1, 3, 2))(x))
    return i, head(conv(x, 6))


@network
def permuted():
    i = image()
    x = layers.Permute((3, 1, 2))(conv(i, 6))
    x = layers.Reshape((6, 64))(x)
    return i, layers.Dense(3)(layers.Flatten()(layers.Permute((2, 1))(x)))


@network
def repeated():
    i = keras.Input((5,))
    x = layers.RepeatVector(4)(layers.Dense(8, activation="relu")(i))
    return i, layers.Dense(2)(layers.Conv1D(6, 2)(x))


@network
def shuffled():
    """ShuffleNet's: two halves by slices, joined, channels shuffled."""
    i = image()
    x = conv(i, 8)
    a, b = x[..., :4], x[..., 4:]
    x = layers.Concatenate()([a, conv(b, 4)])
    x = ops.transpose(ops.reshape(x, (-1, 8, 8, 2, 4)), (0, 1, 2, 4, 3))
    return i, head(conv(ops.reshape(x, (-1, 8, 8, 8)), 6))


@network
def split_and_stacked():
    i = image()
    a, b, c = ops.split(conv(i, 12), 3, axis=-1)
    x = ops.stack([a, b], axis=-2)
    x = ops.concatenate([ops.reshape(x, (-1, 8, 8, 8)), c], axis=-1)
    first, rest = ops.split(x, [5], axis=-1)
    return i, head(layers.Concatenate()([conv(rest, 4), first]))


@network
def sliced():
    i = image()
    x = conv(i, 10)
    x = x[:, 1:-1, 2:, 1:9]
    y = x[:, 0, 0] + x[:, 1, 1, :]
    return i, layers.Concatenate()([layers.Dense(3)(y), head(x[..., -3:])])


@network
def picked():
    i = image()
    x = conv(i, 6)
    return i, layers.Dense(2)(layers.Flatten()(layers.Multiply()([x[..., 2], x[..., -1]])))


@network
def depth_and_space():
    i = image()
    x = ops.depth_to_space(conv(i, 12), 2)
    x = ops.space_to_depth(conv(x, 4), 2)
    return i, head(conv(x, 6))


@network
def padded():
    i = image()
    x = ops.pad(conv(i, 6), ((0, 0), (1, 1), (2, 0), (0, 0)))
    x = ops.pad(conv(x, 4), ((0, 0), (0, 0), (0, 0), (2, 2)))
    x = layers.Add()([x, conv(x, 8)])
    return i, head(ops.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")[:, :, :, 1:-1])


@network
def arithmetic():
    """keras.ops with constants; x * relu6(x + 3) / 6 is MobileNetV3's hard swish, written out."""
    i = image()
    x = conv(i, 8, act=None)
    x = ops.multiply(x, ops.relu6(x * 0.5 + 3)) / 6
    x = layers.Conv2D(6, 3)(ops.relu6(x * 0.5 + 3))
    x = ops.add(x, 1.5) - ops.abs(x)
    x = layers.Conv2D(8, 1)(ops.tanh(2.0 - x))
    x = ops.swapaxes(ops.moveaxis(ops.transpose(x, (0, 3, 1, 2)), 1, -1), 1, 2)
    return i, layers.Dense(3)(ops.max(ops.sum(x, axis=1), axis=1))


@network
def constants_per_channel():
    i = image()
    x = conv(i, 8) * np.linspace(1, 2, 8).astype("float32")
    return i, head(conv(ops.mean(x, axis=-1, keepdims=True) + conv(x, 6), 5))


@network
def mixed_examples():
    """Positions folded into the batch and back, as window attention does."""
    i = image()
    x = ops.reshape(conv(i, 8), (-1, 8))
    x = layers.Dense(6, activation="relu")(x)
    x = ops.reshape(x, (-1, 8, 8, 6))
    return i, head(conv(x, 5))


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


# What nobody knows.
@network
def unknown_layer():
    i = image()
    x = CrossChannel(name="cross")(conv(i, 8))
    return i, head(conv(conv(x, 6), 5))


@network
def unknown_activation():
    i = image()
    x = layers.Conv2D(8, 3, activation=over_channels)(i)
    x = layers.Activation(over_channels)(layers.Conv2D(6, 3)(x))
    x = layers.Conv2D(5, 3, activation=layers.LeakyReLU())(x)
    return i, head(layers.Conv2D(5, 1, activation=layers.Softmax())(x))


@network
def attention():
    i = keras.Input((9, 8))
    x = layers.Dense(8)(i)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    x = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.Dense(8)(layers.Dense(16, activation="gelu")(x))])
    return i, layers.Dense(2)(layers.GlobalAveragePooling1D()(x))


@network
def recurrent():
    i = keras.Input((9, 4))
    x = layers.TimeDistributed(layers.Dense(6))(layers.Conv1D(8, 3)(i))
    return i, layers.Dense(2)(layers.Dense(8, activation="relu")(layers.Bidirectional(layers.LSTM(5))(x)))


@network
def other_norm_axis():
    i = image()
    return i, head(conv(layers.BatchNormalization(axis=1)(conv(i, 8)), 6))
