"""Shared weights inside a .tflite file: the same outputs at every width, sizes as the bits say, no silent skips."""

import json
import math

import keras
import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import shared_weights as nets
from paredown import Recipe, export_litert, pack_litert
from paredown.checks import largest_difference
from paredown.cli.main import run
from paredown.errors import CheckError, ModelError, OutputError, SettingError
from paredown.measure import LiteRTRunner
from paredown.packed import FORMS, packing
from paredown.packed.bits import PLANES, digits, packed_bytes, planes
from paredown.packed.codes import codes_of
from paredown.packed.editor import KINDS, Editor
from paredown.packed.forms import Source
from paredown.packed.grid import on_grid
from paredown.packed.packing import Packing, fast_and_small, packed_content

WIDTHS = list(PLANES)
RANDOM = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def operations(content: bytes, graph: int = 0) -> list[str]:
    """Kinds of a graph's operations, in order."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    names = {code: name for name, code in vars(flatbuffer_utils.schema_fb.BuiltinOperator).items()}
    return [names[model.operatorCodes[o.opcodeIndex].builtinCode] for o in model.subgraphs[graph].operators]


# Indices


@given(RANDOM, st.sampled_from(WIDTHS), st.integers(1, 50))
def test_planes_hold_the_indices_in_the_bytes_that_the_bits_say(rng, width, count):
    indices = rng.integers(0, 2**width, count).astype(np.uint8)
    found, size = np.zeros(count, int), 0
    for plane, shift, packed in planes(indices, width):
        found += digits(plane)[packed].ravel()[:count].astype(int) << shift
        size += len(packed)
    np.testing.assert_array_equal(found, indices)
    assert size == packed_bytes(count, width)
    assert count * width / 8 <= size < count * width / 8 + len(PLANES[width])


# Codes


@given(RANDOM, st.integers(1, 12), st.integers(1, 40), st.integers(1, 40), st.integers(1, 12))
def test_codes_of_codebooks_are_exact(rng, rows, n, k, size):
    codebooks = rng.normal(size=(math.ceil(rows / size), k)).astype("float32")
    kernel = codebooks[np.arange(rows)[:, None] // size, rng.integers(0, k, (rows, n))]
    codes = codes_of(kernel)
    assert codes is not None
    if codes.scales is None:
        np.testing.assert_array_equal(codes.rows(), kernel)
    np.testing.assert_allclose(codes.rows(), kernel, rtol=1e-6)
    told = packed_bytes(rows * n, next(w for w in WIDTHS if 2**w >= k)) + 4 * codebooks.size
    assert codes.payload_bytes <= told + (4 * rows if len(codebooks) > 1 else 0)


@settings(deadline=None)
@given(RANDOM, st.integers(1, 24), st.integers(4, 60), st.integers(2, 64), st.booleans())
def test_codes_of_scaled_rows(rng, rows, n, k, zeros):
    """What a folded BatchNormalization leaves, dead channels included."""
    codebook = rng.normal(size=k).astype("float32")
    if zeros:
        codebook[0] = 0
    scales = (rng.lognormal(0, 2, rows) * rng.choice([-1, 1], rows) * (rng.random(rows) > 0.1)).astype("float32")
    kernel = codebook[rng.integers(0, k, (rows, n))] * scales[:, None]
    codes = codes_of(kernel)
    assert codes is not None
    np.testing.assert_allclose(codes.rows(), kernel, rtol=1e-6)


def test_one_codebook_is_found_behind_scales():
    """Even where each row shows a part of it: 9 weights of 16 values."""
    rng = np.random.default_rng(0)
    codebook = rng.normal(size=16).astype("float32")
    kernel = codebook[rng.integers(0, 16, (200, 9))] * rng.lognormal(0, 1, (200, 1)).astype("float32")
    codes = codes_of(kernel)
    assert codes is not None
    assert (codes.bits, codes.codebooks.shape, codes.size) == (4, (1, 16), 200)
    assert codes.payload_bytes == 200 * 9 / 2 + 4 * 16 + 4 * 200


def test_weights_of_their_own_have_no_codes():
    assert codes_of(np.random.default_rng(0).normal(size=(3, 300)).astype("float32")) is None


# The grid


@given(RANDOM, st.integers(1, 256), st.floats(1e-6, 1e3))
def test_what_lies_on_a_grid_stays(rng, k, step):
    values = np.float32(step) * rng.integers(-127, 128, k).astype("float32")
    found, numbers = on_grid(values)
    np.testing.assert_allclose(found * numbers, values, rtol=1e-6, atol=1e-6 * np.abs(values).max())


@given(RANDOM, st.integers(1, 256))
def test_the_grid_is_no_worse_than_the_finest_one(rng, k):
    values = rng.normal(size=k)
    step, numbers = on_grid(values)
    finest = np.abs(values).max() / 127
    own = finest * np.rint(values / finest)
    assert np.square(step * numbers - values).sum() <= np.square(own - values).sum() * (1 + 1e-9)
    assert step > 0
    assert np.abs(numbers.astype(int)).max() <= 127


# In LiteRT


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A network of all four kinds of kernels and its file."""
    keras.utils.set_random_seed(0)
    model = nets.four_kinds()
    return model, export_litert(model, tmp_path_factory.mktemp("plain") / "plain.tflite").path.read_bytes()


