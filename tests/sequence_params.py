"""Parameters of layers with several kernels, in closed form: what must be left of them, worked out by hand."""

import math
from typing import Any

_GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def recurrent(layer: Any, path: str, into: dict[str, int], out: dict[str, int]) -> int:
    return _cell(layer, into[path], out[path])


def convolved(layer: Any, path: str, into: dict[str, int], out: dict[str, int]) -> int:
    """Four gates; the recurrence has a window of the same size."""
    window, filters = math.prod(layer.kernel_size), out[path]
    return 4 * filters * (window * into[path] + window * filters + int(layer.use_bias))


def bidirectional(layer: Any, path: str, into: dict[str, int], out: dict[str, int]) -> int:
    return sum(_cell(half, into[path], out[f"{path}/units"]) for half in (layer.forward_layer, layer.backward_layer))


def _cell(layer: Any, inputs: int, units: int) -> int:
    """Per gate each unit has a weight for every input and every unit, and its biases."""
    biases = int(layer.use_bias) * (2 if getattr(layer, "reset_after", False) else 1)
    return _GATES[type(layer).__name__] * units * (inputs + units + biases)


def attention(layer: Any, path: str, into: dict[str, int], out: dict[str, int]) -> int:
    """Projections [in, heads, size] with biases [heads, size], and one back, [heads, size, out] with [out]."""
    heads = out[f"{path}/heads"]
    shared = out.get(f"{path}/key_value_heads", heads)
    query, keys, values = (into[f"{path}/{name}"] + int(layer.use_bias) for name in ("query", "key", "value"))
    key_size, value_size = layer._key_dense.kernel.shape[-1], layer._value_dense.kernel.shape[-1]
    features = out[path] if path in out else math.prod(layer._output_dense.kernel.shape[2:])
    gate = query * heads * value_size if getattr(layer, "_gate_dense", None) else 0
    to_heads = query * heads * key_size + keys * shared * key_size + values * shared * value_size
    return to_heads + gate + (heads * value_size + int(layer.use_bias)) * features


def additive(layer: Any, path: str, into: dict[str, int], out: dict[str, int]) -> int:
    return into[f"{path}/query"] if layer.use_scale else 0


#: Class -> parameters of a layer; `into` and `out` say how many of the channels under each key are left.
PARAMS = {
    **dict.fromkeys(_GATES, recurrent),
    **dict.fromkeys(("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), convolved),
    "Bidirectional": bidirectional,
    "MultiHeadAttention": attention,
    "GroupedQueryAttention": attention,
    "AdditiveAttention": additive,
}
