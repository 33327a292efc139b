"""What layers see, against plain NumPy on the network's intermediate outputs."""

import keras
import numpy as np
import pytest
from keras import layers

from equality import run
from networks import NETWORKS, conv, examples, head, image, randomize
from paredown.channels import Channels
from paredown.compiled import compiled
from paredown.data import Data, Split
from paredown.statistics import REDUCTIONS, _reduced, activation_statistics, reading_sites

NUMPY = {"positive": lambda x: x > 0, "zero": lambda x: x == 0, "value": lambda x: x}


def _model():
    keras.utils.clear_session(free_memory=False)
    i = image()
    x = conv(i, 6)
    y = conv(x, 5)
    return randomize(keras.Model(i, head(layers.Concatenate()([x, y]))))


def _close(seen, x, name):
    expected = NUMPY[name](x.astype("float64")).reshape(-1, x.shape[-1]).sum(0)
    assert seen.sums[name] == pytest.approx(expected, rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("batch_size", [1, 4, 11, 128])
def test_sums_equal_numpy_for_any_batch_size(batch_size):
    model = _model()
    x = examples(model, 11)[0]
    seen = activation_statistics(Channels(model), Split(x), tuple(REDUCTIONS), batch_size)
    read_by = {"conv2d_1": model.get_layer("activation"), "dense": model.get_layer("global_average_pooling2d")}
    assert set(seen) == set(read_by)
    for path, layer in read_by.items():
        values = run(keras.Model(model.inputs, layer.output), [x])[0]
        assert seen[path].positions == values.size // values.shape[-1]
        for name in REDUCTIONS:
            _close(seen[path], values, name)


def test_a_layer_that_is_called_twice_sees_both():
    i = image()
    first, second = layers.Conv2D(4, 3, padding="same", activation="relu"), layers.Conv2D(3, 1, name="second")
    a, b = first(i), layers.ReLU()(first(layers.ReLU()(i)))
    model = randomize(keras.Model(i, head(layers.Add()([second(a), second(b)]))))
    x = examples(model, 5)[0]
    seen = activation_statistics(Channels(model), Split(x), ("positive",))["second"]
    both = run(keras.Model(i, [a, b]), [x])
    assert seen.positions == 2 * 5 * 8 * 8
    assert seen.sums["positive"].tolist() == np.sum([(v > 0).sum((0, 1, 2)) for v in both], 0).tolist()


def test_memory_does_not_grow_with_the_data():
    channels = Channels(_model())
    probe = compiled(_reduced(channels, reading_sites(channels), ("positive", "zero")), channels.network.model)
    for n in (1, 7, 40):
        found = probe([np.zeros((n, 8, 8, 3), "float32")])
        # Two reductions of 6 and of 6 + 5 channels for each example of the batch.
        assert {path: [tuple(s.shape) for s in sums] for path, (sums, _) in found.items()} == {
            "conv2d_1": [(n, 6)] * 2,
            "dense": [(n, 6 + 5)] * 2,
        }


@pytest.mark.parametrize("name", ["normalized_input", "plain", "nested_twice", "embedded"])
def test_the_network_is_not_touched(name):
    model = randomize(NETWORKS[name]())
    before = [np.array(w) for w in model.weights]
    x = examples(model, 4)[0]
    activation_statistics(Channels(model), Data(calibration=x).calibration, ("positive",))
    assert all(np.array_equal(a, np.array(w)) for a, w in zip(before, model.weights, strict=True))


def test_nothing_prunable_gives_nothing():
    model = NETWORKS["maximum_with_start"]()
    assert activation_statistics(Channels(model), Split(examples(model)[0]), ("positive",)) == {}
