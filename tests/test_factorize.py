"""Factorize on whole networks: exact, honest about losses, refusals with their reason, composed with pruning."""

import dataclasses

import keras
import numpy as np
import pytest

from networks import NETWORKS, examples, randomize
from paredown import Data, Factorize, FineTune, PruneChannels, Split, export_litert, profile
from paredown.checks import largest_difference
from paredown.errors import DataError, SettingError
from paredown.latency_table import LatencyTable, LayerLatency
from paredown.narrow import masked_outputs
from paredown.network import Network
from paredown.transforms import TRANSFORMS


def _residual(width: int = 16):
    keras.utils.clear_session(free_memory=False)
    i = keras.Input((10, 10, 6), name="image")
    x = stream = keras.layers.Conv2D(width, 3, padding="same", use_bias=False, name="stem")(i)
    for block in range(2):
        for number in range(2):
            x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"b{block}_conv{number}")(x)
            x = keras.layers.BatchNormalization(name=f"b{block}_norm{number}")(x)
            x = keras.layers.ReLU(name=f"b{block}_relu{number}")(x) if number == 0 else x
        x = stream = keras.layers.ReLU(name=f"b{block}_out")(keras.layers.Add(name=f"b{block}_add")([x, stream]))
    x = keras.layers.Flatten(name="flat")(keras.layers.AveragePooling2D(5, name="pool")(x))
    x = keras.layers.Dense(32, activation="relu", name="hidden")(x)
    return randomize(keras.Model(i, keras.layers.Dense(5, name="scores")(x), name="residual"))


@pytest.fixture(scope="module")
def model():
    return _residual()


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(1)
    smooth = generator.normal(size=(96, 5, 5, 3)).repeat(2, 1).repeat(2, 2) @ generator.normal(size=(3, 6))
    x = (smooth + 0.1 * generator.normal(size=(96, 10, 10, 6))).astype("float32")
    return Data((x, generator.integers(0, 5, 96)))


def _distance(model, other, x) -> float:
    """Mean square difference of the outputs as a share of their variance."""
    a, b = (m.predict(x, verbose=0).astype("float64") for m in (model, other))
    return float(np.square(a - b).mean() / a.var())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_factors_equal_their_product_on_every_small_network(name):
    network = randomize(NETWORKS[name]())
    inputs = examples(network, 4)
    transform = Factorize(layer_macs=0.7, examples=4)
    result = transform(network, Data(calibration=Split(tuple(inputs) if len(inputs) > 1 else inputs[0])))
    assert all(check.passed for check in transform.prove(network, result, inputs)), result.changes
    told = {change.layer for change in result.changes} | {skip.layer for skip in result.skips}
    kernels = {
        call.path
        for call in Network(network).all_calls()
        if any(len(w.shape) > 1 for w in getattr(call.operation, "weights", []))
    }
    assert kernels <= told, "every layer with a kernel is factorized or says why not"
    assert not [change.layer for change in result.changes if change.after >= change.before], "dearer layers stay"


def test_nothing_lost_at_full_energy_where_the_kernels_have_low_rank(model, data):
    low = _residual()
    generator = np.random.default_rng(0)
    for layer in low.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense) and layer.name != "scores":
            shape = layer.kernel.shape
            n, o = int(np.prod(shape[:-1])), shape[-1]
            layer.kernel.assign((generator.normal(size=(n, 3)) @ generator.normal(size=(3, o))).reshape(shape) / n)
    result = Factorize(energy=1 - 1e-6, kinds="svd", asymmetric=False)(low, data)
    assert {rank for _, rank in result.log["ranks"].values()} == {3}
    assert _distance(low, result.model, data.train.x[:]) < 1e-6


