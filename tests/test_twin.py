"""The twin that is trained instead of a network with strided 1x1 convolutions computes and learns the same."""

import keras
import numpy as np
import pytest
from keras import layers

from paredown import Data, FineTune
from paredown.transforms.twin import SlicedConv2D, for_training

ON_TENSORFLOW = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the fault is TensorFlow's alone")


def network(padding="same", strides=2, size=9):
    keras.utils.set_random_seed(1)
    image = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(image)
    x = layers.Conv2D(5, 1, strides=strides, padding=padding, activation="relu", name="strided")(x)
    return keras.Model(image, layers.Dense(2, name="out")(layers.GlobalAveragePooling2D(name="pool")(x)), name="net")


@ON_TENSORFLOW
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [2, 3, (1, 2)])
@pytest.mark.parametrize("size", [8, 9])
def test_same_outputs(padding, strides, size):
    model = network(padding, strides, size)
    twin = for_training(model).model
    x = np.random.default_rng(0).normal(size=(4, size, size, 3)).astype("float32")
    assert isinstance(twin.get_layer("strided"), SlicedConv2D)
    np.testing.assert_allclose(model(x), twin(x), rtol=1e-5, atol=1e-6)


def test_a_network_without_them_is_trained_itself():
    model = network(strides=1)
    assert for_training(model).model is model


def test_what_is_learned_comes_back_under_the_networks_own_layers():
    rng = np.random.default_rng(0)
    data = Data(train=(rng.normal(size=(32, 9, 9, 3)).astype("float32"), rng.normal(size=(32, 2)).astype("float32")))
    model = network()
    result = FineTune(epochs=2, batch_size=8, learning_rate=0.01)(model, data)
    assert type(result.model.get_layer("strided")) is layers.Conv2D
    for before, after in zip(model.weights, result.model.weights, strict=True):
        assert not np.array_equal(before, after), after.path
