"""From a Keras network to a .tflite file, with quantization, checked against the network."""

from paredown.export.litert import Export, export_litert
from paredown.export.quantization import FORMATS

__all__ = ["FORMATS", "Export", "export_litert"]
