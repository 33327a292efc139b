"""What a channel is worth, in figures that can be checked by eye; and PruneChannels' settings."""

import keras
import numpy as np
import pytest
from keras import layers

from equality import run
from networks import NETWORKS, conv, examples, head, image, randomize
from paredown.channels import Channels
from paredown.criteria import (
    CRITERIA,
    activation_count,
    activation_mean,
    activation_probability,
    apoz,
    batch_norm_scale,
    geometric_median,
    l1_norm,
    l2_norm,
    outliers,
    random,
)
from paredown.data import Data
from paredown.errors import DataError, SettingError
from paredown.profiling import profile
from paredown.profiling.cost import MacCount
from paredown.scoring import saved_share
from paredown.statistics import ActivationStatistics
from paredown.transforms.prune_channels import PruneChannels


def test_norms():
    kernel = np.array([[3.0, -1.0], [-4.0, 1.0]])
    assert l1_norm(kernel).tolist() == [3 + 4, 1 + 1]
    assert l2_norm(kernel).tolist() == [5.0, 2**0.5]


def test_distances_to_the_other_filters():
    # Points (0, 0), (3, 4), (0, 4): distances 5, 4 and 3.
    kernel = np.array([[0.0, 3, 0], [0, 4, 4]])
    assert geometric_median(kernel) == pytest.approx([5 + 4, 5 + 3, 4 + 3])
    assert geometric_median(np.full((3, 2), 0.1, "float32")) == pytest.approx([0, 0], abs=1e-7)


def test_activation_scores():
    sums = {"positive": np.array([6.0, 0.0]), "zero": np.array([2.0, 8.0]), "value": np.array([16.0, 0.0])}
    seen = ActivationStatistics(sums, positions=8)
    assert activation_count(seen).tolist() == [6, 0]
    assert activation_probability(seen).tolist() == [6 / 8, 0]
    assert apoz(seen).tolist() == [1 - 2 / 8, 1 - 8 / 8]
    assert activation_mean(seen).tolist() == [2, 0]
    # Mean 1, standard deviation 1.
    assert outliers(seen).tolist() == [1, -1]
    assert outliers(ActivationStatistics({"value": np.array([3.0, 3.0])}, 8)).tolist() == [0, 0]


def test_outliers_at_minus_two_are_below_mean_minus_two_deviations():
    i = keras.Input((1,))
    model = keras.Model(i, layers.Dense(1)(layers.Dense(10, use_bias=False, name="a")(i)))
    model.get_layer("a").kernel.assign([[5.0, 5, 5, 5, 5, 5, 5, 5, 5, -5]])  # mean 4, standard deviation 3
    data = Data(calibration=np.ones((3, 1), "float32"))
    assert PruneChannels("outliers", threshold=-2)(model, data).removed["a"].tolist() == [9]
    model.get_layer("a").kernel.assign([[5.0, 4, 5, 4, 5, 4, 5, 4, 5, 4]])  # nothing is below 4.5 - 2 * 0.5
    assert PruneChannels("outliers", threshold=-2)(model, data).removed == {}


def test_scales_of_batch_normalization():
    assert batch_norm_scale(np.array([-2.0, 0.5])).tolist() == [2, 0.5]
    i = image()
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 1, name="scaled")(i))
    x = layers.Conv2D(4, 1, name="bare")(x)
    model = keras.Model(i, layers.Conv2D(2, 1)(x))
    model.get_layer("norm").gamma.assign([1.0, -3, 0.5, 2])
    result = PruneChannels("batch_norm_scale", sparsity=0.5)(model)
    assert {path: gone.tolist() for path, gone in result.removed.items()} == {"scaled": [0, 2], "norm": [0, 2]}
    skip = next(s for s in result.skips if s.layer == "bare")
    assert skip.reason == "criterion 'batch_norm_scale' gives its channels no score"


