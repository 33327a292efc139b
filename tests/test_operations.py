"""Single operations: what is lifted runs alone, and another width is what another network has."""

import keras
import pytest
from keras import layers

import export_nets
from networks import NETWORKS
from paredown import PruneChannels, profile
from paredown.export import FORMATS, export_litert, float_content
from paredown.latency.network import layer_names
from paredown.measure import LiteRTRunner
from paredown.network import Network
from paredown.tflite import LOOPS, graphs, operations, single

SMALL = ("autoencoder", "resnext", "shufflenet", "recurrent_masked", "transformer_pre_norm", "video")
NETS = {**export_nets.NETS, **{name: NETWORKS[name] for name in SMALL}}


def ends(model):
    return {call.path: call.operation for call in Network(model).all_calls()}


@pytest.mark.parametrize("name", NETS)
def test_every_operation_runs_alone(name):
    keras.utils.clear_session()
    model = NETS[name]()
    open_sizes = None in model.inputs[0].shape[1:]
    found = operations(float_content(model, (12, 12, 3) if open_sizes else None))
    alone = [operation for operation in found if operation.kind not in LOOPS]
    assert alone
    for operation in alone:
        runner = LiteRTRunner(single(operation), one_sample=False)
        runner.set_random_inputs()
        runner.invoke()
        assert [tuple(detail["shape"]) for detail in runner.outputs] == [tensor.shape for tensor in operation.outputs]


@pytest.mark.parametrize("quantization", [None, *FORMATS])
def test_operations_of_every_format_run_alone(quantization, tmp_path):
    model = export_nets.make("conv_net")
    export_litert(model, tmp_path / "net.tflite", quantization, export_nets.data(model))
    found = operations((tmp_path / "net.tflite").read_bytes())
    kinds = {tensor.type for operation in found for tensor in operation.inputs if tensor and tensor.role == "weights"}
    wanted = {None: "FLOAT32", "float16": "FLOAT16", "dynamic": "INT8", "int8": "INT8", "int4": "INT4"}
    assert wanted[quantization] in kinds
    assert all(operation.kind != "DEQUANTIZE" or operation.reads for operation in found)
    for operation in found:
        runner = LiteRTRunner(single(operation), one_sample=False)
        runner.set_random_inputs()
        runner.invoke()


def test_a_description_counts_the_networks_macs():
    model = export_nets.make("conv_net")
    found = operations(float_content(model))
    assert sum(operation.macs for operation in found) == profile(model).macs
    kernels = [operation for operation in found if operation.kernel]
    assert [operation.kind for operation in kernels] == ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D"] + [
        "FULLY_CONNECTED"
    ] * 2
    # 16 × 16 positions of 3 float32 in and 8 out, a kernel of 3 × 3 × 3 × 8 and 8 biases.
    assert kernels[0].bytes == 4 * (16 * 16 * (3 + 8) + 9 * 3 * 8 + 8)


def transposed():
    image = keras.Input((8, 8, 6))
    x = layers.Conv2DTranspose(16, 3, strides=2, padding="same", use_bias=False, name="up")(image)
    return keras.Model(image, layers.Conv2D(8, 3, groups=4, name="grouped")(x))


WIDE = {"conv_net": export_nets.conv_net, "transposed": transposed, "one_dimensional": export_nets.one_dimensional}


@pytest.mark.parametrize("name", WIDE)
def test_a_resized_operation_is_that_of_the_pruned_network(name):
    keras.utils.clear_session()
    model = WIDE[name]()
    pruned = PruneChannels("l1_norm", sparsity=0.5, exclude=("grouped",) if name == "transposed" else ())(model).model
    before, after = operations(float_content(model)), operations(float_content(pruned))
    kernels = [(a, b) for a, b in zip(before, after, strict=True) if a.kernel]
    assert any(a.key != b.key for a, b in kernels)
    for a, b in kernels:
        assert a.resized(*b.channels).key == b.key
        assert a.resized(*a.channels).key == a.key


def test_names_and_numbers_do_not_change_an_operation():
    keras.utils.clear_session()
    first, second = (
        keras.Sequential(
            [keras.Input((9,)), layers.Dense(5, kernel_initializer=keras.initializers.Constant(c), name=n)]
        )
        for c, n in ((0.5, "one"), (2.0, "another"))
    )
    (a,), (b,) = (operations(float_content(model)) for model in (first, second))
    assert a == b
    assert a.key == b.key
    assert a.names != b.names


def test_layers_are_named_as_the_network_names_them():
    keras.utils.clear_session()
    model = NETWORKS["autoencoder"]()
    layered = ends(model)
    graph = graphs(float_content(model))[0]
    names = layer_names(graph, Network(model))
    kernels = [name for operation, name in zip(graph.operations, names, strict=True) if operation.kernel]
    convolutions = [p for p, layer in layered.items() if hasattr(layer, "kernel") and len(layer.kernel.shape) == 4]
    assert set(convolutions) <= set(kernels)
    assert set(names) <= set(layered)


def test_grouped_convolutions_have_their_names_too():
    """TensorFlow gives them none."""
    keras.utils.clear_session()
    image = keras.Input((12, 12, 8))
    x = layers.Conv2D(16, 3, groups=4, name="first")(image)
    x = layers.Conv2D(16, 3, groups=2, activation="relu", name="second")(layers.DepthwiseConv2D(3, name="between")(x))
    model = keras.Model(image, layers.Conv2D(8, 1, name="last")(x))
    graph = graphs(float_content(model))[0]
    names = layer_names(graph, Network(model))
    kernels = [name for operation, name in zip(graph.operations, names, strict=True) if operation.kernel]
    assert kernels == ["first", "between", "second", "last"]


def test_volumes_are_counted_and_resized():
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input((6, 6, 6, 3)), layers.Conv3D(8, 3), layers.Conv3D(4, 2)])
    pruned = PruneChannels("l1_norm", sparsity=0.5)(model).model
    before, after = (operations(float_content(network)) for network in (model, pruned))
    assert sum(operation.macs for operation in before) == profile(model).macs
    kernels = [(a, b) for a, b in zip(before, after, strict=True) if a.kernel]
    assert len(kernels) == 2
    for a, b in kernels:
        assert a.resized(*b.channels).key == b.key
