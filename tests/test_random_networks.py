"""The same contract over networks that nobody wrote: chains and branches drawn at random."""

import os

import keras
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops

from equality import (
    assert_counts_fit,
    assert_groups_partition,
    assert_nothing_silent,
    assert_pruned_equals_masked,
    run,
)
from networks import examples, randomize
from paredown.channels import Channels
from paredown.rebuild import rebuild
from paredown.transforms.prune_channels import PruneChannels

#: How many networks are drawn; the tests of other backends, which compile more slowly, ask for fewer.
_EXAMPLES = int(os.environ.get("PAREDOWN_RANDOM_NETWORKS", "40"))
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
_WIDTHS = st.sampled_from([1, 2, 3, 4, 6, 8])
_ACTIVATIONS = st.sampled_from(["relu", "sigmoid", "tanh", "linear", "hard_silu", "relu6", "softplus", "elu"])


def _conv(draw, x):
    kind = draw(st.sampled_from([layers.Conv2D, layers.Conv2D, layers.Conv2DTranspose, layers.SeparableConv2D]))
    return kind(
        draw(_WIDTHS),
        draw(st.sampled_from([1, 3])),
        padding="same",
        use_bias=draw(st.booleans()),
        activation=draw(_ACTIVATIONS),
    )(x)


def _valid_conv(draw, x):
    size = min(2, x.shape[1], x.shape[2])
    return layers.Conv2D(draw(_WIDTHS), size, activation=draw(_ACTIVATIONS))(x)


