"""This computer, in LiteRT."""

from collections.abc import Sequence
from pathlib import Path

from paredown.devices.device import Device, Options
from paredown.measure import LatencyReport, latency


def _measure(files: Sequence[Path], options: Options) -> tuple[LatencyReport, ...]:
    return (latency.measure_latency(list(files), threads=options.threads, runs=options.runs),)


DEVICE = Device("host", "this computer, in LiteRT", lambda options: None, _measure)
