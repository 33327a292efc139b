"""Small networks of every kind that exports must keep, with weights and BatchNorm statistics that are not trivial."""

import keras
import numpy as np
from keras import layers

from paredown.data import Data, Split


def conv_net():
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(8, 3, padding="same", name="conv"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.Conv2D(12, 1, activation="swish"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.Dense(10, name="scores"),
        ]
    )


def two_inputs():
    left, right = keras.Input((6,), name="zulu"), keras.Input((8, 8, 2), name="alpha")
    seen = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, activation="relu")(right))
    return keras.Model([left, right], layers.Dense(4)(layers.Concatenate()([layers.Dense(5)(left), seen])))


def two_outputs():
    """Outputs of one shape, in an order that neither names nor construction tell; one of them twice."""
    image = keras.Input((8, 8, 3))
    first = layers.Conv2D(4, 3, name="zulu")(image)
    second = layers.Conv2D(4, 3, name="alpha")(image)
    return keras.Model(image, [second, first, layers.ReLU(name="mike")(first), second])


def transposed():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2DTranspose(5, 3, strides=2, padding="same", name="up"),
            layers.BatchNormalization(),
            layers.Conv2D(2, 1),
        ]
    )


def one_dimensional():
    return keras.Sequential(
        [
            keras.Input((32, 3)),
            layers.Conv1D(8, 5, padding="same", activation="relu"),
            layers.MaxPooling1D(2),
            layers.Conv1D(6, 3, dilation_rate=2),
            layers.GlobalAveragePooling1D(),
            layers.Dense(5),
        ]
    )


def free_size():
    image = keras.Input((None, None, 3))
    features = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(6, 3)(image))
    return keras.Model(image, [layers.Conv2D(4, 1)(features), layers.Conv2D(2, 1, activation="softmax")(features)])


def nested():
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(6, name="deep")], name="inner")
    return keras.Sequential([keras.Input((8,)), inner, layers.ReLU(), layers.Dense(3, name="last")])


NETS = {
    function.__name__: function
    for function in (conv_net, two_inputs, two_outputs, transposed, one_dimensional, free_size, nested)
}


def make(name: str):
    """A network of the table with weights drawn at random, BatchNorm statistics included."""
    keras.utils.set_random_seed(0)
    model = NETS[name]()
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif len(weight.shape) == 1:
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return model


def inputs(model, count: int = 24) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    return tuple(
        rng.normal(0, 1, (count, *(size or 13 for size in tensor.shape[1:]))).astype("float32")
        for tensor in model.inputs
    )


def data(model, count: int = 24) -> Data:
    columns = inputs(model, count)
    return Data(calibration=Split(columns if len(columns) > 1 else columns[0]))
