"""Pruning and training by turns: what goes, when it ends, and how it is told."""

import keras
import numpy as np
import pytest
from keras import layers

from networks import randomize
from paredown import FineTune, PruneChannels, PruneCycle, PruneGradually, profile
from paredown.data import Data
from paredown.errors import DataError
from paredown.transforms.distort import distorted

#: Trains without moving a weight that can be seen.
STILL = FineTune(learning_rate=1e-12, optimizer="sgd", steps_per_epoch=1, batch_size=8)
NEVER = -100.0


def dense(width=8, dead=()):
    i = keras.Input((3,))
    model = randomize(keras.Model(i, layers.Dense(1, name="out")(layers.Dense(width, "relu", name="hidden")(i))))
    _kill(model, hidden=dead)
    return model, Data(
        (np.ones((16, 3), "float32") * np.linspace(-1, 1, 16, dtype="float32")[:, None], np.zeros((16, 1)))
    )


def autoencoder():
    i = keras.Input((8, 8, 1))
    x = layers.Conv2D(6, 3, 2, "same", activation="relu", name="encoder")(i)
    x = layers.Conv2DTranspose(5, 3, 2, "same", activation="relu", name="decoder")(x)
    model = randomize(keras.Model(i, layers.Conv2D(1, 3, padding="same", name="out")(x)))
    _kill(model, encoder=(1, 2), decoder=(4,))
    return model, Data(np.random.default_rng(0).uniform(0, 1, (16, 8, 8, 1)).astype("float32"))


def _kill(model, **channels):
    for name, dead in channels.items():
        bias = np.array(model.get_layer(name).bias)
        bias[list(dead)] = NEVER
        model.get_layer(name).bias.assign(bias)


def test_what_is_never_active_goes_and_then_it_ends():
    model, data = dense(dead=(1, 4))
    result = PruneCycle(STILL)(model, data)
    assert result.removed["hidden"].tolist() == [1, 4]
    assert [r["removed"] for r in result.log["rounds"]] == [{"hidden": 2}, {}]
    assert [r["units"] for r in result.log["rounds"]] == [{"hidden": 6}, {"hidden": 6}]
    assert (result.log["cycles"], result.log["ended"]) == (2, "nothing went")
    assert np.isfinite([r["loss"] for r in result.log["rounds"]]).all()
    assert [skip.layer for skip in result.skips] == ["out"]


def test_convolutions_and_transposed_convolutions():
    model, data = autoencoder()
    result = PruneCycle(STILL)(model, data)
    encoded, decoded = keras.Model(
        model.inputs, [model.get_layer("encoder").output, model.get_layer("decoder").output]
    ).predict(data.train.x, verbose=0)
    idle = {"encoder": encoded.max((0, 1, 2)) <= 0, "decoder": decoded.max((0, 1, 2)) <= 0}
    assert {path: gone.tolist() for path, gone in result.removed.items()} == {
        path: np.flatnonzero(never).tolist() for path, never in idle.items()
    }
    assert {1, 2} <= set(result.removed["encoder"].tolist()) < set(range(6))
    assert {4} <= set(result.removed["decoder"].tolist()) < set(range(5))


def test_channels_are_told_by_the_original_over_all_cycles():
    model, data = dense()
    result = PruneCycle(STILL, PruneChannels("l1_norm", sparsity=0.25), max_cycles=3)(model, data)
    # 8 - 2 = 6, 6 - int(1.5) = 5, 5 - int(1.25) = 4
    assert [r["units"]["hidden"] for r in result.log["rounds"]] == [6, 5, 4, 4]
    assert result.log["ended"] == "max_cycles"
    norms = np.abs(model.get_layer("hidden").kernel).sum(0)
    assert result.removed["hidden"].tolist() == sorted(np.argsort(norms)[:4].tolist())
    kept = np.delete(np.array(model.get_layer("hidden").kernel), result.removed["hidden"], 1)
    assert np.allclose(result.model.get_layer("hidden").kernel, kept, atol=1e-9)


def test_the_last_training_comes_after_the_last_pruning():
    model, data = dense(dead=(0,))
    rounds = PruneCycle(STILL, max_cycles=1)(model, data).log["rounds"]
    assert [(r["cycle"], r["removed"]) for r in rounds] == [(1, {"hidden": 1}), (2, {})]


def test_patience_counts_cycles_in_a_row_in_which_nothing_went():
    model, data = dense()
    log = PruneCycle(STILL, patience=3, distortion=0.1)(model, data).log
    assert (log["cycles"], log["ended"]) == (3, "nothing went")


