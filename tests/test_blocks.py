"""The contract of every row of BLOCKS: costs as profiled, prunable throughout, equal in LiteRT; and single blocks."""

import inspect

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from equality import (
    TOLERANCE,
    assert_counts_fit,
    assert_nothing_silent,
    assert_pruned_equals_masked,
    difference,
    run,
)
from network_parts import examples, randomize
from paredown import PruneChannels, blocks, export_litert, profile
from paredown.blocks import BLOCKS, costs
from paredown.errors import SettingError
from paredown.measure import LiteRTRunner
from paredown.network import Network

#: What rows are also built with; every row is built with its defaults and each stride.
MORE = [
    ("convolution", {"kernel_size": (5, 2), "strides": (2, 1), "padding": "valid"}),
    ("one_dimensional", {"kernel_size": 7, "width": 5, "padding": "valid"}),
    ("one_dimensional", {"kernel_size": (3, 5), "strides": (1, 3), "between": None}),
    ("separable", {"multiplier": 3, "kernel_size": 5, "padding": "valid"}),
    ("inception_v1", {"filters": (3, 4, 6, 2, 3, 2)}),
    ("inception_v3", {"filters": (3, 4, 6, 2, 3, 2), "kernel_size": 3}),
    ("bottleneck", {"strides": 2, "strides_at": "3x3", "width": 5}),
    *(("residual", {"shortcut": kind, "strides": s, "filters": f}) for kind in "ABC" for s in (1, 2) for f in (6, 15)),
    ("residual", {"body": "bottleneck", "width": 3, "shortcut": "B"}),
    ("residual", {"body": "inception_v2", "scale": 0.2, "shortcut": "A", "strides": 2}),
    ("residual", {"body": "separable", "shortcut": "C", "multiplier": 2}),
    ("inverted_residual", {"expansion": 1, "filters": 6}),
    ("inverted_residual", {"expansion": 3, "filters": 6}),
]


def _taken(function, given):
    """Those settings that the function has an argument for; a body is named, and is this function's kind of it."""
    known = inspect.signature(function).parameters
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    inner = "cost" if function.__module__ == costs.__name__ else "build"
    unpriced = ("between", "activation", "scale") if inner == "cost" else ()
    named = {k: getattr(BLOCKS[v], inner) if k == "body" else v for k, v in given.items()}
    return {k: v for k, v in named.items() if k not in unpriced and (free or k in known)}


def _model(row, shape, **given):
    image = keras.Input(shape)
    given = {"filters": 12, **given}
    return keras.Model(image, BLOCKS[row].build(image, **_taken(BLOCKS[row].build, given)))


def _cost(row, shape, **given):
    return BLOCKS[row].cost(shape, **_taken(BLOCKS[row].cost, {"filters": 12, **given}))


def _assert_costs_as_profiled(row, shape, **given):
    model, cost = _model(row, shape, **given), _cost(row, shape, **given)
    found = profile(model)
    assert not found.unknown
    assert (cost.macs, cost.params, cost.shape) == (found.macs, found.params, tuple(model.output.shape[1:]))
    assert cost.kernels == sum(w.size for w in map(np.array, model.weights) if w.ndim > 1)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("row", BLOCKS)
def test_costs_are_those_profiled(row, strides, normalize):
    _assert_costs_as_profiled(row, (9, 8, 6), strides=strides, normalize=normalize)


@pytest.mark.parametrize(("row", "given"), MORE)
def test_costs_are_those_profiled_with_other_settings(row, given):
    _assert_costs_as_profiled(row, (9, 8, 6), **given)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_costs_are_those_profiled_at_any_size(data):
    row = data.draw(
        st.sampled_from([name for name in BLOCKS if "padding" in inspect.signature(_build(name)).parameters])
    )
    size, channels, filters = (data.draw(st.integers(*ends)) for ends in ((5, 14), (1, 5), (1, 9)))
    kernel, strides = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4))
    padding = data.draw(st.sampled_from(["same", "valid"]))
    shape = (size, size + data.draw(st.integers(0, 3)), channels)
    _assert_costs_as_profiled(row, shape, filters=filters, kernel_size=kernel, strides=strides, padding=padding)


