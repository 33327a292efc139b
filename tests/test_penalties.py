"""FineTune's regularization: what it adds to the loss, and that nothing of it is left."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

from networks import randomize
from paredown.data import Data
from paredown.errors import ModelError
from paredown.transforms.fine_tune import FineTune
from paredown.transforms.penalties import PENALTIES

RATE, STRENGTH = 0.25, 0.125
ONE_STEP = FineTune(optimizer="sgd", learning_rate=RATE, batch_size=6, steps_per_epoch=1, loss="mean_squared_error")


def network():
    i = keras.Input((4, 4, 2))
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(layers.Conv2D(3, 3, name="conv")(i)))
    x = layers.Conv2D(5, 2, strides=2, activation="relu", padding="same", name="conv2")(x)
    x = layers.Dense(1, name="out")(layers.GlobalAveragePooling2D(name="pool")(x))
    return randomize(keras.Model(i, x))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return Data((rng.normal(size=(6, 4, 4, 2)).astype("float32"), rng.normal(size=(6, 1)).astype("float32")))


def values(model):
    return {w.path: np.array(w) for w in model.weights}


@pytest.mark.parametrize(
    ("penalty", "concerned"), [("l1_weights", ("kernel", "bias")), ("batch_norm_scale", ("gamma",))]
)
@pytest.mark.parametrize("labelled", [True, False])
def test_a_step_goes_along_the_sign_of_the_weights(data, penalty, concerned, labelled):
    model = network()
    data = data if labelled else Data(data.train.x)
    plain = values(ONE_STEP(model, data).model)
    tune = dataclasses.replace(ONE_STEP, regularization=penalty, strength=STRENGTH)
    penalized = values(tune(model, data).model)
    assert plain.keys() == penalized.keys()
    for path, before in values(model).items():
        step = RATE * STRENGTH * np.sign(before) if path.endswith(concerned) else 0
        assert np.allclose(plain[path] - penalized[path], step, atol=1e-6), path


def test_the_teachers_share_does_not_lessen_the_penalty(data):
    model = network()
    teacher = dataclasses.replace(ONE_STEP, teacher_weight=0.75)
    tune = dataclasses.replace(teacher, regularization="l1_weights", strength=STRENGTH)
    plain, penalized = (values(t(model, data).model) for t in (teacher, tune))
    step = RATE * STRENGTH * np.sign(np.array(model.get_layer("conv").kernel))
    assert np.allclose(plain["conv/kernel"] - penalized["conv/kernel"], step, atol=1e-6)


def test_activations_are_those_that_layers_with_a_kernel_read(data):
    model = network()
    plain, penalized = (
        dataclasses.replace(ONE_STEP, **more)(model, data).log["history"]["loss"][0]
        for more in ({}, {"regularization": "l1_activations", "strength": STRENGTH})
    )
    # conv2 reads relu, which normalizes by the batch in training; out reads pool.
    watched = keras.Model(model.inputs, [model.get_layer(name).output for name in ("relu", "pool")])
    relu, pool = (np.abs(a) for a in watched(data.train.x, training=True))
    expected = STRENGTH * (relu.mean((0, 1, 2)).sum() + pool.mean(0).sum())
    assert penalized - plain == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_nothing_is_left_of_it(data, penalty, tmp_path):
    model = network()
    model.compile("sgd", "mean_squared_error")
    result = dataclasses.replace(ONE_STEP, regularization=penalty, strength=STRENGTH)(model, data)
    assert result.model.get_config() == model.get_config()
    result.model(data.train.x)
    assert result.model.losses == []
    assert all(w.regularizer is None for w in [*model.weights, *result.model.weights])
    result.model.save(tmp_path / "m.keras")
    assert "egularizer" not in str({k: v for k, v in result.model.get_layer("conv").get_config().items() if v})


def test_a_networks_own_regularizer_works_on(data):
    i = keras.Input((4, 4, 2))
    x = layers.Conv2D(3, 3, kernel_regularizer=keras.regularizers.L2(0.5), name="conv")(i)
    model = randomize(keras.Model(i, layers.Dense(1)(layers.GlobalAveragePooling2D()(x))))
    kernel = np.array(model.get_layer("conv").kernel)
    tune = dataclasses.replace(ONE_STEP, regularization="l1_weights", strength=STRENGTH)
    plain, penalized = (t(model, data).log["history"]["loss"][0] for t in (ONE_STEP, tune))
    weights = sum(np.abs(np.array(w)).sum() for w in model.trainable_weights)
    assert penalized - plain == pytest.approx(STRENGTH * weights, rel=1e-4)
    assert plain > 0.5 * np.square(kernel).sum()


def test_a_network_without_what_is_penalized():
    i = keras.Input((2,))
    model = keras.Model(i, layers.Dense(1)(i))
    data = Data((np.ones((4, 2), "float32"), np.ones((4, 1))))
    for penalty, message in (
        ("batch_norm_scale", "a network with none"),
        ("l1_activations", "needs hidden activations"),
    ):
        tune = FineTune(regularization=penalty, strength=0.1)
        with pytest.raises(
            ModelError, match=rf"regularization '{penalty}' needs .*Received: .*{message[-12:]}|{message}"
        ):
            tune(model, data)
