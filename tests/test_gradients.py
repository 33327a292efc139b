"""Gradients of gates: against finite differences of the loss, and against single examples."""

import keras
import numpy as np
import pytest
from keras import layers

from networks import NETWORKS, conv, examples, head, image, randomize
from paredown import gradients
from paredown.channels import Channels
from paredown.criteria import fisher, taylor_2016, taylor_2019
from paredown.data import Data, Split
from paredown.errors import DataError
from paredown.flows import channel_axis
from paredown.gradients import GradientStatistics, gradient_statistics, own_output_loss
from paredown.scoring import component_scores
from paredown.statistics import reading_sites
from paredown.transforms.objective import example_loss
from paredown.transforms.prune_channels import PruneChannels


def _shared():
    """One layer at two places, a Flatten, and a residual sum; smooth, so that finite differences are exact."""
    i = image(2, 4)
    first = layers.Conv2D(3, 3, padding="same", activation="tanh", name="first")
    shared = layers.Conv2D(3, 1, activation="tanh", name="shared")
    a = first(i)
    b = layers.Add()([shared(a), shared(layers.AveragePooling2D(3, 1, padding="same")(a))])
    c = layers.Add()([a, layers.Conv2D(3, 3, padding="same", activation="tanh", name="residual")(a)])
    x = layers.Concatenate()([layers.Flatten()(b), layers.Flatten()(c)])
    return randomize(keras.Model(i, layers.Dense(3, activation="softmax", name="out")(x)))


def _depthwise():
    i = image(2, 4)
    x = layers.Conv2D(4, 3, activation="tanh", use_bias=False, name="first")(i)
    x = layers.DepthwiseConv2D(2, use_bias=False)(x)
    return randomize(keras.Model(i, layers.Dense(2, activation="sigmoid")(layers.Flatten()(x))))


def _scaled_loss(channels, split, loss, component, scale):
    """The loss of each example where all readers see a component `scale` times as large."""
    sites = reading_sites(channels)

    def step(call, args, kwargs):
        if call.path in sites.readers:
            leaves = keras.tree.flatten((args, kwargs))
            shape = [1] * len(leaves[0].shape)
            shape[channel_axis(call.operation, len(shape))] = -1
            factor = np.where(channels.reads[call.path] == component, scale, 1).astype("float32").reshape(shape)
            args, kwargs = keras.tree.pack_sequence_as(
                (args, kwargs), [keras.ops.multiply(leaves[0], factor), *leaves[1:]]
            )
        return call.infer(args, kwargs)

    outputs = channels.network.walk(channels.network.cast_inputs([split.x]), step)
    return keras.ops.convert_to_numpy(loss(outputs, [] if split.y is None else [split.y])).astype("float64")


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("build", [_shared, _depthwise])
def test_gradients_are_finite_differences_of_the_whole_group(build, labelled):
    model = build()
    x = examples(model, 5)[0]
    split = Split(x, np.arange(5) % 3 if build is _shared else np.eye(2)[[0, 1, 1, 0, 1]]) if labelled else Split(x)
    channels, loss = Channels(model), example_loss(model, split)
    step = 0.01
    for components, seen in gradient_statistics(channels, split, loss, batch_size=2):
        for k, component in enumerate(components):
            up, down = (_scaled_loss(channels, split, loss, component, 1 + s) for s in (step, -step))
            g = (up - down) / (2 * step)
            assert seen.mean[k] == pytest.approx(g.mean(), rel=2e-3, abs=2e-5)
            assert seen.absolute[k] == pytest.approx(np.abs(g).mean(), rel=2e-3, abs=2e-5)
            assert seen.square[k] == pytest.approx(np.square(g).mean(), rel=4e-3, abs=1e-6)
            batches = [g[:2].mean() ** 2 * 2, g[2:4].mean() ** 2 * 2, g[4] ** 2]
            assert seen.batch_square[k] == pytest.approx(sum(batches) / 5, rel=4e-3, abs=1e-6)


