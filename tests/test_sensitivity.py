"""Losses that are measured on the network: what they are, and what a budget makes of them."""

import keras
import numpy as np
import pytest
from keras import layers

from equality import difference, run
from networks import examples, randomize
from paredown.channels import Channels
from paredown.data import Data, Split
from paredown.moments import Moments
from paredown.profiling import MacCount
from paredown.sensitivity import measured_losses
from paredown.surgeon import structured_obs
from paredown.transforms import PruneChannels


def _network():
    """Two layers of equal cost: of the first one's units half are copies of the others, the second has no slack."""
    i = keras.Input((12,))
    x = layers.Dense(16, activation="relu", name="slack")(i)
    x = layers.Dense(16, activation="relu", name="tight")(x)
    model = randomize(keras.Model(i, layers.Dense(4, name="out")(x)))
    kernel, bias = model.get_layer("slack").get_weights()
    kernel[:, 8:], bias[8:] = kernel[:, :8], bias[:8]
    model.get_layer("slack").set_weights([kernel, bias])
    return model


@pytest.fixture(scope="module")
def case():
    model = _network()
    split = Split(examples(model, 400)[0])
    channels = Channels(model)
    moments = Moments(channels, split)
    scores = np.full(channels.count, np.inf)
    for group in channels.groups:
        readers = [moments.consumers[path] for path in group.inputs if path in moments.consumers]
        scores[group.components] = structured_obs(group.components, readers)
    return model, split, channels, moments, scores


def test_losses_start_at_nothing_and_never_fall(case):
    _, split, channels, moments, scores = case
    losses = measured_losses(channels, channels.groups, scores, list(moments.consumers.values()), split)
    for group, lost in zip(channels.groups, losses, strict=True):
        assert len(lost) == group.size + 1
        assert lost[0] == 0
        assert (np.diff(lost) >= 0).all()
    slack, tight = (
        next(x for g, x in zip(channels.groups, losses, strict=True) if g.name == n) for n in ("slack", "tight")
    )
    # Half of the first layer can be made up for without a trace.
    assert slack[8] < 1e-4
    assert tight[8] > 100 * slack[8]


def test_without_refitting_it_costs_more(case):
    _, split, channels, moments, scores = case
    consumers = list(moments.consumers.values())
    fitted, plain = (
        measured_losses(channels, channels.groups, scores, consumers, split, refit) for refit in (True, False)
    )
    assert all((a[1:-1] <= b[1:-1] * 1.05 + 1e-6).all() for a, b in zip(fitted, plain, strict=True))


def test_the_network_is_as_it_was_afterwards(case):
    model, split, channels, moments, scores = case
    before = run(model, [split.x])
    measured_losses(channels, channels.groups, scores, list(moments.consumers.values()), split)
    assert difference(before, run(model, [split.x])) == 0


def test_channels_that_must_stay_cost_without_end(case):
    _, split, channels, moments, scores = case
    kept = scores.copy()
    group = channels.groups[0]
    kept[group.components[:4]] = np.inf
    (lost, *_) = measured_losses(channels, channels.groups, kept, list(moments.consumers.values()), split)
    assert np.isfinite(lost[: group.size - 3]).all()
    assert np.isinf(lost[group.size - 3 :]).all()


@pytest.mark.parametrize("share", [0.75, 0.6])
def test_a_budget_takes_channels_where_they_cost_nothing(case, share):
    model, split, channels, _, _ = case
    data = Data(calibration=split)
    result = PruneChannels("structured_obs", macs=share, scope="measured", reconstruct=True)(model, data)
    whole = MacCount(channels)
    # Of 12·16 + 16·16 + 16·4 MACs each unit of the first layer saves 12 + 16; eight of them are free.
    assert len(result.removed["slack"]) == -(-(1 - share) * (12 * 16 + 16 * 16 + 16 * 4) // (12 + 16))
    assert "tight" not in result.removed
    assert MacCount(Channels(result.model))(np.ones(Channels(result.model).count, bool)) <= share * whole(
        np.ones(channels.count, bool)
    )
    fresh = examples(model, 100, 7)
    uniform = PruneChannels("structured_obs", macs=share, reconstruct=True)(model, data)
    errors = [difference(run(model, fresh), run(r.model, fresh)) for r in (result, uniform)]
    assert errors[0] < errors[1]


def test_refitting_without_data_is_refused():
    from paredown.errors import DataError, SettingError

    with pytest.raises(DataError, match=r"reconstruct needs data .*Received: data=None"):
        PruneChannels("l1_norm", sparsity=0.5, reconstruct=True)(_network())
    with pytest.raises(DataError, match=r"scope 'measured' needs data .*Received: data=None"):
        PruneChannels("l1_norm", macs=0.5, scope="measured")(_network())
    with pytest.raises(SettingError, match="scope 'measured' must have one of macs, params, latency"):
        PruneChannels("l1_norm", sparsity=0.5, scope="measured")
