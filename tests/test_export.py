"""Contract of every export format over networks of every kind, and what bad input leads to."""

import errno
import os

import keras
import numpy as np
import pytest
from keras import layers

import export_nets
from paredown.checks import Check, largest_difference
from paredown.data import Data, Split
from paredown.errors import CheckError, DataError, ModelError, OutputError, SettingError
from paredown.export import FORMATS, export_litert, layers_of, litert, parity, quantization
from paredown.export.inspect_types import Wanted
from paredown.measure import LiteRTRunner, size_bytes, zipped_bytes
from paredown.network import Network
from paredown.number_formats import Plan
from paredown.tflite import graphs
from paredown.transform import Skip

ALL_FORMATS = [None, *FORMATS]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """export(network, format) -> (model, data, Export), each made once."""
    folder, made = tmp_path_factory.mktemp("exports"), {}

    def export(name, chosen):
        if (name, chosen) not in made:
            model = export_nets.make(name)
            data = export_nets.data(model)
            made[name, chosen] = model, data, export_litert(model, folder / f"{name}_{chosen}.tflite", chosen, data)
        return made[name, chosen]

    return export


def keras_outputs(model, columns):
    packed = list(columns) if len(columns) > 1 else columns[0]
    return [np.asarray(output) for output in keras.tree.flatten(model(packed, training=False))]


def tensor_types(path):
    """Tensor name -> type name, as the file has them; NumPy knows no int4."""
    from ai_edge_litert.tools import flatbuffer_utils

    names = {code: name for name, code in vars(flatbuffer_utils.schema_fb.TensorType).items()}
    graph = flatbuffer_utils.read_model(str(path)).subgraphs[0]
    return {tensor.name.decode(): names[tensor.type] for tensor in graph.tensors}


@pytest.mark.parametrize("chosen", ALL_FORMATS)
@pytest.mark.parametrize("name", export_nets.NETS)
def test_every_format_keeps_what_the_network_computes(exported, name, chosen):
    model, _, export = exported(name, chosen)
    columns = export_nets.inputs(model, 5)
    wanted, got = keras_outputs(model, columns), LiteRTRunner(export.path).run(columns)
    # Each output against its own: a swapped pair of one shape would differ by about 1.
    error = parity.root_mean_square_difference(wanted, got)
    assert [o.shape for o in got] == [o.shape for o in wanted]
    assert error <= {None: 1e-5, **parity.TOLERANCES}[chosen]
    assert export.checks[0].passed


@pytest.mark.parametrize("chosen", ALL_FORMATS)
@pytest.mark.parametrize("name", export_nets.NETS)
def test_batch_is_one_and_float_outside(exported, name, chosen):
    model, _, export = exported(name, chosen)
    runner = LiteRTRunner(export.path)
    assert [d["dtype"] for d in (*runner.inputs, *runner.outputs)] == [np.float32] * (
        len(model.inputs) + len(model.outputs)
    )
    assert [tuple(d["shape_signature"]) for d in runner.inputs] == [
        (1, *(size or 13 for size in tensor.shape[1:])) for tensor in model.inputs
    ]


@pytest.mark.parametrize("chosen", ALL_FORMATS)
def test_figures_of_the_file(exported, chosen):
    _, _, export = exported("conv_net", chosen)
    assert export.quantization == chosen
    assert export.size_bytes == os.path.getsize(export.path) == size_bytes(export.path)
    assert export.zipped_bytes == zipped_bytes(export.path) < export.size_bytes
    assert export.to_dict()["checks"][0]["passed"] is True


def test_formats_are_smaller_by_the_bytes_of_their_weights(exported):
    sizes = {chosen: exported("conv_net", chosen)[2].size_bytes for chosen in ALL_FORMATS}
    hidden = 7 * 7 * 12 * 32  # The fully-connected layer holds most of the weights.
    # A float16 bias has an operation of its own, some 200 bytes, that unpacks it.
    assert sizes[None] - sizes["float16"] > 1.9 * hidden
    assert sizes[None] - sizes["dynamic"] > 3 * hidden
    assert sizes[None] - sizes["int8"] > 2.9 * hidden
    assert sizes["dynamic"] - sizes["int4"] == pytest.approx(hidden / 2, rel=0.05)


