"""What a .tflite file is worth: its size, its memory, its accuracy and its latency, measured in LiteRT."""

from paredown.measure.accuracy import Score, outputs_of, score_keras, score_litert, score_outputs
from paredown.measure.latency import CLEARLY_SLOWER, Latency, LatencyReport, measure_latency
from paredown.measure.litert_runner import LiteRTRunner
from paredown.measure.memory import running_bytes
from paredown.measure.size import size_bytes, zipped_bytes

__all__ = [
    "CLEARLY_SLOWER",
    "Latency",
    "LatencyReport",
    "LiteRTRunner",
    "Score",
    "measure_latency",
    "outputs_of",
    "running_bytes",
    "score_keras",
    "score_litert",
    "score_outputs",
    "size_bytes",
    "zipped_bytes",
]
