"""Latency as a sum: what is measured once stays, budgets see it, and each layer's bound follows from the peaks."""

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import export_nets
from paredown import Factorize, OperationTable, PruneChannels, measured_table, predict_latency, profile, roofline
from paredown.channels import Channels
from paredown.cli.main import run
from paredown.errors import ModelError, OutputError, SettingError
from paredown.latency import NetworkLatency, operation_table
from paredown.latency.network import OperationLatency
from paredown.latency.roofline import BOUNDS, Peaks, bounds
from paredown.profiling import LatencyCount
from paredown.tflite import LOOPS, operations


def invented_ms(operation):
    """A machine with stairs of 16 outputs: what a made-up table holds."""
    return 0.001 + 1e-7 * operation.macs / operation.outputs[0].shape[-1] * 16 * math.ceil(
        operation.outputs[0].shape[-1] / 16
    )


@pytest.fixture
def invented(monkeypatch, tmp_path):
    """A table whose times are invented, with how often each operation was measured."""
    measured = []

    def fake(self, missing):
        for operation in missing:
            measured.append(operation.key)
            row = (operation.key, str(operation), invented_ms(operation), 0.0)
            self._write("INSERT OR REPLACE INTO times VALUES (?, ?, ?, ?, ?, ?, ?)", [row])
        self._write("INSERT OR REPLACE INTO reference VALUES (?, ?, ?, ?)", [(1.0,)])

    monkeypatch.setattr(OperationTable, "_measure", fake)
    table = OperationTable(tmp_path / "latency.sqlite")
    return table, measured


@pytest.fixture(scope="module")
def net():
    keras.utils.set_random_seed(0)
    image = x = keras.Input((16, 16, 8), name="image")
    x = layers.Conv2D(48, 3, padding="same", use_bias=False, name="first")(x)
    x = y = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    y = layers.Conv2D(48, 1, name="second")(y)
    x = layers.MaxPooling2D()(layers.Add(name="sum")([x, y]))
    x = layers.SeparableConv2D(64, 3, name="separable")(x)
    x = layers.Dense(32, activation="relu", name="hidden")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(10, name="scores")(x))


def test_times_are_measured_once_and_kept(tmp_path, monkeypatch):
    model = export_nets.make("conv_net")
    path = tmp_path / "folder" / "latency.sqlite"
    first = predict_latency(model, OperationTable(path), measure_whole=True)
    assert all(row.ms > 0 for row in first.operations)
    assert first.ms == pytest.approx(sum(row.ms for row in first.operations))
    assert first.ms == pytest.approx(sum(first.layers().values()))
    assert first.measured_ms > 0
    assert first.networks == 1
    assert first.error == pytest.approx(abs(first.ms / first.measured_ms - 1))
    monkeypatch.setattr(operation_table, "fastest_pair_ms", None)
    again = predict_latency(model, OperationTable(path))
    assert {row.operation: row.ms for row in again.operations} == {row.operation: row.ms for row in first.operations}
    assert (again.networks, again.measured_ms) == (1, None)


def test_what_was_measured_before_an_interruption_is_kept(tmp_path, monkeypatch):
    real, seen = operation_table.fastest_pair_ms, []

    def interrupted(*runs):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(1)
        return real(*runs)

    monkeypatch.setattr(operation_table, "fastest_pair_ms", interrupted)
    model = export_nets.make("conv_net")
    with pytest.raises(KeyboardInterrupt):
        predict_latency(model, OperationTable(tmp_path / "t.sqlite"))
    assert len(OperationTable(tmp_path / "t.sqlite")._known()) == 2


def test_threads_and_files_are_kept_apart(invented, net, tmp_path):
    table, measured = invented
    predict_latency(net, table)
    count = len(measured)
    predict_latency(net, table)
    assert len(measured) == count
    predict_latency(net, OperationTable(table.path, threads=2))
    assert len(measured) == 2 * count


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "t.sqlite").write_text("no database" * 100)
    with pytest.raises(OutputError, match=r"must be an SQLite file.*t\.sqlite"):
        OperationTable(tmp_path / "t.sqlite")
    with pytest.raises(ModelError, match=r"Received: .*nowhere\.tflite"):
        predict_latency(tmp_path / "nowhere.tflite", OperationTable(tmp_path / "u.sqlite"))
    with pytest.raises(SettingError, match="threads=0"):
        OperationTable(tmp_path / "u.sqlite", threads=0)