@pytest.mark.parametrize(
    ("chosen", "hidden", "conv"),
    [
        (None, "FLOAT32", "FLOAT32"),
        ("float16", "FLOAT16", "FLOAT16"),
        ("dynamic", "INT8", "INT8"),
        ("int8", "INT8", "INT8"),
        ("int4", "INT4", "INT8"),
    ],
)
def test_types_of_weights(exported, chosen, hidden, conv):
    types = tensor_types(exported("conv_net", chosen)[2].path)
    assert {kind for name, kind in types.items() if name.endswith("hidden_1/MatMul")} == {hidden}
    assert {kind for name, kind in types.items() if name.endswith("/conv_1/convolution")} == {conv}


@pytest.mark.parametrize("name", export_nets.NETS)
def test_float16_kernels_have_float16_biases(exported, name):
    """LiteRT for browsers runs a float16 kernel with a float32 bias several times slower."""
    content = exported(name, "float16")[2].path.read_bytes()
    halves = [o for graph in graphs(content) for o in graph.operations if o.kernel and o.kernel.type == "FLOAT16"]
    kept = {t.type for o in halves for t in o.inputs if t and t.role == "weights"}
    assert kept <= {"FLOAT16"}


def test_a_bias_beyond_float16_stays_float32(tmp_path):
    image = keras.Input((8,))
    model = keras.Model(image, keras.layers.Dense(2, name="scores")(image))
    model.layers[-1].set_weights([np.ones((8, 2), "float32"), np.array([1e5, 0], "float32")])
    export = export_litert(model, tmp_path / "net.tflite", "float16")
    (operation,) = graphs(export.path.read_bytes())[0].operations
    assert [t.type for t in operation.inputs if t and t.role == "weights"] == ["FLOAT16", "FLOAT32"]
    assert export.checks[0].passed


def test_int8_activations_are_int8_inside(exported):
    types = tensor_types(exported("two_outputs", "int8")[2].path)
    assert types["input_0"] == "FLOAT32"
    assert types["input_0_quantized"] == "INT8"


def test_what_stays_behind_is_said(exported):
    dynamic, int4, int8 = (exported("conv_net", f)[2].skips for f in ("dynamic", "int4", "int8"))
    slow = "dynamic-range depthwise convolutions are slower than float32 in LiteRT"
    assert dynamic == (Skip("depthwise", f"DEPTHWISE_CONV_2D keeps its weights in float32, not dynamic: {slow}"),)
    assert [skip.layer for skip in int4][:2] == ["conv", "depthwise"]
    assert int4[0].reason == (
        "CONV_2D keeps its weights in int8, not int4: int4 convolutions are slower than float32 in LiteRT"
    )
    assert int8 == ()
    (prelu,) = exported("free_size", "int8")[2].skips
    assert prelu.reason == "PRELU computes in float32, not int8: the quantizer does not treat it"


def test_skips_name_layers_of_nested_models_and_last_layers(monkeypatch, tmp_path):
    model = export_nets.make("nested")
    wrong = quantization.Format(FORMATS["dynamic"].configure, Wanted("FLOAT16"))
    monkeypatch.setitem(FORMATS, "dynamic", wrong)
    export = export_litert(model, tmp_path / "x.tflite", "dynamic")
    assert [skip.layer for skip in export.skips] == ["inner/deep", "last"]
    image = keras.Input((4, 4, 2))
    model = keras.Model(image, layers.LeakyReLU(name="end")(layers.Conv2D(3, 3)(image)))
    (skip,) = export_litert(model, tmp_path / "y.tflite", "int8", export_nets.data(model)).skips
    assert skip == Skip("end", "LEAKY_RELU computes in float32, not int8: the quantizer does not treat it")


