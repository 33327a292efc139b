"""The contract of pruning over sequence networks that nobody wrote."""

import keras
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops

from networks import randomize
from test_random_networks import assert_contract

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
_WIDTHS = st.sampled_from([1, 2, 3, 4, 6])
_CELLS = st.sampled_from([layers.LSTM, layers.GRU, layers.SimpleRNN])
_ACTIVATIONS = st.sampled_from(["relu", "sigmoid", "tanh", "linear", "softmax"])


def _recurrent(draw, x, **kwargs):
    kind = draw(_CELLS)
    kwargs = {"return_sequences": True, "go_backwards": draw(st.booleans()), "use_bias": draw(st.booleans()), **kwargs}
    if kind is layers.GRU:
        kwargs["reset_after"] = draw(st.booleans())
    return kind(draw(_WIDTHS), **kwargs)


def _one_way(draw, x):
    return _recurrent(draw, x)(x)


def _both_ways(draw, x):
    merge = draw(st.sampled_from(["concat", "sum", "mul", "ave"]))
    return layers.Bidirectional(_recurrent(draw, x, go_backwards=False), merge_mode=merge)(x)


def _continued(draw, x):
    """A second recurrent layer starts from the first one's states."""
    units = draw(_WIDTHS)
    y, *states = layers.LSTM(units, return_sequences=True, return_state=True)(x)
    return layers.LSTM(units, return_sequences=True)(y if draw(st.booleans()) else x, initial_state=states)


def _each_step(draw, x):
    inner = draw(st.sampled_from([layers.Dense(draw(_WIDTHS)), layers.BatchNormalization(), layers.ReLU()]))
    return layers.TimeDistributed(inner)(x)


def _dense(draw, x):
    return layers.Dense(draw(_WIDTHS), activation=draw(_ACTIVATIONS))(x)


def _conv(draw, x):
    return layers.Conv1D(draw(_WIDTHS), 3, padding=draw(st.sampled_from(["same", "causal"])), activation="relu")(x)


def _norm(draw, x):
    return draw(st.sampled_from([layers.BatchNormalization, layers.LayerNormalization]))()(x)


def _self_attention(draw, x):
    layer = layers.MultiHeadAttention(draw(st.integers(1, 4)), draw(st.integers(1, 3)), use_bias=draw(st.booleans()))
    return layers.Add()([x, layer(x, x, use_causal_mask=draw(st.booleans()))])


def _cross_attention(draw, x):
    other = _dense(draw, ops.flip(x, axis=1)) if draw(st.booleans()) else _one_way(draw, x)
    width = draw(st.sampled_from([None, 3]))
    return layers.MultiHeadAttention(draw(st.integers(2, 3)), 2, output_shape=width)(x, other)


def _grouped_attention(draw, x):
    shared = draw(st.integers(1, 2))
    return layers.GroupQueryAttention(2, shared * draw(st.integers(1, 3)), shared)(x, x)


def _plain_attention(draw, x):
    kind, width = draw(st.sampled_from([layers.Attention, layers.AdditiveAttention])), draw(_WIDTHS)
    query, key = layers.Dense(width)(x), layers.Dense(width)(x)
    return kind()([query, x, key])


def _residual(draw, x):
    return layers.Add()([x, layers.Dense(x.shape[-1])(_dense(draw, x))])


_STEPS = (_one_way, _both_ways, _continued, _each_step, _dense, _conv, _norm, _self_attention, _cross_attention)
_STEPS += (_grouped_attention, _plain_attention, _residual)
_ENDS = (
    lambda draw, x: layers.GlobalAveragePooling1D()(x),
    lambda draw, x: layers.Flatten()(x),
    lambda draw, x: _recurrent(draw, x, return_sequences=False)(x),
    lambda draw, x: x[:, -1],
)


def drawn(draw):
    i = keras.Input((4, draw(st.integers(2, 3))))
    x = draw(st.sampled_from([_dense, _conv, _one_way]))(draw, i)
    for _ in range(draw(st.integers(1, 5))):
        before, x = x, draw(st.sampled_from(_STEPS))(draw, x)
        if draw(st.integers(0, 4)) == 0:
            x = layers.Concatenate()([before, x])
    return randomize(keras.Model(i, layers.Dense(3)(draw(st.sampled_from(_ENDS))(draw, x))), draw(st.integers(0, 9)))


@given(st.data(), st.sampled_from([0.3, 0.5, 0.8]), st.integers(0, 9))
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=_SLOW)
def test_random_sequence_networks_keep_the_contract(data, sparsity, seed):
    keras.utils.clear_session(free_memory=False)
    assert_contract(drawn(data.draw), sparsity, seed)
