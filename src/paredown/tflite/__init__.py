"""What a .tflite file holds: its operations, read, described and written one by one."""

from paredown.tflite.buffers import find_buffers
from paredown.tflite.operation import DEPTHWISE, LOOPS, Operation, Tensor
from paredown.tflite.plain import convolution, dense
from paredown.tflite.read import Graph, graphs, operations
from paredown.tflite.single import single

__all__ = [
    "DEPTHWISE",
    "LOOPS",
    "Graph",
    "Operation",
    "Tensor",
    "convolution",
    "dense",
    "find_buffers",
    "graphs",
    "operations",
    "single",
]