def test_a_measured_table_is_the_network(invented, net):
    """At the present widths the table gives the sum of all operations, at others that of the narrower network."""
    table, _ = invented
    found = measured_table(net, table)
    channels = Channels(net)
    count = LatencyCount(channels, found)
    assert set(found.layers) == {"first", "depthwise", "second", "separable", "hidden", "scores"}
    keep = np.ones(channels.count, bool)
    assert count(keep) == pytest.approx(predict_latency(net, table).ms, rel=1e-6)
    # Widths that are among the measured ones.
    result = PruneChannels("l1_norm", sparsity=0.5, round_to=8)(net)
    kept = _kept(channels, result.removed)
    assert count(kept) == pytest.approx(predict_latency(result.model, table).ms, rel=0.02)
    assert count(kept) < 0.7 * count(keep)


def _kept(channels, removed):
    keep = np.ones(channels.count, bool)
    for path, indices in removed.items():
        keep[channels.outputs[path][list(indices)]] = False
    return keep


def test_widths_of_layers_that_are_reshaped_can_be_measured(tmp_path):
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding="same", name="plain")(image)
    x = layers.Conv1D(8, 3, activation="relu", name="sequence")(layers.Reshape((64, 16))(x))
    model = keras.Model(image, layers.Dense(4)(layers.GlobalMaxPooling1D()(x)))
    found = measured_table(model, OperationTable(tmp_path / "latency.sqlite"))
    assert found.layers["plain"].channels_out[-1] == 16
    assert len(found.layers["sequence"].channels_out) == 8


def test_grouped_convolutions_are_measured_at_multiples_of_their_groups(tmp_path):
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(24, 3, name="plain")(image)
    x = layers.Conv2D(12, 3, groups=4, activation="relu", name="grouped")(x)
    model = keras.Model(image, layers.Dense(4)(layers.GlobalMaxPooling2D()(x)))
    row = measured_table(model, OperationTable(tmp_path / "latency.sqlite")).layers["grouped"]
    assert row.channels_out == (4, 8, 12)
    assert all(width % 4 == 0 for width in row.channels_in)
    assert row.channels_in[-1] == 24


def test_a_budget_of_measured_latency_is_kept(invented, net, monkeypatch, tmp_path):
    table, _ = invented
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = PruneChannels("l1_norm", latency=0.5, latency_table="host", scope="optimal")(net)
    before, after = (predict_latency(model, table).ms for model in (net, result.model))
    assert after / before <= 0.5
    # The stair of 16 is taken whole, and the next one, of 32 channels, would have cost 0.62 of the time.
    assert result.model.get_layer("first").filters == 16
    assert {result.model.get_layer(name).units for name in ("hidden", "scores")} == {32, 10}


@pytest.mark.usefixtures("invented")
@pytest.mark.parametrize("kinds", [("svd", "spatial", "tucker", "depthwise"), ("cp",)])
def test_factors_keep_a_budget_of_measured_latency(net, kinds):
    result = Factorize(latency=0.7, latency_table="host", kinds=kinds)(net)
    assert result.changes
    before, after = (predict_latency(model).ms for model in (net, result.model))
    # What was measured side by side is what the network has in the end; between measured ranks the next one counts.
    assert 0.5 < after / before <= 0.7 + 1e-9
    whole = sum(change.before for change in result.changes), sum(change.after for change in result.changes)
    assert before - after == pytest.approx(whole[0] - whole[1], abs=0.05 * before)


def test_nothing_to_factorize_is_said_and_tables_are_checked(net):
    chosen = Factorize(latency=0.5, latency_table="host", exclude=tuple(Channels(net).outputs))
    with pytest.raises(SettingError, match="budget must be one that can be reached"):
        chosen(net)
    with pytest.raises(SettingError, match="Received: latency_table=5"):
        Factorize(latency=0.5, latency_table=5)
    assert Factorize(latency=0.5, latency_table=Path("t.json")).settings()["latency_table"] == "t.json"


def test_host_is_a_setting_like_others():
    prune = PruneChannels("l1_norm", latency=0.5, latency_table="host")
    assert prune.settings()["latency_table"] == "host"
    assert prune.identity() == prune.settings()


PEAKS = Peaks(1e9, 1e8, 0.01)