def with_shared_weights(plain, k: int, step: float | None = None) -> tuple[keras.Model, bytes]:
    """The network and its file with k values in each kernel."""
    model, content = plain
    rng = np.random.default_rng(k)
    kernels = {}
    for name in nets.TO_FILE:
        kernels[name] = nets.clustered(
            model.get_layer(name).kernel.shape, nets.codebook(k, rng, step and step / np.sqrt(k)), rng
        )
        model.get_layer(name).kernel.assign(kernels[name])
    return model, nets.written(content, kernels)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_gives_what_keras_gives(plain, width, form):
    model, content = with_shared_weights(plain, 2**width, step=None if form == "ship" else 0.002)
    packed = Source(content).written(form)
    assert [kernel.kind for kernel in packed.kernels] == [
        "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED",
    ]  # fmt: skip
    assert packed.skips == ()
    assert {kernel.bits for kernel in packed.kernels} == {width if form == "ship" else 8}
    assert max(kernel.error for kernel in packed.kernels) < 1e-6
    inputs = np.random.default_rng(1).normal(size=(3, 10, 10, 8)).astype("float32")
    runner = LiteRTRunner(packed.content)
    first = runner.run(inputs)
    assert largest_difference([np.asarray(model(inputs))], first) < 1e-5
    # What was decoded for the first inference stays.
    np.testing.assert_array_equal(runner.run(inputs)[0], first[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_files_size_is_what_the_bits_say(plain, width, form):
    k = min(2**width, 255) if form == "run" else 2**width
    _, content = with_shared_weights(plain, k, step=None if form == "ship" else 0.002)
    packed = Source(content).written(form)
    weights = [rows * n for rows, n in nets.SHAPES.values()]
    if form == "ship":
        payload = sum(sum(math.ceil(n * plane / 8) for plane in PLANES[width]) + 4 * k for n in weights)
    else:
        payload = sum(n + 4 + 8 for n in weights)
    assert sum(kernel.payload_bytes for kernel in packed.kernels) == payload
    overhead = len(packed.content) - (len(content) - 4 * sum(weights)) - payload
    each = 300 if form == "run" else 600 + 700 * len(PLANES[width])
    assert 0 < overhead <= FORMS[form].file_bytes + len(weights) * each


@pytest.mark.parametrize("width", WIDTHS)
def test_a_shipped_file_decodes_once(plain, width):
    """The first graph holds no operation that decodes, and no kernel: it reads variables that another graph, run by
    CALL_ONCE, has assigned."""
    _, content = with_shared_weights(plain, 2**width)
    packed = Source(content).written("ship").content
    own, decoding = operations(packed), operations(packed, 1)
    assert own[0] == "CALL_ONCE"
    assert own.count("READ_VARIABLE") == decoding.count("ASSIGN_VARIABLE") == 5
    assert [kind for kind in own if kind not in ("CALL_ONCE", "READ_VARIABLE", "VAR_HANDLE")] == operations(content)
    assert decoding.count("GATHER") == 5 * (1 + len([plane for plane in PLANES[width] if plane < 8]))
    # One table for each kind of digits, however many kernels there are.
    assert decoding.count("CAST") == (5 + 1) * len(PLANES[width]) - (width == 8)
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(packed))
    assert [len(graph.inputs) + len(graph.outputs) for graph in model.subgraphs[1:]] == [0]
    assert Editor(packed).kernels()[0] == []


def test_a_file_to_run_holds_constants_that_litert_unpacks_itself(plain):
    _, content = with_shared_weights(plain, 16, 0.002)
    packed = Source(content).written("run").content
    assert operations(packed) == ["DEQUANTIZE"] * 5 + operations(content)
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(packed))
    graph = model.subgraphs[0]
    for operation in graph.operators[:5]:
        tensor = graph.tensors[operation.inputs[0]]
        assert tensor.type == flatbuffer_utils.schema_fb.TensorType.INT8
        assert len(model.buffers[tensor.buffer].data) == math.prod(tensor.shape)
        assert len(tensor.quantization.scale) == 1