def test_scores_less_the_macs_that_a_channel_saves():
    i = image(3, 8)
    x = layers.Conv2D(4, 1, use_bias=False, name="wide")(i)
    x = layers.Conv2D(4, 1, use_bias=False, name="narrow", strides=4)(x)
    model = keras.Model(i, layers.Conv2D(2, 1, use_bias=False)(x))
    for layer in model.layers[1:]:
        layer.kernel.assign(np.ones(layer.kernel.shape))
    # Positions 64, 4, 4: MACs 64*3*4 + 4*4*4 + 4*4*2; a channel of "wide" saves 64*3 + 4*4, one of "narrow" 4*4 + 4*2.
    channels = Channels(model)
    saved = saved_share(MacCount(channels), channels)
    everything = 64 * 3 * 4 + 4 * 4 * 4 + 4 * 4 * 2
    assert saved[channels.outputs["wide"]].tolist() == [(64 * 3 + 4 * 4) / everything] * 4
    assert saved[channels.outputs["narrow"]].tolist() == [(4 * 4 + 4 * 2) / everything] * 4
    # Norms 3 and 4: without the cost "wide" goes at 3; with it, at 3 - 10 * 208/864 < 3 - 10 * 24/864 only "wide".
    for weight, threshold, gone in ((0.0, 2.9, set()), (10.0, 2.9, {"wide"}), (50.0, 2.9, {"wide", "narrow"})):
        result = PruneChannels("l1_norm", threshold=threshold, cost_weight=weight)(model)
        assert set(result.removed) == gone


