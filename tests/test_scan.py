"""The sensitivity scan: its figures are those of the transforms, and nothing is computed twice."""

import json
import re

import keras
import numpy as np
import pytest
from keras import layers

import paredown
from networks import randomize
from paredown.cli.main import run
from paredown.data import Data
from paredown.errors import SettingError
from paredown.export import export_litert
from paredown.measure import LiteRTRunner
from paredown.network import Network
from paredown.report import fat, heat_map, render_scan, write_scan
from paredown.scan import METHODS, Scan, scan_sensitivity
from paredown.scan.kept import NAME, Kept
from paredown.scan.parts import parts
from paredown.scan.scope import Scope
from paredown.scan.trial import Trial
from paredown.sensitivity import output_change, scored_outputs

BRIEF = {"levels": (0.5, 0.25), "latency": False}


def _network():
    """Coupled channels, a layer that nothing factorizes, and one that must keep its channels; 8 by 8 positions."""
    i = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1")(i)
    y = layers.BatchNormalization(name="norm")(layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv2")(x))
    x = layers.DepthwiseConv2D(3, name="deep")(layers.Add(name="add")([x, y]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(12, activation="relu", name="hidden")(x)
    return randomize(keras.Model(i, layers.Dense(4, activation="softmax", name="scores")(x), name="net"))


def _dense():
    """Two layers and plain outputs: an error at the last is the network's own."""
    i = keras.Input((10,))
    x = layers.Dense(16, activation="relu", name="hidden")(i)
    return randomize(keras.Model(i, layers.Dense(8, name="out")(x)))


def _noise(shape, classes=4, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(240, *shape)).astype("float32"), generator.integers(0, classes, 240)


def _data(shape, classes=4, seed=0):
    return Data(train=_noise(shape, classes, seed), name="noise")


@pytest.fixture(scope="module")
def case():
    model, data = _network(), _data((8, 8, 3))
    before = [np.array(w) for w in model.weights]
    found = scan_sensitivity(model, data, **BRIEF)
    return model, data, before, found


@pytest.fixture(scope="module")
def scope(case):
    model, data, *_ = case
    read, judged = parts(data, 512, 0)
    return Scope(model, read, judged, 0, Kept(None), "key", False)


def _change(model, outputs, judged, least=0.0):
    """What class scores lost against the network's own."""
    found = [model.predict(judged.x[:], verbose=0), outputs]
    before, after = (scored_outputs(Network(model), [np.maximum(y.astype("float64"), least)]) for y in found)
    return output_change(before, after)


def test_every_layer_is_scanned_or_named(case):
    *_, found = case
    asked = {name: METHODS[name].levels(BRIEF["levels"]) for name in METHODS}
    for path in ("conv1", "conv2", "deep", "hidden", "scores"):
        for name, levels in asked.items():
            skipped = {s.level for s in found.skips if s.method == name and s.layer == path}
            for level, _ in levels:
                rows = [r for r in found.rows if r.method == name and r.level == level and path in r.layers]
                assert len(rows) + bool({None, level} & skipped) == 1, (path, name, level)


@pytest.mark.parametrize("name", METHODS)
def test_rows_hold_sound_figures(case, name):
    model, _, _, found = case
    rows = [row for row in found.rows if row.method == name]
    assert rows
    for row in rows:
        assert row.layer in row.layers
        assert 0 <= row.measured < np.inf
        assert row.predicted is None or row.predicted >= 0
        assert -1 <= row.score_drop <= 1
        assert row.saved_bytes > 0
        assert 0 <= row.saved_macs < found.model["macs"]
        assert row.share_params == row.saved_params / model.count_params()
        assert row.saved_ms is None


def test_coupled_layers_are_one_row(case):
    *_, found = case
    row = next(row for row in found.rows if row.method == "prune_channels" and row.level == 0.5)
    assert (row.layer, row.setting) == ("conv1", "4 of 8 channels")
    assert {"conv1", "conv2", "norm", "deep"} <= set(row.layers)
    # Half of conv1's outputs, of conv2's inputs and outputs, of the depthwise and of what hidden reads.
    saved = 64 * 9 * 3 * 4 + 64 * 9 * (8 * 8 - 4 * 4) + 36 * 9 * 4 + 4 * 12
    assert row.saved_macs == saved
    assert row.share_macs == saved / found.model["macs"]


@pytest.mark.parametrize("name", [name for name in METHODS if name != "quantize"])
def test_measured_is_what_the_transform_gives_on_that_layer_alone(case, scope, name):
    model, *_, found = case
    cases, _ = METHODS[name].cases(scope, [METHODS[name].levels((0.5,))[-1][0]])
    tried = {(row.layer, row.level): row for row in found.rows if row.method == name}
    assert cases
    for one in cases:
        figures = one.run()
        if isinstance(figures, str):
            assert (one.layer, one.level) not in tried
            continue
        transform = one.alone(figures["more"])
        assert transform is not None
        result = transform(model, scope.data)
        outputs = result.model.predict(scope.judged.x[:], verbose=0)
        row = tried[one.layer, one.level]
        assert row.measured == pytest.approx(_change(model, outputs, scope.judged), rel=1e-3, abs=1e-9), one.layer
        assert {change.layer for change in result.changes} <= set(row.layers)
        if name != "share_weights":
            assert row.saved_params == model.count_params() - result.model.count_params()


def test_measured_is_what_the_quantized_file_gives(case, scope, tmp_path):
    model, *_, found = case
    row = found.of("conv2", "quantize")[0]
    export = export_litert(model, tmp_path / "q.tflite", {"conv2": row.setting}, scope.data)
    (outputs,) = LiteRTRunner(export.path).run(scope.judged.x[:])
    assert row.measured == pytest.approx(_change(model, outputs, scope.judged, 1 / 256), rel=1e-6)
    assert row.saved_bytes == 3 * 3 * 8 * 8 * 3


def test_prediction_is_exact_where_the_layer_gives_the_outputs():
    model, (x, _) = _dense(), _noise((10,))
    # The same examples for both parts.
    found = scan_sensitivity(model, Data(train=x, calibration=x.copy()), **BRIEF)
    for method in ("factorize", "share_weights"):
        for row in found.of("out", method):
            assert row.predicted == pytest.approx(row.measured, rel=1e-3), row
    # Behind a ReLU it is near: the ridge of the refit is chosen on held-out rows.
    for row in found.of("hidden", "prune_channels"):
        assert row.predicted == pytest.approx(row.measured, rel=0.2), row
    assert found.metric is None
    assert {row.score_drop for row in found.rows} == {None}


def test_the_network_is_as_it_was(case):
    model, _, before, _ = case
    assert all(np.array_equal(a, np.array(b)) for a, b in zip(before, model.weights, strict=True))


def test_plain_data_and_back(case):
    *_, found = case
    assert Scan.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(SettingError, match=r"schema 1\. Received: schema=7"):
        Scan.from_dict({"schema": 7})
    with pytest.raises(SettingError, match="without 'rows'"):
        Scan.from_dict({k: v for k, v in found.to_dict().items() if k != "rows"})


class _Counted:
    """Counts what is judged, and is killed at one of them."""

    def __init__(self, patch, killed_at=None):
        self.count, judge = 0, Trial.judge

        def counting(trial, outputs):
            self.count += 1
            if self.count == killed_at:
                raise KeyboardInterrupt
            return judge(trial, outputs)

        patch.setattr(Trial, "judge", counting)


FEW = {"methods": ["factorize", "share_weights"], **BRIEF}


def test_a_killed_scan_goes_on_and_computes_nothing_twice(tmp_path, monkeypatch):
    model, data = _dense(), _data((10,), 8)
    with monkeypatch.context() as patch:
        counted = _Counted(patch)
        whole = scan_sensitivity(model, data, **FEW)
    with monkeypatch.context() as patch:
        killed = _Counted(patch, killed_at=4)
        with pytest.raises(KeyboardInterrupt):
            scan_sensitivity(model, data, folder=tmp_path, **FEW)
    # A killed process leaves half a line.
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'["0123456789abcdef", {"setting": "sv')
    with monkeypatch.context() as patch:
        rest = _Counted(patch)
        resumed = scan_sensitivity(model, data, folder=tmp_path, **FEW)
    assert resumed == whole
    assert killed.count - 1 + rest.count == counted.count
    with monkeypatch.context() as patch:
        again = _Counted(patch)
        assert scan_sensitivity(model, data, folder=tmp_path, **FEW) == whole
    assert again.count == 0


def test_what_figures_depend_on_makes_new_cases(tmp_path, monkeypatch):
    model, data = _dense(), _data((10,), 8)
    scan_sensitivity(model, data, folder=tmp_path, **FEW)

    def computed(model, data, **settings):
        with monkeypatch.context() as patch:
            counted = _Counted(patch)
            scan_sensitivity(model, data, folder=tmp_path, **{**FEW, **settings})
        return counted.count

    everything = computed(model, _data((10,), 8, seed=1))
    assert everything > 0
    assert computed(model, data, seed=1) == everything
    assert computed(model, data, examples=60) == everything
    # One more level: its cases alone.
    assert 0 < computed(model, data, levels=(0.5, 0.25, 0.4)) < everything
    changed = keras.models.clone_model(model)
    changed.set_weights([w + 0.01 for w in model.get_weights()])
    assert computed(changed, data) == everything


def test_what_is_judged_on_is_never_validation_nor_what_statistics_are_of():
    x = np.arange(40, dtype="float32")[:, None]
    labels = np.arange(40)
    read, judged = parts(Data(train=(x[:30], labels[:30]), validation=(x[30:], labels[30:])), 8, 0)
    seen, tried = set(read.calibration.x[:].ravel()), set(judged.x[:].ravel())
    assert not seen & tried
    assert max(seen | tried) < 30
    assert judged.y is not None
    assert (len(seen), len(tried)) == (8, 15)
    _, judged = parts(Data(validation=(x, labels)), 8, 0)
    assert judged.y is None


def test_times_come_from_tables():
    model = _dense()
    found = scan_sensitivity(model, _data((10,), 8), levels=0.25)
    assert found.model["latency_ms"] > 0
    for row in found.rows:
        if row.method == "quantize":
            assert row.saved_ms is None
        else:
            assert row.saved_ms < found.model["latency_ms"]
            assert row.share_ms == row.saved_ms / found.model["latency_ms"]
        if row.method == "share_weights":
            assert row.saved_ms == 0
    assert [note for note in found.notes if "quantize is not known" in note]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ["prune", "factorize"]}, r"methods must be of prune_channels, .* Received: \['prune'\]"),
        ({"methods": []}, r"methods must be of .* Received: \[\]"),
        ({"levels": (0.5, 1.0)}, r"levels must be in \(0, 1\).* Received: levels=\[1.0\]"),
        ({"levels": ()}, r"levels must be in \(0, 1\).* Received: levels=\[\]"),
        ({"examples": 0}, "examples must be a whole number of at least 1. Received: examples=0"),
        ({"seed": -1}, "seed must be a whole number of at least 0. Received: seed=-1"),
    ],
)
def test_settings_that_are_none(settings, message):
    with pytest.raises(SettingError, match=message):
        scan_sensitivity(None, _data((10,)), **settings)