@pytest.mark.parametrize("form", FORMS)
def test_codebooks_for_a_few_channels_each(plain, form):
    model, content = plain
    rng = np.random.default_rng(3)
    kernel = np.concatenate(
        [nets.clustered((3, 3, 8, 8), nets.codebook(4, rng, 0.002), rng) for _ in range(64 // 8)], axis=3
    )
    model.get_layer("conv").kernel.assign(kernel)
    kernels = {name: np.asarray(model.get_layer(name).kernel) for name in nets.TO_FILE}
    packed = Source(nets.written(content, kernels)).written(form)
    assert next((k.kind, k.values, k.codebooks) for k in packed.kernels) == ("CONV_2D", 4, 8)
    if form == "ship":
        assert packed.kernels[0].payload_bytes == 64 * 72 * 2 / 8 + 8 * 4 * 4 + 64 * 4
    inputs = np.random.default_rng(1).normal(size=(2, 10, 10, 8)).astype("float32")
    assert largest_difference([np.asarray(model(inputs))], LiteRTRunner(packed.content).run(inputs)) < 1e-5


# Through export


@pytest.mark.parametrize("form", FORMS)
def test_shared_weights_survive_folded_batch_normalization(form, tmp_path):
    model = nets.normalized(16)
    if form == "run":
        rng = np.random.default_rng(0)
        for name in ("conv", "depthwise", "pointwise", "scores"):
            kernel = model.get_layer(name).kernel
            kernel.assign(nets.clustered(kernel.shape, nets.codebook(16, rng, 0.003), rng))
    export = export_litert(model, tmp_path / "a.tflite", pack=form)
    packing = export.packing
    assert isinstance(packing, Packing)
    assert packing.form == form
    known = {kernel.name: kernel for kernel in packing.kernels}
    assert {"conv", "pointwise", "scores"} <= set(known)
    if form == "ship":
        assert {name: (known[name].bits, known[name].values) for name in ("conv", "pointwise")} == {
            "conv": (4, 16),
            "pointwise": (4, 16),
        }
    assert packing.error < 1e-6
    assert [check.name for check in export.checks] == ["litert equals keras", "packed equals plain"]
    inputs = np.random.default_rng(1).normal(size=(4, 9, 9, 8)).astype("float32")
    assert largest_difference([np.asarray(model(inputs))], LiteRTRunner(export.path).run(inputs)) < 1e-5
    assert packing.after.file_bytes == export.size_bytes == export.path.stat().st_size
    assert packing.after.zipped_bytes == export.zipped_bytes
    assert packing.before.file_bytes > packing.after.file_bytes


def test_what_does_not_lie_on_a_grid_is_moved_and_told_or_refused(tmp_path):
    model = nets.normalized(16)
    plain = export_litert(model, tmp_path / "plain.tflite").path
    moved = pack_litert(plain, tmp_path / "run.tflite", "run")
    assert 1e-4 < moved.error < 0.02
    assert [check.name for check in moved.checks] == ["packed near plain, root mean square"]
    assert moved.checks[0].passed
    refused = pack_litert(plain, tmp_path / "none.tflite", "run", tolerance=0)
    assert (refused.form, refused.kernels, refused.checks) == ("plain", (), ())
    assert (tmp_path / "none.tflite").read_bytes() == plain.read_bytes()
    assert any("do not lie on an int8 grid: moving them there changes it by 0." in s.reason for s in refused.skips)


def test_every_large_constant_that_stays_is_named(tmp_path):
    keras.utils.set_random_seed(0)
    ids = keras.Input((5,), dtype="int32")
    seen = layers.Flatten()(layers.Embedding(100, 16, name="words")(ids))
    few = np.float32([-1, 1])
    many, small, packed = layers.Dense(32, name="many"), layers.Dense(2, name="small"), layers.Dense(64, name="packed")
    wide = layers.Dense(32, name="wide")
    model = keras.Model(ids, small(packed(wide(layers.Dense(300, name="wider")(many(seen))))))
    rng = np.random.default_rng(0)
    packed.kernel.assign(nets.clustered((32, 64), few, rng))
    small.kernel.assign(nets.clustered((64, 2), few, rng))
    export = export_litert(model, tmp_path / "a.tflite", pack="ship")
    assert export.packing is not None
    assert [kernel.name for kernel in export.packing.kernels] == ["packed"]
    reasons = {skip.layer: skip.reason for skip in export.skips}
    assert set(reasons) == {"words", "many", "wider", "wide", "small"}
    assert reasons["words"] == "a constant of GATHER, which packing does not treat"
    assert reasons["small"].startswith(f"its 512 bytes would become up to {64 * 2 // 8 + 8 + 600 + 700:,}, with")
    assert reasons["many"].startswith(f"its {80 * 32 * 4:,} bytes would become up to 1")
    assert reasons["many"].endswith("different values")
    assert reasons["wide"] == "a channel of it has more than 256 different values"


def test_quantized_files_have_nothing_to_pack(tmp_path):
    path = export_litert(nets.normalized(4), tmp_path / "a.tflite", "dynamic").path
    found = pack_litert(path, tmp_path / "b.tflite", "ship")
    assert "it is int8 already" in {skip.reason for skip in found.skips}


# Choosing


@pytest.mark.parametrize(
    ("speeds", "sizes", "chosen"),
    [
        ({"ship": 1.0, "run": 1.02}, {"ship": 10, "run": 20}, "ship"),
        ({"ship": 0.3, "run": 1.0}, {"ship": 10, "run": 20}, "run"),
        ({"ship": 2.0, "run": 1.0}, {"ship": 20, "run": 10}, "ship"),
        ({}, {"plain": 5}, "plain"),
    ],
)
def test_the_smallest_file_that_is_not_slower_is_chosen(speeds, sizes, chosen):
    assert fast_and_small(speeds, sizes) == chosen


def test_auto_measures_all_forms_and_says_what_it_saw(tmp_path):
    plain = nets.packed_files(tmp_path)["plain"]
    found = pack_litert(plain, tmp_path / "auto.tflite")
    assert set(found.speeds) == set(found.latencies_ms) == {"plain", *FORMS}
    assert (found.asked, found.form) == ("auto", fast_and_small(
        {name: found.speeds[name] for name in FORMS},
        {name: (tmp_path / f"{name}.tflite").stat().st_size for name in FORMS},
    ))  # fmt: skip
    assert (tmp_path / "auto.tflite").read_bytes() == (tmp_path / f"{found.form}.tflite").read_bytes()
    assert json.loads(json.dumps(found.to_dict()))["overhead_bytes"] == found.overhead_bytes


def test_a_file_that_gives_something_else_is_refused(plain, monkeypatch):
    _, content = with_shared_weights(plain, 4)
    monkeypatch.setattr(packing, "largest_difference", lambda before, after: 2e-4)
    with pytest.raises(CheckError, match=r"equal the plain one to 0.0001 of its outputs' range\. Received: 0.0002"):
        packed_content(content, "ship")


# Where it is reached from


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pack": "small"}, r"pack must be one of ship, run, auto\. Received: pack='small'"),
        ({"pack": "ship", "quantization": "dynamic"}, "Received: pack='ship' with quantization='dynamic'"),
    ],
)
def test_settings(settings, message, tmp_path):
    with pytest.raises(SettingError, match=message):
        export_litert(nets.normalized(4), tmp_path / "a.tflite", **settings)
    with pytest.raises(SettingError, match=message):
        Recipe([], **settings)
    assert list(tmp_path.iterdir()) == []


