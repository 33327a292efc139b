"""Widths under a limit: equal to trying every choice, on small instances with and without stairs."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paredown.allocation import (
    AdditiveCost,
    CostTerm,
    LevelCosts,
    allocate,
    allocate_within,
    curves_from_scores,
    keep_best,
    keep_optimal,
    levels,
    solver,
)
from paredown.errors import SettingError


def instance(seed):
    """Up to four groups of up to four levels, costs of pairs without any order (stairs of a latency table)."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, rng.integers(1, 5))
    # Whole numbers every other time, so that there are ties.
    losses = [-np.sort(-(rng.integers(0, 9, n).astype(float) if seed % 2 else rng.random(n))) for n in sizes]
    costs = LevelCosts.nothing(sizes)
    costs.add((), rng.random())
    for g in range(len(sizes)):
        costs.add((g,), rng.random(sizes[g]))
        for h in range(g):
            if rng.random() < 0.6:
                costs.add((g, h), 3 * rng.random((sizes[g], sizes[h])))
    return [np.arange(n) for n in sizes], losses, costs, 8 * rng.random()


def tried(widths, losses, costs, limit):
    """The least loss of all choices within the limit; infinite where there is none."""
    choices = map(np.array, itertools.product(*[range(len(w)) for w in widths]))
    within = (sum(loss[x] for loss, x in zip(losses, c, strict=True)) for c in choices if costs.of(c) <= limit)
    return min(within, default=np.inf)


@pytest.mark.parametrize("eliminate", [True, False])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_as_good_as_trying_every_choice(eliminate, seed):
    widths, losses, costs, limit = instance(seed)
    expected = tried(widths, losses, costs, limit)
    with pytest.MonkeyPatch.context() as patch:
        if not eliminate:  # As in networks whose groups are too entangled: the integer programme alone proves.
            patch.setattr(solver, "order", lambda *args, **kwargs: None)
        if np.isinf(expected):
            with pytest.raises(SettingError, match="The budget must be one that can be reached"):
                allocate(widths, losses, costs, limit, gap=0.0)
            return
        found = allocate(widths, losses, costs, limit, gap=0.0)
    assert found.cost <= limit
    assert found.cost == pytest.approx(costs.of(found.widths))
    assert found.loss == pytest.approx(expected, abs=1e-9)
    assert found.gap <= 1e-6


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_larger_limit_never_loses_more(seed):
    widths, losses, costs, limit = instance(seed)
    lost = []
    for wider in (limit, 1.1 * limit, 1.5 * limit, 1e3):
        try:
            lost.append(allocate(widths, losses, costs, wider, gap=0.0).loss)
        except SettingError:
            lost.append(np.inf)
    assert lost == sorted(lost, reverse=True)


def test_an_infinite_loss_forbids_a_level():
    costs = LevelCosts.nothing([3])
    costs.add((0,), np.array([1.0, 2, 3]))
    losses = [np.array([np.inf, 5, 0])]
    assert allocate([np.array([4, 8, 12])], losses, costs, 2.5).widths.tolist() == [8]
    with pytest.raises(SettingError, match=r"Received: 1\.5; the cheapest widths allowed cost 2"):
        allocate([np.array([4, 8, 12])], losses, costs, 1.5)


def test_no_groups_at_all():
    fixed = LevelCosts(7.0, [])
    assert allocate([], [], fixed, 7.0).cost == 7
    with pytest.raises(SettingError, match=r"Received: 6;"):
        allocate([], [], fixed, 6.0)


def chain(rng, groups=30, size=32):
    """Layers one behind the other, the scores of the first ones larger; component 0 is the input."""
    members = np.split(1 + np.arange(groups * size), groups)
    terms = [CostTerm("first", 9, np.zeros(3, int), members[0])]
    terms += [CostTerm(f"{i}", 9, a, b) for i, (a, b) in enumerate(itertools.pairwise(members))]
    scores = np.concatenate([[np.inf], *[rng.gamma(1, size=size) * rng.lognormal(0, 1) for _ in members]])
    return members, AdditiveCost(terms), scores


