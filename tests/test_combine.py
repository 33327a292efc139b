"""The experiment `combine`: its chains, what its sums say, and its page on rows of known figures."""

import json

import pytest

from paredown.experiments.combine import NETWORKS, REDUCING, USUAL, cases, chains_of
from paredown.experiments.combine_page import page
from paredown.experiments.combine_sums import chain, steps_of, sums

#: Points lost and times as fast: alone at half the MACs, alone at a quarter.
LOST = {"prune": (1.0, 3.0), "factorize": (2.0, 6.0), "share": (0.5, 0.5), "int8": (0.25, 0.25)}
FASTER = {"prune": (1.9, 3.6), "factorize": (1.5, 2.25), "share": (1.0, 1.0), "int8": (3.0, 3.0)}
HALF, QUARTER, SHARED = ("prune", 0.5), ("factorize", 0.25), ("share", None)


def row(steps, beyond=0.0, seed=0):
    """A row that loses what its parts lose together, and so many points beyond."""
    parts, before = [], 1.0
    for method, share in steps:
        parts.append((method, int(share is not None and share / before < 0.4)))
        before = share or before
    figures = {"original_percent": 95.0, "stepped_percent": 90.0, "original_macs": 1000, "original_bytes": 4000}
    figures |= {"macs": [int(1000 * before)] * len(steps), "original_ms": 1.0, "layers": 4}
    packed = any(method == "share" for method, _ in steps)
    figures |= {"packed_kernels": 3 if packed else None, "unpacked_kernels": 1 if packed else None}
    for form, more in (("float", []), ("int8", [("int8", 0)])):
        ratio = 1.0
        for method, at in parts + more:
            ratio /= FASTER[method][at]
        lost = sum(LOST[method][at] for method, at in parts + more) + beyond
        figures |= {f"{form}_percent": 95.0 - lost, f"{form}_latency_ratio": ratio}
        figures |= {f"{form}_bytes": 2000, f"{form}_zipped_bytes": 1000}
    settings = {"train": 100, "test": 10_000, "calibration": 10, "epochs": 1, "tuning_steps": 2, "batch": 8}
    case = {"network": "classifier", "steps": steps, "seed": seed, "k": 4, "rate": 1e-4, "turns": 5, **settings}
    return {**case, **figures}


def rows(beyond=0.0):
    alone = [(), (HALF,), (("factorize", 0.5),), (("prune", 0.25),), (QUARTER,), (SHARED,)]
    pairs = [(HALF, QUARTER), (("factorize", 0.5), ("prune", 0.25)), (SHARED, HALF), (HALF, SHARED)]
    of = [(steps, 0.0) for steps in alone] + [(steps, beyond) for steps in pairs]
    return [row(steps, more, seed) for steps, more in of for seed in range(3)]


@pytest.mark.parametrize("network", NETWORKS)
def test_every_chain_ends_where_each_method_alone_does_and_pairs_have_their_parts(network):
    share = NETWORKS[network][0]
    chains = chains_of(network, share)
    assert len(set(chains)) == len(chains)
    alone = {steps_of({"steps": steps})[0] for steps in chains if len(steps) == 1}
    for steps in chains:
        asked = [left for _, left in steps if left is not None]
        assert asked == sorted(asked, reverse=True)
        if len(steps) > 1:
            assert asked[-1] == share
        if len(steps) == 2:
            for method, left in steps_of({"steps": steps}):
                assert any(method == m and (left is s or abs(left - s) < 0.005) for m, s in alone)
    reducing = REDUCING.get(network, USUAL)
    assert sum(len(steps) == 2 and "share" not in dict(steps) for steps in chains) == len(reducing) * (
        len(reducing) - 1
    )


@pytest.mark.parametrize(("beyond", "verdict"), [(0.0, "adds up"), (2.0, "loses more"), (-2.0, "loses less")])
def test_sums_hold_a_chain_against_its_parts(beyond, verdict):
    found = {one.name: one for one in sums(rows(beyond))}
    pair = found["prune → factorize at 25.0 %, float32"]
    assert (pair.verdict, pair.beyond) == (verdict, pytest.approx(beyond))
    assert pair.parts_lost.mean == pytest.approx(1.0 + 2.0)
    assert pair.faster.mean == pytest.approx(pair.parts_faster.mean) == pytest.approx(1.9 * 1.5)
    assert found["prune → factorize at 25.0 %, int8"].parts_lost.mean == pytest.approx(1.0 + 2.0 + 0.25)
    # A single method in int8 is a pair, too.
    assert found["prune at 25.0 %, int8"].parts_faster.mean == pytest.approx(3.6 * 3.0)


def test_a_chain_without_its_parts_is_left_out():
    found = sums([one for one in rows() if chain(one) != "share"])
    assert found
    assert not any("share" in one.name for one in found)


def test_the_page_says_what_the_figures_say(tmp_path):
    text = page(json.loads(json.dumps(rows(2.0))), tmp_path)
    assert "| prune → factorize at 25.0 %, float32 | loses more | 5.00 | 3.00 | +2.00 (± 0.16)" in text
    assert "prune loses least (3.00 points), factorize most (6.00)" in text
    assert "prune is fastest (0.28 of the original's time)" in text
    assert "| share → prune |" in text
    assert "they are in each other's way (points beyond): prune → factorize at 25.0 %, float32 +2.00" in text
    assert "where sharing comes first: share → prune 3 of 4" in text
    assert " nan" not in text
    assert (tmp_path / "combine-classifier-accuracy.png").stat().st_size > 0


def test_seeds_and_chains_are_the_networks():
    whole = cases(False)
    assert {case["network"] for case in whole} == set(NETWORKS)
    assert all(case["steps"] in chains_of(case["network"], NETWORKS[case["network"]][0]) for case in whole)