@pytest.mark.parametrize(
    ("macs", "moved", "ms", "bound", "reached"),
    [
        (10**7, 10**5, 20.0, "compute", 0.5),
        (10**5, 10**6, 10.0, "memory", 1.0),
        (10**2, 10**2, 0.015, "overhead", 0.01 / 0.015),
        # Faster than the peaks say: nothing is reached beyond all.
        (10**7, 10**2, 5.0, "compute", 1.0),
    ],
)
def test_what_bounds_a_layer(macs, moved, ms, bound, reached):
    row = OperationLatency("layer", "CONV_2D", "", "FLOAT32", ms, macs, moved)
    other = OperationLatency("other", "ADD", "", "FLOAT32", 3 * ms, 0, moved)
    latency = NetworkLatency(4 * ms, (row, other), "device", "runtime", 1, math.nan, 0)
    slow, found = bounds(latency, PEAKS)
    assert (slow.layer, found.layer) == ("other", "layer")
    assert found.bound == bound
    assert found.reached == pytest.approx(reached)
    assert found.share == 0.25
    assert found.advice


def test_a_loop_that_is_left_no_time_is_bound_by_overhead():
    rows = tuple(OperationLatency(kind, kind, "", "FLOAT32", ms, 0, 4) for kind, ms in (("WHILE", 0.0), ("ADD", 1.0)))
    whole = NetworkLatency(1.0, rows, "device", "runtime", 1, 0.0, 0)
    found = {one.layer: one for one in bounds(whole, Peaks(1e9, 1e9, 1e-3))}
    assert (found["WHILE"].share, found["WHILE"].bound, found["WHILE"].reached) == (0.0, "overhead", 1.0)


def test_a_loop_gets_what_the_others_leave(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((6, 4)), layers.LSTM(5, name="loop"), layers.Dense(3)])
    table = OperationTable(tmp_path / "t.sqlite")
    found = predict_latency(model, table)
    assert any(row.kind in LOOPS for row in found.operations)
    assert found.ms >= found.measured_ms * (1 - 1e-9)
    # What is worked out from the whole says nothing about sums.
    assert found.networks == 0
    narrow = measured_table(model, table)
    assert narrow.fixed_ms > 0


@pytest.mark.parametrize(("number_format", "told"), [("FLOAT32", True), ("FLOAT16", True), ("INT8", False)])
def test_nobody_is_told_to_quantize_twice(number_format, told):
    row = OperationLatency("layer", "FULLY_CONNECTED", "", number_format, 10.0, 10**5, 10**6)
    (found,) = bounds(NetworkLatency(10.0, (row,), "device", "runtime", 1, math.nan, 0), PEAKS)
    assert found.bound == "memory"
    assert ("int8" in found.advice) is told


def test_a_roofline_covers_the_network(invented, net):
    table, _ = invented
    found = roofline(net, table)
    assert sum(layer.ms for layer in found.layers) == pytest.approx(found.latency.ms)
    assert sum(found.shares().values()) == pytest.approx(1)
    assert {layer.bound for layer in found.layers} <= set(BOUNDS)
    assert sum(layer.macs for layer in found.layers) == profile(net).macs
    plain = found.to_dict()
    assert json.loads(json.dumps(plain)) == plain


@pytest.mark.usefixtures("invented")
def test_profile_prints_what_is_slow(net, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    net.save(tmp_path / "net.keras")
    assert run(["profile", str(tmp_path / "net.keras"), "--latency", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)["roofline"]
    assert {layer["layer"] for layer in plain["layers"]} >= {"first", "second", "hidden"}
    assert run(["profile", str(tmp_path / "net.keras"), "--latency"]) == 0
    out = capsys.readouterr().out
    assert "Sum of all layers" in out
    assert "G MACs/s" in out


def test_operations_know_their_files_tensors(net):
    from paredown.export import float_content

    found = operations(float_content(net))
    made = [i for operation in found for i in operation.writes]
    assert len(made) == len(set(made))
    assert all(i in made for operation in found[1:] for i in operation.reads[:1])


def test_a_cache_that_cannot_be_written_is_done_without(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    table = OperationTable()
    found = predict_latency(export_nets.make("nested"), table)
    assert found.ms > 0
    assert not str(table.path).startswith(str(tmp_path))


def test_an_operation_that_cannot_run_is_named(tmp_path):
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layers.Embedding(1, 4), layers.Dense(2)])
    with pytest.raises(ModelError, match=r"able to run an operation to time it\. Received: .*out of range"):
        predict_latency(model, OperationTable(tmp_path / "t.sqlite"))


def test_a_layer_without_a_kernel_of_its_own_stands_at_its_width(invented):
    table, _ = invented
    image = keras.Input((8, 12))
    x = layers.MultiHeadAttention(2, 6, name="attention")(image, image)
    model = keras.Model(image, layers.Dense(4, name="scores")(x))
    found = measured_table(model, table)
    whole = sum(max(max(row.ms)) for row in found.layers.values()) + found.fixed_ms
    assert whole == pytest.approx(predict_latency(model, table).ms, rel=1e-6)
