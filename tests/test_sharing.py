"""The algebra of shared values: 1-D k-means against brute force, its windows against the plain dynamic programme."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from paredown.errors import SettingError
from paredown.sharing import (
    METHODS,
    Points,
    different,
    error,
    index_bits,
    scale_of,
    shared,
    snapped,
    spread,
    total_bits,
)
from paredown.sharing.optimal import optimal
from paredown.sharing.segments import Segments, forward, path

values = st.lists(st.integers(-9, 9).map(lambda i: i / 3), min_size=1, max_size=8)
seeds = st.integers(0, 10**6)


def everything(x, weights, k):
    """The least loss of all ways to cut the sorted values into k parts."""
    order = np.argsort(x)
    x, weights = x[order], weights[order]
    losses = []
    for cuts in itertools.combinations(range(1, len(x)), min(k, len(x)) - 1):
        parts = zip(np.split(x, cuts), np.split(weights, cuts), strict=True)
        losses.append(sum((w * (v - np.average(v, weights=w)) ** 2).sum() for v, w in parts))
    return min(losses)


@given(values, st.integers(1, 5), seeds)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_the_optimum_is_the_best_of_all_partitions(numbers, k, seed):
    x = np.array(numbers)
    for weights in (np.ones(len(x)), np.random.default_rng(seed).uniform(0.01, 9, len(x))):
        points = Points.of(x, weights)
        edges = optimal(points, k)
        best = everything(x, weights, k)
        assert points.loss(edges) == pytest.approx(best, abs=1e-9)
        assert error(x, shared(x, k, weights=weights), weights) == pytest.approx(best, abs=1e-9)


def plain(points, k):
    """The dynamic programme over all values, without windows."""
    n, (mass, first, second) = len(points), points.sums
    low, high = np.zeros(k + 1, int), np.full(k + 1, n)
    low[-1], high[0] = n, 0
    _, origins = forward(Segments(mass, (first, first), (second, second)), low, high)
    return path(origins, low)


SHAPES = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy tails": lambda rng, n: rng.standard_t(2, size=n),
    "two humps": lambda rng, n: np.concatenate([rng.normal(-5, 0.1, n // 2), rng.normal(5, 1, n - n // 2)]),
    "steps": lambda rng, n: rng.integers(0, 1500, n) / 7,
    "far from zero": lambda rng, n: 1000 + rng.normal(size=n),
    "log": lambda rng, n: np.exp(4 * rng.normal(size=n)),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [2, 5, 24])
def test_windows_lose_nothing(shape, k):
    rng = np.random.default_rng(k)
    x = SHAPES[shape](rng, 3000)
    for weights in (None, rng.gamma(0.3, size=3000)):
        points = Points.of(x, weights)
        # The same loss to rounding; where two partitions tie, either may be found.
        assert points.loss(optimal(points, k)) == pytest.approx(points.loss(plain(points, k)), rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_never_worse_than_the_best_of_twenty_restarts(shape):
    rng = np.random.default_rng(0)
    x = SHAPES[shape](rng, 2000)
    for k, weights in ((20, None), (3, rng.gamma(0.3, size=2000))):
        with threadpool_limits(1):
            found = KMeans(k, n_init=20, random_state=0, tol=0).fit(x[:, None], sample_weight=weights)
        theirs = error(x, found.cluster_centers_.ravel()[found.labels_], weights)
        assert error(x, shared(x, k, weights=weights), weights) <= theirs * (1 + 1e-9)


@pytest.mark.parametrize("outlier", [-1e7, 1e7])
def test_an_outlier_takes_a_value_of_its_own_and_blurs_no_other(outlier):
    x = np.random.default_rng(0).normal(0, 0.01, 3000)
    alone = shared(x, 23)
    beside = shared(np.append(x, outlier), 24)
    assert beside[-1] == outlier
    assert error(x, beside[:-1]) == pytest.approx(error(x, alone), rel=1e-9)


def test_weights_of_all_sizes():
    """As Fisher information has them where some classes are sure: beside the largest most are rounded off."""
    rng = np.random.default_rng(0)
    for n in (20, 5000):
        x, weights = rng.normal(size=n), 10 ** rng.uniform(-40, 0, n)
        points = Points.of(x, weights)
        for k in (1, 2, 5, 16):
            losses = {name: points.loss(method(points, k)) for name, method in METHODS.items()}
            assert losses["optimal"] <= min(losses.values()) + 1e-12 * spread(x, weights)
            assert different(shared(x, k, weights=weights)) <= k


@given(seeds, st.integers(1, 40), st.booleans())
@settings(max_examples=20, deadline=None, derandomize=True)
def test_never_worse_than_lloyd_and_less_with_every_k(seed, k, weighted):
    rng = np.random.default_rng(seed)
    x = rng.choice([-1.0, 0.5, 3.0], 300) + rng.gamma(0.5, size=300)
    weights = rng.gamma(0.5, size=300) if weighted else None
    points = Points.of(x, weights)
    losses = {name: points.loss(method(points, k)) for name, method in METHODS.items()}
    slack = 1e-12 * spread(x, weights)
    assert losses["optimal"] <= min(losses.values()) + slack
    assert points.loss(optimal(points, k + 1)) <= losses["optimal"] + slack


@pytest.mark.parametrize("method", METHODS)
def test_each_value_is_the_mean_of_its_members(method):
    rng = np.random.default_rng(1)
    x, weights = rng.normal(size=500), rng.uniform(0, 2, 500)
    new = shared(x, 7, method, weights)
    assert different(new) <= 7
    for value in np.unique(new):
        assert value == pytest.approx(np.average(x[new == value], weights=weights[new == value]))
    assert (np.abs(x - new) <= np.abs(x[:, None] - np.unique(new)).min(1) + 1e-12).all()


@pytest.mark.parametrize("method", METHODS)
def test_as_many_values_as_there_are_change_nothing(method):
    x = np.float32([1e-20, 0.1, 0.1, -7, 3, 3]).reshape(2, 3)
    for k in (5, 6, 256):
        new = shared(x, k, method, np.arange(6).reshape(2, 3))
        assert np.array_equal(new, x)
        assert new.dtype == x.dtype


def test_what_weighs_more_pulls_more():
    x = np.array([0.0, 1, 10])
    assert shared(x, 2).tolist() == [0.5, 0.5, 10]
    assert shared(x, 2, weights=[1, 3, 1])[:2].tolist() == [0.75, 0.75]
    # So little is lost at 0 that 1 and 10 are worth a value each.
    assert shared(np.array([-4.0, 0, 1]), 2, weights=[1e-3, 1, 1]).tolist() == pytest.approx([0, 0, 1], abs=5e-3)
    # A value that weighs nothing goes to the nearest, and pulls none.
    assert shared(np.array([0.0, 1, 4, 5, 100]), 2, weights=[1, 1, 1, 1, 0]).tolist() == [0.5, 0.5, 4.5, 4.5, 4.5]
    assert shared(x, 2, weights=np.zeros(3)).tolist() == [0.5, 0.5, 10]


def test_zeros_stay_zero_and_are_one_of_the_values():
    x = np.float32([[0, 0, 1e-3, 2], [0, 1, 3, -5]])
    new = shared(x, 3, keep_zeros=True)
    assert np.array_equal(new == 0, x == 0)
    assert different(new) == 3
    assert np.array_equal(shared(np.zeros((2, 2)), 2, keep_zeros=True), np.zeros((2, 2)))
    # One value is left for all others, and here it is their mean.
    assert shared(np.array([0.0, -1, 1]), 2, keep_zeros=True).tolist() == [0, 0, 0]


@given(
    arrays.arrays("float32", st.integers(1, 40), elements=st.floats(-1e3, 1e3, width=32)),
    st.integers(-60, 60).map(lambda power: 2.0**power),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_grid(values, unit):
    values[np.abs(values) < 1e-9] = 0
    values *= np.float32(unit)
    new = snapped(values)
    scale = scale_of(new)
    assert scale is not None
    whole = np.rint(new / scale)
    assert np.abs(whole).max() == (127 if values.any() else 0)
    # As a runtime computes it: both factors float32, one product.
    assert np.array_equal(np.float32(scale) * whole.astype("float32"), new)
    assert np.float32(scale) == scale
    assert np.array_equal(snapped(new), new)
    # Half a place, and what is rounded off a scale of 17 bits at the far end.
    assert (np.abs(new - values) <= 0.5 * scale + np.abs(values) * 2.0**-16).all()
    assert ((values[:, None] != values) | (new[:, None] == new)).all()


def test_what_is_on_no_grid():
    assert scale_of(np.float32([127, -3, 0, 1])) == 1
    assert scale_of(np.float32([127, -3, 0, 1.5])) is None
    assert scale_of(np.random.default_rng(0).normal(size=50).astype("float32")) is None
    # 1 / 127 takes more bits than a scale may have.
    assert scale_of(np.ones(4, "float32")) is None


def test_bits():
    assert [index_bits(k) for k in (2, 3, 4, 16, 17, 64, 65, 256)] == [1, 2, 2, 4, 5, 6, 8, 8]
    assert total_bits(1000, 16, 3) == 1000 * 4 + 3 * 16 * 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, np.inf],), r"values must be finite\. Received: inf \(sharing\)"),
        (([1.0, 2.0], [1.0, -2.0]), r"weights must be finite and at least 0\. Received: -2\.0"),
        (([1.0, 2.0], [1.0]), r"Received: 1 weights, 2 values"),
        (([],), r"k-means needs a value\. Received: none"),
    ],
)
def test_wrong_numbers_are_named(arguments, message):
    with pytest.raises(SettingError, match=message):
        Points.of(*arguments)
