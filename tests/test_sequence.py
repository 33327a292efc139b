"""What pruning promises of recurrent, attention and TimeDistributed layers beyond the contract of all networks."""

import keras
import numpy as np
import pytest
from keras import layers

from equality import assert_pruned_equals_masked, difference, layer_at, run
from networks import NETWORKS, examples, randomize
from paredown import Data, PruneChannels
from paredown.channels import channel_groups
from paredown.data import Split

HALF = PruneChannels(criterion="l1_norm", sparsity=0.5)
RECURRENT = {
    "LSTM": lambda: layers.LSTM(6),
    "GRU": lambda: layers.GRU(6),
    "GRU, reset before": lambda: layers.GRU(6, reset_after=False),
    "SimpleRNN": lambda: layers.SimpleRNN(6),
    "Bidirectional": lambda: layers.Bidirectional(layers.LSTM(6)),
    "ConvLSTM": lambda: layers.ConvLSTM1D(6, 2),
}


def _pruned(name):
    model = randomize(NETWORKS[name]())
    return model, HALF(model), examples(model)


def _around(layer):
    rank = 4 if isinstance(layer, layers.ConvLSTM1D) else 3
    i = keras.Input((7, 5, 4)[4 - rank :])
    return randomize(keras.Model(i, layers.Dense(2)(layers.Flatten()(layer(i)))))


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_removed_unit_is_silent_in_the_recurrence_too(kind):
    model = _around(RECURRENT[kind]())
    inputs, result = examples(model), HALF(model)
    pruned = run(result.model, inputs)
    assert_pruned_equals_masked(model, result, inputs)
    (path,) = result.removed
    layer = layer_at(model, path)
    cells = [half.cell for half in (getattr(layer, "forward_layer", layer), getattr(layer, "backward_layer", layer))]
    before = [keras.ops.convert_to_numpy(cell.recurrent_kernel) for cell in cells]
    # A mask of the output alone leaves the unit talking to the others: that is another network.
    layer_call = layer.call
    mask = np.ones(layer.output.shape[-1], "float32")
    mask[result.removed[path]] = 0
    layer.call = lambda *args, **kwargs: layer_call(*args, **kwargs) * mask
    assert difference(run(model, inputs), pruned) > 1e-3
    layer.call = layer_call
    assert all(np.array_equal(a, cell.recurrent_kernel) for a, cell in zip(before, cells, strict=True))


@pytest.mark.parametrize("name", ["attention", "transformer_pre_norm", "transformer_post_norm"])
def test_transformers_lose_heads_and_feed_forward_width(name):
    model, result, _ = _pruned(name)
    heads = {change.layer: change for change in result.changes if change.what == "heads"}
    attention = [layer for layer in model.layers if isinstance(layer, layers.MultiHeadAttention)]
    assert set(heads) == {layer.name for layer in attention}
    for layer in attention:
        left = layer.num_heads - layer.num_heads // 2
        assert (heads[layer.name].before, heads[layer.name].after) == (layer.num_heads, left)
        new = result.model.get_layer(layer.name)
        assert (new.num_heads, new.key_dim, new.value_dim) == (left, layer.key_dim, layer.value_dim)
        assert new.output_dense.kernel.shape == (left, layer.value_dim, layer.output_dense.kernel.shape[-1])
        assert len(result.inside[f"{layer.name}/heads"]) == layer.num_heads // 2
    assert any(path.startswith("dense") for path in result.removed)
    reasons = {skip.layer: skip.reason for skip in result.skips}
    gone = attention[0].num_heads // 2
    assert reasons[attention[0].name].startswith(f"heads: {gone} removed; output channels: layer_normalization")


def test_removed_heads_are_checked_and_change_the_outputs():
    model, result, inputs = _pruned("transformer_pre_norm")
    only_heads = PruneChannels(criterion="l1_norm", sparsity=0.5, exclude=("dense_1", "dense_3"))(model)
    assert only_heads.removed == {}
    assert difference(run(model, inputs), run(only_heads.model, inputs)) > 1e-3
    (check,) = HALF.prove(model, only_heads, inputs)
    assert check.value <= 1e-5
    # Without the heads' mask it is another network, and the check says so.
    (check,) = HALF.prove(model, type(result)(only_heads.model), inputs)
    assert check.value > 1e-3


