"""Layers of the ef-operator: the definition, the gradient, what is counted."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from networks import NETWORKS
from paredown import Data, FineTune, SubstituteAdditive, export_litert, profile
from paredown.blocks import AdditiveConv2D, AdditiveDense
from paredown.blocks.additive import sign
from paredown.errors import DataError, SettingError
from paredown.measure import LiteRTRunner
from paredown.network import Network
from paredown.transforms.additive_proof import definition


def element(x, w):
    """x ⊙ w as the paper has it, in NumPy."""
    return np.sign(x * w) * (np.abs(x) + np.abs(w))


def values(rng, *shape):
    """Numbers of which a fifth is exactly zero."""
    return (rng.normal(size=shape) * (rng.random(shape) > 0.2)).astype("float32")


def filled(layer, x, rng):
    layer.build(x.shape)
    for weight in layer.weights:
        weight.assign(values(rng, *weight.shape))
    return [keras.ops.convert_to_numpy(weight) for weight in layer.weights]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 5), st.sampled_from([(), (3,)]))
def test_a_dense_layer_is_its_definition(seed, inputs, outputs, more):
    rng = np.random.default_rng(seed)
    x, layer = values(rng, 4, *more, inputs), AdditiveDense(outputs, "relu")
    kernel, scale, bias = filled(layer, x, rng)
    expected = np.maximum(scale * element(x[..., None], kernel).sum(-2) + bias, 0)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), ((2, 1), 1), (1, (1, 2))])
def test_a_convolution_is_its_definition(padding, strides, dilation):
    rng = np.random.default_rng(0)
    x = values(rng, 2, 7, 6, 3)
    layer = AdditiveConv2D(4, (3, 2), strides, padding, dilation_rate=dilation)
    kernel, scale, bias = filled(layer, x, rng)
    # The ordinary convolution, asked for one window at a time: kernels that hold a single one.
    window = np.eye(3 * 2 * 3, dtype="float32").reshape(3, 2, 3, 18)
    windows = np.asarray(ops.conv(x, window, strides, padding, "channels_last", dilation))
    expected = scale * element(windows[..., None], kernel.reshape(18, 4)).sum(-2) + bias
    y = ops.convert_to_numpy(layer(x))
    assert y.shape == layer.compute_output_shape(x.shape)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_what_is_zero_adds_nothing():
    rng = np.random.default_rng(0)
    x, layer = values(rng, 4, 6), AdditiveDense(3)
    kernel, _, bias = filled(layer, x, rng)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(np.zeros_like(x))), np.tile(bias, (4, 1)))
    layer.kernel.assign(np.zeros_like(kernel))
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(x)), np.tile(bias, (4, 1)))


def test_training_sees_the_slope_of_tanh_and_the_same_values():
    x = np.linspace(-3, 3, 13, dtype="float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(sign(ops.convert_to_tensor(x), True)), np.sign(x))
    # One weight, one input, a step of gradient descent at learning rate 1: w moves by -d(x⊙w)/dw.
    layer = AdditiveDense(1, use_bias=False, use_scale=False)
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda wanted, y: ops.mean(y))
    layer.kernel.assign([[0.5]])
    model.train_on_batch(np.array([[2.0]]), np.array([[0.0]]))
    slope = 2.0 * (1 - np.tanh(0.5) ** 2) + 1
    assert float(ops.convert_to_numpy(layer.kernel)[0, 0]) == pytest.approx(0.5 - slope, abs=1e-6)


def test_the_slope_for_inputs_reaches_the_layers_before():
    # One layer trains, not two: where the slope of the loss is a constant, TensorFlow's graph optimizer lets a chain of
    # layers without bias read weights behind their update (seen with 2.21, in chains of plain Dense as well).
    first = layers.Dense(1, use_bias=False)
    last = AdditiveDense(1, use_bias=False, use_scale=False, trainable=False)
    model = keras.Sequential([keras.Input((1,)), first, last])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda wanted, y: ops.mean(y))
    first.kernel.assign([[0.3]])
    last.kernel.assign([[-0.7]])
    model.train_on_batch(np.array([[2.0]]), np.array([[0.0]]))
    slope = 2.0 * (np.sign(-0.7) + (1 - np.tanh(0.6) ** 2) * -0.7)
    assert float(ops.convert_to_numpy(first.kernel)[0, 0]) == pytest.approx(0.3 - slope, abs=1e-5)


def test_the_first_scale_keeps_the_size_of_activations():
    x = np.random.default_rng(0).normal(size=(500, 400)).astype("float32")
    assert 0.8 < float(np.std(ops.convert_to_numpy(AdditiveDense(50)(x)))) < 1.3


def test_additions_sign_changes_and_multiplications_are_counted_apart():
    image = keras.Input((8, 8, 3))
    x = AdditiveConv2D(5, 3, name="conv")(image)
    scores = AdditiveDense(10, use_scale=False, name="dense")(layers.Flatten()(x))
    found = profile(keras.Model(image, scores))
    conv, dense = (layer for layer in found.layers if layer.kind.startswith("Additive"))
    assert conv.macs == 6 * 6 * 5
    assert (conv.additions, conv.sign_changes) == (2 * 6 * 6 * 5 * 27, 6 * 6 * 5 * 27)
    assert dense.macs == 0
    assert (dense.additions, dense.sign_changes) == (2 * 180 * 10, 180 * 10)
    assert found.macs == 6 * 6 * 5
    assert found.to_dict()["additions"] == found.additions == conv.additions + dense.additions
    assert found.unknown == []


def test_settings_survive_saving(tmp_path):
    inputs = keras.Input((6, 5, 3))
    conv = AdditiveConv2D(4, (3, 1), 2, "same", dilation_rate=1, activation="relu", kernel_regularizer="l2")
    x = layers.Flatten()(conv(inputs))
    model = keras.Model(inputs, AdditiveDense(2, use_bias=False, scale_initializer="ones")(x))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert [layer.get_config() for layer in again.layers] == [layer.get_config() for layer in model.layers]
    x = np.random.default_rng(0).normal(size=(3, 6, 5, 3)).astype("float32")
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), ops.convert_to_numpy(model(x)))


def test_the_file_gives_what_the_layers_give_and_holds_no_tanh(tmp_path):
    model = NETWORKS["additive"]()
    export = export_litert(model, tmp_path / "m.tflite")
    assert all(check.passed for check in export.checks)
    runner = LiteRTRunner(tmp_path / "m.tflite")
    x = np.random.default_rng(1).normal(size=(3, *model.inputs[0].shape[1:])).astype("float32")
    np.testing.assert_allclose(runner.run((x,))[0], ops.convert_to_numpy(model(x)), atol=1e-4)
    assert b"tanh" not in (tmp_path / "m.tflite").read_bytes().lower()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdditiveDense(0), r"units must be a whole number of at least 1\. Received: units=0 \(AdditiveDense\)"),
        (lambda: AdditiveConv2D(2.5, 3), r"Received: filters=2\.5 \(AdditiveConv2D\)"),
        (lambda: AdditiveConv2D(2, (3, 0)), r"Received: kernel_size=\(3, 0\) \(AdditiveConv2D\)"),
        (lambda: AdditiveConv2D(2, 3, padding="causal"), r"padding must be one of valid, same\. Received: .*'causal'"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(SettingError, match=message):
        make()


@pytest.fixture(scope="module")
def trained():
    """A classifier of four clouds of points, and its data."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 800)
    x = (rng.normal(size=(4, 6, 6, 1))[labels] + 0.8 * rng.normal(size=(800, 6, 6, 1))).astype("float32")
    image = keras.Input((6, 6, 1))
    y = layers.Conv2D(8, 3, activation="relu", name="conv")(image)
    y = layers.Dense(16, activation="relu", name="hidden")(layers.Flatten()(y))
    model = keras.Model(image, layers.Dense(4, name="scores")(y))
    data = Data((x[:600], labels[:600]), (x[600:], labels[600:]))
    return FineTune(epochs=5, learning_rate=0.003, batch_size=32)(model, data).model, data