def test_thirty_groups_are_solved_to_the_gap():
    members, cost, scores = chain(np.random.default_rng(0))
    widths = [levels(len(group)) for group in members]
    limit = 0.5 * cost(np.ones(scores.size, bool))
    found = allocate_within(scores.size, members, widths, curves_from_scores(scores, members, widths), cost, limit)
    keep = keep_best(scores, members, found.widths)
    assert cost(keep) == pytest.approx(found.cost)
    assert found.cost <= limit
    assert scores[~keep].sum() == pytest.approx(found.loss)
    assert found.gap <= 1e-4


def terms_of_every_kind():
    """Groups a (components 1, 2, 3) and b (4, 5); 0 stays. Layers that count a twice, a and b together, stairs."""
    a, b = np.array([1, 2, 3]), np.array([4, 5])
    return [a, b], [
        CostTerm("product", 7, a, b),
        CostTerm("flattened", 2, np.repeat(a, 4), np.concatenate([[0], b])),
        CostTerm("joined", 3, np.concatenate([a, b, [0, 0]]), b),
        CostTerm("square", 1, a, a),
        CostTerm("bias", 1, None, np.concatenate([a, [0]])),
        CostTerm("grouped", 6, np.repeat(a, 2), np.repeat(a, 2), shared=2),
        CostTerm("table", price=lambda i, o: (i * 31 + o * 17) % 13, first=np.repeat(a, 2), second=b),
    ]


def test_levels_cost_what_the_channels_cost():
    groups, terms = terms_of_every_kind()
    cost, widths = AdditiveCost(terms, fixed=5), [np.array([1, 2, 3]), np.array([1, 2])]
    by_levels = cost.by_levels(6, groups, widths)
    assert by_levels.exact
    for choice in itertools.product(range(3), range(2)):
        keep = keep_best(np.arange(6.0), groups, [w[x] for w, x in zip(widths, choice, strict=True)])
        assert by_levels.of(np.array(choice)) == pytest.approx(cost(keep))


def test_prices_of_three_groups_keep_to_the_limit_all_the_same():
    groups = list(np.split(np.arange(12), 3))
    cost = AdditiveCost(
        [CostTerm("joined", price=lambda i, o: float(-(-i // 3) * -(-o // 2)), first=np.arange(8), second=groups[2])]
    )
    scores = np.random.default_rng(0).random(12)
    widths = [levels(4)] * 3
    assert not cost.by_levels(12, groups, widths).exact
    for limit in (5.0, 4.0, 3.0, 2.0, 1.0):
        keep = keep_optimal(scores, groups, cost, limit)
        assert cost(keep) <= limit


def test_a_wider_layer_that_is_cheaper_stays_wide():
    group = np.arange(1, 9)
    # 5 to 7 channels take longer than 8.
    ms = {4: 1.0, 5: 3.0, 6: 3.0, 7: 3.0, 8: 2.0}
    cost = AdditiveCost([CostTerm("conv", price=lambda i, o: ms.get(o, 0.9), first=None, second=group)])
    scores = np.append(np.inf, np.arange(1.0, 9))
    assert keep_optimal(scores, [group], cost, 2.5).sum() == 9
    assert keep_optimal(scores, [group], cost, 1.5).sum() == 5


def test_levels_follow_the_rules():
    assert levels(10).tolist() == list(range(1, 11))
    assert levels(30, round_to=8).tolist() == [8, 16, 24, 30]
    assert levels(30, round_to=8, least=9, must=17).tolist() == [24, 30]
    assert levels(4, round_to=8).tolist() == [4]
    assert levels(100, count=4, extra=[7, 50, 200]).tolist() == [1, 7, 34, 50, 67, 100]


def test_curves_add_up_what_goes_and_never_let_go_what_must_stay():
    scores = np.array([9.0, 3, 1, np.inf, 2])
    (curve,) = curves_from_scores(scores, [np.arange(5)], [np.arange(1, 6)])
    assert curve.tolist() == [1 + 2 + 3 + 9, 1 + 2 + 3, 1 + 2, 1, 0]
    (curve,) = curves_from_scores(np.array([np.inf, np.inf, 1]), [np.arange(3)], [np.arange(1, 4)])
    assert curve.tolist() == [np.inf, 1, 0]


def test_a_limit_that_is_met_removes_nothing():
    members, cost, _ = chain(np.random.default_rng(0), groups=2, size=3)
    assert keep_optimal(np.zeros(7), members, cost, cost(np.ones(7, bool))).all()
