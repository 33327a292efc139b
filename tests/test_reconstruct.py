"""Refitting consumers: exact where it can be, never worse than leaving them, through residual sums."""

import keras
import numpy as np
import pytest
from keras import layers

from equality import run
from networks import NETWORKS, conv, examples, head, image, randomize
from paredown.channels import Channels
from paredown.data import Split
from paredown.least_squares import Fit
from paredown.narrow import narrow
from paredown.reconstruct import refit


def _split(model, count, seed=1):
    x = examples(model, count, seed)
    return Split(tuple(x) if len(x) > 1 else x[0])


def _without(model, **gone):
    channels = Channels(model)
    keep = np.ones(channels.count, bool)
    for path, indices in gone.items():
        keep[channels.outputs[path][list(indices)]] = False
    return channels, keep


def _error(model, other, x):
    return sum(float(np.square(a - b).mean()) for a, b in zip(run(model, x), run(other, x), strict=True))


def test_a_channel_that_others_equal_goes_without_a_trace():
    i = image(2, 10)
    x = layers.Conv2D(4, 3, name="a", activation="relu")(i)
    model = randomize(keras.Model(i, layers.Conv2D(3, 3, name="b")(x)))
    layer = model.get_layer("a")
    kernel, bias = layer.get_weights()
    kernel[..., 3], bias[3] = 2 * kernel[..., 0], 2 * bias[0]  # relu(2 z) = 2 relu(z)
    layer.set_weights([kernel, bias])
    channels, keep = _without(model, a=[3])
    found = refit(model, channels, keep, _split(model, 64))
    result = narrow(found.model, channels, keep)
    x = examples(model, 4, 9)
    assert _error(model, result, x) < 1e-6 * np.var(run(model, x)[0])
    assert found.errors["b"] < 1e-6
    assert found.skipped == {}


def test_the_mean_of_a_removed_channel_goes_into_the_bias():
    i = keras.Input((3,))
    hidden = layers.Dense(4, activation="relu", name="a")(i)
    model = keras.Model(i, layers.Dense(2, name="b")(hidden))
    randomize(model)
    model.get_layer("a").set_weights([np.zeros((3, 4)), np.array([0.5, 1.0, 2.0, 3.0])])  # constants
    channels, keep = _without(model, a=[1, 3])
    found = refit(model, channels, keep, _split(model, 10), least_squares=False)
    result = narrow(found.model, channels, keep)
    x = examples(model, 4, 9)
    np.testing.assert_allclose(run(model, x)[0], run(result, x)[0], atol=1e-5)
    kernel, bias = model.get_layer("b").get_weights()
    np.testing.assert_allclose(result.get_layer("b").get_weights()[1], bias + kernel[1] * 1.0 + kernel[3] * 3.0, 1e-5)


def test_a_layer_without_bias_hands_the_mean_to_its_batch_norm():
    i = image(3, 8)
    x = conv(conv(i, 8, name="first"), 6)  # no bias, BatchNormalization behind
    model = randomize(keras.Model(i, head(x)))
    channels, keep = _without(model, first=[0, 1, 2])
    split = _split(model, 32)
    before = narrow(model, channels, keep)
    found = refit(model, channels, keep, split, least_squares=False)
    after = narrow(found.model, channels, keep)
    assert found.skipped == {}
    norm = [layer for layer in after.layers if isinstance(layer, layers.BatchNormalization)][1]
    source = keras.Model(after.inputs, norm.output), keras.Model(model.inputs, model.get_layer(norm.name).output)
    means = [run(m, [split.x])[0].mean((0, 1, 2)) for m in source]
    np.testing.assert_allclose(means[0], means[1], atol=1e-4)
    assert _error(model, after, [split.x]) < _error(model, before, [split.x])


@pytest.mark.parametrize("name", ["residual", "dense_block", "nested", "flattened", "dictionaries", "merges"])
def test_refitting_is_better_than_the_mean_alone_and_that_better_than_nothing(name):
    model = randomize(NETWORKS[name]())
    channels = Channels(model)
    rng = np.random.default_rng(0)
    keep = np.ones(channels.count, bool)
    for group in channels.groups:
        keep[rng.choice(group.components, group.size // 3, replace=False)] = False
    split = _split(model, 256)
    fresh = examples(model, 64, 5)
    errors = [_error(model, narrow(model, channels, keep), fresh)]
    for least_squares in (False, True):
        found = refit(model, channels, keep, split, least_squares)
        errors.append(_error(model, narrow(found.model, channels, keep), fresh))
    assert errors[2] < errors[1] < errors[0]


def test_residual_branches_take_back_the_error_of_the_stream():
    """The stream comes in wrong; the branch alone can put the sum right, since it sees all that made the stream."""
    i = keras.Input((6,))
    stream = layers.Dense(5, name="stream")(layers.Dense(8, name="first")(i))
    branch = layers.Dense(5, name="branch")(i)
    model = randomize(keras.Model(i, layers.Dense(2)(layers.Add()([stream, branch]))))
    channels, keep = _without(model, first=[0, 1, 2, 3, 4])
    found = refit(model, channels, keep, _split(model, 200))
    x = examples(model, 20, 3)
    # 3 of 8 linear units cannot carry the 5 dimensions of the stream.
    assert found.errors["stream"] > 0.01
    assert "branch" not in found.errors  # its own input is as it was
    assert np.isfinite(_error(model, narrow(found.model, channels, keep), x))


def test_few_examples_do_not_make_it_worse():
    """Fewer examples than unknowns: the ridge that does best on rows not seen holds the weights back."""
    i = keras.Input((20,))
    model = randomize(keras.Model(i, layers.Dense(3)(layers.Dense(60, activation="relu", name="a")(i))))
    channels, keep = _without(model, a=range(10))
    fresh = examples(model, 500, 5)
    mean_alone, fitted = (
        narrow(refit(model, channels, keep, _split(model, 30), least_squares).model, channels, keep)
        for least_squares in (False, True)
    )
    assert _error(model, fitted, fresh) <= 1.1 * _error(model, mean_alone, fresh)


def test_what_cannot_be_refitted_is_named():
    shared = randomize(NETWORKS["shared_layers"]())
    channels = Channels(shared)
    keep = np.ones(channels.count, bool)
    group = channels.groups[0]
    keep[group.components[:2]] = False
    found = refit(shared, channels, keep, _split(shared, 8))
    assert "is called more than once" in found.skipped.values()


def test_the_input_network_is_not_touched():
    model = randomize(NETWORKS["residual"]())
    before = [keras.ops.convert_to_numpy(w).copy() for w in model.weights]
    channels = Channels(model)
    keep = np.ones(channels.count, bool)
    keep[channels.groups[0].components[:2]] = False
    refit(model, channels, keep, _split(model, 8))
    assert all(np.array_equal(a, keras.ops.convert_to_numpy(w)) for a, w in zip(before, model.weights, strict=True))


def test_what_is_left_is_what_is_measured():
    from paredown.moments import Sums

    rng = np.random.default_rng(0)
    rows, targets = rng.normal(1, 1, (50, 4)).astype("float32"), rng.normal(2, 1, (50, 3)).astype("float32")
    sums = Sums(4, 3)
    sums.add(rows, targets)
    for fit in (Fit.solved(sums, 1e-5, True), Fit.solved(sums, 0.1, False), Fit.shift_alone(sums)):
        measured = np.square(targets - rows @ fit.step - fit.shift).sum(-1).mean()
        assert fit.left(sums) == pytest.approx(measured, rel=1e-4)