def test_losses_are_those_of_the_layers_on_the_data(model, data):
    result = Factorize(layer_macs=0.4, kinds="svd", asymmetric=False, examples=96)(model, data)
    paths = [path for path in result.log["ranks"] if path.startswith("hidden")]
    assert paths == ["hidden"]
    before = keras.Model(model.inputs, model.get_layer("flat").output).predict(data.train.x[:], verbose=0)
    hidden, reduced = model.get_layer("hidden"), result.model
    factors = [reduced.get_layer(f"hidden_{part}") for part in ("reduce", "expand")]
    wanted = before @ np.array(hidden.kernel) + np.array(hidden.bias)
    given = before @ np.array(factors[0].kernel) @ np.array(factors[1].kernel) + np.array(factors[1].bias)
    measured = np.square(given - wanted).sum(-1).mean() / np.square(wanted - wanted.mean(0)).sum(-1).mean()
    assert result.log["losses"]["hidden"] == pytest.approx(measured, rel=1e-3)


def test_data_help_and_more_so_layer_by_layer_and_with_ranks_chosen_together(model, data):
    x = data.train.x[:]
    found = {
        name: _distance(model, Factorize(**settings)(model, data).model, x)
        for name, settings in {
            "plain": {"layer_macs": 0.5, "data_aware": False},
            "aware": {"layer_macs": 0.5, "asymmetric": False},
            "asymmetric": {"layer_macs": 0.5},
            "together": {"macs": 0.5},
            "measured": {"macs": 0.5, "scope": "measured"},
        }.items()
    }
    assert found["asymmetric"] < found["aware"] < found["plain"]
    assert found["together"] < found["asymmetric"]
    assert found["measured"] < found["asymmetric"]


@pytest.mark.parametrize("budget", ["macs", "params"])
@pytest.mark.parametrize("share", [0.7, 0.45])
def test_budgets_are_kept(model, data, budget, share):
    result = Factorize(**{budget: share})(model, data)
    before, after = profile(model), profile(result.model)
    left = getattr(after, budget) / getattr(before, budget)
    assert share - 0.06 < left <= share
    assert result.log["gap"] <= 1e-3


def test_a_latency_budget_reads_the_table_of_the_factors(model, data):
    widths = tuple(sorted({1, 2, 4, 6, 8, 12, 16, 24, 32, 1600}))

    def row(price):
        return LayerLatency(widths, widths, tuple(tuple(price * i * o / 1000 for o in widths) for i in widths))

    layers = {layer.name: row(9.0) for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}
    layers |= {"hidden": row(0.1), "scores": row(0.1)}
    factors = {f"{name}_{part}": row(3.0) for name in layers for part in ("vertical", "horizontal")}
    table = LatencyTable({**layers, **factors}, "test", "none", fixed_ms=1.0)
    result = Factorize(latency=0.6, latency_table=table, kinds="spatial")(model, data)
    assert result.log["ranks"]
    whole = 1.0 + sum(table.of(*_widths(layer)) for layer in model.layers if layer.name in layers)
    left = 1.0 + sum(table.of(*_widths(layer)) for layer in result.model.layers if layer.name in table.layers)
    assert left <= 0.6 * whole
    with pytest.raises(SettingError, match=r"Received: none for stem_(vertical|reduce)"):
        Factorize(latency=0.6, latency_table=LatencyTable(layers, "test", "none"))(model, data)


def _widths(layer) -> tuple[str, int, int]:
    return layer.name, layer.kernel.shape[-2], layer.kernel.shape[-1]


def test_shared_and_nested_layers_are_factorized_once():
    keras.utils.clear_session(free_memory=False)
    i = keras.Input((12,), name="a")
    inner_in = keras.Input((24,))
    inner = keras.Model(inner_in, keras.layers.Dense(24, activation="relu", name="deep")(inner_in), name="inner")
    shared = keras.layers.Dense(24, activation="relu", name="shared")
    x = keras.layers.Dense(24, name="first")(i)
    x = shared(inner(shared(x)))
    network = randomize(keras.Model(i, keras.layers.Dense(3, name="last")(x)))
    x = np.random.default_rng(0).normal(size=(64, 12)).astype("float32")
    transform = Factorize(rank=6)
    result = transform(network, Data(calibration=x))
    assert set(result.log["ranks"]) == {"shared", "inner/deep", "first"}
    assert all(check.passed for check in transform.prove(network, result, [x]))
    names = [layer.name for layer in result.model.layers]
    assert names.count("shared_reduce") == names.count("shared_expand") == 1
    assert [layer.name for layer in result.model.get_layer("inner").layers[1:]] == ["deep_reduce", "deep_expand"]


