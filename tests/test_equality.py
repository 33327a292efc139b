"""The contract of pruning, over the table of networks.

Each network is pruned once for each of SETTINGS, and every test that needs a pruned network looks at one of these.
"""

from functools import cache

import keras
import numpy as np
import pytest

from equality import (
    assert_counts_fit,
    assert_groups_partition,
    assert_nothing_silent,
    assert_pruned_equals_masked,
    layer_at,
    run,
)
from networks import NETWORKS, examples, randomize
from paredown.channels import Channels
from paredown.data import Data, Split
from paredown.errors import ModelError
from paredown.network import Network
from paredown.profiling import profile
from paredown.rebuild import rebuild
from paredown.transforms.prune_channels import PruneChannels

SETTINGS = {
    "l1": PruneChannels(criterion="l1_norm", sparsity=0.3, compensate=False),
    "random": PruneChannels(criterion="random", sparsity=0.5, compensate=False),
    "apoz": PruneChannels(criterion="apoz", sparsity=0.3, scope="global", compensate=False),
}
REFITTED = PruneChannels(criterion="structured_obs", sparsity=0.3, reconstruct=True)
#: bfloat16 has 8 bits: sums of fewer terms round differently.
TOLERANCES = {"mixed_precision": 0.03}


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def case(request):
    model = randomize(NETWORKS[request.param]())
    inputs = examples(model)
    shape = tuple(inputs[0].shape[1:]) if any(None in t.shape[1:] for t in model.inputs) else None
    data = Data(calibration=Split(tuple(inputs) if len(inputs) > 1 else inputs[0]))
    return request.param, model, inputs, shape, data


@pytest.fixture(scope="module")
def pruned(case):
    """A name of SETTINGS -> the network pruned so, itself untouched; made when it is first asked for."""
    _, model, _, _, data = case

    @cache
    def result_of(settings):
        before = _state(model)
        result = SETTINGS[settings](model, data, seed=3)
        _assert_same_state(before, _state(model))
        return result

    return result_of


@pytest.fixture(scope="module")
def channels(case):
    return Channels(case[1])


@pytest.fixture(scope="module")
def untouched(case):
    """What the network gives before anything was done to it."""
    _, model, inputs, _, _ = case
    return run(model, inputs)


def _state(model):
    return (
        [(w.path, np.array(w)) for w in model.weights],
        model.get_config(),
        [len(layer._inbound_nodes) for layer in model.layers],
        [layer.trainable for layer in model._flatten_layers()],
    )


def _assert_same_state(before, after):
    assert [path for path, _ in before[0]] == [path for path, _ in after[0]]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(before[0], after[0], strict=True))
    assert before[1:] == after[1:]


def test_identity_rebuild_is_bit_exact(case, untouched):
    _, model, inputs, _, _ = case
    same = rebuild(model)
    assert all(np.array_equal(a, b) for a, b in zip(untouched, run(same, inputs), strict=True))
    names = [[t._keras_history.operation.name for t in m.inputs] for m in (model, same)]
    assert names[0] == names[1]
    assert same.trainable == model.trainable
    for call in Network(model).all_calls():
        if call.is_layer:
            before, after = call.operation, layer_at(same, call.path)
            assert [v.trainable for v in before.variables] == [v.trainable for v in after.variables]
            assert before.trainable == after.trainable


def test_sparsity_zero_is_bit_identical(case, untouched):
    _, model, inputs, _, _ = case
    result = PruneChannels(criterion="l1_norm", sparsity=0.0)(model)
    assert result.removed == {}
    assert result.changes == ()
    assert all(np.array_equal(a, b) for a, b in zip(untouched, run(result.model, inputs), strict=True))


@pytest.mark.parametrize("settings", SETTINGS)
def test_pruned_equals_masked(case, pruned, channels, settings):
    name, model, inputs, shape, _ = case
    result = pruned(settings)
    assert_pruned_equals_masked(model, result, inputs, TOLERANCES.get(name, 1e-5))
    assert_counts_fit(model, result, shape, channels)
    assert_nothing_silent(model, result)
    for path in channels.outputs.keys() - channels.inside:
        assert layer_at(result.model, path).name == layer_at(model, path).name
        assert layer_at(result.model, path).trainable == layer_at(model, path).trainable