def test_random_follows_the_generator():
    first, second, third = (random(5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


def _two_layers():
    """conv (4 filters) -> conv (3 filters) -> output; the first layer's filters have norms 1, 4, 2, 3."""
    i = keras.Input((4, 4, 1))
    x = layers.Conv2D(4, 1, name="first", activation="relu")(i)
    x = layers.Conv2D(6, 1, name="second", activation="relu")(x)
    model = keras.Model(i, layers.Conv2D(2, 1, name="out")(x))
    model.get_layer("first").set_weights([np.array([1.0, -4, 2, 3]).reshape(1, 1, 1, 4), np.zeros(4)])
    model.get_layer("second").set_weights([np.full((1, 1, 4, 6), 1.0) * np.arange(6, 0, -1), np.zeros(6)])
    return model


@pytest.mark.parametrize("criterion", ["l1_norm", "l2_norm"])
def test_the_least_filters_go(criterion):
    result = PruneChannels(criterion=criterion, sparsity=0.5)(_two_layers())
    assert result.removed["first"].tolist() == [0, 2]
    assert result.removed["second"].tolist() == [3, 4, 5]
    change = next(c for c in result.changes if c.layer == "first")
    assert (change.what, change.before, change.after) == ("output channels", 4, 2)


def test_threshold_is_in_the_units_of_the_criterion():
    result = PruneChannels(criterion="l1_norm", threshold=2.0)(_two_layers())
    assert result.removed["first"].tolist() == [0, 2]
    # Filters of "second" have 4 weights each: 4 * 6 … 4 * 1, all above 2.
    assert "second" not in result.removed
    skip = next(s for s in result.skips if s.layer == "second")
    assert skip.reason == "the budget takes none of its 6 channels"


def test_channels_that_were_never_active_go():
    x = np.abs(np.random.default_rng(0).normal(1, 0.1, (8, 4, 4, 1))).astype("float32")
    result = PruneChannels(criterion="activation_count", threshold=0)(_two_layers(), Data(calibration=x))
    # The input is positive, so that the filter -4 is never above zero.
    assert {path: gone.tolist() for path, gone in result.removed.items()} == {"first": [1]}


def test_removing_dead_channels_changes_nothing():
    model, x = _two_layers(), np.ones((2, 4, 4, 1), "float32")
    result = PruneChannels(criterion="activation_count", threshold=0)(model, Data(calibration=x))
    assert np.array_equal(run(model, [x])[0], run(result.model, [x])[0])


def test_round_to_and_min_channels():
    rounded = PruneChannels(criterion="l1_norm", sparsity=0.7, round_to=4)(_two_layers()).model
    # 4 - int(0.7 * 4) = 2 -> 4; 6 - int(0.7 * 6) = 2 -> 4.
    assert [rounded.get_layer(n).filters for n in ("first", "second")] == [4, 4]
    least = PruneChannels(criterion="l1_norm", sparsity=0.9, min_channels=3)(_two_layers()).model
    assert [least.get_layer(n).filters for n in ("first", "second")] == [3, 3]


def test_global_scope_divides_by_the_layers_mean():
    # first: 1, 4, 2, 3 over 2.5; second: 24, 20, 16, 12, 8, 4 over 14. The three least of ten: 4/14, 1/2.5, 8/14.
    result = PruneChannels(criterion="l1_norm", sparsity=0.3, scope="global")(_two_layers())
    assert {path: gone.tolist() for path, gone in result.removed.items()} == {"first": [0], "second": [4, 5]}


def test_coupled_layers_are_scored_together():
    i = keras.Input((4, 4, 1))
    a, b = layers.Conv2D(3, 1, name="a")(i), layers.Conv2D(3, 1, name="b")(i)
    model = keras.Model(i, layers.Conv2D(2, 1)(layers.Add()([a, b])))
    model.get_layer("a").set_weights([np.array([1.0, 2, 6]).reshape(1, 1, 1, 3), np.zeros(3)])
    model.get_layer("b").set_weights([np.array([4.0, 2, 0]).reshape(1, 1, 1, 3), np.zeros(3)])
    for combine, least in (("sum", 1), ("mean", 1), ("max", 1)):  # sums 5, 4, 6; largest 4, 2, 6
        result = PruneChannels(criterion="l1_norm", sparsity=0.34, combine=combine)(model)
        assert {path: gone.tolist() for path, gone in result.removed.items()} == {"a": [least], "b": [least]}


def test_an_embedding_is_scored_by_its_table():
    i = keras.Input((5,), dtype="int32")
    x = layers.Embedding(2, 3, name="embedding")(i)
    model = keras.Model(i, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))
    model.get_layer("embedding").set_weights([np.array([[3.0, 1, -2], [3, 1, 2]])])  # sums 6, 2, 4
    assert PruneChannels(criterion="l1_norm", sparsity=0.34)(model).removed["embedding"].tolist() == [1]


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_macs_budget_is_met_and_hardly_overshot(scope):
    i = image(3, 16)
    model = randomize(keras.Model(i, head(conv(conv(conv(i, 32), 48), 32))))
    before = profile(model).macs
    after = profile(PruneChannels(criterion="l2_norm", macs=0.5, scope=scope)(model).model).macs
    # One channel more of each of the three layers would be over: at most 1/32 + 1/48 + 1/32 of the MACs.
    assert 0.5 - (1 / 32 + 1 / 48 + 1 / 32) <= after / before <= 0.5


def test_macs_out_of_reach_are_an_error():
    with pytest.raises(SettingError, match="The budget must be one that can be reached"):
        PruneChannels(criterion="l2_norm", macs=0.001)(randomize(NETWORKS["plain"]()))


def test_excluded_layers_and_what_is_coupled_with_them_stay():
    model = randomize(NETWORKS["residual"]())
    result = PruneChannels(criterion="random", sparsity=0.5, exclude=("conv2d_2",))(model)
    reasons = {skip.layer: skip.reason for skip in result.skips}
    assert reasons["conv2d_2"] == "excluded"
    assert reasons["conv2d_3"] == "coupled with conv2d_2, which is excluded"
    assert "conv2d" in result.removed
    assert not {"conv2d_2", "conv2d_3", "conv2d_5"} & set(result.removed)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 1.2}, r"sparsity must be in \[0, 1\)\. Received: sparsity=1\.2 .*Use 0\.5"),
        ({"sparsity": -0.1}, r"Received: sparsity=-0\.1"),
        ({"sparsity": float("nan")}, r"Received: sparsity=nan"),
        ({"macs": 0}, r"macs must be in \(0, 1\]\. Received: macs=0 "),
        ({"macs": 1.5}, r"Received: macs=1\.5"),
        ({}, r"Exactly one of sparsity, threshold, macs, params, latency and widths must be given\. Received: none"),
        ({"sparsity": 0.5, "macs": 0.5}, r"Received: \{'sparsity': 0\.5, 'macs': 0\.5\}"),
        (
            {"sparsity": 0.5, "criterion": "l3_norm"},
            r"must be one of .*l1_norm.*Received: criterion='l3_norm'",
        ),
        (
            {"sparsity": 0.5, "scope": "world"},
            r"scope must be one of layer, global, optimal, measured\. Received: scope='world'",
        ),
        ({"sparsity": 0.5, "combine": "min"}, r"combine must be one of sum, mean, max\. Received: combine='min'"),
        ({"sparsity": 0.5, "round_to": 0}, r"round_to must be a whole number of at least 1\. Received: round_to=0"),
        ({"sparsity": 0.5, "cost_weight": -1}, r"cost_weight must be at least 0\. Received: cost_weight=-1"),
        ({"sparsity": 0.5, "min_channels": 1.5}, r"Received: min_channels=1\.5"),
    ],
)
def test_wrong_settings_are_named_with_their_value(settings, message):
    with pytest.raises(SettingError, match=message):
        PruneChannels(**settings)