@pytest.mark.parametrize("chosen", ALL_FORMATS)
def test_model_is_untouched(chosen, tmp_path):
    model = export_nets.make("conv_net")
    model.get_layer("conv").trainable = False
    model.compile("sgd", "mse")

    def state():
        return (
            [weight.numpy().tobytes() for weight in model.weights],
            model.get_config(),
            model.get_compile_config(),
            [(layer.trainable, layer.dtype_policy.name, len(layer._inbound_nodes)) for layer in model.layers],
            sorted(vars(model)),
            id(model.optimizer),
        )

    before = state()
    export_litert(model, tmp_path / "x.tflite", chosen, export_nets.data(model))
    assert state() == before


@pytest.mark.parametrize("chosen", ALL_FORMATS)
def test_says_nothing_and_leaves_nothing_else(chosen, tmp_path, capfd):
    model = export_nets.make("conv_net")
    (tmp_path / "x.tflite").write_bytes(b"older")
    export_litert(model, str(tmp_path / "x.tflite"), chosen, export_nets.data(model))
    assert os.listdir(tmp_path) == ["x.tflite"]
    assert capfd.readouterr() == ("", "")


def test_without_data_random_inputs_are_tried(tmp_path):
    export = export_litert(export_nets.make("two_inputs"), tmp_path / "x.tflite")
    assert export.checks[0].name == "litert equals keras"
    assert export.checks[0].value < 1e-5


def test_integer_inputs_stay_integers(tmp_path):
    tokens = keras.Input((6,), dtype="int32")
    model = keras.Model(tokens, layers.GlobalAveragePooling1D()(layers.Embedding(20, 8)(tokens)))
    export_litert(model, tmp_path / "x.tflite")
    runner = LiteRTRunner(tmp_path / "x.tflite")
    x = np.arange(12).reshape(2, 6)
    assert runner.inputs[0]["dtype"] == np.int32
    assert largest_difference([model(x).numpy()], runner.run(x)) < 1e-6


def test_failed_quantized_check_is_returned_and_failed_float_check_raised(monkeypatch, tmp_path):
    model = export_nets.make("nested")
    monkeypatch.setitem(parity.TOLERANCES, "dynamic", 1e-9)
    (check,) = export_litert(model, tmp_path / "x.tflite", "dynamic").checks
    assert isinstance(check, Check)
    assert not check.passed
    monkeypatch.setattr(parity, "FLOAT32_TOLERANCE", -1.0)
    with pytest.raises(CheckError, match=r"to -1 of its outputs' range. Received: .* \(float32\)"):
        export_litert(model, tmp_path / "y.tflite")
    assert os.listdir(tmp_path) == ["x.tflite"]