def test_refitted_equals_its_reference_masked(case, channels):
    name, model, inputs, shape, data = case
    before = _state(model)
    result = REFITTED(model, data, seed=3)
    _assert_same_state(before, _state(model))
    reference = result.reference or model
    assert_pruned_equals_masked(reference, result, inputs, TOLERANCES.get(name, 1e-5))
    assert_counts_fit(model, result, shape, channels)
    assert_nothing_silent(model, result)


def test_result_saves_and_loads_with_plain_keras(case, pruned, tmp_path):
    _, _, inputs, _, _ = case
    result = pruned("l1")
    result.model.save(tmp_path / "model.keras")
    if case[0] == "nested_and_own":
        pytest.skip("Keras cannot load a layer that is in a nested model and beside it, pruned or not")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert all(np.array_equal(a, b) for a, b in zip(run(result.model, inputs), run(loaded, inputs), strict=True))


def _own_loss(true, predicted):
    return keras.ops.mean(keras.ops.square(true - predicted))


@pytest.mark.parametrize("loss", ["mse", _own_loss, keras.losses.Huber(0.5)])
def test_compile_configuration_is_kept(loss):
    model = randomize(NETWORKS["plain"]())
    model.compile(keras.optimizers.SGD(0.25), loss, metrics=["mae", _own_loss])
    pruned = PruneChannels(criterion="l1_norm", sparsity=0.5)(model).model
    x, y = np.ones((2, 8, 8, 3), "float32"), np.ones((2, 4), "float32")
    before, after = (m.evaluate(x, y, verbose=0, return_dict=True).keys() for m in (model, pruned))
    assert before == after
    assert pruned.optimizer is not model.optimizer
    assert float(pruned.optimizer.learning_rate) == 0.25


def test_code_that_was_let_in_is_copied():
    i = keras.Input((4,))
    x = keras.layers.Lambda(lambda x: x * 2)(keras.layers.Dense(6)(i))
    model = randomize(keras.Model(i, keras.layers.Dense(2)(keras.layers.Dense(4)(x))))
    result = PruneChannels(criterion="l1_norm", sparsity=0.5)(model)
    assert_pruned_equals_masked(model, result, examples(model))
    assert "no rule for Lambda: its neighbours must stay" in {skip.reason for skip in result.skips}


def test_a_layer_without_its_settings_is_named():
    class Scaled(keras.layers.Layer):
        def __init__(self, factor, **kwargs):
            super().__init__(**kwargs)
            self._factor = {"a set": factor}

        def call(self, x):
            return x * self._factor["a set"]

        def get_config(self):
            return super().get_config()

    i = keras.Input((4,))
    model = keras.Model(i, keras.layers.Dense(2)(Scaled(2.0, name="scaled")(keras.layers.Dense(6)(i))))
    with pytest.raises(ModelError, match=r"Received: 'scaled' of class Scaled, which cannot"):
        rebuild(model)


def test_nested_models_called_with_another_rank_are_refused():
    inner_in = keras.Input((6,))
    inner = keras.Model(inner_in, keras.layers.Dense(5)(inner_in), name="inner")
    i = keras.Input((6, 1))
    with pytest.raises(ModelError, match=r"Received: \(None, 6, 1\) for inner, whose input is \(None, 6\)"):
        Channels(keras.Model(i, inner(i)))


def test_groups_partition_the_prunable_channels(channels):
    assert_groups_partition(channels)


def test_more_sparsity_never_means_more_macs(case, pruned):
    _, model, _, shape, _ = case
    more = [PruneChannels(criterion="l1_norm", sparsity=sparsity)(model).model for sparsity in (0.6, 0.9)]
    macs = [profile(network, shape).macs for network in (model, pruned("l1").model, *more)]
    assert macs == sorted(macs, reverse=True)


def test_same_seed_same_result(case, pruned):
    _, model, _, _, data = case
    first = pruned("random")
    second, other = (SETTINGS["random"](model, data, seed=seed) for seed in (3, 4))
    assert first.removed.keys() == second.removed.keys() == other.removed.keys()
    assert all(np.array_equal(first.removed[path], second.removed[path]) for path in first.removed)
    assert all(np.array_equal(a, b) for a, b in zip(first.model.get_weights(), second.model.get_weights(), strict=True))


def test_pruned_networks_can_be_pruned_again(case, pruned):
    _, _, inputs, _, _ = case
    once = pruned("l1")
    twice = PruneChannels(criterion="random", sparsity=0.4)(once.model)
    assert_pruned_equals_masked(once.model, twice, inputs, TOLERANCES.get(case[0], 1e-5))
