"""What operations take in LiteRT, and what follows for a network: its latency, and its layers' at other widths."""

from paredown.latency.layer_table import measured_table
from paredown.latency.network import NetworkLatency, OperationLatency, predict_latency
from paredown.latency.operation_table import OperationTable
from paredown.latency.roofline import Bound, Peaks, Roofline, roofline

__all__ = [
    "Bound",
    "NetworkLatency",
    "OperationLatency",
    "OperationTable",
    "Peaks",
    "Roofline",
    "measured_table",
    "predict_latency",
    "roofline",
]