def accuracy(model, data):
    return float((ops.convert_to_numpy(model(data.validation.x)).argmax(-1) == data.validation.y).mean())


def test_a_trained_network_becomes_additive_and_learns_again(trained):
    model, data = trained
    result = SubstituteAdditive(exclude="scores")(model, data)
    assert [type(result.model.get_layer(name)).__name__ for name in ("conv", "hidden", "scores")] == [
        "AdditiveConv2D",
        "AdditiveDense",
        "Dense",
    ]
    assert [(skip.layer, skip.reason) for skip in result.skips] == [("scores", "excluded")]
    assert [(c.layer, c.before, c.after) for c in result.changes] == [
        ("conv", 4 * 4 * 9 * 8, 4 * 4 * 8),
        ("hidden", 4 * 4 * 8 * 16, 16),
    ]
    # Signs are those of the trained weights; only one size per output changes.
    for name in ("conv", "hidden"):
        before, after = (ops.convert_to_numpy(m.get_layer(name).kernel) for m in (model, result.model))
        ratio = (after / before).reshape(-1, after.shape[-1])
        assert (ratio > 0).all()
        np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0], ratio.shape), rtol=1e-4)
    # Better than the constant mean, far from the layer: what must be learned again.
    assert all(0 < loss < 1 for loss in result.log["losses"].values())
    tuned = FineTune(epochs=4, learning_rate=0.003, batch_size=32)(result.model, data).model
    assert accuracy(tuned, data) > max(accuracy(model, data) - 0.05, 0.8)


def proofs(transform, model, result, x):
    return {check.name: check for check in transform.prove(model, result, [x])}