def test_it_learns_on_train_and_counts_on_train():
    model, _ = dense(dead=())
    x = np.full((16, 3), 1.0, "float32")
    data = Data(train=(x, np.zeros((16, 1))), calibration=-x)
    never = (x[:1] @ np.array(model.get_layer("hidden").kernel) + np.array(model.get_layer("hidden").bias))[0] <= 0
    assert PruneCycle(STILL)(model, data).removed["hidden"].tolist() == np.flatnonzero(never).tolist()
    assert 0 < never.sum() < 8


@pytest.mark.parametrize("transform", [PruneCycle(), PruneGradually()])
def test_without_training_data(transform):
    model, data = dense()
    with pytest.raises(DataError, match=rf"^{type(transform).__name__} prunes .*Received: no training data"):
        transform(model, Data(validation=data.train))


def test_distortion_is_the_papers_formula():
    model, _ = autoencoder()
    model.get_layer("decoder").kernel.assign(9 * np.array(model.get_layer("decoder").kernel))
    result, again, other = (distorted(model, 0.5, seed) for seed in (1, 1, 2))
    kernels = {
        n: [np.array(m.get_layer(n).kernel) for m in (model, result, again, other)] for n in ("encoder", "decoder")
    }
    before, after, same, different = kernels["encoder"]
    random = (after - before) / (0.5 * (1 - before.var()))
    assert 0.8 < np.abs(random).max() <= 1 + 1e-5
    assert abs(random.mean()) < 4 * np.sqrt(1 / 3 / random.size)  # uniform on [-1, 1]: variance 1 / 3
    assert np.array_equal(after, same)
    assert not np.array_equal(after, different)
    before, after, *_ = kernels["decoder"]
    assert before.var() > 1
    assert np.array_equal(before, after)
    for name, variable in (("encoder", "bias"), ("out", "kernel"), ("out", "bias")):
        assert np.array_equal(*(np.array(getattr(m.get_layer(name), variable)) for m in (model, result)))


@pytest.mark.parametrize(
    ("course", "widths"),
    [
        ("linear", [30, 20, 10]),  # 40 - 40 · 0.75 · (1, 2, 3) / 3
        ("cubic", [19, 12, 10]),  # 40 - int(40 · 0.75 · (1 - (2/3)³)) = 40 - 21, 40 - int(30 · (1 - (1/3)³)) = 40 - 28
    ],
)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_course_of_a_sparsity(course, widths, scope):
    model, data = dense(40)
    prune = PruneChannels("l1_norm", sparsity=0.75, scope=scope)
    result = PruneGradually(prune, STILL, steps=3, course=course)(model, data)
    assert [r["units"]["hidden"] for r in result.log["rounds"]] == widths
    assert result.removed["hidden"].tolist() == prune(model, data).removed["hidden"].tolist()
    assert len(result.log["rounds"]) == 3


def two_widths():
    i = keras.Input((8, 8, 2))
    x = layers.Conv2D(7, 3, activation="relu", name="a")(i)
    x = layers.Conv2D(13, 3, activation="relu", name="b")(x)
    b = layers.Conv2D(5, 1, name="c")(x)
    x = layers.Concatenate(name="both")([x, b])
    x = layers.BatchNormalization(name="norm")(x)
    model = keras.Model(i, layers.Dense(2, name="out")(layers.GlobalAveragePooling2D(name="pool")(x)))
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 2)).astype("float32")
    return randomize(model), Data((x, np.zeros((16, 2))))


def test_sparsity_in_steps_ends_at_the_widths_of_one_pruning():
    model, data = two_widths()
    prune = PruneChannels("l1_norm", sparsity=0.45, exclude=("a",))
    once = prune(model, data)
    result = PruneGradually(prune, STILL, steps=4)(model, data)
    assert {s.layer: s.reason for s in result.skips} == {s.layer: s.reason for s in once.skips}
    for name in ("a", "b", "c", "norm"):
        wanted, got = (m.get_layer(name).output.shape[-1] for m in (once.model, result.model))
        assert wanted <= got <= wanted + 1


def test_macs_in_steps():
    model, data = two_widths()
    result = PruneGradually(PruneChannels("l1_norm", macs=0.3), STILL, steps=3, course="linear")(model, data)
    whole = profile(model).macs
    assert profile(result.model).macs <= 0.3 * whole
    assert profile(result.model).macs > 0.2 * whole
    losses = [r["removed"] for r in result.log["rounds"]]
    assert len(losses) == 3
    assert all(losses)