def _grouped(draw, x):
    """Any number of groups that divides the channels, the channels themselves included."""
    channels = x.shape[-1]
    groups = draw(st.sampled_from([n for n in range(1, channels + 1) if channels % n == 0]))
    width = groups * draw(st.integers(1, max(1, 12 // groups)))
    size = draw(st.sampled_from([1, 3]))
    settings = {"padding": "same", "use_bias": draw(st.booleans()), "activation": draw(_ACTIVATIONS)}
    return layers.Conv2D(width, size, groups=groups, **settings)(x)


def _depthwise(draw, x):
    return layers.DepthwiseConv2D(3, padding="same", depth_multiplier=draw(st.integers(1, 2)))(x)


def _norm(draw, x):
    return layers.BatchNormalization(scale=draw(st.booleans()), center=draw(st.booleans()))(x)


def _activation(draw, x):
    choice = draw(st.integers(0, 3))
    if choice == 0:
        return layers.PReLU(shared_axes=draw(st.sampled_from([None, [1, 2]])))(x)
    if choice == 1:
        return ops.clip(x * draw(st.sampled_from([0.5, -2.0])) + draw(st.sampled_from([0.0, 0.25])), -1, 1.5)
    return layers.Activation(draw(_ACTIVATIONS))(x)


def _positions(draw, x):
    moved = [
        lambda: layers.MaxPooling2D(2, padding="same")(x),
        lambda: layers.AveragePooling2D(2, padding="same")(x),
        lambda: layers.ZeroPadding2D(1)(x),
        lambda: layers.UpSampling2D(2)(x) if x.shape[1] <= 8 else x,
        lambda: ops.pad(x, ((0, 0), (1, 0), (0, 1), (0, 0))),
        lambda: ops.flip(x, 1),
        lambda: x[:, ::2] if x.shape[1] > 1 else x,
    ]
    return draw(st.sampled_from(moved))()


def _sliced(draw, x):
    channels = x.shape[-1]
    start = draw(st.integers(0, channels - 1))
    return x[..., start : draw(st.integers(start + 1, channels))]


def _halves(draw, x):
    """Splits in parts and puts them together again, in another order or by another operation."""
    channels = x.shape[-1]
    if channels % 2:
        return layers.Concatenate()([x, x])
    parts = ops.split(x, 2, axis=-1)
    how = draw(st.integers(0, 3))
    if how == 0:
        return layers.Concatenate()(parts[::-1])
    if how == 1:
        return parts[0] * parts[1]
    if how == 2:
        return ops.reshape(ops.stack(parts, axis=-1), (-1, *x.shape[1:]))
    return layers.Concatenate()([parts[0], _conv(draw, parts[1])])


def _reshaped(draw, x):
    height, width, channels = x.shape[1:]
    how = draw(st.integers(0, 4))
    if how == 0 and channels % 2 == 0:
        return layers.Reshape((height, width, channels))(
            layers.Permute((1, 2, 4, 3))(layers.Reshape((height, width, 2, channels // 2))(x))
        )
    if how == 1 and channels % 4 == 0 and height <= 8:
        return ops.depth_to_space(x, 2)
    if how == 2 and height % 2 == 0 and width % 2 == 0:
        return ops.space_to_depth(x, 2)
    if how == 3:
        return layers.Permute((2, 1, 3))(x)
    return layers.Reshape((height, width, channels))(layers.Flatten()(x))


def _attention(draw, x):
    channels = x.shape[-1]
    y = layers.GlobalAveragePooling2D(keepdims=draw(st.booleans()))(x)
    y = layers.Dense(channels, activation="sigmoid")(layers.Dense(2, activation="relu")(y))
    return layers.Multiply()([x, layers.Reshape((1, 1, channels))(y)])


def _spread(draw, x):
    return layers.Add()([x, layers.Conv2D(1, 1)(x)])


def _nested(draw, x):
    i = keras.Input(x.shape[1:])
    y = _activation(draw, _conv(draw, i))
    inner = keras.Model(i, layers.Concatenate()([y, i]) if draw(st.booleans()) else y)
    first = inner(x)
    return layers.Concatenate()([first, inner(ops.tanh(x))]) if draw(st.booleans()) else first


def _shared(draw, x):
    if draw(st.booleans()):
        layer = layers.Conv2D(draw(_WIDTHS), 1, activation="relu")
    else:
        channels = x.shape[-1]
        groups = draw(st.sampled_from([n for n in (1, 2, 3, 4, 6, 8) if channels % n == 0]))
        layer = layers.Conv2D(2 * groups, 1, groups=groups, activation="relu")
    return layers.Average()([layer(x), layer(_activation(draw, x))])


_STEPS = (_conv, _valid_conv, _depthwise, _norm, _activation, _positions, _sliced, _halves, _reshaped, _attention)
_STEPS += (_spread, _nested, _shared, _grouped, _grouped)


def _fitted(x, like):
    """A tensor with the other's shape: one more convolution, resized by slicing and padding."""
    x = layers.Conv2D(like.shape[-1], 1)(x)
    rows, columns = (max(0, a - b) for a, b in zip(like.shape[1:3], x.shape[1:3], strict=True))
    x = layers.ZeroPadding2D(((0, rows), (0, columns)))(x)
    return x[:, : like.shape[1], : like.shape[2]]


def _merged(draw, x, y):
    merge = draw(
        st.sampled_from([layers.Add, layers.Multiply, layers.Subtract, layers.Maximum, layers.Average, None, "rows"])
    )
    if merge == "rows":
        return layers.Concatenate(axis=1)([x, _fitted(y, x)]) if x.shape[1] <= 8 else x
    if merge is None:
        return layers.Concatenate()([x, _fitted(y, x)[..., :1], _fitted(y, x)])
    return merge()([x, _fitted(y, x)])


def drawn(draw):
    i = keras.Input((6, 6, draw(st.integers(1, 3))))
    x = _conv(draw, i)
    seen = [i, x]
    for _ in range(draw(st.integers(1, 7))):
        if draw(st.integers(0, 3)) == 0:
            x = _merged(draw, x, draw(st.sampled_from(seen)))
        else:
            x = draw(st.sampled_from(_STEPS))(draw, x)
        if 1 <= x.shape[-1] <= 24:
            seen.append(x)
        else:
            x = seen[-1]
    outputs = [layers.Dense(3)(draw(st.sampled_from([layers.Flatten, layers.GlobalMaxPooling2D]))()(x))]
    if draw(st.integers(0, 5)) == 0:
        outputs.append(draw(st.sampled_from(seen)))
    return randomize(keras.Model(i, outputs), draw(st.integers(0, 9)))


def assert_contract(model, sparsity, seed):
    inputs = examples(model, seed=seed)
    before = [np.array(w) for w in model.weights]
    same = rebuild(model)
    assert all(np.array_equal(a, b) for a, b in zip(run(model, inputs), run(same, inputs), strict=True))
    assert_groups_partition(Channels(model))
    result = PruneChannels(criterion="random", sparsity=sparsity)(model, seed=seed)
    assert_pruned_equals_masked(model, result, inputs)
    assert_counts_fit(model, result)
    assert_nothing_silent(model, result)
    assert all(np.array_equal(a, np.array(w)) for a, w in zip(before, model.weights, strict=True))


@given(st.data(), st.sampled_from([0.3, 0.5, 0.8]), st.integers(0, 9))
@settings(max_examples=_EXAMPLES, deadline=None, derandomize=True, suppress_health_check=_SLOW)
def test_random_networks_keep_the_contract(data, sparsity, seed):
    keras.utils.clear_session(free_memory=False)
    assert_contract(drawn(data.draw), sparsity, seed)
