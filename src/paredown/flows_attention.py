"""How labels pass through attention layers.

Heads are channels inside the layer: made by the query, key, value (and gate) projections, read by the output
projection, and seen by nobody else. A head whose slice of the output projection is zero contributes nothing, so it
can go whole; removing it is exact. What a head is worth can be seen from the weights that make it.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from paredown.flows import constant_flows, last_axis
from paredown.labels import Flow, Trace, along
from paredown.network import Call
from paredown.parts import Part, key

HEADS = "heads"
#: GroupedQueryAttention: each goes together with the heads that share it.
SHARED = "key_value_heads"
_ARGUMENTS = ("query", "value", "key")
_SPLIT = {"kernel": "i o k", "bias": "o k"}
_JOINED = {"kernel": "r v o", "bias": "o"}
_JOINED_TO_AXES = {"kernel": "r v ...", "bias": "..."}


def multi_head(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """MultiHeadAttention: heads inside, output features outside."""
    layer = call.operation
    heads = trace.make_inside(call.path, HEADS, layer.num_heads)
    _read_arguments(call, flows, trace, heads)
    results = constant_flows(call)
    if _has_feature_axis(layer):
        rank = len(call.outputs[0].shape)
        results[0] = along(rank - 1, rank, trace.make(call.path, call.outputs[0].shape[-1]))
    else:
        trace.barriers[call.path] = "its output features lie on several axes"
    return results


def _has_feature_axis(layer: Any) -> bool:
    return len(layer._output_dense.kernel.shape) == 3


def grouped_query(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """GroupedQueryAttention: heads that share a key and a value go together; its output is as wide as its query."""
    layer = call.operation
    shared = trace.make_inside(call.path, SHARED, layer.num_key_value_heads)
    heads = np.repeat(shared, layer.num_query_heads // layer.num_key_value_heads)
    trace.carry_inside(call.path, HEADS, heads)
    _read_arguments(call, flows, trace, heads)
    query, value = (trace.reads[key(call.path, name)].labels for name in ("query", "value"))
    trace.unify(query, value, f"{call.path} wants its query and its value equally wide")
    own = trace.make(call.path, query.size)
    trace.unify(own, query, f"{call.path} gives as many channels as its query has")
    results, rank = constant_flows(call), len(call.outputs[0].shape)
    results[0] = along(rank - 1, rank, own)
    return results


def dot_product(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """Attention, AdditiveAttention: channels of query and key are multiplied (or added) in pairs, then summed.

    A pair of zeros adds nothing to a score; a value's channel is a weighted mean over positions, so that it stays a
    channel.
    """
    tensors = call.named["inputs"]
    given = dict(zip(map(id, call.inputs), flows, strict=True))
    query, value = tensors[:2]
    keys = tensors[2] if len(tensors) > 2 else value
    (q, q_rest), (v, v_rest), (k, k_rest) = (last_axis(t, given[id(t)], trace) for t in (query, value, keys))
    trace.unify(q, k, f"{call.path} multiplies it with a network input or constant")
    rest = trace.read(key(call.path, "query"), q, np.where((q_rest == 0) & (k_rest == 0), 0, np.nan))
    trace.pin(q[rest != 0], f"a removed channel would leave a constant in the scores of {call.path}")
    trace.read(key(call.path, "value"), v, v_rest)
    if call.operation.weights:
        trace.carry(call.path, v)
    _pin_others(call, flows, trace, {id(t) for t in tensors})
    results, rank = constant_flows(call), len(call.outputs[0].shape)
    results[0] = along(rank - 1, rank, v, np.where(v_rest == 0, 0, np.nan).astype("float32"))
    return results


def _read_arguments(call: Call, flows: list[Flow], trace: Trace, heads: np.ndarray) -> None:
    """Writes down what the projections read."""
    named = call.named
    given = dict(zip(map(id, call.inputs), flows, strict=True))
    tensors = {name: named[name] for name in _ARGUMENTS if named.get(name) is not None}
    tensors.setdefault("key", tensors["value"])
    for name, tensor in tensors.items():
        labels, rest = last_axis(tensor, given[id(tensor)], trace)
        rest = trace.read(key(call.path, name), labels, rest)
        trace.pin(labels[rest != 0], f"a removed channel would leave a constant that {call.path} does not take up")
    _pin_others(call, flows, trace, {id(t) for t in tensors.values()})
    mask = named.get("attention_mask")
    axes = len(_attention_axes(call.operation))
    # Scores are [batch, ..., heads, positions of the query, positions of the key].
    if mask is not None and len(mask.shape) == len(tensors["query"].shape) + axes and mask.shape[-2 * axes - 1] != 1:
        trace.pin(heads, "its attention mask has an axis of heads")
    if named.get("return_attention_scores"):
        trace.pin(heads, "it returns its heads' scores")


def _pin_others(call: Call, flows: list[Flow], trace: Trace, read: set[int]) -> None:
    for tensor, flow in zip(call.inputs, flows, strict=True):
        if id(tensor) not in read:
            trace.pin(flow.labels, f"{call.path} takes it for a mask")


def _attention_axes(layer: Any) -> tuple[int, ...]:
    return tuple(getattr(layer, "attention_axes", None) or (1,))


def multi_head_parts(layer: Any) -> tuple[Part, ...]:
    """The projections of a MultiHeadAttention."""
    return _projections(layer, HEADS)


def grouped_query_parts(layer: Any) -> tuple[Part, ...]:
    """The projections of a GroupedQueryAttention: keys and values have fewer heads."""
    return _projections(layer, SHARED)


def additive_parts(layer: Any) -> tuple[Part, ...]:
    """AdditiveAttention weighs each channel of query + key by a scale."""
    return (Part(layer, {"scale": "i"}, reads="query"),)


def _projections(layer: Any, of_keys: str) -> tuple[Part, ...]:
    projections = [
        Part(layer._query_dense, _SPLIT, reads="query", makes=HEADS, at="query"),
        Part(layer._key_dense, _SPLIT, reads="key", makes=of_keys, at="key"),
        Part(layer._value_dense, _SPLIT, reads="value", makes=of_keys, at="value"),
        Part(layer._output_dense, _JOINED if _has_feature_axis(layer) else _JOINED_TO_AXES, own=HEADS, at="query"),
    ]
    if getattr(layer, "_gate_dense", None) is not None:
        projections.append(Part(layer._gate_dense, _SPLIT, reads="query", makes=HEADS, at="query"))
    return tuple(projections)


def resize_multi_head(config: dict, left: Callable[[str], int | None]) -> dict:
    """The config with as many heads as are left; its output features no longer follow the query's."""
    config = {**config, "num_heads": left(HEADS)}
    return config if left("") is None else {**config, "output_shape": (left(""),)}