def test_files_and_tolerance(plain, tmp_path):
    with pytest.raises(SettingError, match=r"tolerance must be in \[0, 1\)\. Received: tolerance=2"):
        packed_content(b"", "run", tolerance=2)
    with pytest.raises(ModelError, match=r"Received: .*gone\.tflite"):
        pack_litert(tmp_path / "gone.tflite", tmp_path / "a.tflite")
    (tmp_path / "plain.tflite").write_bytes(plain[1])
    with pytest.raises(OutputError, match=r"nowhere/a\.tflite"):
        pack_litert(tmp_path / "plain.tflite", tmp_path / "nowhere" / "a.tflite", "ship")


def test_recipes_say_it(tmp_path):
    recipe = Recipe.from_yaml("transforms: []\nexport: {pack: ship}")
    assert recipe == Recipe([], pack="ship")
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_from_the_command_line(tmp_path, capsys):
    model = nets.normalized(8)
    model.save(tmp_path / "m.keras")
    plain, packed = tmp_path / "plain.tflite", tmp_path / "packed.tflite"
    assert run(["export", str(tmp_path / "m.keras"), "--out", str(plain)]) == 0
    assert f"{plain}: {plain.stat().st_size:,} bytes, zipped" in capsys.readouterr().out
    assert run(["export", str(plain), "--out", str(packed), "--pack", "ship"]) == 0
    out = capsys.readouterr().out
    assert "memory, running" in out
    assert f"{packed.stat().st_size:,} bytes" in out
    assert run(["export", str(tmp_path / "m.keras"), "--out", str(packed), "--pack", "run", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["packing"]["form"] == "run"
    assert record["file_bytes"] == packed.stat().st_size
    assert {kernel["name"] for kernel in record["packing"]["kernels"]} >= {"conv", "pointwise"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pack", "tight"], "Received: pack='tight'"),
        ([], "without --pack"),
        (["--pack", "run", "--quantization", "int8"], "Give --pack auto"),
    ],
)
def test_the_command_line_refuses_in_one_line(options, message, tmp_path, capsys):
    path = tmp_path / "a.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(64))
    assert run(["export", str(path), "--out", str(tmp_path / "b.tflite"), *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_kinds_are_litert_names():
    assert set(KINDS) <= set(vars(flatbuffer_utils.schema_fb.BuiltinOperator))