def _build(row):
    return BLOCKS[row].build


# Pruning.


def _network(row, **given):
    """A convolution, the block twice, the second time halving the size, and a classifier."""
    image = keras.Input((9, 8, 3), name="image")
    x = blocks.convolution(image, 6, name="stem")
    given = _taken(_build(row), given)
    x = _build(row)(x, **{"filters": 8, **given}, name="first")
    x = _build(row)(x, **{"filters": 12, **given, "strides": 2}, name="second")
    x = layers.Dense(4, "softmax", name="scores")(layers.GlobalAveragePooling2D()(x))
    return randomize(keras.Model(image, x, name=row))


PRUNED = [(row, {}) for row in BLOCKS] + [
    ("residual", {"shortcut": "A"}),
    ("residual", {"shortcut": "A", "filters": 15}),
    ("residual", {"shortcut": "C", "body": "bottleneck", "width": 4}),
    ("residual", {"shortcut": "A", "body": "inception_v1", "scale": 0.3}),
    ("separable", {"multiplier": 2}),
    ("one_dimensional", {"between": None, "padding": "valid"}),
    ("convolution", {"normalize": False}),
]


@pytest.mark.parametrize(("row", "given"), PRUNED)
def test_every_block_can_be_pruned(row, given):
    model = _network(row, **given)
    assert [layer.name for layer in profile(model).layers if layer.why] == ["scores"]
    for prune in (PruneChannels("l1_norm", sparsity=0.3), PruneChannels("random", sparsity=0.5)):
        result = prune(model, seed=3)
        assert_pruned_equals_masked(model, result, examples(model))
        assert_counts_fit(model, result)
        assert_nothing_silent(model, result)


# The phone's runtime, and files.


def _all_rows():
    """One network of every row, so that one conversion tries them all."""
    image = keras.Input((12, 12, 3), name="image")
    x = blocks.convolution(image, 6, name="stem")
    for row in BLOCKS:
        x = _build(row)(x, 8, name=row)
    for shortcut in "ABC":
        x = blocks.residual(x, 12, shortcut=shortcut, strides=2, name=f"residual_{shortcut}")
    x = blocks.residual(x, 16, shortcut="A", name="padded")
    return randomize(keras.Model(image, layers.Dense(4, name="scores")(layers.Flatten()(x))))


def test_pruned_blocks_save_and_are_equal_in_litert(tmp_path):
    model = _all_rows()
    pruned = PruneChannels("l1_norm", sparsity=0.3)(model).model
    (inputs,) = examples(model, 3)
    expected = run(pruned, [inputs])
    assert np.ptp(expected[0]) > 0
    export_litert(pruned, tmp_path / "pruned.tflite")
    assert difference(expected, LiteRTRunner(tmp_path / "pruned.tflite").run(inputs)) <= 1e-4
    pruned.save(tmp_path / "pruned.keras")
    loaded = keras.models.load_model(tmp_path / "pruned.keras")
    assert np.array_equal(run(loaded, [inputs])[0], expected[0])


# Conventions.


@pytest.mark.parametrize("row", BLOCKS)
def test_no_bias_stands_before_a_normalization(row):
    network = Network(_network(row))
    makers = {id(tensor): call.operation for call in network.all_calls() for tensor in call.outputs}
    before = [makers[id(call.inputs[0])] for call in network.all_calls() if "norm" in call.path]
    assert before
    assert all(not layer.use_bias for layer in before if hasattr(layer, "use_bias"))
    unnormalized = Network(_model(row, (9, 8, 6), normalize=False))
    assert all(getattr(call.operation, "use_bias", True) for call in unnormalized.all_calls())


@pytest.mark.parametrize("row", BLOCKS)
def test_names_begin_with_the_blocks(row):
    image = keras.Input((9, 8, 6))
    named = keras.Model(image, _build(row)(image, 6, name="here"))
    weighty = [layer.name for layer in named.layers if layer.weights]
    assert weighty
    assert all(name.startswith("here_") for name in weighty)
    # Without a name Keras numbers the layers, so that a block can be used twice.
    keras.Model(image, _build(row)(_build(row)(image, 6), 6))