def test_nan_from_the_file_is_an_error(tmp_path):
    model = export_nets.make("nested")
    export_litert(model, tmp_path / "x.tflite")
    columns = [np.full((2, 8), np.nan, "float32")]
    with pytest.raises(CheckError, match=r"NaN or infinity in output 0 \(quantization='int8'\)"):
        parity.check((tmp_path / "x.tflite").read_bytes(), Plan("int8"), columns, [np.zeros((2, 3))])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"quantization": "int7"}, SettingError, r"float16, dynamic, int8, int4. Received: quantization='int7'"),
        ({"quantization": "int8"}, SettingError, r"int8 needs calibration inputs.*Received: data=None"),
        ({"path": "missing/x.tflite"}, OutputError, r"folder of the .tflite file must exist. Received: missing/x"),
        ({"path": "."}, OutputError, r"needs a name of its own. Received: \., which is a folder"),
        ({"data": Data(calibration=np.zeros((4, 9)))}, DataError, r"shape \(None, 8\). Received: \(4, 9\)"),
        (
            {"data": Data(calibration=Split((np.zeros((4, 8)), np.zeros((4, 8)))))},
            DataError,
            r"one array per input of the network \(1\). Received: 2",
        ),
    ],
)
def test_bad_arguments(arguments, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        export_litert(export_nets.make("nested"), **{"path": "x.tflite", **arguments})
    assert os.listdir(tmp_path) == []


def test_free_size_without_data(tmp_path):
    with pytest.raises(SettingError, match=r"shape \(None, None, None, 3\) and data=None. Give data="):
        export_litert(export_nets.make("free_size"), tmp_path / "x.tflite")


def test_unfit_models(tmp_path):
    model = export_nets.make("nested")
    model.get_layer("last").kernel.assign(np.full((6, 3), np.nan))
    with pytest.raises(ModelError, match=r"Received: 18 NaN or infinite values in 'kernel' of layer 'last'"):
        export_litert(model, tmp_path / "x.tflite")
    with pytest.raises(ModelError, match=r"must be built. Received: 'bare'"):
        export_litert(keras.Sequential([layers.Dense(2)], name="bare"), tmp_path / "x.tflite")
    vector = keras.Input((4,))
    model = keras.Model(vector, keras.ops.erfinv(vector), name="odd")
    with pytest.raises(ModelError, match=r"operations that LiteRT has. Received: 'odd': .*Erfinv"):
        export_litert(model, tmp_path / "x.tflite")
    model = keras.Model(vector, keras.ops.log(vector - 2.0), name="diverged")
    with pytest.raises(ModelError, match=r"NaN or infinity from 'diverged' on 8 trial inputs"):
        export_litert(model, tmp_path / "x.tflite")
    assert os.listdir(tmp_path) == []


def test_full_disk_keeps_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "x.tflite").write_bytes(b"older")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(litert.os, "replace", full)
    with pytest.raises(OutputError, match=r"x\.tflite': No space left on device"):
        export_litert(export_nets.make("nested"), tmp_path / "x.tflite")
    assert os.listdir(tmp_path) == ["x.tflite"]
    assert (tmp_path / "x.tflite").read_bytes() == b"older"


def test_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(litert.os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match=r"must be writable. Received: .*x.tflite"):
        export_litert(export_nets.make("nested"), tmp_path / "x.tflite")


def test_backend_without_export(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(SettingError, match=r"Keras on TensorFlow. Received: backend 'jax'"):
        export_litert(export_nets.make("nested"), tmp_path / "x.tflite")


MIXED = [
    ({"*": "int8", "scores": "float32"}, {"conv": "INT8", "depthwise": "INT8", "hidden": "INT8", "scores": "FLOAT32"}),
    ({"hidden": "int4"}, {"conv": "FLOAT32", "depthwise": "FLOAT32", "hidden": "INT4", "scores": "FLOAT32"}),
    ({"*": "float16", "hidden": "dynamic"}, {"conv": "FLOAT16", "hidden": "INT8", "scores": "FLOAT16"}),
    ({"*": "int8", "hidden": "int4"}, {"conv": "INT8", "hidden": "INT4", "scores": "INT8"}),
]


@pytest.mark.parametrize(("chosen", "types"), MIXED)
def test_formats_by_layer(chosen, types, tmp_path):
    model = export_nets.make("conv_net")
    export = export_litert(model, tmp_path / "net.tflite", chosen, export_nets.data(model))
    assert export.checks[0].passed
    assert export.quantization == chosen
    graph = graphs((tmp_path / "net.tflite").read_bytes())[0]
    layers = layers_of(graph, Network(model))
    kernels = {layer: o.format for o, layer in zip(graph.operations, layers, strict=True) if o.kernel}
    assert types.items() <= kernels.items()
    assert not [skip for skip in export.skips if skip.layer in types]


def test_wrong_formats_by_layer_are_named(tmp_path):
    model = export_nets.make("conv_net")
    with pytest.raises(SettingError, match=r"one of float32, float16.*Received: \{'conv': 'int7'\}"):
        export_litert(model, tmp_path / "net.tflite", {"conv": "int7"})
    with pytest.raises(SettingError, match=r"must name layers that .*Received: nowhere\. It has: conv"):
        export_litert(model, tmp_path / "net.tflite", {"nowhere": "dynamic"})
    with pytest.raises(SettingError, match="int8 needs calibration inputs"):
        export_litert(model, tmp_path / "net.tflite", {"conv": "int8"})
    assert not (tmp_path / "net.tflite").exists()
