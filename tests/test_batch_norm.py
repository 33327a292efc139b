"""ReestimateBatchNorm: statistics as a training-mode forward sees them, and nothing else changed."""

import keras
import numpy as np
import pytest
from keras import layers

from equality import layer_at
from networks import NETWORKS, examples, randomize
from paredown import ReestimateBatchNorm
from paredown.data import Data, Split
from paredown.errors import DataError
from paredown.network import Network
from paredown.rebuild import rebuild


def normalizations(model):
    return {
        c.path: c.operation for c in Network(model).all_calls() if isinstance(c.operation, layers.BatchNormalization)
    }


def with_dropout():
    i = keras.Input((6, 6, 2))
    x = layers.BatchNormalization(name="first", scale=False)(layers.Conv2D(5, 3)(i))
    x = layers.Dropout(0.5)(layers.ReLU()(x))
    x = layers.BatchNormalization(name="second", center=False)(layers.Conv2D(4, 3)(x))
    return randomize(keras.Model(i, layers.Dense(2)(layers.GlobalAveragePooling2D()(x))))


def inputs(n=24, seed=0):
    return np.random.default_rng(seed).normal(1, 2, (n, 6, 6, 2)).astype("float32")


def moments(model, name, x):
    """What the layer called `name` reads, at inference: mean and variance per channel, in float64."""
    seen = np.asarray(keras.Model(model.inputs, model.get_layer(name).input)(x, training=False)).astype("float64")
    return seen.mean((0, 1, 2)), seen.var((0, 1, 2))


def test_of_one_batch_inference_is_the_training_forward():
    i = keras.Input((6, 6, 2))
    x = layers.BatchNormalization()(layers.Conv2D(5, 3)(i))
    x = layers.BatchNormalization(axis=-1)(layers.Conv2D(4, 3)(layers.ReLU()(x)))
    model = randomize(keras.Model(i, layers.Dense(2)(layers.GlobalAveragePooling2D()(x))))
    x = inputs()
    result = ReestimateBatchNorm(batches=1, batch_size=24)(model, Data(calibration=x))
    expected = np.asarray(rebuild(model)(x, training=True))
    assert np.allclose(result.model(x, training=False), expected, atol=1e-5 * np.ptp(expected))


def test_statistics_are_pooled_over_batches_of_unequal_size():
    model, x = with_dropout(), inputs(25)
    result = ReestimateBatchNorm(batch_size=10)(model, Data(calibration=x), seed=4)  # 10, 10 and 5 examples
    mean, variance = moments(model, "first", x)
    assert np.allclose(result.model.get_layer("first").moving_mean, mean, atol=1e-5)
    assert np.allclose(result.model.get_layer("first").moving_variance, variance, rtol=1e-5)
    assert result.log["examples"] == 25


def test_a_later_layer_sees_what_the_new_statistics_give():
    """With one batch; and dropout is off, or the variance would be about twice as large."""
    model, x = with_dropout(), inputs()
    result = ReestimateBatchNorm(batch_size=24)(model, Data(calibration=x))
    mean, variance = moments(result.model, "second", x)
    assert np.allclose(result.model.get_layer("second").moving_mean, mean, atol=1e-5)
    assert np.allclose(result.model.get_layer("second").moving_variance, variance, rtol=1e-4)


def test_a_few_batches_are_drawn_at_random():
    model, x = with_dropout(), inputs(24)
    few = ReestimateBatchNorm(batches=2, batch_size=4)
    first, again, other = (few(model, Data(calibration=x), seed=s) for s in (1, 1, 2))
    assert first.log == again.log
    assert first.log["examples"] == 8
    assert first.log["layers"] != other.log["layers"]
    assert set(first.log["layers"]) == {"first", "second"}


@pytest.mark.parametrize("name", ["shared_norm", "nested_norm"])
def test_shared_layers_and_nested_models(name):
    i = keras.Input((4,), name="i")
    norm = layers.BatchNormalization(name="norm")
    if name == "shared_norm":
        wide = layers.Rescaling(3.0, 1.0)(i)
        model = keras.Model(i, layers.Add()([norm(i), norm(wide)]))
        path = "norm"
    else:
        inner_in = keras.Input((4,))
        model = keras.Model(i, keras.Model(inner_in, norm(inner_in), name="inner")(i))
        path = "inner/norm"
    x = np.random.default_rng(0).normal(2, 3, (30, 4)).astype("float32")
    result = ReestimateBatchNorm()(randomize(model), Data(calibration=x))
    seen = np.concatenate([x, 3 * x + 1]) if name == "shared_norm" else x
    assert np.allclose(layer_at(result.model, path).moving_mean, seen.mean(0), atol=1e-4)
    assert np.allclose(layer_at(result.model, path).moving_variance, seen.var(0), rtol=1e-4)


def test_frozen_layers_get_statistics_and_stay_frozen():
    model, x = with_dropout(), inputs()
    model.get_layer("first").trainable = False
    result = ReestimateBatchNorm()(model, Data(calibration=x))
    assert np.allclose(result.model.get_layer("first").moving_mean, moments(model, "first", x)[0], atol=1e-5)
    assert not result.model.get_layer("first").trainable


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_nothing_else_changes_in_any_network(name):
    model = randomize(NETWORKS[name]())
    arrays = examples(model, 4)
    data = Data(calibration=Split(tuple(arrays) if len(arrays) > 1 else arrays[0]))
    result = ReestimateBatchNorm(batch_size=3)(model, data)
    statistics = {id(w) for layer in normalizations(result.model).values() for w in layer.non_trainable_variables}
    for before, after in zip(model.weights, result.model.weights, strict=True):
        assert id(after) in statistics or np.array_equal(np.array(before), np.array(after))
    assert all(np.isfinite(np.array(w)).all() for w in result.model.weights)
    assert set(result.log.get("layers", {})) == set(normalizations(model))
    assert [s.reason for s in result.skips] == ([] if normalizations(model) else ["has no BatchNormalization"])


def test_without_data():
    with pytest.raises(DataError, match=r"ReestimateBatchNorm needs data .*Received: data=None"):
        ReestimateBatchNorm()(with_dropout())
