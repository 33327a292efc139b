"""Budgets of PruneChannels: MACs, parameters and latency, as they are left in the network that comes out."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from networks import NETWORKS, conv, head, image, randomize
from paredown import LatencyTable, PruneChannels, Recipe, profile
from paredown.channels import Channels
from paredown.errors import SettingError
from paredown.latency_table import LayerLatency
from paredown.profiling import LatencyCount, ParameterCount
from paredown.transforms.channel_budget import widths_left


@pytest.mark.parametrize("name", NETWORKS)
def test_all_parameters_count(name):
    # With channels gone: `equality.assert_counts_fit`, over all networks.
    model = NETWORKS[name]()
    channels = Channels(model)
    assert ParameterCount(channels)(np.ones(channels.count, bool)) == model.count_params()


def _chain():
    return randomize(keras.Model(i := image(3, 16), head(conv(conv(conv(i, 32), 48), 32))))


@pytest.mark.parametrize("scope", ["layer", "global", "optimal"])
@pytest.mark.parametrize("budget", ["macs", "params"])
def test_a_budget_is_met_and_hardly_overshot(budget, scope):
    model = _chain()
    result = PruneChannels(criterion="l2_norm", scope=scope, **{budget: 0.5})(model)
    left = getattr(profile(result.model), budget) / getattr(profile(model), budget)
    assert 0.5 - (1 / 32 + 1 / 48 + 1 / 32) <= left <= 0.5


def test_optimal_removes_less_than_a_global_ranking():
    model = _chain()
    kept = {}
    for scope in ("global", "optimal"):
        result = PruneChannels(criterion="random", macs=0.5, scope=scope)(model, seed=1)
        rng = np.random.default_rng(1)
        channels = Channels(model)
        scores, keep = rng.random(channels.count), np.ones(channels.count, bool)
        for path, gone in result.removed.items():
            keep[channels.outputs[path][gone]] = False
        kept[scope] = scores[~keep].sum()
    assert kept["optimal"] <= kept["global"]


def _two_layers():
    i = keras.Input((4, 4, 3))
    x = layers.Conv2D(16, 1, name="first", activation="relu")(i)
    return randomize(keras.Model(i, layers.Conv2D(2, 1, name="out")(x)))


def _table():
    """first: 1 ms up to 8 channels, 4 ms up to 12 (a slow path of the kernel), 2 ms at 13 to 16; out: always 1 ms."""
    rows = {
        "first": LayerLatency((3,), (8, 12, 16), ((1.0, 4.0, 2.0),)),
        "out": LayerLatency((16,), (2,), ((1.0,),)),
    }
    return LatencyTable(rows, "a made-up phone", "none", threads=1, fixed_ms=0.5)


def test_latency_follows_the_table():
    model = _two_layers()
    channels = Channels(model)
    count = LatencyCount(channels, _table())
    keep = np.ones(channels.count, bool)
    first = channels.outputs["first"]
    costs = {}
    for width in (16, 13, 12, 9, 8, 1):
        keep[first] = np.arange(16) < width
        costs[width] = count(keep)
    fixed = 0.5 + 1.0
    assert costs == {16: fixed + 2, 13: fixed + 2, 12: fixed + 4, 9: fixed + 4, 8: fixed + 1, 1: fixed + 1}


@pytest.mark.parametrize("scope", ["layer", "global", "optimal"])
def test_a_wider_layer_that_is_faster_stays_wide(scope, tmp_path):
    _table().save(tmp_path / "phone.json")
    # 3.5 ms at full width; 0.72 of it is 2.52: eight channels (2.5 ms) fit, and no width between.
    result = PruneChannels("l2_norm", latency=0.72, latency_table=str(tmp_path / "phone.json"), scope=scope)(
        _two_layers()
    )
    assert result.model.get_layer("first").filters == 8
    # All 16 are within the whole time, though 12 are not.
    assert not PruneChannels("l2_norm", latency=1.0, latency_table=_table(), scope=scope)(_two_layers()).removed


def test_a_table_goes_to_a_file_and_back(tmp_path):
    _table().save(tmp_path / "t.json")
    again = LatencyTable.load(tmp_path / "t.json")
    assert again == _table()
    assert again.source == str(tmp_path / "t.json")


def test_a_recipe_holds_a_table_or_its_path():
    for table in (_table(), "phone.json"):
        recipe = Recipe([PruneChannels("l2_norm", latency=0.5, latency_table=table)])
        assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_a_step_is_known_by_what_the_table_says(tmp_path):
    path = tmp_path / "t.json"
    prune = PruneChannels("l2_norm", latency=0.5, latency_table=path)
    _table().save(path)
    before = prune.identity()
    LatencyTable(_table().layers, "another phone", "none").save(path)
    assert prune.identity() != before


def _plain(**changes):
    return {**_table().to_dict(), **changes}


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ([1], r"must have the format 'paredown latency table 1' and layers\. Received: 'list'"),
        (_plain(format="other 2"), r"Received: 'other 2'"),
        (_plain(fixed_ms=-1), r"fixed_ms must be milliseconds .*fixed_ms=-1"),
        (_plain(unit="s"), r"Received: \[.*'unit'"),
        (_plain(layers={"a": {"in": [8, 4], "out": [2], "ms": [[1], [2]]}}), r"rising widths .*\[8, 4\].* for a "),
        (_plain(layers={"a": {"in": [4], "out": [2, 3], "ms": [[1]]}}), r"a column for each of out.* for a "),
        (_plain(layers={"a": {"in": [4], "out": [2]}}), r"Received: \{\"in\": \[4\], \"out\": \[2\]\} for a "),
        (_plain(layers={"a": {"in": [4], "out": [2], "ms": [["fast"]]}}), r"fast.* for a "),
    ],
)
def test_a_wrong_table_is_named(plain, message, tmp_path):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(plain))
    with pytest.raises(SettingError, match=message):
        LatencyTable.load(path)


def test_a_missing_file_and_a_broken_one_are_named(tmp_path):
    with pytest.raises(SettingError, match=r"nowhere\.json': No such file"):
        PruneChannels("l2_norm", latency=0.5, latency_table=tmp_path / "nowhere.json")(_two_layers())
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(SettingError, match=r"text\.json': it is no JSON"):
        LatencyTable.load(tmp_path / "text.json")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"first": LayerLatency((3,), (16,), ((1.0,),))}, r"Received: none for out .*a made-up phone"),
        ({}, r"Received: none for first, out "),
        (
            {"first": LayerLatency((3,), (8,), ((1.0,),)), "out": _table().layers["out"]},
            r"Received: 3 channels in and 16 out for first, measured up to 3 and 8",
        ),
    ],
)
def test_what_a_table_lacks_is_named(rows, message):
    table = LatencyTable(rows, "a made-up phone", "none")
    with pytest.raises(SettingError, match=message):
        PruneChannels("l2_norm", latency=0.5, latency_table=table)(_two_layers())


def test_a_layer_without_channels_of_its_own_cannot_be_in_a_table():
    i = keras.Input((4, 4, 3))
    x = layers.MaxPooling2D(name="pool")(layers.Conv2D(4, 1, name="first")(i))
    table = LatencyTable({name: LayerLatency((4,), (4,), ((1.0,),)) for name in ("first", "pool")}, "phone", "none")
    with pytest.raises(SettingError, match=r"must have weights.*Received: pool\."):
        PruneChannels("l2_norm", latency=0.5, latency_table=table)(keras.Model(i, x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"params": 0}, r"params must be in \(0, 1\]\. Received: params=0 .*halve the parameters"),
        ({"params": True}, r"params must be a finite number\. Received: params=True"),
        ({"latency": 1.5, "latency_table": "t.json"}, r"latency must be in \(0, 1\]\. Received: latency=1\.5"),
        ({"latency": 0.5}, r"must come with latency_table.*latency=0\.5, latency_table=None.*budgets\.md"),
        ({"macs": 0.5, "latency_table": "t.json"}, r"latency_table must come with latency\. Received: macs=0\.5"),
        ({"latency": 0.5, "latency_table": 3}, r"a LatencyTable, the path .*Received: latency_table=3 .*'host'"),
        ({"params": 0.5, "macs": 0.4}, r"Received: \{'macs': 0\.4, 'params': 0\.5\}"),
        ({"sparsity": 0.5, "scope": "optimal"}, r"scope 'optimal' must have one of macs, params, latency .*=0\.5"),
    ],
)
def test_wrong_budgets_are_named_with_their_value(settings, message):
    with pytest.raises(SettingError, match=message):
        PruneChannels(**settings)


@pytest.mark.parametrize("name", NETWORKS)
def test_widths_give_the_same_network_again(name):
    model = NETWORKS[name]()
    channels = Channels(model)
    first = PruneChannels(criterion="random", sparsity=0.5, scope="global")(model, seed=3) if channels.groups else None
    widths = widths_left(channels, {**first.removed, **first.inside}) if first else {}
    if not widths:
        assert first is None or widths is None or not {**first.removed, **first.inside}
        return
    again = PruneChannels(criterion="random", widths=widths)(model, seed=3)
    assert {**again.removed, **again.inside}.keys() == {**first.removed, **first.inside}.keys()
    for path, gone in {**first.removed, **first.inside}.items():
        assert np.array_equal({**again.removed, **again.inside}[path], gone), path


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({}, r"at least 1. Received: widths={}"),
        ({"first": 0}, r"at least 1. Received: widths={'first': 0}"),
        ({"first": 2.0}, r"Received: widths={'first': 2.0}"),
        ({"out": 1}, r"Received: widths={'out': 1}, which has no channels that may go"),
        ({"first": 17}, r"Received: widths={'first': 17}, which has 16 channels"),
        ({"second": 1}, r"Received: widths={'second': 1}, which has no channels that may go"),
    ],
)
def test_widths_that_cannot_be(widths, message):
    with pytest.raises(SettingError, match=message):
        PruneChannels(criterion="l2_norm", widths=widths)(_two_layers())


def test_coupled_layers_get_one_width():
    i = keras.Input((4, 4, 3))
    x = layers.Conv2D(8, 1, name="trunk")(i)
    x = layers.Add()([x, layers.Conv2D(8, 3, padding="same", name="branch")(x)])
    model = randomize(keras.Model(i, layers.Conv2D(2, 1, name="out")(x)))
    with pytest.raises(SettingError, match="'trunk' and 'branch', coupled, with 4 and 5"):
        PruneChannels(criterion="l2_norm", widths={"trunk": 4, "branch": 5})(model)
    result = PruneChannels(criterion="l2_norm", widths={"branch": 5})(model)
    assert result.model.get_layer("trunk").filters == result.model.get_layer("branch").filters == 5