def test_excluded_attention_keeps_its_heads():
    model = randomize(NETWORKS["attention"]())
    result = PruneChannels(criterion="l1_norm", sparsity=0.5, exclude=("multi_head_attention",))(model)
    assert result.inside == {}
    assert {s.layer: s.reason for s in result.skips}["multi_head_attention"].startswith("heads: excluded")


def test_the_head_with_the_least_weights_goes_first():
    model = randomize(NETWORKS["attention"]())
    layer = model.get_layer("multi_head_attention")
    for dense in (layer.query_dense, layer.key_dense, layer.value_dense):
        kernel = np.array(dense.kernel)
        kernel[:, 0] *= 0.01
        dense.kernel.assign(kernel)
    result = PruneChannels(criterion="l2_norm", sparsity=0.5)(model)
    assert result.inside["multi_head_attention/heads"].tolist() == [0]


def test_a_recurrent_unit_is_scored_by_all_that_makes_it():
    model = _around(layers.LSTM(6))
    cell = model.layers[1].cell
    for name, unit in (("kernel", 4), ("recurrent_kernel", 2)):
        value = np.array(getattr(cell, name)).reshape(-1, 4, 6)
        value[:, :, unit] = 0
        getattr(cell, name).assign(value.reshape(-1, 24))
    kernels = [np.array(w).reshape(-1, 4, 6) for w in (cell.kernel, cell.recurrent_kernel)]
    order = np.argsort(sum(np.abs(kernel).sum((0, 1)) for kernel in kernels))
    assert HALF(model).removed["lstm"].tolist() == sorted(order[:3])


def test_the_recurrent_network_loses_channels_everywhere():
    _, result, _ = _pruned("recurrent")
    left = {layer.name for layer in result.model.layers if layer.weights} - set(result.removed)
    assert left == {"dense_1"}  # the network's output


def test_heads_that_share_a_key_go_together():
    _, result, _ = _pruned("grouped_query")
    new = result.model.get_layer("grouped_query_attention")
    assert (new.num_query_heads, new.num_key_value_heads) == (4, 2)
    (group,) = result.inside["grouped_query_attention/key_value_heads"]
    assert result.inside["grouped_query_attention/heads"].tolist() == [2 * group, 2 * group + 1]


def test_states_of_a_stateful_network_are_left_as_they_were():
    model = randomize(NETWORKS["stateful"]())
    inputs = examples(model)
    model(inputs[0])
    states = [np.array(state) for state in model.layers[-2].states]
    assert any(state.any() for state in states)
    data = Data(calibration=Split(inputs[0]))
    result = PruneChannels(criterion="apoz", sparsity=0.5, batch_size=2)(model, data)
    (check,) = HALF.prove(model, result, inputs)
    assert check.value <= 1e-5
    assert all(np.array_equal(a, b) for a, b in zip(states, model.layers[-2].states, strict=True))


def test_encoder_and_decoder_units_are_one_group():
    group = next(group for group in channel_groups(NETWORKS["encoder_decoder"]()) if group.name == "lstm")
    assert {"lstm", "lstm_1"} <= set(group.outputs)


def test_padding_changes_nothing_before_and_after():
    """The mask of an Embedding reaches the last recurrent layer through pruned ones."""
    model, result, _ = _pruned("recurrent_masked")
    padded = [np.array([[3, 5, 2, 7, 0, 0, 0, 0, 0]]), np.array([[3, 5, 2, 7, 0, 0, 9, 0, 0]])]
    for network in (model, result.model):
        embedding = network.get_layer("embedding").embeddings
        before = np.array(embedding)
        first, other = (run(network, [x])[0] for x in padded)
        embedding.assign(np.concatenate([before[:1] + 100, before[1:]]))
        assert np.array_equal(run(network, padded[:1])[0], first)
        embedding.assign(before)
        assert not np.array_equal(first, other)


def test_what_only_attention_reads_stays_under_criteria_of_activations():
    model = randomize(NETWORKS["transformer_pre_norm"]())
    data = Data(calibration=Split(tuple(examples(model, 8))))
    result = PruneChannels(criterion="apoz", sparsity=0.5)(model, data)
    assert result.inside == {}
    assert set(result.removed) == {"dense_1", "dense_3"}
    reason = {skip.layer: skip.reason for skip in result.skips}["multi_head_attention"]
    assert reason.startswith(
        "heads: criterion 'apoz' gives its channels no score; output channels: layer_normalization"
    )