def test_what_is_substituted_proves_itself(trained, monkeypatch):
    model, data = trained
    transform, x = SubstituteAdditive(exclude="scores"), data.validation.x[:4]
    result = transform(model, data)
    equal, sizes, others = proofs(transform, model, result, x).values()
    assert equal.passed
    assert sizes.passed
    assert (others.value, others.tolerance) == (0, 0)
    # A layer that computes something else.
    right = AdditiveDense.multiply
    monkeypatch.setattr(AdditiveDense, "multiply", lambda self, x, kernel: right(self, x, kernel) + 0.1)
    check = proofs(transform, model, result, x)["additive layers equal their definition"]
    assert not check.passed
    assert 0.001 < check.value < np.inf
    monkeypatch.undo()
    # A weight of the other sign; another layer's weight.
    hidden, scores = (result.model.get_layer(name).kernel for name in ("hidden", "scores"))
    kernel = np.array(hidden)
    kernel[3, 2] *= -1
    hidden.assign(kernel)
    assert proofs(transform, model, result, x)["weights are the trained ones but for one size per output"].value > 1
    scores.assign(np.array(scores) + np.eye(16, 4))
    assert proofs(transform, model, result, x)["all other weights are as they were"].value == 4


def test_the_written_out_definition_is_that_of_the_paper():
    rng = np.random.default_rng(0)
    x, w = values(rng, 5, 7), values(rng, 7, 3)
    np.testing.assert_allclose(definition(x, w), element(x[..., None], w).sum(1), atol=1e-5)
    assert definition(np.array([[2.0, -3.0]]), np.array([[-1.0], [0.5]])).item() == -(2 + 1) - (3 + 0.5)


@pytest.mark.parametrize("name", ["mixed_precision", "nested", "composite", "shared_after_constant", "open_size"])
def test_other_networks_prove_themselves(name):
    model = NETWORKS[name]()
    x = np.random.default_rng(0).random((8, *(size or 12 for size in model.inputs[0].shape[1:]))).astype("float32")
    transform = SubstituteAdditive(examples=8)
    result = transform(model, Data(calibration=x))
    assert result.changes
    assert all(check.passed for check in transform.prove(model, result, [x[:4]]))


def test_a_dense_layer_hands_masks_on():
    image = keras.Input((5, 3))
    x = AdditiveDense(4)(layers.Masking()(image))
    assert ops.convert_to_numpy(AdditiveDense(4).compute_mask(x, np.ones((2, 5), bool))).all()
    model = keras.Model(image, layers.GlobalAveragePooling1D()(x))
    given = np.ones((1, 5, 3), "float32")
    given[:, 3:] = 0
    short, whole = (ops.convert_to_numpy(model(x)) for x in (given, given[:, :1].repeat(5, 1)))
    np.testing.assert_allclose(short, whole, rtol=1e-5)


def test_the_fit_is_the_least_squares_answer():
    """Against NumPy's own solution of the same problem, on a layer for which it has a positive ratio."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(64, 12)).astype("float32")
    dense = layers.Dense(5, name="dense")
    model = keras.Sequential([keras.Input((12,)), dense])
    dense.bias.assign(rng.normal(size=5))
    result = SubstituteAdditive()(model, Data(calibration=x))
    kernel, y = ops.convert_to_numpy(dense.kernel), ops.convert_to_numpy(model(x))
    given = ops.convert_to_numpy(result.model(x))
    left = wanted = 0.0
    for k in range(5):
        regressors = np.stack([x @ np.sign(kernel[:, k]), np.sign(x) @ kernel[:, k], np.ones(64)], 1)
        answer = np.linalg.lstsq(regressors, y[:, k], rcond=None)[0]
        assert answer[0] * answer[1] > 0
        np.testing.assert_allclose(given[:, k], regressors @ answer, atol=1e-3)
        left, wanted = left + ((given - y)[:, k] ** 2).mean(), wanted + y[:, k].var()
    assert result.log["losses"]["dense"] == pytest.approx(left / wanted, rel=1e-3)


def test_what_cannot_be_additive_is_named(trained):
    model, data = trained
    shared, image = layers.Dense(4, name="shared"), keras.Input((6, 6, 4))
    grouped = layers.Conv2D(4, 1, groups=2, name="grouped")(image)
    bound = layers.Dense(4, kernel_constraint="max_norm", name="bound")(image)
    other = keras.Model(image, layers.Add()([shared(grouped), shared(image), bound]))
    x = np.random.default_rng(0).normal(size=(8, 6, 6, 4)).astype("float32")
    result = SubstituteAdditive()(other, Data(calibration=x))
    assert {skip.layer: skip.reason for skip in result.skips} == {
        "grouped": "it is a grouped convolution",
        "bound": "it has a constraint on its kernel, which its signs and sizes would not keep",
        "shared": "it is called more than once: no one scale fits what it reads",
    }
    bent = keras.Sequential([image, layers.Dense(4, activation=layers.PReLU(), name="bent")])
    _, (skip,) = SubstituteAdditive()._chosen(Network(bent))
    assert (skip.layer, skip.reason) == ("bent", "it has an activation with weights of its own")
    with pytest.raises(
        SettingError, match=r"layers must name layers of the network\. Received: \['gone'\] \(SubstituteAdd"
    ):
        SubstituteAdditive("gone")(model, data)
    with pytest.raises(DataError, match=r"fits scales on data\.calibration\. Received: no data"):
        SubstituteAdditive()(model)
