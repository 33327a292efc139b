"""How channel labels flow through one layer: the functions that the rows of `layer_rules` name.

Each takes the call, one flow per input tensor and the trace, and gives one flow per output tensor.
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce as fold
from typing import Any

import keras
import numpy as np
from keras import tree

from paredown.labels import Flow, Trace, along, constant
from paredown.network import Call

_BORDER = "a removed channel would not be constant here"
_MIXED = "its activation computes one channel from the others, or is not known"
#: Names of the activations that compute each element from that element alone.
_ELEMENTWISE = frozenset(name for name in vars(keras.activations) if not name.startswith("_")) - {
    *("get", "serialize", "deserialize"),
    *("softmax", "log_softmax", "sparsemax", "glu"),  # these compute one channel from the others
}
_ELEMENTWISE_LAYERS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU)
_BACKENDS = ("keras", "tensorflow", "jax", "torch")
#: Attributes of element-wise operations that may hold one value per channel.
_PARAMETERS = ("scale", "offset", "x_min", "x_max")


def channel_axis(layer: Any, rank: int) -> int:
    """The axis of the channels in the layer's tensors."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return channel_axis(layer.layer, rank - 1) + 1  # behind the axis of time
    axis = getattr(layer, "axis", None)
    if isinstance(layer, keras.layers.BatchNormalization) and isinstance(axis, int):
        return axis % rank
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


def mixes(layer: Any, name: str = "activation") -> bool:
    """Whether the layer's activation is not known to be element-wise; a function is known by its name and its home."""
    activation = getattr(layer, name, None)
    if activation is None or type(activation) in _ELEMENTWISE_LAYERS:
        return False
    home = getattr(activation, "__module__", "").partition(".")[0]
    return getattr(activation, "__name__", None) not in _ELEMENTWISE or home not in _BACKENDS


def constant_flows(call: Call) -> list[Flow]:
    """Outputs that carry no removable channel."""
    return [constant(len(tensor.shape)) for tensor in call.outputs]


