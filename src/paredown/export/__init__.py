"""From a Keras network to a .tflite file, with quantization, checked against the network."""

from paredown.export.inspect_types import by_kernel, layer_of
from paredown.export.litert import Export, export_litert, float_content
from paredown.export.quantization import FORMATS

__all__ = ["FORMATS", "Export", "by_kernel", "export_litert", "float_content", "layer_of"]