def test_the_heat_map_is_plotlys_once_colours_are_put_in(case):
    import plotly.graph_objects as go

    *_, found = case
    figure = heat_map.heat_map(found.to_dict())
    assert figure is not None
    plain = json.loads(re.sub(r'"--\w+"', '"#123456"', json.dumps(figure)))
    drawn = go.Figure(plain)
    shown = sum(z is not None for trace in figure["data"] for line in trace["z"] for z in line if "coloraxis" in trace)
    assert shown == len(found.rows)
    assert len(drawn.data) == 2 * len(METHODS)
    assert heat_map.heat_map({**found.to_dict(), "rows": []}) is None


def test_the_page_stands_alone_and_escapes(case, tmp_path):
    *_, found = case
    plain = found.to_dict()
    evil = "<script>alert(1)</script>"
    plain["model"] = {**plain["model"], "name": evil}
    plain["skips"].append({"layer": evil, "method": "factorize", "level": None, "reason": evil})
    plain["layers"].append(evil)
    write_scan(plain, tmp_path / "scan.html")
    page = (tmp_path / "scan.html").read_text(encoding="utf-8")
    from plotly.offline import get_plotlyjs

    ours = page.replace(get_plotlyjs(), "")
    assert "<script>alert" not in ours
    assert "default-src 'none'" in ours
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?(?!data:)[^"'\s>]+|url\(|@import|https?://""", ours)
    assert "Nothing could be treated" in render_scan({**plain, "rows": []})