# What single blocks compute.


def _values(tensor_in, tensor_out, x):
    return keras.ops.convert_to_numpy(keras.Model(tensor_in, tensor_out)(x))


def test_a_linear_pair_is_a_convolution_of_its_rank():
    image, rng = keras.Input((7, 8, 3)), np.random.default_rng(0)
    y = blocks.one_dimensional(
        image, 4, 3, (2, 1), width=5, between=None, activation=None, normalize=False, name="pair"
    )
    model = keras.Model(image, y)
    vertical, horizontal = (rng.normal(size=s).astype("float32") for s in ((3, 1, 3, 5), (1, 3, 5, 4)))
    model.get_layer("pair_vertical").set_weights([vertical, np.zeros(5)])
    model.get_layer("pair_horizontal_conv").set_weights([horizontal, np.ones(4)])
    whole = layers.Conv2D(4, 3, (2, 1), "same")
    whole.build((None, 7, 8, 3))
    whole.set_weights([np.einsum("hap,wpo->hwao", vertical[:, 0], horizontal[0]), np.ones(4)])
    x = rng.normal(size=(2, 7, 8, 3)).astype("float32")
    assert difference([keras.ops.convert_to_numpy(whole(x))], [keras.ops.convert_to_numpy(model(x))]) <= TOLERANCE


@pytest.mark.parametrize("filters", [3, 5, 6, 7])
def test_shortcut_a_is_the_strided_identity_beside_zeros(filters):
    image = keras.Input((7, 6, 3))
    model = keras.Model(image, blocks.residual(image, filters, shortcut="A", strides=2, activation=None, name="r"))
    model.get_layer("r_2_norm").gamma.assign(np.zeros(filters))
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 3)).astype("float32")
    expected = np.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (0, filters - 3)))
    assert np.array_equal(keras.ops.convert_to_numpy(model(x)), expected)
    assert sum(layer.count_params() for layer in model.layers if "shortcut" in layer.name) == 0


def test_shortcut_b_projects_only_where_something_changes():
    image = keras.Input((8, 8, 6))

    def projects(**given):
        model = keras.Model(image, blocks.residual(image, name="r", **{"filters": 6, **given}))
        return any(layer.name == "r_shortcut_conv" for layer in model.layers)

    assert [projects(), projects(filters=8), projects(strides=2), projects(shortcut="C")] == [False, True, True, True]


def test_the_scale_is_the_bodys_alone():
    image = keras.Input((4, 4, 2))
    x = np.ones((1, 4, 4, 2), "float32")

    def body(x, filters, strides, activation, final_activation, normalize, name):
        return layers.Rescaling(10.0)(x)

    y = blocks.residual(image, 2, body, scale=0.2)
    assert np.allclose(_values(image, y, x), 1 + 0.2 * 10)


def test_one_number_is_shared_out_like_googlenets_first_block():
    assert blocks.inception_widths(256) == (64, 96, 128, 16, 32, 32)
    assert blocks.inception_widths((1, 2, 3, 4, 5, 6)) == (1, 2, 3, 4, 5, 6)
    for filters in range(5, 70):
        one, _, middle, _, large, pooled = blocks.inception_widths(filters)
        assert one + middle + large + pooled == filters


def test_an_inverted_residual_is_added_where_it_fits():
    image = keras.Input((8, 8, 6))

    def adds(**given):
        model = keras.Model(image, blocks.inverted_residual(image, name="b", **{"filters": 6, **given}))
        return any(isinstance(layer, layers.Add) for layer in model.layers)

    assert [adds(), adds(filters=8), adds(strides=2)] == [True, False, False]


# Table 2.3.


