"""Why an operation takes as long as it does: the roofline of this computer's own measured peaks.

An operation needs at least macs / peak MAC/s, and at least bytes / peak bytes/s, and no operation is faster than an
empty one. What of the three is largest bounds it; the rest of its time is what its kernel does not reach.

Source: Williams, Waterman, Patterson 2009, Roofline: an insightful visual performance model.
"""

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import Any

from paredown.latency.network import NetworkLatency, OperationLatency, predict_latency
from paredown.latency.operation_table import OperationTable
from paredown.tflite import convolution, dense

#: Share of an operation's time from which an empty operation's is what it mostly does.
_MOSTLY = 0.5
BOUNDS = ("compute", "memory", "overhead")


@dataclass(frozen=True)
class Peaks:
    """What LiteRT reaches on a device at best, measured in LiteRT itself.

    Args:
        macs_per_s: Multiply-adds of a large convolution, float32.
        bytes_per_s: Of weights that are read once, from beyond the caches.
        overhead_ms: Of an operation on one number.
    """

    macs_per_s: float
    bytes_per_s: float
    overhead_ms: float


@dataclass(frozen=True)
class Bound:
    """What bounds one layer.

    Args:
        layer: Its path.
        kind: Of its slowest operation, name in LiteRT's schema.
        ms: All its operations and calls together.
        share: Of the whole network's time.
        bound: "compute", "memory" or "overhead".
        reached: The time that the bound allows, as a share of `ms`; near 1 nothing but less work helps.
        macs, bytes: Of all its operations.
        advice: What would help, one line.
    """

    layer: str
    kind: str
    ms: float
    share: float
    bound: str
    reached: float
    macs: int
    bytes: int
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Roofline:
    """Where a network's time goes, and why.

    Args:
        latency: The network's.
        peaks: Of the device.
        layers: What bounds each, the slowest first.
    """

    latency: NetworkLatency
    peaks: Peaks
    layers: tuple[Bound, ...]

    def shares(self) -> dict[str, float]:
        """Share of the time that each bound has."""
        return {b: sum(layer.share for layer in self.layers if layer.bound == b) for b in BOUNDS}

    def to_dict(self) -> dict[str, Any]:
        """Plain data; the latency without its single operations."""
        latency = self.latency.to_dict()
        del latency["operations"]
        if math.isnan(self.latency.error):
            latency["error"] = None
        return {"latency": latency, "peaks": vars(self.peaks), "layers": [layer.to_dict() for layer in self.layers]}


def roofline(
    model: Any,
    table: OperationTable | None = None,
    input_shape: tuple[int, ...] | None = None,
    file: str | os.PathLike | None = None,
) -> Roofline:
    """Measures a network layer by layer in LiteRT on this computer, and says what bounds each layer.

    Args:
        model, table, input_shape, file: As for `predict_latency`; the network is measured as a whole, too.
    Raises:
        As `predict_latency`.
    """
    table = table or OperationTable()
    peaks = measured_peaks(table)
    latency = predict_latency(model, table, input_shape, measure_whole=True, file=file)
    return Roofline(latency, peaks, tuple(bounds(latency, peaks)))


def measured_peaks(table: OperationTable) -> Peaks:
    """This computer's peaks, measured where the table lacks them."""
    times = table.times_ms([*_COMPUTE, *_MEMORY, *_OVERHEAD])
    return Peaks(
        max(o.macs / times[o.key] for o in _COMPUTE) * 1e3,
        max(o.bytes / times[o.key] for o in _MEMORY) * 1e3,
        min(times[o.key] for o in _OVERHEAD),
    )


def bounds(latency: NetworkLatency, peaks: Peaks) -> list[Bound]:
    """What bounds each layer of a network, the slowest first.

    Args:
        latency: Of the network.
        peaks: Of the same device.
    """
    by_layer: dict[str, list[OperationLatency]] = {}
    for row in latency.operations:
        by_layer.setdefault(row.layer, []).append(row)
    found = [_bound(layer, rows, latency.ms, peaks) for layer, rows in by_layer.items()]
    return sorted(found, key=lambda one: -one.ms)


def _bound(layer: str, rows: list[OperationLatency], whole_ms: float, peaks: Peaks) -> Bound:
    ms, macs, moved = (sum(getattr(row, name) for row in rows) for name in ("ms", "macs", "bytes"))
    least = {
        "compute": macs / peaks.macs_per_s * 1e3,
        "memory": moved / peaks.bytes_per_s * 1e3,
        "overhead": len(rows) * peaks.overhead_ms,
    }
    bound = max(("compute", "memory"), key=lambda name: least[name])
    if least["overhead"] > _MOSTLY * ms:
        bound = "overhead"
    # A loop is left nothing where the other operations alone add up to more than the network took.
    slowest, reached = max(rows, key=lambda row: row.ms), min(1.0, least[bound] / ms) if ms else 1.0
    return Bound(layer, slowest.kind, ms, ms / whole_ms, bound, reached, macs, moved, _advice(slowest, bound))


def _advice(slowest: OperationLatency, bound: str) -> str:
    if bound == "overhead":
        return "fuse it or leave it out: starting it takes longer than its work"
    general, quantized = _ADVICE.get((slowest.kind, bound)) or _ADVICE["", bound]
    return general if slowest.format in _QUANTIZED or not quantized else f"{general}; {quantized}"


_QUANTIZED = ("INT8", "INT4", "INT2", "UINT8")
#: (kind, bound) -> what helps, and what does where the numbers are still wide; "" stands for all other kinds.
_ADVICE = {
    ("CONV_2D", "compute"): ("prune its channels, or factorize it", "int8 multiplies faster"),
    ("CONV_2D", "memory"): ("prune its channels", "int8 moves a quarter of the bytes"),
    ("DEPTHWISE_CONV_2D", "compute"): ("prune its channels, or give it a smaller window", "int8 multiplies faster"),
    ("DEPTHWISE_CONV_2D", "memory"): ("prune its channels", "int8 moves a quarter of the bytes"),
    ("FULLY_CONNECTED", "compute"): ("prune what it reads, or factorize it", "int8 multiplies faster"),
    ("FULLY_CONNECTED", "memory"): (
        "factorize it: each weight is read and used once",
        "int8 is a quarter of them",
    ),
    ("TRANSPOSE_CONV", "compute"): ("prune its channels, or replace it by upsampling and a convolution", ""),
    ("", "compute"): ("replace it: its kernel has no fast path", ""),
    ("", "memory"): ("prune the channels that it reads, or fuse it with the layer before", ""),
}


#: Several sizes each, since no one size is the best on every processor; the peak is the best of them.
_COMPUTE = (convolution(14, 256, 3), convolution(28, 256, 1), convolution(28, 128, 3), convolution(56, 64, 3))
# 64 and 100 MiB: beyond the caches of any phone.
_MEMORY = (dense(4096, 4096), dense(8192, 3200))
_OVERHEAD = (dense(1, 1),)
