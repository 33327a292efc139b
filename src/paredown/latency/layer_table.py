"""A latency table of a network's layers at many widths, measured on this computer: what latency budgets go by."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paredown.channels import Channels
from paredown.latency.network import file_of, latency_of, layer_names
from paredown.latency.operation_table import OperationTable
from paredown.latency_table import LatencyTable, LayerLatency
from paredown.profiling import Shapes, mac_terms
from paredown.tflite import DEPTHWISE, LOOPS, Operation, graphs

#: Widths of a layer's outputs that are measured, at most about so many; and of its inputs, along which time is even.
OUT_LEVELS, IN_LEVELS = 14, 4
#: Widths step by whole vectors of the kernels.
_STEP = 8


def measured_table(
    model: Any,
    table: OperationTable | None = None,
    input_shape: tuple[int, ...] | None = None,
    fixed: Mapping[str, str] | None = None,
) -> LatencyTable:
    """Measures what each layer of a network takes at many widths, operation by operation, in LiteRT on this computer.

    Operations without a kernel (sums, pooling, activations) are counted with the layer that they read; what has none
    is in `fixed_ms`. Between the measured numbers of input channels time is taken as linear; along the output channels
    it has stairs, and every width of the table is measured. A layer that is no chain of convolutions or Dense is
    listed at its present width alone: narrowing is taken to gain nothing there.

    Args:
        model: A built Keras model.
        table: Times of operations; None: the one in paredown's cache folder, for one thread.
        input_shape: The first input's without the batch, for a network that leaves sizes open.
        fixed: Layers -> whose numbers of channels will not change, "in", "out" or "both": nothing else is measured.
    Returns:
        LatencyTable, for `PruneChannels(latency=..., latency_table=...)`.
    Raises:
        As `predict_latency`.
    """
    table = table or OperationTable()
    content, network = file_of(model, input_shape)
    graph = graphs(content)[0]
    channels = Channels(model)
    shapes = Shapes(channels.network, input_shape)
    multiply = {call.path for call in channels.network.all_calls() if mac_terms(call, shapes)}
    calls: dict[str, int] = {}
    for call in channels.network.all_calls():
        calls[call.path] = calls.get(call.path, 0) + 1
    owned, loose = _owned(graph.operations, layer_names(graph, network), multiply & set(channels.outputs))
    rows, wanted = {}, list(loose)
    for path, own in owned.items():
        sizes = (_size(channels.reads, path), _size(channels.outputs, path))
        rows[path] = _Row(own, sizes, calls[path], (fixed or {}).get(path, ""))
        wanted += rows[path].operations()
    times = table.times_ms(wanted)
    loops_ms = 0.0
    if any(operation.kind in LOOPS for operation in graph.operations):
        latency = latency_of(content, network, table)
        loops_ms = sum(row.ms for row in latency.operations if row.kind in LOOPS)
    machine = table.machine
    return LatencyTable(
        {path: row.latency(times) for path, row in rows.items()},
        machine.device,
        machine.runtime,
        machine.threads,
        fixed_ms=sum(times[operation.key] for operation in loose) + loops_ms,
        source="measured on this computer",
    )


def _size(places: dict[str, np.ndarray], path: str) -> int:
    return places[path].size if path in places else 1


def _owned(
    found: Sequence[Operation], names: Sequence[str], paths: set[str]
) -> tuple[dict[str, list[Operation]], list[Operation]]:
    """The operations of each layer that multiplies, others after it with them; and those of none, loops left out."""
    owner: dict[int, str] = {}
    owned: dict[str, list[Operation]] = {}
    with_kernel = {name for operation, name in zip(found, names, strict=True) if operation.kernel is not None}
    loose = []
    for operation, name in zip(found, names, strict=True):
        if operation.kind in LOOPS:
            continue
        path = next((owner[i] for i in operation.reads if i in owner), None)
        # What has no kernel belongs to its own layer only where that has none at all, as attention's products.
        if name in paths and (operation.kernel is not None or name not in with_kernel):
            path = name
        elif operation.kernel is not None:
            path = None
        # Whose last axis changes is followed no further: what it counts are no longer the layer's channels.
        same = path == name or path is None or operation.channels[0] == operation.channels[1]
        if path is None or not same:
            loose.append(operation)
            continue
        owned.setdefault(path, []).append(operation)
        owner.update(dict.fromkeys(operation.writes, path))
    # A layer whose operations have other names is still one of the network's.
    return owned | {path: [] for path in paths - set(owned)}, loose


class _Row:
    """One layer's operations at the widths of a grid.

    Args:
        own: Its operations, of all its calls.
        sizes: Its channels in and out.
        calls: How often it is called.
        fixed: "in", "out" or "both" where these widths stay.
    """

    def __init__(self, own: Sequence[Operation], sizes: tuple[int, int], calls: int, fixed: str):
        self._own, self._sizes, self._calls = own, sizes, calls
        kernels = [operation for operation in own if operation.kernel is not None]
        chain = bool(kernels) and len(kernels) % calls == 0
        per_call = len(kernels) // calls
        self._ends = (
            {id(k): (n % per_call == 0, n % per_call == per_call - 1) for n, k in enumerate(kernels)} if chain else {}
        )
        fits = chain and kernels[0].channels[0] == sizes[0] and kernels[-1].channels[1] == sizes[1]
        depthwise = fits and all(k.kind == DEPTHWISE for k in kernels)
        # A depthwise convolution's outputs follow its inputs, unless its multiplier is what changes.
        self._tied = depthwise and not fixed
        self.outs = _levels(sizes[1], OUT_LEVELS) if fits and fixed not in ("out", "both") else [sizes[1]]
        groups = math.lcm(*(k.groups for k in kernels))
        self.outs = [width for width in self.outs if width % groups == 0]
        self.ins = [sizes[0]]
        if fits and not self._tied and fixed not in ("in", "both"):
            self.ins = [width for width in _levels(sizes[0], OUT_LEVELS) if width % groups == 0]
        if depthwise and fixed == "in":
            self.outs = list(range(sizes[0], sizes[1] + 1, sizes[0]))
        self._measured_ins = self.ins if len(self.ins) <= IN_LEVELS else _spread(self.ins, IN_LEVELS)

    def operations(self) -> list[Operation]:
        return [o for i in self._measured_ins for out in self.outs for o in self._at(i, out)]

    def latency(self, times: dict[str, float]) -> LayerLatency:
        """Milliseconds of one call."""
        measured = np.array(
            [[sum(times[o.key] for o in self._at(i, out)) for out in self.outs] for i in self._measured_ins]
        )
        ms = np.stack([np.interp(self.ins, self._measured_ins, column) for column in measured.T], 1) / self._calls
        return LayerLatency(tuple(self.ins), tuple(self.outs), tuple(tuple(map(float, row)) for row in ms))

    def _at(self, channels_in: int, channels_out: int) -> list[Operation]:
        if (channels_in, channels_out) == self._sizes:
            return list(self._own)
        found = []
        for operation in self._own:
            first, last = self._ends.get(id(operation), (False, True))
            old_in, old_out = operation.channels
            follows = self._tied or operation.kernel is None
            share = channels_out / self._sizes[1] if follows else channels_in / self._sizes[0]
            new_in = channels_in if first and not follows else max(1, round(old_in * share))
            new_out = channels_out if last else max(1, round(old_out * share))
            found.append(operation.resized(new_in, new_out))
        return found


def _levels(count: int, most: int) -> list[int]:
    """Widths up to a number of channels: whole vectors, closer together where the layer is narrow."""
    if count <= most:
        return list(range(1, count + 1))
    step = max(1, count // most) if count < 2 * most else max(_STEP, -(-count // most // _STEP) * _STEP)
    return sorted({*range(step, count, step), count, max(1, step // 2)})


def _spread(values: Sequence[int], count: int) -> list[int]:
    """Some of rising values, evenly spread by size, the first and last among them."""
    wanted = np.linspace(values[0], values[-1], count)
    return sorted({min(values, key=lambda v: abs(v - w)) for w in wanted})