@pytest.mark.parametrize(
    ("depth", "given", "macs", "kernels"),
    [(34, {}, 3.66e9, 21.8e6), (50, {}, 3.86e9, 25.5e6), (50, {"strides_at": "3x3"}, 4.09e9, 25.5e6)],
)
def test_table_2_3(depth, given, macs, kernels):
    """Stages of 3, 4, 6 and 3 blocks; kernels' weights, as the paper counts them."""
    model = blocks.resnet(depth, **given)
    found, cost = profile(model), blocks.resnet_cost(depth, **given)
    assert (cost.macs, cost.params) == (found.macs, found.params)
    assert found.macs == pytest.approx(macs, abs=0.005e9)
    assert cost.kernels == pytest.approx(kernels, abs=0.05e6)
    named = [layer for layer in found.layers if layer.kind in ("Conv2D", "Dense") and "shortcut" not in layer.name]
    assert len(named) == depth


# Wrong arguments.


@pytest.mark.parametrize("row", BLOCKS)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"filters": 0}, r"filters must be a whole number of at least \d\. Received: filters=0 \("),
        ({"filters": 8.0}, r"Received: filters=8\.0"),
        ({"strides": 0}, r"strides must be .*at least 1.*Received: strides=0 \("),
        ({"activation": "rellu"}, r"activation must be .*Received: activation='rellu'"),
    ],
)
def test_wrong_arguments_are_refused_by_every_row(row, given, message):
    with pytest.raises(SettingError, match=message):
        _model(row, (9, 8, 6), **given)


@pytest.mark.parametrize("row", BLOCKS)
@pytest.mark.parametrize("shape", [(8,), (8, 3), (8, 8, None)])
def test_only_feature_maps_are_taken(row, shape):
    with pytest.raises(SettingError, match=r"\(batch, height, width, channels\).*Received: \(None, 8.*\("):
        _model(row, shape)


@pytest.mark.parametrize(
    ("row", "given", "message"),
    [
        ("convolution", {"kernel_size": (3, 3, 3)}, r"or a pair of them\. Received: kernel_size=\(3, 3, 3\)"),
        ("convolution", {"padding": "full"}, r"one of same, valid\. Received: padding='full' \(convolution\)"),
        ("one_dimensional", {"kernel_size": 10, "padding": "valid"}, r"Received: kernel_size=\(10, 10\) for \(9, 8\)"),
        ("one_dimensional", {"width": 0}, r"width must be .* Received: width=0 \(one_dimensional\)"),
        ("separable", {"multiplier": 1.5}, r"Received: multiplier=1\.5 \(separable\)"),
        ("separable", {"strides": (1, 2)}, r"Received: strides=\(1, 2\) \(separable\)"),
        ("inception_v1", {"filters": (1, 2, 3)}, r"or six.*Received: filters=\(1, 2, 3\)"),
        ("inception_v3", {"filters": 4}, r"at least 5\. Received: filters=4 \(inception\)"),
        ("inception_v3", {"kernel_size": 1}, r"at least 2\. Received: kernel_size=1 \(inception_v3\)"),
        ("bottleneck", {"strides_at": "5x5"}, r"one of 1x1, 3x3\. Received: strides_at='5x5' \(bottleneck\)"),
        ("bottleneck", {"width": -1}, r"Received: width=-1 \(bottleneck\)"),
        ("residual", {"shortcut": "D"}, r"one of A, B, C\. Received: shortcut='D' \(residual\)"),
        ("residual", {"shortcut": "A", "filters": 5}, r"cannot drop channels\. Received: filters=5 behind 6 channels"),
        ("residual", {"scale": 0}, r"scale must be in \(0, 1\]\. Received: scale=0 \(residual\)"),
        ("inverted_residual", {"expansion": 0}, r"Received: expansion=0 \(inverted_residual\)"),
    ],
)
def test_wrong_arguments_are_refused(row, given, message):
    with pytest.raises(SettingError, match=message):
        _model(row, (9, 8, 6), **given)


def test_a_body_of_another_shape_is_refused():
    with pytest.raises(SettingError, match=r"\(8, 8, 6\)\. Received: \(8, 8, 3\) \(residual\)"):
        blocks.residual(keras.Input((8, 8, 6)), 6, lambda x, *_, **__: x[..., :3])
    with pytest.raises(SettingError, match=r"depth must be one of 34, 50\. Received: depth='18' \(resnet\)"):
        blocks.resnet(18)
