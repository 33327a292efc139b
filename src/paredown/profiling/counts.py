"""Parameters and measured latency of a network with some of its channels left out, as sums of terms."""

import math
from typing import Any

import numpy as np

from paredown.allocation import AdditiveCost, CostTerm
from paredown.channels import Channels
from paredown.errors import SettingError
from paredown.latency_table import LatencyTable
from paredown.network import Call
from paredown.profiling.cost import Shapes, mac_terms
from paredown.weight_places import along, places


class ParameterCount(AdditiveCost):
    """The parameters of a network with some of its channels: `ParameterCount(channels)(keep)`.

    All weights count, those that are not trained too, a shared layer's once: Keras's `count_params()`.

    Args:
        channels: The network with its channels.
    """

    def __init__(self, channels: Channels):
        calls = {call.path: call for call in channels.network.all_calls()}
        super().__init__([term for call in calls.values() for term in _weight_terms(call, channels)])


def _weight_terms(call: Call, channels: Channels) -> list[CostTerm]:
    """One product per weight: [sizes of its other axes · channels along the axes that carry them]."""
    placed = {id(place.weight): place for place in places(call)}
    terms = []
    for weight in getattr(call.operation, "weights", []):
        sides, rest = [], []
        for axis, size in enumerate(weight.shape):
            components = along(placed[id(weight)], axis, channels) if id(weight) in placed else None
            (rest if components is None else sides).append(size if components is None else components)
        terms.append(CostTerm(call.path, math.prod(rest), *sides))
    return terms


class LatencyCount(AdditiveCost):
    """The milliseconds that a table gives for a network with some of its channels: `LatencyCount(channels, t)(keep)`.

    Args:
        channels: The network with its channels.
        table: Must know every layer that multiplies and whose channels are known, at its present width.
        input_shape: As for `Shapes`.
    Raises:
        SettingError: If layers are missing in the table, or it has one whose channels cannot be counted.
    """

    def __init__(self, channels: Channels, table: LatencyTable, input_shape: tuple[int, ...] | None = None):
        shapes = Shapes(channels.network, input_shape)
        calls = list(channels.network.all_calls())
        priced = [call.path for call in calls if call.path in channels.outputs and mac_terms(call, shapes)]
        table.require(priced)
        carried = set(channels.outputs) | set(channels.reads)
        strange = sorted({call.path for call in calls if call.path in table.layers} - carried)
        if strange:
            raise SettingError(
                f"A latency table's layers must have weights, by whose channels it can be read. Received: "
                f"{', '.join(strange)}. Add their time to the layer before them or to fixed_ms."
            )
        super().__init__([_priced(c.path, channels, table) for c in calls if c.path in table.layers], table.fixed_ms)


def _priced(path: str, channels: Channels, table: LatencyTable) -> CostTerm:
    def price(channels_in: int, channels_out: int) -> float:
        return table.of(path, channels_in, channels_out)

    into, out = _known(channels.reads, path), _known(channels.outputs, path)
    # A width that the network has and the table lacks is found out before anything is solved.
    price(into.size, out.size)
    row = table.layers[path]
    return CostTerm(path, 1, into, out, price=price, steps=(row.channels_in, row.channels_out))


def _known(places: dict[str, np.ndarray], path: str) -> Any:
    return places.get(path, np.zeros(1, int))
