"""Small networks: chains of layers, and the constants that removed channels leave behind."""

import keras
import numpy as np
from keras import layers, ops

from network_parts import conv, head, image, network


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
    """Few groups: each loses the same places."""
    i = image()
    x = conv(conv(conv(i, 8), 12, groups=2), 6)
    return i, head(x)


@network
def grouped_finely():
    """Many groups: whole ones go; one channel each is a depthwise convolution, here with two outputs a channel."""
    i = image()
    x = conv(conv(conv(i, 12), 6, groups=6), 8)
    x = conv(x, 16, groups=8)
    return i, head(conv(x, 6))


@network
def grouped_constants():
    """What a sigmoid leaves goes into the biases of the group that reads it."""
    i = image()
    x = layers.Activation("sigmoid")(layers.Conv2D(8, 3)(i))
    x = layers.Activation("sigmoid")(layers.Conv2D(8, 2, groups=2)(x))
    x = layers.Conv2D(8, 1, groups=4, activation="sigmoid")(x)
    x = layers.Conv2D(8, 1, groups=4, use_bias=False)(layers.Conv2D(8, 1)(x))
    return i, head(conv(x, 6))


@network
def grouped_other_ranks():
    i = keras.Input((16, 3))
    x = layers.Conv1D(12, 3, groups=4, padding="causal", activation="relu")(layers.Conv1D(8, 1)(i))
    x = layers.Conv1D(8, 3, groups=2, activation="relu")(x)
    x = layers.Reshape((2, 2, 3, 8))(layers.Cropping1D((0, 2))(x))
    x = layers.Conv3D(8, 1, groups=4)(layers.Conv3D(8, 2, padding="same", groups=2, activation="relu")(x))
    return i, layers.Dense(2)(layers.GlobalAveragePooling3D()(layers.Conv3D(4, 1)(x)))


@network
def grouped_from_input():
    """Network inputs in one group, channels in the other: these must stay."""
    i = image(4)
    x = layers.Concatenate()([layers.Conv2D(4, 3, padding="same")(i), i])
    x = layers.Conv2D(8, 3, groups=2)(x)
    return i, head(conv(layers.Conv2D(16, 1, groups=8)(x), 6))


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
