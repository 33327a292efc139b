"""A layer seen as rows times a matrix gives the layer's own outputs."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from paredown.patches import Lattice, LinearLayer, why_not_linear


def _assert_linear(layer, shape, limit, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, shape).astype("float32")
    y = layer(x)
    linear = LinearLayer(layer)
    lattice = linear.lattice(tuple(y.shape), limit, rng)
    rows = keras.ops.convert_to_numpy(linear.rows(x, lattice)).astype("float64")
    bias = keras.ops.convert_to_numpy(layer.bias) if layer.use_bias else 0
    expected = keras.ops.convert_to_numpy(linear.outputs(y, lattice))
    assert rows.shape == (expected.shape[0], linear.matrix.shape[0])
    np.testing.assert_allclose(rows @ linear.matrix + bias, expected, atol=2e-5)
    kernel = keras.ops.convert_to_numpy(linear.kernel)
    assert np.array_equal(linear.as_kernel(linear.matrix), kernel)


def _settings(draw, transposed=False):
    size = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    strides = draw(st.sampled_from([1, 2, 3]))
    dilation = draw(st.sampled_from([1, 2])) if strides == 1 and not transposed else 1
    return {
        "kernel_size": size,
        "strides": strides,
        "dilation_rate": dilation,
        "padding": draw(st.sampled_from(["same", "valid"])),
        "use_bias": draw(st.booleans()),
        "bias_initializer": "normal",
    }


@given(st.data(), st.integers(1, 60))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_convolutions(data, limit):
    _assert_linear(layers.Conv2D(3, **_settings(data.draw)), (2, 9, 8, 2), limit)


@given(st.data(), st.integers(1, 200))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_transposed_convolutions(data, limit):
    _assert_linear(layers.Conv2DTranspose(3, **_settings(data.draw, True)), (2, 4, 5, 2), limit)


@pytest.mark.parametrize("padding", ["same", "valid", "causal"])
@pytest.mark.parametrize("more", [{"strides": 2}, {"dilation_rate": 3}])
def test_one_dimension(padding, more):
    _assert_linear(layers.Conv1D(4, 3, padding=padding, **more), (2, 17, 3), 5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.Dense(3), (5, 4)),
        (layers.Dense(3), (2, 6, 5, 4)),
        (layers.Conv3D(3, 2, padding="same"), (2, 4, 5, 3, 2)),
        (layers.Conv3DTranspose(3, 3, strides=2), (1, 3, 2, 3, 2)),
        (layers.SeparableConv1D(3, 3, padding="same"), (2, 9, 2)),
        (layers.SeparableConv2D(3, 3, depth_multiplier=2, strides=2), (2, 9, 8, 2)),
    ],
)
def test_other_kernels(layer, shape):
    _assert_linear(layer, shape, 7)


def test_a_lattice_has_about_so_many_positions():
    lattice = Lattice.draw((32, 32), 64, np.random.default_rng(0))
    assert lattice.of(np.zeros((1, 32, 32, 1))).shape == (1, 8, 8, 1)  # every 4th of 32, along both axes
    assert Lattice.draw((), 64, np.random.default_rng(0)).of(np.zeros((3, 5))).shape == (3, 5)


def test_what_is_not_linear_says_why():
    grouped = layers.Conv2D(4, 3, groups=2)
    assert why_not_linear(grouped) == "is a grouped convolution"
    assert "output padding" in str(why_not_linear(layers.Conv2DTranspose(3, 3, strides=2, output_padding=1)))
    assert why_not_linear(layers.LSTM(4)) == "is no Dense nor plain, separable or transposed convolution"