def test_a_misspelt_exclusion_is_named():
    with pytest.raises(SettingError, match=r"exclude must name layers .*Received: \['conv_one'\].*conv2d"):
        PruneChannels(criterion="l1_norm", sparsity=0.5, exclude=("conv_one",))(NETWORKS["plain"]())


@pytest.mark.parametrize(
    "criterion", [name for name, row in CRITERIA.items() if row.reads in ("activations", "gradients")]
)
def test_criteria_of_activations_need_data(criterion):
    with pytest.raises(DataError, match=f"criterion '{criterion}' needs data .*data=None"):
        PruneChannels(criterion=criterion, sparsity=0.5)(NETWORKS["plain"]())


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_prunes(criterion):
    model = randomize(NETWORKS["residual"]())
    data = Data(calibration=examples(model, 8)[0])
    result = PruneChannels(criterion=criterion, sparsity=0.5)(model, data)
    # 8 -> 4, 12 -> 6, 6 -> 3.
    assert {len(gone) for gone in result.removed.values()} == {4, 6, 3}


def test_transforms_are_plain_values():
    assert PruneChannels(sparsity=0.5) == PruneChannels(sparsity=0.5)
    assert PruneChannels(sparsity=0.5, exclude=["a"]).exclude == ("a",)  # pyright: ignore[reportArgumentType]
    assert PruneChannels(sparsity=0.5, scope="global").settings() == {"sparsity": 0.5, "scope": "global"}


def test_a_threshold_is_in_the_criterions_own_unit_in_every_scope():
    i = keras.Input((4,))
    model = keras.Model(i, keras.layers.Dense(2)(keras.layers.Dense(3, name="a")(i)))
    model.get_layer("a").kernel.assign(np.array([[1, 10, 100]] * 4, "float32"))
    for scope in ("layer", "global"):
        result = PruneChannels(criterion="l1_norm", threshold=4 * 10, scope=scope)(model)
        assert result.removed["a"].tolist() == [0, 1]


def test_shares_stay_shares_before_flatten():
    i = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(2, 1, activation="relu", name="conv")(i)
    model = keras.Model(i, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    model.get_layer("conv").kernel.assign(np.array([1.0, -1.0], "float32").reshape(1, 1, 1, 2))
    data = Data(calibration=np.ones((3, 6, 6, 1), "float32"))
    result = PruneChannels(criterion="apoz", threshold=0.5)(model, data)
    assert result.removed["conv"].tolist() == [1]


def test_settings_of_the_wrong_kind_are_named():
    with pytest.raises(SettingError, match=r"exclude='conv1'"):
        PruneChannels(sparsity=0.5, exclude="conv1")
    with pytest.raises(SettingError, match=r"sparsity must be a finite number\. Received: sparsity='0\.5'"):
        PruneChannels(sparsity="0.5")
