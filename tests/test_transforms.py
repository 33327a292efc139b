"""The contract of every transform, over the table: frozen, plain data, input untouched, repeatable, errors named."""

import dataclasses

import keras
import numpy as np
import pytest

from networks import randomize
from paredown import (
    Factorize,
    FineTune,
    PruneChannels,
    PruneCycle,
    PruneGradually,
    PruneWeights,
    QuantizeAware,
    Recipe,
    ReestimateBatchNorm,
    ShareWeights,
    SubstituteAdditive,
    SubstituteConv,
)
from paredown.data import Data
from paredown.errors import SettingError
from paredown.transforms import TRANSFORMS

QUICK = FineTune(steps_per_epoch=2, batch_size=8, optimizer={"class_name": "SGD", "config": {"momentum": 0.3}})

#: One with settings that are not the defaults, for each row.
EXAMPLES = {
    "prune_channels": PruneChannels(criterion="random", sparsity=0.5, exclude=("second",)),
    "factorize": Factorize(kinds=("svd", "spatial"), rank=2, exclude=("scores",), examples=16),
    "substitute_conv": SubstituteConv(
        "bottleneck", layers=("second",), width=2, epochs=2, batch_size=8, learning_rate=0.01, examples=16
    ),
    "substitute_additive": SubstituteAdditive(exclude=("scores",), examples=16),
    "prune_weights": PruneWeights("random", sparsity=0.5),
    "share_weights": ShareWeights(k=4, channels=2, weighting="hessian", examples=8),
    "fine_tune": dataclasses.replace(QUICK, regularization="l1_activations", strength=0.1),
    "prune_cycle": PruneCycle(QUICK, PruneChannels("random", sparsity=0.3), max_cycles=1, distortion=0.5),
    "prune_gradually": PruneGradually(PruneChannels("random", macs=0.5), QUICK, steps=2, course="linear"),
    "quantize_aware": QuantizeAware(QUICK, "int4"),
    "reestimate_batch_norm": ReestimateBatchNorm(batches=2, batch_size=5),
}