def test_fat_is_what_gives_most_for_little():
    def row(layer, loss, share):
        return {"layer": layer, "measured": loss, "share_ms": None, "share_macs": share, "share_params": 0.0}

    rows = [row("a", 1e-3, 0.1), row("a", 9e-3, 0.2), row("a", 0.5, 0.4), row("b", 1e-5, 0.3), row("c", 0.2, 0.1)]
    assert [r["share_macs"] for r in fat.fattest({"rows": rows})] == [0.3, 0.2]
    assert [r["layer"] for r in fat.bone({"rows": rows})] == ["c"]


def test_the_command(tmp_path, capsys):
    x, y = _noise((10,), 8)
    _dense().save(tmp_path / "m.keras")
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y)
    line = ["scan", str(tmp_path / "m.keras"), "--data", str(tmp_path / "d.npz"), "--out", str(tmp_path / "out")]
    line += ["--methods", "factorize,share_weights", "--levels", "0.5", "--no-latency"]
    assert run(line) == 0
    told = capsys.readouterr().out
    assert [word for word in ("factorize 50 %", "share 3 bits", "scan.html") if word not in told] == []
    assert (tmp_path / "out" / "scan.html").exists()
    assert run([*line, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain == json.loads((tmp_path / "out" / "scan.json").read_text())
    assert paredown.Scan.from_dict(plain).methods[0]["name"] == "factorize"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--levels", "half"], "--levels must be numbers in (0, 1) parted by commas. Received: 'half'"),
        (["--levels", "2"], "Received: levels=[2.0]"),
        (["--methods", "prune"], "Received: ['prune']"),
        (["--data", "mnst"], "mnst"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, capsys, words, message):
    (tmp_path / "m.keras").write_bytes(b"not looked into here")
    line = ["scan", str(tmp_path / "m.keras"), "--data", "digits", "--out", str(tmp_path / "out"), *words]
    assert run(line) == 2
    assert message in capsys.readouterr().err