def test_prune_then_factorize_and_factorize_then_prune(model, data):
    prune, factorize = PruneChannels("l2_norm", sparsity=0.25), Factorize(layer_macs=0.5)
    inputs = [data.train.x[:4]]
    for first, second in ((prune, factorize), (factorize, prune)):
        one = first(model, data)
        two = second(one.model, data)
        assert all(check.passed for check in first.prove(model, one, inputs))
        assert all(check.passed for check in second.prove(one.model, two, inputs))
        assert two.changes
        assert profile(two.model).macs < 0.6 * profile(model).macs


def test_factorized_twice_names_stay_apart(model, data):
    once = Factorize(rank=8, kinds="svd")(model, data).model
    twice = Factorize(rank=2, kinds="svd")(once, data)
    names = [layer.name for layer in twice.model.layers]
    assert len(set(names)) == len(names)
    assert "stem_reduce_reduce" in names


def test_the_file_equals_the_network(model, data, tmp_path):
    result = Factorize(macs=0.5)(model, data)
    export = export_litert(result.model, tmp_path / "factorized.tflite", data=data)
    assert all(check.passed for check in export.checks)


def test_factors_learn_and_frozen_layers_stay_frozen(data):
    model = _residual()
    model.get_layer("hidden").trainable = False
    result = Factorize(layer_macs=0.4)(model, data)
    assert not result.model.get_layer("hidden_expand").trainable
    assert result.model.get_layer("stem_vertical" if "stem_vertical" in _names(result) else "stem_reduce").trainable
    tune = FineTune(learning_rate=1e-3, epochs=5, batch_size=16, frozen_statistics=True)
    tuned = tune(result.model, Data((data.train.x[:], None)), teacher=model).model
    x = data.train.x[:]
    assert _distance(model, tuned, x) < _distance(model, result.model, x)


def _names(result) -> list[str]:
    return [layer.name for layer in result.model.layers]


def test_what_does_not_fit_is_refused():
    keras.utils.clear_session(free_memory=False)
    i = keras.Input((8,))
    model = randomize(keras.Model(i, keras.layers.Dense(2, name="last")(keras.layers.Dense(16, name="first")(i))))
    with pytest.raises(DataError, match=r"scope 'measured' needs data .*Received: none \(Factorize\)"):
        Factorize(macs=0.5, scope="measured")(model)
    with pytest.raises(SettingError, match=r"exclude must name layers .*Received: \['third'\] \(Factorize\)"):
        Factorize(rank=2, exclude=("third",))(model)
    with pytest.raises(SettingError, match=r"cheapest factors cost 42 \(Factorize\)\. Give a larger budget"):
        Factorize(macs=0.01)(model)
    result = Factorize(rank=7, exclude="last")(model)
    assert {skip.layer: skip.reason for skip in result.skips} == {
        "last": "excluded",
        "first": "rank 7 is not cheaper: it would have to be at most 5 (svd)",
    }
    reasons = {s.layer: s.reason for s in Factorize(energy=0.9999)(model).skips}
    assert "no rank that is cheaper keeps 0.9999 of the energy: 5 (svd)" in reasons["first"]
    reasons = {s.layer: s.reason for s in Factorize(rank=(2, 3))(model).skips}
    assert reasons["first"] == "a pair of ranks is for 'tucker'"


def test_ranks_that_are_pairs(model, data):
    chosen = Factorize(rank=(3, 5), kinds="tucker")(model, data).log["ranks"]
    assert chosen.items() >= {"b0_conv0": ["tucker", (3, 5)], "stem": ["tucker", (3, 5)]}.items()
    dear = Factorize(rank=(16, 16), kinds="tucker")(model, data)
    assert not dear.changes
    assert {s.reason for s in dear.skips if "conv" in s.layer} == {"ranks (16, 16) are not cheaper"}
    low = _residual()
    generator = np.random.default_rng(2)
    kernel = np.einsum("hwrq,sr,tq->hwst", *(generator.normal(size=s) for s in ((3, 3, 3, 4), (16, 3), (16, 4))))
    low.get_layer("b0_conv1").kernel.assign(kernel / 20 + 0.002 * generator.normal(size=kernel.shape))
    found = Factorize(evbmf=True, kinds="tucker", data_aware=False)(low, data)
    assert found.log["ranks"]["b0_conv1"] == ["tucker", (3, 4)]
    assert all(check.passed for check in Factorize(evbmf=True).prove(low, found, [data.train.x[:4]]))