#: Settings that are wrong, and what the message says of them.
WRONG = [
    ("prune_channels", {"sparsity": 1.2}, r"sparsity must be in \[0, 1\)\. Received: sparsity=1\.2 \(PruneChannels\)"),
    ("factorize", {"kinds": "svd", "rank": 0}, r"rank must be a whole number of at least 1.*Received: rank=0 \(Factor"),
    ("factorize", {"kinds": "lowrank", "rank": 1}, r"kinds must be of svd, spatial, .*kinds=\['lowrank'\]"),
    ("factorize", {}, r"Exactly one of rank, energy, .* must be given\. Received: none \(Factorize\)"),
    ("factorize", {"rank": 2, "macs": 0.5}, r"must be given\. Received: rank, macs \(Factorize\)"),
    ("factorize", {"kinds": "svd", "rank": (2, 3)}, r"pair of ranks is for kind 'tucker'.*kinds=\['svd'\]"),
    ("factorize", {"energy": 1.5}, r"energy must be in \(0, 1\]\. Received: energy=1\.5 \(Factorize\)"),
    (
        "factorize",
        {"latency": 0.5},
        r"latency and latency_table go together.*latency=0\.5, latency_table=None",
    ),
    ("factorize", {"layer_macs": 1}, r"layer_macs must be in \(0, 1\)\. Received: layer_macs=1 \(Factorize\)"),
    ("factorize", {"rank": 3, "kinds": None}, r"kinds must be a list of names\. Received: kinds=None \(Factorize\)"),
    (
        "factorize",
        {"rank": 4, "scope": "measured"},
        r"shares out macs, params, latency .* with rank \(Factorize\)",
    ),
    ("factorize", {"macs": 0.5, "scope": "measured", "data_aware": False}, r"with data_aware=False \(Factorize\)"),
    ("factorize", {"evbmf": 1}, r"evbmf must be true or false\. Received: evbmf=1 \(Factorize\)"),
    ("factorize", {"macs": 0.5, "scope": "layer"}, r"scope must be one of optimal, measured\. Received: scope='layer'"),
    (
        "factorize",
        {"macs": 0.5, "examples": 0},
        r"examples must be a whole number .*Received: examples=0",
    ),
    (
        "substitute_conv",
        {"structure": "winograd"},
        r"one of one_dimensional, .*structure='winograd' \(SubstituteConv\)",
    ),
    ("substitute_conv", {"structure": "stacked", "width": 0}, r"width must be a whole number .*Received: width=0"),
    (
        "substitute_conv",
        {"structure": "stacked", "layer_macs": 1.0},
        r"layer_macs must be in \(0, 1\).*layer_macs=1\.0",
    ),
    (
        "substitute_conv",
        {"structure": "separable", "layer_macs": 0.5, "width": 2},
        r"layer_macs must be left out with width=2\. Received: layer_macs=0\.5",
    ),
    ("substitute_conv", {"structure": "grouped"}, r"groups must be a whole number of at least 2 .*groups=None"),
    ("substitute_conv", {"structure": "separable", "groups": 2}, r"left out with structure='separable'.*groups=2"),
    (
        "substitute_conv",
        {"structure": "grouped", "groups": 4, "width": 6},
        r"width must be a multiple of groups=4\. Received: width=6",
    ),
    ("substitute_conv", {"structure": "stacked", "relu": 1}, r"relu must be true or false\. Received: relu=1"),
    ("substitute_conv", {"structure": "stacked", "epochs": -1}, r"of at least 0\. Received: epochs=-1"),
    ("substitute_conv", {"structure": "stacked", "batch_size": 0}, r"of at least 1\. Received: batch_size=0"),
    ("substitute_conv", {"structure": "stacked", "examples": 0.5}, r"of at least 1\. Received: examples=0\.5"),
    ("substitute_conv", {"structure": "stacked", "learning_rate": 0}, r"above 0\. Received: learning_rate=0"),
    ("substitute_additive", {"examples": 0}, r"of at least 1\. Received: examples=0 \(SubstituteAdditive\)"),
    ("prune_weights", {"sparsity": 1.5}, r"sparsity must be in .*Received: sparsity=1\.5 \(PruneWeights\)"),
    ("share_weights", {}, r"Exactly one of k, bits, size must be given\. Received: none \(ShareWeights\)"),
    ("share_weights", {"k": 4, "bits": 2}, r"must be given\. Received: k, bits \(ShareWeights\)"),
    ("share_weights", {"k": 1}, r"k must be from 2 to 256\. Received: k=1 \(ShareWeights\)\. Use 16"),
    ("share_weights", {"k": 257}, r"k must be from 2 to 256\. Received: k=257 \(ShareWeights\)"),
    ("share_weights", {"bits": 7}, r"bits must be one of 1, 2, 3, 4, 5, 6, 8\. Received: bits=7 \(ShareWeights\)"),
    ("share_weights", {"bits": True}, r"Received: bits=True \(ShareWeights\)"),
    ("share_weights", {"size": 0}, r"size must be in \(0, 1\]\. Received: size=0 \(ShareWeights\)\. Use 0\.125"),
    ("share_weights", {"k": 4, "channels": 0}, r"channels must be at least 1\. Received: channels=0 \(ShareWeights\)"),
    ("share_weights", {"k": 4, "method": "kmeans"}, r"one of optimal, linear, density\. Received: method='kmeans'"),
    ("share_weights", {"k": 4, "weighting": "obd"}, r"one of hessian, fisher\. Received: weighting='obd'"),
    ("share_weights", {"k": 4, "keep_zeros": 1}, r"keep_zeros must be true or false\. Received: keep_zeros=1"),
    ("share_weights", {"k": 4, "grid": "int4"}, r"left out or one of int8\. Received: grid='int4' \(ShareWeights\)"),
    ("share_weights", {"k": 4, "include": ("rnn",)}, r"include must be of dense, .*Received: include=\('rnn',\)"),
    ("share_weights", {"k": 4, "exclude": "conv"}, r"Received: exclude='conv' \(ShareWeights\)\. Use \['conv'\]"),
    ("share_weights", {"k": 4, "examples": 0}, r"examples must be a whole number .*Received: examples=0"),
    ("fine_tune", {"regularization": "l3"}, r"regularization must be one of l1_weights, .*regularization='l3'"),
    ("fine_tune", {"regularization": "l1_weights"}, r"strength must be above 0 with a regularization .*strength=0\.0"),
    ("fine_tune", {"strength": 0.1}, r"and 0 without one\. Received: strength=0\.1"),
    (
        "fine_tune",
        {"optimizer": {"module": "os"}},
        r"a config of plain values\. Received: optimizer=\{'module': 'os'\}",
    ),
    ("prune_cycle", {"distortion": -1}, r"distortion must be a number of at least 0\. Received: distortion=-1 \(Prune"),
    (
        "prune_cycle",
        {"patience": 0},
        r"patience must be a whole number of at least 1\. Received: patience=0 \(PruneCyc",
    ),
    ("prune_cycle", {"max_cycles": True}, r"Received: max_cycles=True \(PruneCycle\)"),
    ("prune_gradually", {"steps": 0}, r"steps must be a whole number of at least 1\. Received: steps=0 \(PruneGradual"),
    ("prune_gradually", {"course": "steep"}, r"course must be one of linear, cubic\. Received: course='steep'"),
    (
        "prune_gradually",
        {"prune": PruneChannels(threshold=0)},
        r"prune must have a budget of .*threshold=0.*PruneCycle",
    ),
    ("prune_gradually", {"tune": 3}, r"tune must be a FineTune\. Received: tune=3 \(PruneGradually\)"),
    ("quantize_aware", {"tune": None}, r"tune must be a FineTune\. Received: tune=None \(QuantizeAware\)"),
    (
        "quantize_aware",
        {"quantization": "float16"},
        r"one of int8, dynamic, int4\. Received: quantization='float16' \(QuantizeAware\)\. Use e\.g\. int8",
    ),
    ("reestimate_batch_norm", {"batches": 0}, r"batches must be a whole number.*Received: batches=0 \(Reestimate"),
]

