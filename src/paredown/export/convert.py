"""A Keras network as a float .tflite flatbuffer of batch 1.

The network is traced, its variables are frozen into constants, and that graph is converted: three times faster than
by way of a SavedModel, bit for bit the same operations, and outputs stay in the network's order. A signature names
them `output_0`, `output_1` …, the inputs `input_0` … , so that the order survives whoever edits the file.
"""

from collections.abc import Sequence
from typing import Any

from paredown.errors import ModelError, SettingError
from paredown.measure.quiet import quiet
from paredown.network import Network

SIGNATURE = "serving_default"


def convert(network: Network, shapes: Sequence[tuple[int, ...]], sparse: bool = False) -> bytes:
    """The network as a float32 .tflite file.

    Args:
        network: Of a built model; not changed.
        shapes: One shape (...) per input, without the batch axis.
        sparse: Store kernels that are mostly zero without their zeros.
    Raises:
        SettingError: If Keras runs on another backend than TensorFlow.
        ModelError: If LiteRT has no equivalent for an operation.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise SettingError(
            "Export to LiteRT needs Keras on TensorFlow. "
            f"Received: backend {keras.backend.backend()!r}. Save the network as .keras, and export it in a process "
            "with KERAS_BACKEND=tensorflow."
        )
    with quiet():
        import tensorflow as tf

        try:
            function = _frozen(network, shapes)
            converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
            # Never together with Optimize.DEFAULT: sparse fully-connected layers then gave wrong numbers, silently.
            converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY] if sparse else []
            content = converter.convert()
        # The converter raises its own ConverterError (an Exception), the tracer ValueError and TypeError.
        except Exception as error:
            raise ModelError(
                "The network must consist of operations that LiteRT has. "
                f"Received: {network.model.name!r}: {_reason(error)}. Replace that layer."
            ) from error
    return _signed(content)


def _frozen(network: Network, shapes: Sequence[tuple[int, ...]]) -> Any:
    import tensorflow as tf
    from keras import tree
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    specs = [
        tf.TensorSpec((1, *shape), tensor.dtype, name=f"input_{i}")
        for i, (tensor, shape) in enumerate(zip(network.inputs, shapes, strict=True))
    ]

    def infer(*inputs):
        # An identity each: an output that is given twice, or is an input, needs a place of its own.
        return [tf.identity(o) for o in tree.flatten(network.model(network.pack_inputs(inputs), training=False))]

    concrete = tf.function(infer, autograph=False).get_concrete_function(*specs)
    return convert_variables_to_constants_v2(concrete)


def _signed(content: bytes) -> bytes:
    """The same file with a signature; the quantizer's calibration asks for one."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    def named(side: str, tensors: Sequence[int]) -> list[Any]:
        maps = []
        for i, tensor in enumerate(tensors):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = f"{side}_{i}", int(tensor)
            maps.append(entry)
        return maps

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs = named("input", model.subgraphs[0].inputs)
    signature.outputs = named("output", model.subgraphs[0].outputs)
    model.signatureDefs = [signature]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _reason(error: Exception) -> str:
    """The line of the converter's long message that names the operation."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Custom ops:" in line or "Flex ops:" in line or "error:" in line]
    return " ".join((telling or lines or [type(error).__name__])[0].split())[:300].rstrip(".")
