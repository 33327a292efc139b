"""From a Keras network to a .tflite file, with quantization, checked against the network."""

from paredown.export.layer_names import layers_of
from paredown.export.litert import Export, export_litert, float_content
from paredown.export.quantization import FORMATS

__all__ = ["FORMATS", "Export", "export_litert", "float_content", "layers_of"]