def _channels(call: Call, flow: Flow, trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """Labels and rest (channels,) of the call's first input; one channel is one label at every position."""
    shape = call.inputs[0].shape
    return _on_axis(channel_axis(call.operation, len(shape)), shape, flow, trace)


def last_axis(tensor: Any, flow: Flow, trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    """The same for any tensor whose channels are on its last axis."""
    return _on_axis(len(tensor.shape) - 1, tensor.shape, flow, trace)


def _on_axis(axis: int, shape: Sequence, flow: Flow, trace: Trace) -> tuple[np.ndarray, np.ndarray]:
    others = tuple(a for a in range(len(shape)) if a != axis)
    labels = trace.unify_along(others, flow.labels, _BORDER).reshape(-1)
    rest = constant_along(others, flow.rest).reshape(-1)
    size = shape[axis]
    return np.broadcast_to(labels, (size,)), np.broadcast_to(rest, (size,))


def constant_along(axes: Sequence[int], rest: np.ndarray) -> np.ndarray:
    """The rest with `axes` at 1: NaN where it changes along them."""
    for axis in axes:
        if rest.shape[axis] > 1:
            first = rest.take([0], axis)
            rest = np.where((rest == first).all(axis, keepdims=True), first, np.nan)
    return rest


def _absorbs(layer: Any) -> bool:
    """Whether a constant at the layer's input can become a bias exactly: no zero padding cuts into the window."""
    if not getattr(layer, "use_bias", False):
        return False
    if isinstance(layer, keras.layers.Dense):
        return True
    plain = type(layer).__name__ in ("Conv1D", "Conv2D", "Conv3D")
    return plain and (layer.padding == "valid" or math.prod(layer.kernel_size) == 1)


def make(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """A layer with a kernel: reads all input channels, makes output channels of its own."""
    layer = call.operation
    labels, rest = _channels(call, flows[0], trace)
    rest = trace.read(call.path, labels, rest)
    if not _absorbs(layer):
        trace.pin(labels[rest != 0], f"a removed channel would leave a constant that {call.path} cannot take up")
    trace.pin(labels[~np.isfinite(rest)], _BORDER)
    shape = call.outputs[0].shape
    axis = channel_axis(layer, len(shape))
    own = trace.make(call.path, shape[axis])
    if mixes(layer):
        trace.pin(own, _MIXED)
    return [along(axis, len(shape), own)]


def loses_whole_groups(layer: Any) -> bool:
    """Whether a grouped convolution is narrowed by whole groups: where it has more of them than channels in one.

    What is left must have equally many channels in every group. Either whole groups go, inputs and outputs
    together (a group of one channel is a depthwise convolution), or every group loses the same places, inputs and
    outputs apart. The finer of the two is taken: ResNeXt's 32 groups of 4 lose groups, AlexNet's 2 of 48 places.
    """
    return layer.groups > max(1, layer.kernel.shape[-2])


def convolve(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """A convolution, in groups or not; how a grouped one is narrowed, `loses_whole_groups` says."""
    layer = call.operation
    if layer.groups == 1:
        return make(call, flows, trace)
    unequal = f"every group of {call.path} needs equally many channels"
    if loses_whole_groups(layer):
        labels, rest = _channels(call, flows[0], trace)
        trace.read(call.path, labels, rest)
        first = trace.unify_along((1,), labels.reshape(layer.groups, -1), unequal)
        out = np.repeat(first, layer.filters // layer.groups)
        if mixes(layer):
            trace.pin(out, _MIXED)
        trace.carry(call.path, out)
        rank = len(call.outputs[0].shape)
        return [along(channel_axis(layer, rank), rank, out)]
    result = make(call, flows, trace)
    for labels in (trace.reads[call.path].labels, trace.outputs[call.path]):
        trace.unify_along((0,), labels.reshape(layer.groups, -1), unequal)
    return result


def embed(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """Token numbers in, channels out."""
    trace.pin(flows[0].labels, "they are token numbers")
    shape = call.outputs[0].shape
    return [along(len(shape) - 1, len(shape), trace.make(call.path, shape[-1]))]


def scale(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """Element-wise with weights per channel (BatchNormalization, PReLU): hands channels on, reads them too."""
    labels, rest = _channels(call, flows[0], trace)
    trace.read(call.path, labels, rest)
    trace.carry(call.path, labels)
    rank = len(call.inputs[0].shape)
    return [along(channel_axis(call.operation, rank), rank, labels)]


def depthwise(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """Each input channel gives `depth_multiplier` output channels, which go when it goes."""
    layer = call.operation
    labels, rest = _channels(call, flows[0], trace)
    trace.read(call.path, labels, rest)
    out = np.repeat(labels, layer.depth_multiplier)
    if mixes(layer):
        trace.pin(out, _MIXED)
    trace.carry(call.path, out)
    rank = len(call.outputs[0].shape)
    return [along(channel_axis(layer, rank), rank, out)]


def keep(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """The identity at inference."""
    return flows


def pins(reason: str) -> Callable:
    """A layer whose channels depend on each other."""

    def flow(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
        trace.barriers[call.path] = reason
        for given in flows:
            trace.pin(given.labels, f"{call.path}: {reason}")
        return constant_flows(call)

    return flow


def elementwise(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """One output element from one input element; the rest is what the layer itself makes of it."""
    if mixes(call.operation):
        return pins(_MIXED)(call, flows, trace)
    per_channel = any(np.size(getattr(call.operation, name, 0)) > 1 for name in _PARAMETERS)
    if per_channel or len(flows) > 1 or call.outputs[0].shape != call.inputs[0].shape:
        return pins("it treats channels differently")(call, flows, trace)
    (given,) = flows
    args, kwargs = call.fill({id(call.inputs[0]): given.rest})
    rest = run_on_arrays(call.operation, args, kwargs)[0].astype("float32")
    # A clip or a cast of what is no constant must not look like one.
    return [Flow(given.labels, np.where(np.isnan(given.rest), np.nan, rest))]


def run_on_arrays(operation: Any, args: tuple, kwargs: dict) -> list[np.ndarray]:
    """The operation's outputs on NumPy arrays, outside any graph."""
    results = tree.flatten(operation.call(*args, **kwargs))
    return [np.asarray(keras.ops.convert_to_numpy(result)) for result in results]


def spatial(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """Pooling, up-sampling, cropping: positions change, a channel stays a channel."""
    labels, rest = _channels(call, flows[0], trace)
    rank = len(call.outputs[0].shape)
    return [along(channel_axis(call.operation, rank), rank, labels, rest)]


def zero_pad(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """Zeros at the border; where channels lie on a padded axis (Permute before), they are constants beside them."""
    layer, rank = call.operation, flows[0].labels.ndim
    first = 2 if getattr(layer, "data_format", None) == "channels_first" else 1
    widths = [(0, 0)] * rank
    for axis, pair in enumerate(np.reshape(layer.padding, (-1, 2)).tolist(), first):
        widths[axis] = tuple(pair)
    return [_padded(flows[0], widths)]


def _padded(given: Flow, widths: list[tuple[int, int]]) -> Flow:
    """Zeros around the places of a tensor: a rest other than zero is no longer one value."""
    parts = given.labels, np.where(given.rest == 0, 0, np.nan).astype("float32")
    return Flow(*(np.pad(x, [w if x.shape[a] > 1 else (0, 0) for a, w in enumerate(widths)]) for x in parts))


def pad(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """keras.ops.pad: padded channels are constants, at padded positions a channel is zero."""
    (given,) = flows
    operation, (args, kwargs) = call.operation, call.arguments
    labels, rank = given.labels, given.labels.ndim
    widths = np.broadcast_to(np.asarray(operation.pad_width), (rank, 2))
    value = (kwargs.get("constant_values") or (args[1] if len(args) > 1 else 0)) or 0
    of_channels = [tuple(w) for a, w in enumerate(widths) if labels.shape[a] > 1]
    if any(map(any, of_channels)) and operation.mode != "constant":
        return pins("it pads channels with copies of others")(call, flows, trace)
    padded = _padded(given, [tuple(w) for w in widths.tolist()])
    return [padded if value == 0 else Flow(padded.labels, np.full_like(padded.rest, np.nan))]


def reduce(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """Mean, maximum or minimum over positions; over channels it pins them."""
    return _reduced(call, flows[0], trace, lambda rest: rest)


def reduce_sum(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """A sum over positions: a rest other than zero grows with their number."""
    return _reduced(call, flows[0], trace, lambda rest: np.where(rest == 0, 0, np.nan).astype("float32"))


def _reduced(call: Call, given: Flow, trace: Trace, of_rest: Callable) -> list[Flow]:
    rank, axes = given.labels.ndim, call.operation.axis
    axes = tuple(range(rank)) if axes is None else (axes,) if isinstance(axes, int) else tuple(axes)
    axes = tuple(axis % rank for axis in axes)
    varying = [axis for axis in axes if given.labels.shape[axis] > 1]
    if varying or getattr(call.operation, "initial", None) is not None:
        return pins("it reduces over channels, or from an initial value")(call, [given], trace)
    labels, rest = given.labels, of_rest(constant_along(axes, given.rest))
    if not call.operation.keepdims:
        labels, rest = labels.squeeze(axes), rest.squeeze(axes)
    return [Flow(labels, rest)]


def scaled_residual(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """[a, b] to a + scale · b."""
    return combine(lambda rests: rests[0] + call.operation.scale * rests[1])(call, flows, trace)


# What an element-wise combination makes of the rests, given as a list.
def total(rests: list) -> np.ndarray:
    return fold(np.add, rests)


def difference(rests: list) -> np.ndarray:
    return rests[0] - rests[1]


def product(rests: list) -> np.ndarray:
    # Nothing times anything is nothing, also where the other factor is no constant.
    return fold(lambda a, b: np.where((a == 0) | (b == 0), 0, a * b), rests)


def quotient(rests: list) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((rests[0] == 0) & ~(rests[1] == 0), 0, rests[0] / rests[1])


def average(rests: list) -> np.ndarray:
    return total(rests) / len(rests)


def largest(rests: list) -> np.ndarray:
    return fold(np.maximum, rests)


def smallest(rests: list) -> np.ndarray:
    return fold(np.minimum, rests)


def combine(of_rests: Callable[[list], np.ndarray]) -> Callable:
    """Element-wise work on several tensors (or a tensor and a constant): their channels are pairwise one."""

    def flow(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
        rank = len(call.outputs[0].shape)
        leaves = tree.flatten(call.arguments)
        constants = [leaf for leaf in leaves if not isinstance(leaf, keras.KerasTensor) and leaf is not None]
        sizes = {len(tensor.shape) for tensor in call.inputs}
        per_channel = any(np.size(value) > 1 for value in constants)
        if sizes != {rank} or per_channel:
            return pins("it combines channels with constants of their own, or with fewer axes")(call, flows, trace)
        flows = _without_broadcast_channels(call, flows, trace)
        given = iter(flows)
        rests = [
            next(given).rest if isinstance(leaf, keras.KerasTensor) else np.full((1,) * rank, leaf, "float32")
            for leaf in leaves
            if leaf is not None
        ]
        shape = np.broadcast_shapes(*(flow.labels.shape for flow in flows))
        full = max((flow.labels for flow in flows), key=np.count_nonzero)
        for other in flows:
            trace.unify(full, other.labels, f"{call.path} combines it with a network input or constant")
        return [Flow(np.broadcast_to(full, shape), np.asarray(of_rests(rests), "float32"))]

    return flow


def _without_broadcast_channels(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """Takes out tensors whose single channel is spread over many: it must stay, and it couples none of the many."""
    result = []
    for tensor, given in zip(call.inputs, flows, strict=True):
        varying = {axis for other in flows for axis, size in enumerate(other.labels.shape) if size > 1}
        if varying and all(tensor.shape[axis] == 1 for axis in varying):
            trace.pin(given.labels, f"{call.path} spreads it over many channels")
            others = [other.labels for other in flows if other is not given]
            widest = max(others, key=np.size)
            given = Flow(widest, np.full((1,) * given.labels.ndim, np.nan, "float32"))
        result.append(given)
    return result
