"""The algebra of single weights: kernels as matrices, patterns, and Optimal Brain Surgeon against brute force."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from paredown.data import Data
from paredown.errors import SettingError
from paredown.network import Network
from paredown.sparse import METHODS, Pattern, hessians, kernels, zeros
from paredown.sparse.second_moments import Patches
from paredown.sparse.surgeon import INPUTS_TOGETHER, damped, output_error, refitted, removal_costs

RNG = np.random.default_rng(0)

#: Every way in which a kernel can lie: name -> (input shape, layer).
LAYERS = {
    "dense": ((7,), lambda: layers.Dense(5)),
    "dense_on_positions": ((4, 6), lambda: layers.Dense(5)),
    "conv1d_causal": ((9, 3), lambda: layers.Conv1D(4, 3, padding="causal", dilation_rate=2)),
    "conv2d_strided": ((9, 8, 3), lambda: layers.Conv2D(4, (3, 2), strides=2, padding="same")),
    "conv2d_grouped": ((6, 6, 8), lambda: layers.Conv2D(6, 3, groups=2)),
    "conv3d": ((4, 4, 4, 2), lambda: layers.Conv3D(3, 2, dilation_rate=2)),
    "transposed1d": ((5, 3), lambda: layers.Conv1DTranspose(4, 3, strides=2, padding="same")),
    "transposed2d": ((4, 5, 3), lambda: layers.Conv2DTranspose(4, 3, strides=2)),
    "depthwise": ((6, 6, 5), lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")),
}


def built(name):
    shape, make = LAYERS[name]
    image = keras.Input(shape)
    model = keras.Model(image, make()(image))
    for weight in model.weights:
        weight.assign(RNG.normal(size=weight.shape))
    return model, RNG.normal(size=(3, *shape)).astype("float32")


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_patches_times_its_matrices(name):
    """Σ_n x[p, g, n]·W[g, n, o] is the layer's own output, whatever strides, padding, groups and transposition."""
    model, x = built(name)
    (kernel,), skipped = kernels(Network(model))
    assert skipped == {}
    matrices = kernel.split(kernel.value())
    patches = keras.ops.convert_to_numpy(Patches(kernel)(x))
    outputs = np.einsum("pgn,gno->pgo", patches, matrices).reshape(len(patches), -1)
    expected = keras.ops.convert_to_numpy(model(x) - kernel.layer.bias).reshape(len(patches), -1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_splitting_and_joining_is_the_identity(name):
    model, _ = built(name)
    (kernel,), _ = kernels(Network(model))
    assert np.array_equal(kernel.join(kernel.split(kernel.value())), kernel.value())


def test_neighbours_along_the_input_are_channels_of_one_position():
    model, _ = built("conv2d_grouped")
    (kernel,), _ = kernels(Network(model))
    value = kernel.value()  # [3, 3, 4, 6]: two groups of 4 inputs and 3 outputs
    assert kernel.run == 4
    assert np.array_equal(kernel.split(value)[1, 4:8, 2], value[0, 1, :, 3 + 2])


@pytest.mark.parametrize("name", LAYERS)
def test_the_quadratic_form_is_the_measured_output_error(name):
    """½δᵀHδ, with the H of a streamed pass, equals what the changed kernel does to the layer's outputs."""
    model, x = built(name)
    (kernel,), _ = kernels(Network(model))
    (hessian,) = hessians(Network(model), [kernel], Data(x).calibration, batch_size=2).values()
    before, outputs = kernel.split(kernel.value()), keras.ops.convert_to_numpy(model(x))
    after = before * RNG.choice([0.0, 1.0], before.shape).astype("float32")
    kernel.variable(kernel.layer).assign(kernel.join(after))
    measured = np.square(keras.ops.convert_to_numpy(model(x)).astype("float64") - outputs).sum() / len(x)
    (block,) = hessian.blocks
    assert output_error(before, after, block) == pytest.approx(measured, rel=1e-3)
    (diagonal,) = hessians(Network(model), [kernel], Data(x).calibration, 2, whole=False).values()
    np.testing.assert_allclose(diagonal.blocks[0], np.einsum("gnn->gn", block), rtol=1e-4)


def problem(seed, n=6, o=3, g=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(g, 50, n)) @ rng.normal(size=(g, n, n)) + rng.normal(size=(g, 1, n))
    return rng.normal(size=(g, n, o)), damped(2 * np.einsum("gpn,gpm->gnm", x, x) / 50, 1e-6)


def least_error(w, hessian, gone):
    """The least ½δᵀHδ with w + δ zero in `gone`, by a solver that knows nothing of inverses being updated."""
    root = np.linalg.cholesky(hessian).T
    stays = [i for i in range(len(w)) if i not in gone]
    found = np.zeros(len(w))
    found[stays] = np.linalg.lstsq(root[:, stays], root @ w, rcond=None)[0]
    return 0.5 * np.square(root @ (found - w)).sum(), found


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_first_removal_is_the_best_of_all_single_removals(seed):
    weights, hessian = problem(seed)
    costs = removal_costs(weights, hessian, Pattern())
    for output in range(3):
        w = weights[0, :, output]
        every = [least_error(w, hessian[0], {q})[0] for q in range(6)]
        q = int(costs[0, :, output].argmin())
        assert q == int(np.argmin(every))
        assert costs[0, q, output] == pytest.approx(min(every), rel=1e-6)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_one_removal_updates_the_others_as_the_closed_form_says(seed):
    """δw = −w_q/[H⁻¹]_qq·H⁻¹e_q, at the cost w_q²/(2·[H⁻¹]_qq)."""
    weights, hessian = problem(seed)
    w, inverse = weights[0, :, 0], np.linalg.inv(hessian[0])
    gone = np.zeros(weights.shape, bool)
    q = seed % 6
    gone[0, q, 0] = True
    after = refitted(weights, hessian, gone)
    np.testing.assert_allclose(after[0, :, 0], w - w[q] / inverse[q, q] * inverse[:, q], rtol=1e-6, atol=1e-8)
    assert np.array_equal(after[0, :, 1:], weights[0, :, 1:])
    assert output_error(weights, after, hessian) == pytest.approx(w[q] ** 2 / (2 * inverse[q, q]), rel=1e-6)


@pytest.mark.parametrize("pattern", ["unstructured", "block 2", "1:2"])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_greedy_removal_is_the_best_next_one_each_time(pattern, seed):
    """Every step takes what, all others refitted anew, costs least on top of what is gone."""
    weights, hessian = problem(seed, n=6, o=1)
    w, rule = weights[0, :, 0], Pattern.parse(pattern)
    units = [set(range(i, i + rule.block)) for i in range(0, 6, rule.block)]
    gone: set[int] = set()
    order = []
    while open_units := [
        u for u in units if not u & gone and (rule.at_most is None or not {min(u) // 2 * 2, min(u) // 2 * 2 + 1} & gone)
    ]:
        best = min(open_units, key=lambda u: least_error(w, hessian[0], gone | u)[0])
        gone |= best
        order.append(best)
    costs = removal_costs(weights, hessian, rule)[0, :, 0]
    ranked = sorted(order, key=lambda u: costs[min(u)])
    assert [costs[min(u)] for u in ranked] == [costs[min(u)] for u in order]
    never = [i for i in range(6) if i not in gone]
    assert np.isinf(costs[never]).all()


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_refitting_ends_where_least_squares_ends_and_never_above_the_mask(seed):
    weights, hessian = problem(seed, n=8, o=4, g=2)
    gone = np.random.default_rng(seed).random(weights.shape) < 0.5
    after = refitted(weights, hessian, gone)
    assert (after[gone] == 0).all()
    for group, output in itertools.product(range(2), range(4)):
        where = set(np.flatnonzero(gone[group, :, output]))
        _, expected = least_error(weights[group, :, output], hessian[group], where)
        np.testing.assert_allclose(after[group, :, output], expected, rtol=1e-5, atol=1e-7)
    assert output_error(weights, after, hessian) <= output_error(weights, np.where(gone, 0, weights), hessian)


def test_more_inputs_than_are_ordered_together():
    """Costs of all blocks of inputs are there, and the choice is still better than that by magnitude."""
    n = 2 * INPUTS_TOGETHER + 6
    weights, hessian = problem(3, n=n, o=2)
    scores = removal_costs(weights, hessian, Pattern())
    assert np.isfinite(scores).all()
    errors = []
    for values in (scores, METHODS["magnitude"].score(weights)):
        (gone,) = zeros(Pattern(), [values], 0.5, together=False)
        errors.append(output_error(weights, refitted(weights, hessian, gone), hessian))
    assert errors[0] < errors[1]


def test_inputs_that_are_always_zero_do_no_harm():
    hessian = damped(np.diag([2.0, 0, 3])[None], 1e-4)
    assert np.isfinite(removal_costs(np.ones((1, 3, 2)), hessian, Pattern())).all()
    assert np.array_equal(damped(np.zeros((1, 2, 2)), 1e-4)[0], np.eye(2))


@given(st.integers(0, 10**6), st.sampled_from(["unstructured", "block 2", "block 4"]), st.floats(0, 0.999))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_budget_is_met_exactly_with_the_least_scores(seed, text, sparsity):
    rng, pattern = np.random.default_rng(seed), Pattern.parse(text)
    scores = [rng.random((1, 8, 3)), rng.random((2, 4, 5))]
    for together in (False, True):
        masks = zeros(pattern, scores, sparsity, together)
        counts = [int(mask.sum()) for mask in masks]
        wanted = [round(sparsity * s.size / pattern.block) * pattern.block for s in scores]
        whole = round(sparsity * 64 / pattern.block) * pattern.block
        assert sum(counts) == whole if together else counts == wanted
        for mask, score in zip(masks, scores, strict=True):
            parts = pattern.parts(mask)
            assert (parts.all(2) == parts.any(2)).all()
            sums = pattern.parts(score).sum(2)
            if parts.any() and not parts.all():
                assert sums[parts.all(2)].max() <= sums[~parts.all(2)].min() or together


@given(st.integers(0, 10**6), st.sampled_from(["1:2", "2:4", "1:4", "3:8"]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_of_every_m_neighbours_n_stay(seed, text):
    pattern = Pattern.parse(text)
    score = np.random.default_rng(seed).random((2, 16, 3))
    (mask,) = zeros(pattern, [score], None, together=False)
    left = pattern.parts(~mask)
    assert (left.sum(2) == pattern.at_most).all()
    kept, lost = np.where(left, pattern.parts(score), np.inf), np.where(left, -np.inf, pattern.parts(score))
    assert (kept.min(2) > lost.max(2)).all()


def test_what_is_zero_goes_first():
    score = np.array([5.0, -1, 3, -1, 1, 2, 4, 6]).reshape(1, 8, 1)
    (mask,) = zeros(Pattern(), [score], 3 / 8, together=False)
    assert np.flatnonzero(mask).tolist() == [1, 3, 4]


@pytest.mark.parametrize("text", ["4:4", "0:2", "block 0", "block", "2:", "rows"])
def test_a_pattern_that_is_none(text):
    with pytest.raises(SettingError, match=rf"Received: pattern='{text}' \(PruneWeights\)"):
        Pattern.parse(text)
