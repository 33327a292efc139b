"""The corrected formulas against the counts (which test_blocks holds against profiles), and bounds against formulas."""

from fractions import Fraction

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from paredown import profile
from paredown.blocks import costs, formulas

SIZES = st.integers(1, 300)
SIDES = st.integers(1, 9)


@st.composite
def maps(draw):
    """A map, a kernel that fits it, strides and padding."""
    side = draw(SIDES)
    shape = (draw(st.integers(side, 30)), draw(st.integers(side, 30)), draw(SIZES))
    return shape, side, draw(st.integers(1, 4)), draw(st.sampled_from(["same", "valid"]))


def positions(cost):
    return cost.shape[0] * cost.shape[1]


@settings(deadline=None)
@given(maps(), SIZES, SIZES)
def test_per_position_formulas_are_the_counts(where, filters, width):
    shape, side, strides, padding = where
    K = shape[2]
    whole = costs.convolution(shape, filters, side, strides, padding)
    assert whole.macs == positions(whole) * formulas.convolution(side, K, filters)
    pair = costs.one_dimensional(shape, filters, side, strides, padding, width)
    r = formulas.intermediate_ratio(shape, side, strides, padding)
    assert pair.macs == positions(pair) * formulas.one_dimensional(side, K, filters, width, r)
    assert pair.kernels == formulas.one_dimensional(side, K, filters, width)
    assert pair.params == pair.kernels + width + 4 * filters
    thin = costs.separable(shape, filters, side, strides, padding, width)
    assert thin.macs == positions(thin) * formulas.separable(side, K, filters, width)
    assert thin.kernels == formulas.separable(side, K, filters, width)
    assert thin.params == thin.kernels + 4 * (K * width + filters)


@settings(deadline=None)
@given(SIZES, SIZES, SIZES, st.sampled_from(["1x1", "3x3"]))
def test_bottleneck_formula_is_the_count(K, filters, width, strides_at):
    cost = costs.bottleneck((8, 12, K), filters, width, 2, strides_at)
    r = 1 if strides_at == "1x1" else 2 * 2
    assert cost.macs == positions(cost) * formulas.bottleneck(K, filters, width, r)
    assert cost.kernels == formulas.bottleneck(K, filters, width)


def test_a_bottleneck_against_two_convolutions_of_its_width():
    w = 64
    assert formulas.bottleneck(4 * w, 4 * w, w) == 17 * w**2
    assert 2 * formulas.convolution(3, 4 * w, 4 * w) == 288 * w**2


@settings(deadline=None)
@given(SIDES, SIZES, SIZES, SIZES, st.fractions(1, 9))
def test_a_pair_saves_exactly_below_its_bound(N, K, L, width, r):
    saves = formulas.one_dimensional(N, K, L, width, r) < formulas.convolution(N, K, L)
    bound = formulas.one_dimensional_bound(N, K, L, r)
    assert saves == (width < bound)
    assert saves == (width <= formulas.largest_below(bound))


@settings(deadline=None)
@given(SIDES, SIZES, SIZES, SIZES)
def test_separable_saves_exactly_below_its_bound(N, K, L, multiplier):
    saves = formulas.separable(N, K, L, multiplier) < formulas.convolution(N, K, L)
    assert saves == (multiplier < formulas.separable_bound(N, L))


@settings(deadline=None)
@given(SIZES, SIZES, SIZES)
def test_low_rank_saves_exactly_below_its_bound(N, M, rank):
    assert (formulas.low_rank(N, M, rank) < N * M) == (rank < formulas.low_rank_bound(N, M))


def test_figures_that_correct_the_thesis():
    # Table 2.2's third layer, 7×7 without padding on 7×7: 7 positions between for 1 of the output.
    r = formulas.intermediate_ratio((7, 7, 64), 7, padding="valid")
    assert r == 7
    assert formulas.largest_below(formulas.one_dimensional_bound(7, 64, 128, r)) == 99
    assert formulas.largest_below(formulas.one_dimensional_bound(7, 64, 128)) == 298
    # Its stride s on a map whose width is a multiple of it; same and stride 1.
    assert formulas.intermediate_ratio((12, 12, 3), 5, 3) == 3
    assert formulas.intermediate_ratio((12, 13, 3), 5, 1) == 1
    assert formulas.intermediate_ratio((12, 13, 3), 5, 3) == Fraction(13, 5)
    # Separable: KI(N² + L), not I(KN² + L).
    assert (formulas.separable(3, 64, 128), formulas.convolution(3, 64, 128)) == (8_768, 73_728)
    assert formulas.largest_below(formulas.separable_bound(3, 128)) == 8
    # One wide enough to cost exactly as much saves nothing: 3·2·6·... at P = 3KL / (K + L) = 9.
    assert formulas.largest_below(formulas.one_dimensional_bound(3, 6, 6)) == 8
    assert formulas.largest_below(Fraction(1, 2)) == 0


@pytest.mark.parametrize("bias", [True, False])
def test_dense_and_low_rank_costs_are_those_profiled(bias):
    x = keras.Input((20,))
    plain = profile(keras.Model(x, layers.Dense(12, use_bias=bias)(x)))
    thin = profile(keras.Model(x, layers.Dense(12, use_bias=bias)(layers.Dense(3, use_bias=False)(x))))
    cost, low = costs.dense(20, 12, bias), costs.low_rank_dense(20, 12, 3, bias)
    assert (cost.macs, cost.params) == (plain.macs, plain.params)
    assert (low.macs, low.params) == (thin.macs, thin.params)
    assert (cost.macs, low.macs) == (20 * 12, formulas.low_rank(20, 12, 3))