#: Wrong recipes whose fault lies in a transform within a transform.
NESTED = [
    ("prune_cycle: {prune: {sparcity: 0.5}}", r"PruneChannels has the settings .*Received: 'sparcity' \(transform 1\)"),
    ("prune_cycle: {prune: {sparsity: 2}}", r"Received: sparsity=2\.0 \(transform 1, PruneChannels\)"),
    ("prune_cycle: {tune: {epochs: 0}}", r"Received: epochs=0 \(transform 1, FineTune\)"),
    (
        "prune_cycle: {tune: {epochs: many}}",
        r"tune\.epochs: .*Received: tune\.epochs='many' \(transform 1, PruneCycle\)",
    ),
    ("quantize_aware: {tune: {epochs: 0}}", r"Received: epochs=0 \(transform 1, FineTune\)"),
    ("quantize_aware: {quantization: int2}", r"Received: quantization='int2' \(transform 1, QuantizeAware\)"),
    ("prune_gradually: {prune: [1]}", r"PruneChannels has the settings .*Received: \[1\] \(transform 1\)"),
]


def network():
    keras.utils.clear_session(free_memory=False)
    i = keras.Input((6, 6, 2), name="image")
    x = keras.layers.Conv2D(8, 3, name="first")(i)
    x = keras.layers.ReLU(name="relu")(keras.layers.BatchNormalization(name="norm")(x))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return randomize(keras.Model(i, keras.layers.Dense(3, name="scores")(x), name="little"))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return Data((rng.normal(size=(20, 6, 6, 2)).astype("float32"), rng.integers(0, 3, 20)))


def weights(model):
    return [np.array(w) for w in model.weights]


def test_every_transform_has_its_example_and_a_wrong_setting():
    assert EXAMPLES.keys() == TRANSFORMS.keys() == {name for name, _, _ in WRONG}
    assert all(type(EXAMPLES[name]) is kind for name, kind in TRANSFORMS.items())


@pytest.mark.parametrize("name", TRANSFORMS)
def test_frozen(name):
    field = dataclasses.fields(EXAMPLES[name])[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(EXAMPLES[name], field, None)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_yaml_round_trip(name):
    recipe = Recipe([EXAMPLES[name]])
    again = Recipe.from_yaml(recipe.to_yaml())
    assert again == recipe
    assert again.to_yaml() == recipe.to_yaml()
    assert repr(again.transforms[0]) == repr(EXAMPLES[name])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_input_untouched_and_same_seed_same_result(name, data):
    model = network()
    before, config = weights(model), model.get_config()
    first, again, other = (EXAMPLES[name](model, data, seed=seed) for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(before, weights(model), strict=True))
    assert model.get_config() == config
    assert not model.compiled
    replaced = {*first.log.get("ranks", ()), *first.log.get("widths", ())}
    stay = [layer.name for layer in model.layers if layer.name not in replaced]
    assert [layer.name for layer in first.model.layers if layer.name in {x.name for x in model.layers}] == stay
    assert (first.changes, first.skips, first.log) == (again.changes, again.skips, again.log)
    assert first.removed.keys() == again.removed.keys()
    assert all(np.array_equal(first.removed[path], again.removed[path]) for path in first.removed)
    assert all(np.array_equal(a, b) for a, b in zip(weights(first.model), weights(again.model), strict=True))
    assert any(
        a.shape != b.shape or (a != b).any() for a, b in zip(*map(weights, (first.model, other.model)), strict=True)
    )
    for check in EXAMPLES[name].prove(model, first, [data.train.x[:4]]):
        assert check.passed


@pytest.mark.parametrize("name", TRANSFORMS)
def test_removed_and_changes_count_by_the_network_that_was_given(name, data):
    model = network()
    result = EXAMPLES[name](model, data)
    assert {c.layer: (c.before, c.after) for c in result.changes if c.what == "output channels"} == {
        path: (model.get_layer(path).output.shape[-1], result.model.get_layer(path).output.shape[-1])
        for path in result.removed
    }
    for change in (change for change in result.changes if change.what == "output channels"):
        gone = result.removed[change.layer]
        assert len(set(gone.tolist())) == change.before - change.after
        assert gone.tolist() == sorted(gone.tolist())
        assert 0 <= gone.min() <= gone.max() < change.before
    assert not {skip.layer for skip in result.skips} & result.removed.keys()


@pytest.mark.parametrize(("name", "settings", "message"), WRONG)
def test_wrong_settings_are_named(name, settings, message):
    with pytest.raises(SettingError, match=message):
        TRANSFORMS[name](**settings)


@pytest.mark.parametrize(("text", "message"), NESTED)
def test_wrong_settings_within_a_transform_are_named(text, message):
    with pytest.raises(SettingError, match=message):
        Recipe.from_yaml(f"transforms:\n  - {text}")
