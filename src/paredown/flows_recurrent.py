"""How labels pass through recurrent layers.

A unit u of a recurrent layer is read twice: by the layers behind it and by the recurrence, h[t] = f(W x[t] + U h[t-1]).
Removing it takes its row out of U as well as its columns out of W and U. So what a pruned recurrent layer equals is
the layer whose unit u gives zero *and* whose row u of U is zero (a state that nobody hears); masking the output
sequence alone would leave the unit talking to the others inside. Cells gate each unit by itself, hence nothing else
of the unit reaches another one: neither its cell state (LSTM) nor its gates.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from paredown.flows import last_axis, mixes
from paredown.labels import Flow, Trace, along
from paredown.network import Call
from paredown.parts import Part

_GATES = {keras.layers.LSTM: 4, keras.layers.GRU: 3, keras.layers.SimpleRNN: 1}
_MIXED = "its activation computes one unit from the others, or is not known"
#: What the units of both halves of a Bidirectional layer are called.
UNITS = "units"


def cell_weights(layer_class: type) -> dict[str, str]:
    """The axes of a cell's weights: one block of units per gate; "r" is the unit that the recurrence reads."""
    blocks = {1: "o"}.get(_GATES[layer_class], f"{_GATES[layer_class]}o")
    # GRU's bias is [2, 3 units] where it resets after the product, [3 units] otherwise.
    return {"kernel": f"i {blocks}", "recurrent_kernel": f"r {blocks}", "bias": f"... {blocks}"}


def convolved_cell_weights(spatial: str) -> dict[str, str]:
    """The same for cells that convolve: their kernels have a window."""
    return {"kernel": f"{spatial} i 4o", "recurrent_kernel": f"{spatial} r 4o", "bias": "4o"}


def convolved_products(call: Call, shape_of: Callable[[Any], tuple[int, ...]]) -> list[tuple[int, tuple, int]]:
    """At each step and position every gate of every filter reads the window's inputs and the window's filters."""
    cell, sequence = call.operation.cell, shape_of(call.named["sequences"])
    spatial = shape_of(call.outputs[0])[-1 - cell.rank : -1]
    reads, makes = ("reads", call.path), ("outputs", call.path)
    times = sequence[1] * math.prod(spatial)
    return [
        (times * math.prod(kernel.shape[: cell.rank]) * 4, (side, makes), kernel.shape[-2] * cell.filters)
        for kernel, side in ((cell.kernel, reads), (cell.recurrent_kernel, makes))
    ]


def recurrent(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """LSTM, GRU, SimpleRNN, ConvLSTM: units are channels; so are the states that come in and go out."""
    layer = call.operation
    _read_sequence(call, flows, trace)
    own = trace.make(call.path, getattr(layer, "units", None) or layer.filters)
    if _mixes(layer):
        trace.pin(own, _MIXED)
    _unify_states(call, flows, trace, own)
    return [along(len(t.shape) - 1, len(t.shape), own) for t in call.outputs]


def bidirectional(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """Two recurrent layers, the second backwards in time.

    Unit k of one and unit k of the other are one channel, however they are merged: Keras takes both to be equally
    wide when it infers the shape of the joined output.
    """
    layer = call.operation
    _read_sequence(call, flows, trace)
    own = trace.make_inside(call.path, UNITS, layer.forward_layer.units)
    if _mixes(layer.forward_layer) or _mixes(layer.backward_layer):
        trace.pin(own, _MIXED)
    _unify_states(call, flows, trace, own)
    joined = np.concatenate([own, own]) if layer.merge_mode == "concat" else own
    trace.carry(call.path, joined)
    result = [along(len(t.shape) - 1, len(t.shape), own) for t in call.outputs]
    rank = len(call.outputs[0].shape)
    return [along(rank - 1, rank, joined), *result[1:]]


def is_followed(layer: keras.layers.Bidirectional) -> bool:
    """Whether both halves are layers that are known, and equally wide."""
    halves = (layer.forward_layer, layer.backward_layer)
    return all(type(half) in _GATES for half in halves) and halves[0].units == halves[1].units


def halves(layer: keras.layers.Bidirectional) -> tuple[Part, ...]:
    """The weights of a Bidirectional layer."""
    both = (layer.forward_layer, layer.backward_layer)
    return tuple(Part(half, cell_weights(type(half)), makes=UNITS, own=UNITS, at="input") for half in both)


def resize_bidirectional(config: dict, left: Callable[[str], int | None]) -> dict:
    """The config with as many units in both halves as are left."""
    halves = ("layer", "backward_layer")
    return {**config, **{half: _with_units(config[half], left(UNITS)) for half in halves}}


def _with_units(serialized: dict, units: int | None) -> dict:
    return {**serialized, "config": {**serialized["config"], "units": units}}


def _mixes(layer: Any) -> bool:
    return mixes(layer) or mixes(layer, "recurrent_activation")


def _read_sequence(call: Call, flows: list[Flow], trace: Trace) -> None:
    sequence = call.named["sequences"]
    given = dict(zip(map(id, call.inputs), flows, strict=True))
    labels, rest = last_axis(sequence, given[id(sequence)], trace)
    rest = trace.read(call.path, labels, rest)
    trace.pin(labels[rest != 0], f"a removed channel would leave a constant that {call.path} does not take up")


def _unify_states(call: Call, flows: list[Flow], trace: Trace, own: np.ndarray) -> None:
    """Channel k of every state that is handed in is unit k; any other tensor (a mask) must keep its channels."""
    states = {id(tensor) for tensor in keras.tree.flatten(call.named.get("initial_state"))}
    for tensor, flow in zip(call.inputs, flows, strict=True):
        if id(tensor) in states:
            labels, _ = last_axis(tensor, flow, trace)
            trace.unify(own, labels, f"{call.path} takes its initial state from a network input or constant")
        elif tensor is not call.named["sequences"]:
            trace.pin(flow.labels, f"{call.path} takes it for a mask")
