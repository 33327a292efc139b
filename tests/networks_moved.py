"""Small networks: data that moves between axes, and what nobody has a rule for."""

import keras
import numpy as np
from keras import layers, ops

from network_parts import CrossChannel, conv, head, image, network, over_channels


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
def depth_to_flat():
    """What comes behind needs no channel to be one at every position; the operation itself does."""
    i = image()
    x = ops.depth_to_space(conv(i, 8, strides=2), 2)
    y = ops.space_to_depth(layers.Permute((1, 3, 2))(ops.transpose(conv(i, 8), (0, 1, 3, 2))), 2)
    x = layers.Concatenate()([layers.Flatten()(x), layers.Flatten()(y)])
    return i, layers.Dense(3)(x)


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
def norm_before_permute():
    i = image()
    x = layers.BatchNormalization(axis=1)(layers.Permute((3, 1, 2))(conv(i, 8)))
    return i, head(conv(layers.Permute((2, 3, 1))(x), 6))


@network
def unknown_sizes():
    """Slices and joins along positions whose number is open."""
    i = image(size=None)
    x = layers.Concatenate(axis=1)([conv(i, 8), conv(i, 8, 5)])
    return i, head(conv(conv(x, 6)[:, 1:], 5))


@network
def examples_joined():
    """Batches joined, fixed or transposed: channels are not followed there, and stay."""
    i = keras.Input(batch_shape=(2, 8, 8, 3))
    x = layers.Dense(5, activation="relu")(ops.reshape(conv(i, 8), (2, 64, 8)))
    x = ops.concatenate([ops.mean(x, axis=1), layers.Dense(5)(ops.mean(i, axis=(1, 2)))], axis=0)
    return i, layers.Dense(2)(layers.Dense(6, activation="relu")(ops.squeeze(x)))


@network
def other_norm_axis():
    i = image()
    return i, head(conv(layers.BatchNormalization(axis=1)(conv(i, 8)), 6))


# Shortcuts without weights where the width grows (ResNet's option A), in the ways in which they are written.
def _grown(x, how: str):
    y = conv(conv(x, 6, strides=2), 12, act=None)
    if how == "pad":
        x = ops.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (2, 2)))
    elif how == "permute":
        x = layers.Permute((1, 3, 2))(layers.AveragePooling2D(2)(x))
        x = layers.Permute((1, 3, 2))(layers.ZeroPadding2D(((0, 0), (1, 3)))(x))
    else:
        x = layers.MaxPooling2D(1, strides=2)(x)
        x = layers.Concatenate()([x, (ops.zeros_like(x) if how == "zeros" else x * 0)[..., :4]])
    return layers.ReLU()(layers.Add()([x, y]))


@network
def padded_shortcuts():
    i = image()
    a, b = _grown(conv(i, 8), "pad"), _grown(conv(i, 8), "permute")
    return i, head(conv(layers.Concatenate()([a, b]), 6))


@network
def zero_shortcuts():
    i = image()
    a, b = _grown(conv(i, 8), "zeros"), _grown(conv(i, 8), "product")
    return i, head(conv(layers.Concatenate()([a, b]), 6))


@network
def slices_with_steps():
    """One of each two or three channels: these go together, and the slices keep their steps."""
    i = image()
    x = conv(i, 12)
    x = layers.Concatenate()([x[..., ::2], x[..., 1::2], x[..., 5::3], x[..., 1:8:3]])
    return i, head(conv(x, 5))


@network
def pixels_shuffled_by_hand():
    i = image()
    x = ops.transpose(ops.reshape(conv(i, 12), (-1, 8, 8, 2, 2, 3)), (0, 1, 3, 2, 4, 5))
    return i, head(conv(ops.reshape(x, (-1, 16, 16, 3)), 6))