def resize_grouped_query(config: dict, left: Callable[[str], int | None]) -> dict:
    return {**config, "num_query_heads": left(HEADS), "num_key_value_heads": left(SHARED)}


def head_products(call: Call, shape_of: Callable[[Any], tuple[int, ...]]) -> list[tuple[int, tuple, int]]:
    """Each query position meets each key position: [T, S] = [T, k] [k, S] and [T, v] = [T, S] [S, v], per head."""
    layer, (per_query, met) = call.operation, _meetings(call.named["query"], _key(call), call.operation, shape_of)
    key_size, value_size = (dense.kernel.shape[-1] for dense in (layer._key_dense, layer._value_dense))
    heads = layer._query_dense.kernel.shape[1]
    return [(per_query * met * (key_size + value_size), (("outputs", key(call.path, HEADS)),), heads)]


def channel_products(call: Call, shape_of: Callable[[Any], tuple[int, ...]]) -> list[tuple[int, tuple, int]]:
    """The same without heads: each pair of positions multiplies the channels of query and key, and the value's."""
    tensors = call.named["inputs"]
    query, value = tensors[:2]
    per_query, met = _meetings(query, value, call.operation, shape_of)
    pairs = ((query, "query"), (value, "value"))
    return [(per_query * met, (("reads", key(call.path, name)),), shape_of(t)[-1]) for t, name in pairs]


def _key(call: Call) -> Any:
    named = call.named
    return named["value"] if named.get("key") is None else named["key"]


def _meetings(query: Any, keys: Any, layer: Any, shape_of: Callable) -> tuple[int, int]:
    """How many positions the query has, and how many of the key each of them meets."""
    return math.prod(shape_of(query)[1:-1]), math.prod(shape_of(keys)[axis] for axis in _attention_axes(layer))
