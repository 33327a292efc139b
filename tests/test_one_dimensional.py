"""The experiment's arithmetic: where pairs save, and that they stand for the kernels they are made of."""

import numpy as np
import pytest

from paredown import demo, profile
from paredown.experiments.one_dimensional import BETWEEN, SHARES, bounds, convolutions, pairs, take_over, width


@pytest.fixture(scope="module")
def plain():
    return demo.classifier()


def widths_of(plain, share):
    return {name: width(layer, share) for name, layer in convolutions(plain).items()}


def test_the_bound_of_table_2_2(plain):
    first, second, third = map(bounds, convolutions(plain).values())
    assert (first["r"], second["r"], third["r"]) == (1, 1, 7)
    assert first["macs"] == pytest.approx(5 * 1 * 32 / (1 + 32))
    assert second["macs"] == second["params"] == pytest.approx(5 * 32 * 64 / (32 + 64))
    # One row of 7 positions becomes one position.
    assert third["macs"] == pytest.approx(7 * 64 * 128 / (7 * 64 + 128))
    assert third["params"] == pytest.approx(7 * 64 * 128 / (64 + 128))
    assert list(widths_of(plain, 1.0).values()) == [4, 106, 99]


@pytest.mark.parametrize("share", SHARES)
def test_pairs_save_below_the_bound_alone(plain, share):
    widths = widths_of(plain, share)
    paired = pairs(plain, widths, BETWEEN[1], seed=0)
    first, second, third = widths.values()
    macs = (
        28 * 28 * 5 * first * (1 + 32)
        + 14 * 14 * 5 * second * (32 + 64)
        + 7 * third * (7 * 64 + 128)
        + 128 * 10
    )  # fmt: skip
    assert profile(paired).macs == macs
    assert (macs < profile(plain).macs) == (share <= 1)


def test_at_full_rank_the_pairs_give_what_the_network_gives(plain):
    x = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1)).astype("float32")
    widths = widths_of(plain, 100)
    assert list(widths.values()) == [5 * 1, 5 * 32, 7 * 64]
    paired = pairs(plain, widths, BETWEEN[0], seed=0)
    take_over(paired, plain, widths, 100, None, seed=0)
    np.testing.assert_allclose(paired(x), plain(x), atol=1e-4)


def test_half_the_bound_is_what_factorize_gives(plain):
    x = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1)).astype("float32")
    from paredown import Factorize

    widths = widths_of(plain, 0.5)
    paired = pairs(plain, widths, BETWEEN[0], seed=0)
    take_over(paired, plain, widths, 0.5, None, seed=0)
    factored = Factorize(kinds=("spatial",), layer_macs=0.5)(plain).model
    np.testing.assert_allclose(paired(x), factored(x), atol=1e-5)
