"""A network's latency as the sum of its operations', each with its layer's name."""

import hashlib
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paredown.export import float_content, layers_of
from paredown.latency.operation_table import REFERENCE, OperationTable, fastest_pair_ms, ready
from paredown.measure.size import read_tflite
from paredown.network import Network
from paredown.progress import task
from paredown.tflite import LOOPS, Graph, Operation, graphs, single

#: A whole network is measured at least so often (`fastest_pair_ms`), and so many seconds.
WHOLE_TURNS, WHOLE_S = 2, 1.0


@dataclass(frozen=True)
class OperationLatency:
    """One operation of a network.

    Args:
        layer: Path of the layer that it comes from; the tensor's own name where none is known.
        kind: Name in LiteRT's schema.
        operation: Kind and shapes, for the reader.
        format: Type of its kernel, of its first tensor where it has none.
        ms: The fastest time alone.
        macs: Multiply-adds.
        bytes: Of all its tensors.
    """

    layer: str
    kind: str
    operation: str
    format: str
    ms: float
    macs: int
    bytes: int


@dataclass(frozen=True)
class NetworkLatency:
    """What a network takes for one example, as the sum of its operations.

    Args:
        ms: The sum.
        operations: In order of execution.
        device, runtime, threads: What it was measured on.
        error: Root mean square of predicted / measured - 1 over the networks that this table has seen whole; NaN where
            it has seen none.
        networks: How many those are.
        measured_ms: The network's own fastest time where it was measured, too.
    """

    ms: float
    operations: tuple[OperationLatency, ...]
    device: str
    runtime: str
    threads: int
    error: float
    networks: int
    measured_ms: float | None = None

    def layers(self) -> dict[str, float]:
        """Milliseconds of each layer, all its operations and calls together, the slowest first."""
        found: dict[str, float] = {}
        for row in self.operations:
            found[row.layer] = found.get(row.layer, 0.0) + row.ms
        return dict(sorted(found.items(), key=lambda one: -one[1]))

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def predict_latency(
    model: Any,
    table: OperationTable | None = None,
    input_shape: tuple[int, ...] | None = None,
    measure_whole: bool = False,
    file: str | os.PathLike | None = None,
) -> NetworkLatency:
    """Predicts how long LiteRT takes for one example: the sum over the network's operations, each measured alone.

    Times are the fastest of several runs, which a quiet machine comes near to. What a table lacks is measured. Loops
    (recurrent layers) cannot run alone: the network is then measured as a whole, and they get what the others leave.

    Args:
        model: A built Keras model, or the path of a .tflite file.
        table: Times of operations; None: the one in paredown's cache folder, for one thread.
        input_shape: The first input's without the batch, for a Keras model that leaves sizes open.
        file: The Keras model's .tflite file, of whatever number format, where it has been written already.
        measure_whole: Also measure the network as a whole, which tells the table how far its sums are off.
    Returns:
        NetworkLatency.
    Raises:
        ModelError: If the network cannot be read, converted or run.
        OutputError: If the table's file cannot be written.
    """
    table = table or OperationTable()
    content, network = file_of(model, input_shape, file)
    return latency_of(content, network, table, measure_whole)


def latency_of(
    content: bytes, network: Network | None, table: OperationTable, measure_whole: bool = False
) -> NetworkLatency:
    """`predict_latency` of a .tflite file that is there already.

    Args:
        content: The file.
        network: What it was made from, whose layers' names the operations get.
        table, measure_whole: As for `predict_latency`.
    """
    graph = graphs(content)[0]
    found = graph.operations
    alone = [operation for operation in found if operation.kind not in LOOPS]
    loops = [operation for operation in found if operation.kind in LOOPS]
    times = table.times_ms(alone)
    measured_ms = whole_ms(content, table) if measure_whole or loops else None
    if loops and measured_ms is not None:
        left_ms = measured_ms - sum(times[operation.key] for operation in alone)
        times |= {operation.key: max(0.0, left_ms / len(loops)) for operation in loops}
    rows = tuple(
        OperationLatency(layer, o.kind, str(o), o.format, times[o.key], o.macs, o.bytes)
        for o, layer in zip(found, layer_names(graph, network), strict=True)
    )
    predicted_ms = sum(row.ms for row in rows)
    if measured_ms is not None and not loops:
        table.keep_network(_name(found), predicted_ms, measured_ms)
    machine = table.machine
    return NetworkLatency(
        predicted_ms, rows, machine.device, machine.runtime, machine.threads, *table.error(), measured_ms
    )


def file_of(
    model: Any, input_shape: tuple[int, ...] | None, file: str | os.PathLike | None = None
) -> tuple[bytes, Network | None]:
    """A network's file, and the network where it is more than a file."""
    if isinstance(model, str | os.PathLike):
        return read_tflite(Path(model)), None
    return (float_content(model, input_shape) if file is None else read_tflite(file)), Network(model)


def layer_names(graph: Graph, network: Network | None) -> list[str]:
    """For each operation the path of its layer. One without a kernel whose names tell none belongs to the layer that it
    reads; without a network operations have their tensors' names."""
    known = [None] * len(graph.operations) if network is None else layers_of(graph, network)
    names: list[str] = []
    made_by: dict[int, str] = {}
    for operation, name in zip(graph.operations, known, strict=True):
        read = next((made_by[i] for i in operation.reads if i in made_by), None) if network else None
        own = operation.names[-1].split(";")[0]
        names.append(name or (read if operation.kernel is None else None) or own)
        made_by.update(dict.fromkeys(operation.writes, names[-1]))
    return names


def whole_ms(content: bytes, table: OperationTable) -> float:
    """A network's fastest time, in the unit of the table: in turns with its reference operation.

    It is given longer than an operation: the longer a run, the rarer one that nothing disturbs.
    """
    whole, reference = ready(content, table.machine.threads), ready(single(REFERENCE), table.machine.threads)
    pairs, start = [], time.perf_counter()
    with task("Measure the whole network", total=None):
        while len(pairs) < WHOLE_TURNS or time.perf_counter() - start < WHOLE_S:
            pairs.append(fastest_pair_ms(whole, reference))
    own_ms, reference_ms = (min(times) for times in zip(*pairs, strict=True))
    return own_ms / reference_ms * table.reference_ms()


def _name(found: tuple[Operation, ...]) -> str:
    """Tells networks apart by what they compute."""
    return hashlib.sha256("".join(operation.key for operation in found).encode()).hexdigest()[:16]
