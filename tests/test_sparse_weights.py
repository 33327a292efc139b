"""The experiment's arithmetic: where a curve crosses the least gain that counts, and matrices of an exact density."""

import numpy as np
import pytest

from paredown.experiments.sparse_weights import _with_density
from paredown.experiments.sparse_weights_page import GAIN, crossing, crossing_in_words


def test_a_crossing_lies_on_the_line_between_its_neighbours():
    # Straight in both logarithms: the gain falls to its least at a density of 0.1.
    points = [(density, GAIN * 0.1 / density) for density in (1, 0.5, 0.2, 0.05, 0.01)]
    assert crossing(points) == pytest.approx(0.1)
    assert crossing([(0.05, 0.9), (0.01, 0.95)]) is None
    assert crossing([(0.5, 1.2), (0.01, 3)]) == 0.5
    # Sparse must be ahead at all lower densities: what comes after a fall does not count.
    assert crossing([(0.01, 2 * GAIN), (0.1, 0.5 * GAIN), (0.5, 4)]) == pytest.approx(10**-1.5)


def test_seeds_give_a_crossing_its_spread():
    rows = [{"seed": s, "density": d, "speedup": GAIN * (0.1 + 0.01 * s) / d} for s in range(3) for d in (0.5, 0.05)]
    assert crossing_in_words(rows) == "0.110 ± 0.010"
    for row in rows[-2:]:
        row["speedup"] = 0.9
    assert crossing_in_words(rows) == "0.105 ± 0.007 (1 of 3 seeds: no gain down to 0.05)"
    assert crossing_in_words([{**row, "speedup": 1.02} for row in rows]) == "no gain down to 0.05"


def test_densities_are_exact():
    matrix = _with_density(np.random.default_rng(0), 20, 0.15)
    assert (matrix != 0).sum() == round(0.15 * 400)