def test_excluded_layers_keep_their_weights_and_refitted_ones_are_told(model, data):
    result = Factorize(layer_macs=0.5, exclude=("b1_conv1", "hidden"))(model, data)
    for name in ("b1_conv1", "hidden"):
        assert np.array_equal(result.model.get_layer(name).kernel, model.get_layer(name).kernel)
    assert not {"b1_conv1", "hidden"} & set(result.log["refitted"])
    one = Factorize(rank=4, kinds="spatial", exclude=tuple(n for n in _convs(model) if n != "stem"))(model, data)
    assert set(one.log["refitted"]) == {"hidden", "scores"}
    assert one.log["examples"] == len(data.calibration)


def _convs(model) -> list[str]:
    return [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def test_a_layer_that_is_called_twice_costs_twice():
    keras.utils.clear_session(free_memory=False)
    shared = keras.layers.Dense(64, name="shared")
    a, b = keras.Input((64,), name="a"), keras.Input((64,), name="b")
    joined = keras.layers.Concatenate()([shared(a), shared(b)])
    network = randomize(keras.Model([a, b], keras.layers.Dense(2, name="last")(joined)))
    for share in (0.6, 0.5):
        result = Factorize(macs=share)(network)
        left = profile(result.model).macs / profile(network).macs
        assert share - 0.06 < left <= share


@pytest.mark.parametrize("use_bias", [True, False])
def test_the_first_layer_loses_the_same_whether_layers_follow_in_turn_or_not(use_bias):
    keras.utils.clear_session(free_memory=False)
    i = keras.Input((12,))
    x = keras.layers.Dense(32, use_bias=use_bias, activation="relu", name="first")(i)
    network = randomize(keras.Model(i, keras.layers.Dense(8, name="last")(x)))
    # The last batch holds one example.
    data = Data(calibration=np.random.default_rng(0).normal(size=(65, 12)).astype("float32") + 2)
    in_turn, alone = (Factorize(rank=4, asymmetric=asymmetric)(network, data).log for asymmetric in (True, False))
    assert in_turn["losses"]["first"] == pytest.approx(alone["losses"]["first"], rel=1e-4)


def test_outputs_keep_their_names_and_what_the_network_was_compiled_with():
    keras.utils.clear_session(free_memory=False)
    i = keras.Input((16,))
    h = keras.layers.Dense(16, name="h")(i)
    outputs = [keras.layers.Dense(24, name=name)(h) for name in ("p", "q")]
    network = randomize(keras.Model(i, outputs))
    network.compile("sgd", loss={"p": "mse", "q": "mae"})
    factorized = Factorize(rank=4)(network).model
    assert factorized.output_names == ["p", "q"]
    assert "p_reduce" in [layer.name for layer in factorized.layers]
    x = np.random.default_rng(0).normal(size=(8, 16)).astype("float32")
    factorized.fit(x, {"p": np.zeros((8, 24)), "q": np.zeros((8, 24))}, verbose=0)


def test_every_field_of_a_rule_or_budget_is_a_field():
    from paredown.transforms.factor_ranks import RULES
    from paredown.transforms.factorize import BUDGETS

    fields = {f.name for f in dataclasses.fields(TRANSFORMS["factorize"])}
    assert {*RULES, *BUDGETS} <= fields


def test_a_custom_layer_is_opened_where_a_layer_in_it_is_factorized():
    name = next(name for name in NETWORKS if "custom" in name or "composite" in name)
    network = randomize(NETWORKS[name]())
    inputs = examples(network, 4)
    result = Factorize(rank=1)(network)
    given = masked_outputs(Network(result.model), {}, inputs)
    assert largest_difference(masked_outputs(Network(result.reference), {}, inputs), given) < 1e-4
