"""What is kept of an original network: the same results as without, and never another network's."""

import numpy as np
import pytest

from networks import NETWORKS, examples, randomize
from paredown import Data, Factorize, PruneChannels
from paredown.remembered import Memory, remembered

TRANSFORMS = [
    PruneChannels("structured_obs", macs=0.6, scope="optimal", reconstruct=True, examples=32),
    PruneChannels("structured_obs", macs=0.6, scope="optimal", reconstruct=True, examples=16),
    PruneChannels("l2_norm", params=0.6, scope="optimal", examples=32),
    PruneChannels("taylor_2019", sparsity=0.4),
    Factorize(macs=0.8, examples=32),
    Factorize(macs=0.6, examples=32),
    Factorize(params=0.8, examples=32),
    Factorize(macs=0.8, examples=32, kinds=("svd",)),
]


def _network(seed: int):
    return randomize(NETWORKS["residual"](), seed)


def _data(model, seed: int) -> Data:
    return Data(calibration=examples(model, 48, seed)[0])


def _equal(one, other) -> bool:
    weights = zip(one.model.get_weights(), other.model.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in weights) and one.changes == other.changes


def test_results_with_a_memory_are_those_without():
    model = _network(0)
    data = _data(model, 0)
    plain = [transform(model, data, seed=seed) for transform in TRANSFORMS for seed in (0, 1)]
    memory = Memory(model, data)
    with memory.used():
        for _ in range(2):
            kept = [transform(model, data, seed=seed) for transform in TRANSFORMS for seed in (0, 1)]
            assert all(_equal(a, b) for a, b in zip(plain, kept, strict=True))
    assert memory.results


def test_another_network_or_other_data_are_computed_anew():
    model, other = _network(0), _network(1)
    data, more = _data(model, 0), _data(model, 1)
    memory = Memory(model, data)
    for transform in TRANSFORMS:
        with memory.used():
            transform(model, data)
            known = dict(memory.results)
            seen = [transform(other, data), transform(model, more)]
        assert memory.results.keys() == known.keys()
        assert all(_equal(*pair) for pair in zip(seen, [transform(other, data), transform(model, more)], strict=True))


def test_a_memory_lasts_as_long_as_its_block():
    model, data = object(), object()
    given = iter(range(10))

    def asked(what: str = "a"):
        return remembered(model, data, what, lambda: next(given))

    assert [asked(), asked()] == [0, 1]
    memory = Memory(model, data)
    with memory.used():
        assert [asked(), asked(), asked("b"), asked()] == [2, 2, 3, 2]
        with Memory(model, data).used():
            assert asked() == 4
        assert asked() == 2
    assert asked() == 5
    with pytest.raises(ZeroDivisionError), memory.used():
        remembered(model, data, "c", lambda: 1 // 0)
    assert asked() == 6
    with memory.used():
        assert [asked(), asked("c")] == [2, 7]
