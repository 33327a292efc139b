"""Training shared among devices: for a process with JAX and two virtual CPU devices, which test_backends.py starts."""

import functools

import jax
import keras
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding
from keras import layers
from keras.distribution import DataParallel, distribute_tensor, distribution, list_devices

from paredown.data import Data
from paredown.transforms import data_parallel as module
from paredown.transforms.data_parallel import Shared, accelerators, data_parallel, divided
from paredown.transforms.fine_tune import FineTune
from paredown.transforms.quantize_aware import QuantizeAware
from paredown.transforms.share_weights import ShareWeights

#: Batches of 8 are divided; the last one of a pass has 5 rows, which two devices do not divide.
ROWS = 3 * 8 + 5
#: Two devices add the same float32 numbers in another order: each sum of up to a hundred terms is off by 2 ** -24 times
#: some of their sizes, and the steps of SGD are such sums times the rate. A hundred roundings over all steps are 6e-6.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
SGD = {"epochs": 2, "batch_size": 8, "learning_rate": 0.01, "optimizer": "sgd"}


@pytest.fixture
def two(monkeypatch):
    """The two virtual devices stand for accelerators."""
    monkeypatch.setattr(module, "accelerators", lambda: list_devices("cpu"))
    return len(list_devices("cpu"))


def network(seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input((6, 6, 2), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = layers.BatchNormalization(momentum=0.8, name="norm")(x)
    x = layers.Dropout(0.3, seed=1, name="dropout")(x)
    return keras.Model(image, layers.Dense(3, "softmax", name="scores")(layers.Flatten(name="flat")(x)))


def data(labels=True):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 6, 6, 2)).astype("float32")
    return Data(train=(x, rng.integers(0, 3, ROWS)) if labels else x)


def values(model):
    return [np.asarray(variable) for variable in model.variables]


def at_home(model):
    return all(isinstance(v.value.sharding, SingleDeviceSharding) for v in model.variables)


TRAININGS = {
    "a teacher without labels": (FineTune(**SGD), False),
    "labels, teacher, features, rows held out": (
        FineTune(
            **SGD,
            teacher_weight=0.5,
            features="auto",
            feature_weight=0.5,
            keep_shared=True,
            patience=2,
            holdout=0.3,
            steps_per_execution=3,
        ),
        True,
    ),
    "a rounded twin": (QuantizeAware(FineTune(**SGD, regularization="l1_activations", strength=1e-4)), True),
}


def trained(name):
    transform, labels = TRAININGS[name]
    model = ShareWeights(k=4)(network()).model
    return model, transform(model, data(labels), seed=3, teacher=network(1))


@functools.cache
def alone(name):
    assert distribution() is None
    return trained(name)


def assert_same_training(result, name):
    model, expected = alone(name)
    for v, new in zip(values(result.model), values(expected.model), strict=True):
        np.testing.assert_allclose(v, new, **CLOSE)
    kernel, before = (np.asarray(m.get_layer("scores").kernel) for m in (result.model, model))
    # Far more was learned than the tolerance.
    assert np.abs(kernel - before).max() > 100 * (CLOSE["rtol"] * np.abs(before).max() + CLOSE["atol"])
    for key, figures in expected.log["history"].items():
        assert result.log["history"][key] == pytest.approx(figures, rel=1e-5)
    here, there = (
        {k: v for k, v in log.items() if k not in ("devices", "history")} for log in (result.log, expected.log)
    )
    assert here == there


@pytest.mark.parametrize("name", TRAININGS)
def test_two_devices_give_the_weights_of_one(name, monkeypatch):
    assert alone(name)[1].log["devices"] == 1
    monkeypatch.setattr(module, "accelerators", lambda: list_devices("cpu"))
    model, result = trained(name)
    assert result.log["devices"] == 2
    assert_same_training(result, name)
    assert (np.unique(result.model.get_layer("scores").kernel).size == 4) == ("features" in name)
    # Nothing of it is left, neither in the networks nor for those who come next.
    assert distribution() is None
    assert at_home(model)
    assert at_home(result.model)


def test_a_whole_batch_is_divided_and_one_that_does_not_divide_is_not(two):
    with data_parallel(8):
        for rows, part in ((8, 8 // 2), (5, 5), (1, 1)):
            batch = [
                distribute_tensor(np.zeros(shape), distribution().get_data_layout(shape))
                for shape in ((rows, 3), (rows,))
            ]
            assert all(tensor.sharding.is_fully_replicated for tensor in batch)
            x, y, nothing = jax.jit(divided)((*batch, None))
            assert [shard.data.shape for shard in x.addressable_shards] == [(part, 3)] * two
            assert [shard.data.shape for shard in y.addressable_shards] == [(part,)] * two
            assert nothing is None


@pytest.mark.parametrize(("batch_size", "count"), [(8, 2), (7, 1), (1, 1)])
def test_as_many_devices_as_divide_the_batch_size(two, batch_size, count):
    with data_parallel(batch_size) as shared:
        assert shared == Shared(count, visiting=count > 1)


def test_the_callers_distribution_is_used_and_stays():
    name = "a teacher without labels"
    alone(name)
    own = DataParallel(devices=list_devices("cpu"))
    with own.scope():
        _, result = trained(name)
        assert distribution() is own
    assert result.log["devices"] == 2
    assert all(v.value.sharding.device_set == set(jax.devices("cpu")) for v in result.model.variables)
    assert_same_training(result, name)


def test_an_error_leaves_no_distribution(two):
    def fails():
        with data_parallel(8):
            assert distribution() is not None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert distribution() is None


def test_processors_are_no_accelerators():
    assert len(list_devices()) == 2
    assert accelerators() == []
