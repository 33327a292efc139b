"""What a search's study says of candidates: who is trained further, and what time and latency are on other machines."""

import dataclasses

import pytest

from paredown.search.budget import Budget
from paredown.search.entries import Entry, best_first, promoted
from paredown.search.judgement import Judgement


def _entry(number, drop, latency_ms, stage="cheap", of=None):
    figures = {"macs": 1, "params": 1, "size_bytes": 1, "latency_ms": latency_ms, "latency_from": "tables"}
    told = {"score": 1 - drop, "drop": drop, "drop_error": 0, "seconds": 0, "step_seconds": None}
    judgement = Judgement(**figures, **told, recipe="", label="")
    return Entry(number, stage, number if of is None else of, "complete", None, judgement, {}, {})


def test_the_best_within_the_limits_are_trained_first():
    entries = [_entry(0, 0.5, 0.9), _entry(1, 0.1, 1.5), _entry(2, 0.2, 1.0), _entry(3, 0.3, 0.8)]
    order = best_first(entries, lambda judgement: judgement.latency_ms, True)
    assert [entry.number for entry in order] == [2, 3, 0, 1]
    assert promoted(entries, lambda j: j.latency_ms, True).number == 2
    entries.append(_entry(4, 0.15, 1.0, "short", of=2))
    assert promoted(entries, lambda j: j.latency_ms, True) is None
    entries += [_entry(5, 0.25, 1.0), _entry(6, 0.6, 1.0)]
    assert promoted(entries, lambda j: j.latency_ms, True).number == 5


def test_nobody_beyond_the_limits_is_trained_while_searching():
    entries = [_entry(number, 0.1, 2.0) for number in range(6)]
    assert promoted(entries, lambda judgement: judgement.latency_ms, True) is None


def test_without_limits_the_front_comes_first():
    entries = [_entry(0, 0.0, 1.0), _entry(1, 0.1, 0.5), _entry(2, 0.2, 0.6), _entry(3, 0.3, 0.1)]
    order = best_first(entries, lambda judgement: judgement.latency_ms, False)
    assert [entry.number for entry in order[-1:]] == [2]


def test_latencies_of_other_machines_are_shares_of_their_original():
    entry = dataclasses.replace(_entry(0, 0.1, 4.0), attributes={"original_ms": 8.0})
    assert entry.seen_from(2.0).judgement.latency_ms == pytest.approx(1.0)
    assert _entry(0, 0.1, 4.0).seen_from(2.0).judgement.latency_ms == 4.0


def test_a_budget_remembers_what_was_used(tmp_path):
    now = [100.0]
    budget = Budget(10, tmp_path / "used.json", lambda: now[0])
    now[0] += 3
    budget.keep()
    again = Budget(10, tmp_path / "used.json", lambda: now[0])
    assert again.used == pytest.approx(3)
    assert again.exploring
    now[0] += 4
    assert not again.exploring
    assert again.left_to_train() == pytest.approx(1.5)
