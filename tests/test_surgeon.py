"""The Optimal Brain Surgeon on channels against brute force, and what redundancy and ThiNet see."""

import itertools

import numpy as np
import pytest

from paredown.moments import Consumer
from paredown.sensitivity import made_up
from paredown.surgeon import RIDGE, redundancy, structured_obs, thinet


def _consumer(seed=0, channels=5, window=2, outputs=3, samples=400):
    rng = np.random.default_rng(seed)
    n = channels * window
    x = rng.normal(0, 1, (samples, n)) @ rng.normal(0, 1, (n, n)) + rng.normal(0, 1, n)
    matrix = rng.normal(0, 1, (n, outputs))
    # Rows in the order of a convolution's kernel: window outside, channels inside.
    return x, Consumer("layer", matrix, x.mean(0), np.cov(x.T, bias=True), np.tile(np.arange(channels), window))


def _least_error(consumer, gone):
    """What is left when all rows but those of `gone` are refitted, with the surgeon's damping."""
    n = len(consumer.components)
    damped = consumer.covariance + RIDGE * np.diag(consumer.covariance).mean() * np.eye(n)
    out, kept = (np.flatnonzero(np.isin(consumer.components, gone, invert=i)) for i in (False, True))
    schur = damped[np.ix_(out, out)] - damped[np.ix_(out, kept)] @ np.linalg.solve(
        damped[np.ix_(kept, kept)], damped[np.ix_(kept, out)]
    )
    return float(np.einsum("bo,bc,co->", consumer.matrix[out], schur, consumer.matrix[out]))


@pytest.mark.parametrize("seed", range(4))
def test_the_first_to_go_is_the_best_single_removal_and_errors_add_up(seed):
    _, consumer = _consumer(seed)
    variance = np.einsum("no,nm,mo->", consumer.matrix, consumer.covariance, consumer.matrix)
    scores = structured_obs(np.arange(5), [consumer])
    order = np.argsort(scores)
    single = [_least_error(consumer, [c]) for c in range(5)]
    assert order[0] == np.argmin(single)
    assert scores[order[0]] == pytest.approx(min(single) / variance, rel=1e-6)
    for k in range(1, 5):
        # Greedy, so no better than the best subset; but its own error is exact.
        assert scores[order[:k]].sum() == pytest.approx(_least_error(consumer, order[:k]) / variance, rel=1e-5)
        best = min(_least_error(consumer, list(some)) for some in itertools.combinations(range(5), k))
        assert scores[order[:k]].sum() >= best / variance * (1 - 1e-6)


def test_what_makes_up_for_removed_rows_is_the_least_squares_fit():
    x, consumer = _consumer(1)
    stays = ~np.isin(consumer.components, [0, 3])
    weights = made_up(consumer, stays)
    centred = x - x.mean(0)
    expected = np.linalg.lstsq(centred[:, stays], centred @ consumer.matrix, rcond=None)[0]
    np.testing.assert_allclose(weights[stays], expected, rtol=1e-3, atol=1e-3)
    assert not weights[~stays].any()


def test_readers_of_one_group_are_weighed_together():
    consumers = [_consumer(seed, window=w)[1] for seed, w in ((0, 1), (1, 3))]
    both = structured_obs(np.arange(5), consumers)
    alone = [structured_obs(np.arange(5), [c]) for c in consumers]
    singles = []
    for c in range(5):
        shares = [_least_error(r, [c]) / np.einsum("no,nm,mo->", r.matrix, r.covariance, r.matrix) for r in consumers]
        singles.append(sum(shares))
    assert np.argmin(both) == np.argmin(singles)
    assert both.sum() == pytest.approx(sum(a.sum() for a in alone), rel=1e-6)


def test_redundancy_sees_what_counting_cannot():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (2, 500))
    x = np.stack([a, b, a + b + 3, 2 * a, rng.normal(0, 1, 500), np.full(500, 7.0)], 1)
    consumer = Consumer("layer", np.ones((6, 1)), x.mean(0), np.cov(x.T, bias=True), np.arange(6))
    scores = redundancy(np.arange(6), [consumer])
    # Of a, b, a + b + 3 and 2a two can go; a constant is in the mean; the fifth stands alone.
    assert (scores < 1e-3).sum() == 3
    assert scores[5] < 1e-3
    assert scores[4] > 0.9


def test_thinet_takes_the_least_joint_contribution():
    x, consumer = _consumer(2, channels=4, window=1)
    parts = x[:, :, None] * consumer.matrix[None]  # [samples, channels, outputs]
    variance = np.var(x @ consumer.matrix, 0).sum()
    scores = thinet(np.arange(4), [consumer])
    joint = {c: np.square(parts[:, c]).sum(-1).mean() / variance for c in range(4)}
    assert np.argmin(scores) == min(joint, key=joint.get)
    assert scores.min() == pytest.approx(min(joint.values()), rel=1e-6)


def test_dead_channels_cost_nothing():
    x, _ = _consumer(3)
    x[:, [1, 6]] = 0  # channel 1, both rows
    matrix = np.ones((10, 2))
    consumer = Consumer("layer", matrix, x.mean(0), np.cov(x.T, bias=True), np.tile(np.arange(5), 2))
    for criterion in (structured_obs, redundancy, thinet):
        scores = criterion(np.arange(5), [consumer])
        assert np.argmin(scores) == 1
        assert scores[1] < 1e-3
