"""The experiment's networks: as wide as the budget allows, and as dear as said."""

import re

import pytest

from paredown import profile
from paredown.experiments.structures import EQUAL, PLAIN_SCALE, SHAPES, cases
from paredown.experiments.structures_nets import STEP, STRUCTURES, Frame, cost, network, solved_scale
from paredown.experiments.structures_page import page


@pytest.mark.parametrize("equal", EQUAL)
@pytest.mark.parametrize("data", SHAPES)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_widths_meet_the_budget(structure, data, equal):
    frame = Frame(SHAPES[data])
    budget = getattr(cost(frame, "plain", PLAIN_SCALE), equal)
    scale = solved_scale(frame, structure, equal, budget)
    assert 0.97 * budget < getattr(cost(frame, structure, scale), equal) <= budget
    assert getattr(cost(frame, structure, scale + STEP), equal) > budget


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_residual_connections_cost_nothing(structure, residual):
    frame = Frame((12, 12, 3), per_stage=2)
    found, expected = profile(network(frame, structure, residual, 9.25)), cost(frame, structure, 9.25)
    assert (found.macs, found.params) == (expected.macs, expected.params)


def _made_up(case):
    """A row of the form that the case's run gives, its figures told from its settings."""
    if case["part"] == "latency":
        ways = [(structure, residual) for structure in case["structures"] for residual in (False, True)]
        points = [
            {"structure": s, "residual": r, "latency_ms": 1.5, "latency_ratio": 1 + place / 10 + case["seed"] / 100}
            for place, (s, r) in enumerate(ways)
        ]
        return {**case, "points": points}
    figures = {
        "accuracy_percent": 50 + case["seed"],
        "loss": 0.5,
        "macs": 10**6,
        "params": 10**4,
        "widths": [8, 16, 32],
    }
    return {**case, **figures, "layers": 6 * case.get("per_stage", 1) + 2}


def test_the_page_joins_what_belongs_together(tmp_path):
    text = page([_made_up(case) for case in cases(quick=False)], tmp_path)
    # Two data, two budgets, each with and without residual connections; the plain network stands under both budgets.
    assert {s: len(re.findall(rf"^\| {s} \| (?:yes|no) ", text, re.MULTILINE)) for s in STRUCTURES} == dict.fromkeys(
        STRUCTURES, 2 * 2 * 2
    )
    assert (
        text.count("| bottleneck | yes | 8 · 16 · 32 | 1,000,000 | 10,000 | 51.00 ± 1.00 | 1.500 | 1.51 ± 0.01 |") == 4
    )
    assert "## mnist, 2 epochs" in text
    assert len(re.findall(r"^\| (?:8|20|32|44|56) \| (?:residual|plain) ", text, re.MULTILINE)) == 5 * 2
    assert "| 34 layers, two 3×3 | 3.66 | 21.78 | 21.81 |" in text
    assert "| 50 layers, bottlenecks | 3.86 | 25.50 | 25.61 |" in text
    assert len(list(tmp_path.glob("structures-*.png"))) == 2 * 2 + 1