@pytest.mark.parametrize("name", ["residual", "nested_twice", "without_bias", "embedded", "mlp"])
def test_each_example_has_its_own_gradient(name):
    model = randomize(NETWORKS[name]())
    split = Split(examples(model, 4)[0])
    channels, loss = Channels(model), own_output_loss(model)
    together = gradient_statistics(channels, split, loss)
    alone = [gradient_statistics(channels, split.part(np.array([n])), loss) for n in range(4)]
    assert any(seen.square.any() for _, seen in together)
    for number, (_, seen) in enumerate(together):
        g = np.array([one[number][1].mean for one in alone])  # [examples, channels]
        scale = np.abs(g).max() + 1e-12
        assert fisher(seen) / scale**2 == pytest.approx(np.square(g / scale).mean(0) / 2, abs=1e-4)
        assert seen.absolute / scale == pytest.approx(np.abs(g / scale).mean(0), abs=1e-4)


def test_steps_that_fit_into_memory_give_the_same(monkeypatch):
    model = _shared()
    split, channels = Split(examples(model, 7)[0]), Channels(model)
    loss = own_output_loss(model)
    whole = gradient_statistics(channels, split, loss, batch_size=4)
    monkeypatch.setattr(gradients, "STEP_BYTES", 1)  # one example a step
    for (_, a), (_, b) in zip(whole, gradient_statistics(channels, split, loss, batch_size=4), strict=True):
        for name in ("mean", "absolute", "square", "batch_square"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-4, abs=1e-9)


def test_scores_by_eye():
    seen = GradientStatistics(np.array([0.0, 1]), np.array([3.0, 4]), np.array([10.0, 16]), np.array([2.0, 1]), 8)
    assert taylor_2016(seen).tolist() == [3 / 5, 4 / 5]
    assert taylor_2019(seen).tolist() == [2, 1]
    assert fisher(seen).tolist() == [10 / 2, 16 / 2]


def test_a_linear_network_by_eye():
    """y = 2 a + 5 b with a = x, b = 3 x: loss (y - t)²; dL/dgate = 2 (y - t) * what the channel adds to y."""
    i = keras.Input((1,))
    model = keras.Model(i, layers.Dense(1, use_bias=False)(layers.Dense(2, use_bias=False, name="hidden")(i)))
    model.set_weights([np.array([[1.0, 3.0]]), np.array([[2.0], [5.0]])])
    data = Data((np.array([[1.0], [2.0]], "float32"), np.array([[16.0], [32.0]], "float32")))
    # y - t: 17 - 16 = 1, 34 - 32 = 2. Channel a adds 2 and 4, b 15 and 30.
    a, b = [2 * 1 * 2, 2 * 2 * 4], [2 * 1 * 15, 2 * 2 * 30]
    channels = Channels(model)
    hidden, loss = channels.outputs["hidden"], example_loss(model, data.calibration)
    scores = component_scores(channels, "fisher", data, loss=loss)[hidden]
    assert scores.tolist() == [(a[0] ** 2 + a[1] ** 2) / 4, (b[0] ** 2 + b[1] ** 2) / 4]
    scores = component_scores(channels, "taylor_2019", data, loss=loss)[hidden]
    assert scores.tolist() == [(sum(a) / 2) ** 2, (sum(b) / 2) ** 2]


@pytest.mark.parametrize("combine", ["sum", "mean", "max"])
def test_named_combinations_take_each_reader_on_its_own(combine):
    model = _shared()
    channels, data = Channels(model), Data(examples(model, 4)[0])
    loss = own_output_loss(model)
    seen = gradient_statistics(channels, data.calibration, loss, per_reader=True)
    (component,) = set(channels.outputs["first"][:1])
    each = [fisher(s)[c == component][0] for c, s in seen if component in c]
    assert len(each) > 1
    scores = component_scores(channels, "fisher", data, combine=combine)
    assert scores[component] == pytest.approx({"sum": sum, "mean": np.mean, "max": max}[combine](each), rel=1e-5)


def test_labels_must_be_there_for_every_output():
    i = keras.Input((3,))
    x = layers.Dense(4, activation="relu")(i)
    model = keras.Model(i, [layers.Dense(2)(x), layers.Dense(1)(x)])
    with pytest.raises(DataError, match=r"each output needs its own: 2 outputs\. Received: 1 label"):
        PruneChannels(criterion="fisher", sparsity=0.5)(model, Data((np.ones((5, 3), "float32"), np.arange(5) % 2)))


def test_weights_and_batch_statistics_are_not_touched():
    i = image()
    model = randomize(keras.Model(i, head(conv(conv(i, 6), 5))))
    before = [np.array(w) for w in model.weights]
    gradient_statistics(Channels(model), Split(examples(model, 4)[0]), own_output_loss(model))
    assert all(np.array_equal(a, np.array(w)) for a, w in zip(before, model.weights, strict=True))
