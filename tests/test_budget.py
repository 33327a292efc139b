"""Scores and a budget give the channels that stay: by hand on a few numbers."""

from itertools import pairwise

import numpy as np
import pytest

from paredown.budget import keep_above, keep_share, keep_within
from paredown.errors import SettingError

SCORES = np.array([99.0, 5, 1, 4, 2, 30, 10, 20, 40])
#: Component 0 is in no group.
GROUPS = [np.array([1, 2, 3, 4]), np.array([5, 6, 7, 8])]


def gone(keep):
    return np.flatnonzero(~keep).tolist()


def test_share_of_each_layer():
    # 0.5 * 4 = 2 of each: scores 1, 2 and 10, 20.
    assert gone(keep_share(SCORES, GROUPS, 0.5, "layer")) == [2, 4, 6, 7]


def test_share_rounds_down():
    # 0.49 * 4 = 1.96: one of each.
    assert gone(keep_share(SCORES, GROUPS, 0.49, "layer")) == [2, 6]
    # 0.7 * 10 is 6.999… in floating point, and means 7.
    assert len(gone(keep_share(np.arange(10.0), [np.arange(10)], 0.7, "layer"))) == 7


def test_global_share_ranks_all_together():
    # 0.5 * 8 = 4 lowest: 1, 2, 4, 5 are the whole first group, of which one must stay, the best.
    assert gone(keep_share(SCORES, GROUPS, 0.5, "global")) == [2, 3, 4]
    assert gone(keep_share(SCORES, GROUPS, 0.5, "global", least=3)) == [2]


def test_round_to_rounds_what_stays_up():
    # 4 - 1 = 3 would stay; a multiple of 2 is 4.
    assert gone(keep_share(SCORES, GROUPS, 0.25, "layer", round_to=2)) == []
    assert gone(keep_share(SCORES, GROUPS, 0.75, "layer", round_to=2)) == [2, 4, 6, 7]
    # Never more than there are.
    assert gone(keep_share(SCORES, GROUPS, 0.75, "layer", round_to=64)) == []


def test_threshold_takes_scores_at_or_below():
    assert gone(keep_above(SCORES, GROUPS, 4.0)) == [2, 3, 4]
    assert gone(keep_above(SCORES, GROUPS, 1000.0)) == [2, 3, 4, 5, 6, 7]
    assert gone(keep_above(SCORES, GROUPS, 1000.0, least=2)) == [2, 4, 6, 7]
    assert gone(keep_above(SCORES, GROUPS, 0.5)) == []


def test_equal_scores_go_in_order():
    assert gone(keep_share(np.ones(4), [np.arange(4)], 0.5, "layer")) == [0, 1]


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_within_a_cost_removes_no_more_than_it_must(scope):
    prices = np.array([0, 1, 1, 1, 1, 7, 7, 7, 7])

    def cost(keep):
        return float(prices[keep].sum())

    keep = keep_within(SCORES, GROUPS, cost, 20.0, scope)
    assert cost(keep) <= 20
    # One step less of the share would cost more than 20: 2 * 1 + 2 * 7 = 16 after 3 * 1 + 3 * 7 = 24.
    if scope == "layer":
        assert cost(keep) == 2 * 1 + 2 * 7


def test_within_a_cost_already_met_removes_nothing():
    assert gone(keep_within(SCORES, GROUPS, lambda keep: float(keep.sum()), 9.0, "layer")) == []


def test_a_cost_out_of_reach_says_how_low_it_goes():
    # One of each group and component 0 stay: 3.
    with pytest.raises(SettingError, match=r"Received: 2\.5; with every channel gone .* it is 3\."):
        keep_within(SCORES, GROUPS, lambda keep: float(keep.sum()), 2.5, "layer")


def test_more_removed_never_keeps_more():
    rng = np.random.default_rng(0)
    scores, groups = rng.random(30), np.split(np.arange(30), [7, 12, 25])
    for scope in ("layer", "global"):
        left = [keep_share(scores, groups, share, scope, round_to=2, least=2) for share in np.linspace(0, 0.99, 40)]
        assert all((less | ~more).all() for less, more in pairwise(left))


def test_an_infinite_score_stays_whatever_the_share():
    scores = np.array([np.inf, 1.0, np.inf, 2.0])
    keep = keep_share(scores, [np.arange(4)], 0.75, "layer")
    assert keep.tolist() == [True, False, True, False]
