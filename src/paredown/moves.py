"""Operations that only move data: run on the label arrays themselves, so that no index arithmetic can be wrong.

Also how such an operation's own sizes (a target shape, a slice) are mended once channels went.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paredown.flows import channel_axis, constant_along, pins, run_on_arrays
from paredown.labels import Flow, Trace, compressed
from paredown.network import Call

_NOT_FOLLOWED = "it mixes examples, or positions whose number is not known"


def _sizes(shape: Sequence[int | None]) -> tuple[int, ...]:
    """A tensor's sizes; the batch and unknown ones count as 1."""
    return (1, *(size or 1 for size in shape[1:]))


def _expanded(array: np.ndarray, shape: Sequence[int | None]) -> np.ndarray:
    """The array at the tensor's full size."""
    return np.ascontiguousarray(np.broadcast_to(array, _sizes(shape)))


def move(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """An operation that only moves data is run on the labels themselves."""
    return _moved(call, flows, trace, _expanded)


def transpose(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """The same for one that needs no sizes, so that labels can stay compressed."""
    return _moved(call, flows, trace, lambda array, shape: array)


def _moved(call: Call, flows: list[Flow], trace: Trace, prepare: Callable) -> list[Flow]:
    try:
        labels = _run_on(call, [prepare(flow.labels, t.shape) for flow, t in zip(flows, call.inputs, strict=True)])
        rests = _run_on(call, [prepare(flow.rest, t.shape) for flow, t in zip(flows, call.inputs, strict=True)])
    except Exception:  # each backend has error classes of its own
        return pins(_NOT_FOLLOWED)(call, flows, trace)
    full = prepare is _expanded
    if not all(_fits(a, t.shape, full) for a, t in zip(labels, call.outputs, strict=True)):
        return pins(_NOT_FOLLOWED)(call, flows, trace)
    results = [compressed(Flow(a, b)) for a, b in zip(labels, rests, strict=True)]
    trace.move(call, flows, results)
    return results


def _fits(labels: np.ndarray, shape: Sequence[int | None], full: bool) -> bool:
    """Whether an operation on labels of one example gave what it gives on tensors: their sizes (or 1, if not full)."""
    if len(shape) != labels.ndim:
        return False
    return all(n == size or (n == 1 and not full) for n, size in zip(labels.shape, _sizes(shape), strict=True))


def _run_on(call: Call, arrays: list[np.ndarray]) -> list[np.ndarray]:
    args, kwargs = call.fill({id(tensor): array for tensor, array in zip(call.inputs, arrays, strict=True)})
    return run_on_arrays(call.operation, args, kwargs)


def blocks(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """Channels to positions, or back: no position may go, so on both sides a channel is one label everywhere."""

    def everywhere(flow: Flow) -> Flow:
        rank = flow.labels.ndim
        others = tuple(axis for axis in range(rank) if axis != channel_axis(call.operation, rank))
        return Flow(trace.unify_along(others, flow.labels, "its positions must stay"), flow.rest)

    return [everywhere(flow) for flow in move(call, [everywhere(flow) for flow in flows], trace)]


def concatenate(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """Channels side by side; only the axis of the concatenation, and those that change, are written out."""
    rank = len(call.outputs[0].shape)
    axis = call.operation.axis % rank
    if axis == 0:
        return pins(_NOT_FOLLOWED)(call, flows, trace)

    def joined(arrays: list[np.ndarray]) -> np.ndarray:
        shape = list(np.broadcast_shapes(*([1 if a == axis else n for a, n in enumerate(x.shape)] for x in arrays)))
        parts = []
        for array, tensor in zip(arrays, call.inputs, strict=True):
            shape[axis] = tensor.shape[axis] or 1
            parts.append(np.broadcast_to(array, shape))
        return np.concatenate(parts, axis)

    labels, rest = joined([flow.labels for flow in flows]), joined([flow.rest for flow in flows])
    if call.outputs[0].shape[axis] is None:
        # Positions that cannot be told apart carry the same channels.
        labels = trace.unify_along((axis,), labels, f"{call.path} joins it with a network input or constant")
        return [Flow(labels, constant_along((axis,), rest))]
    result = compressed(Flow(labels, rest))
    trace.move(call, flows, [result])
    return [result]


def get_item(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """Slices: a channel picked by its number must stay; steps of n take one of each n, which go together."""
    labels = flows[0].labels
    parts = _parts(_key(call.arguments), labels.ndim)
    if not all(part is None or isinstance(part, slice | int) for part in parts):
        return pins("only slices, numbers and None are followed")(call, flows, trace)
    of_axes = [part for part in parts if part is not None]
    of_channels = [part for part, size in zip(of_axes, labels.shape, strict=True) if size > 1]
    for axis, part in enumerate(of_axes):
        step = (part.step or 1) if isinstance(part, slice) else 1
        if step == 1 or labels.shape[axis] == 1:
            continue
        if step < 0 or labels.shape[axis] % step:
            return pins("of channels only slices whose steps divide their number are followed")(call, flows, trace)
        by_step = labels.reshape(*labels.shape[:axis], -1, step, *labels.shape[axis + 1 :])
        trace.unify_along((axis + 1,), by_step, f"{call.path} takes one of each {step}, constants among them")
    results = move(call, flows, trace)
    if any(isinstance(part, int) for part in of_channels):
        trace.pin(results[0].labels, f"{call.path} picks it by its number")
    return results


def _parts(key: Any, rank: int) -> list:
    """What the key says of each axis; None makes a new one in between."""
    parts = list(key) if isinstance(key, tuple | list) else [key]
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    at = next(i for i, part in enumerate(parts) if part is Ellipsis)
    new = sum(part is None for part in parts)
    parts[at : at + 1] = [slice(None)] * (rank - len(parts) + 1 + new)
    return parts


def _key(arguments: tuple[tuple, dict]) -> Any:
    args, kwargs = arguments
    return args[1] if len(args) > 1 else kwargs["key"]


# How config fields and arguments that name sizes are mended. `sizes` holds, for every output tensor, what is left of
# its shape; `kept` says for every axis of the input which places are left, or None where all are.
def refit_target_shape(call: Call, config: dict, sizes: list[tuple]) -> dict:
    return {**config, "target_shape": _refitted(config["target_shape"], sizes[0][1:], call.outputs[0].shape[1:])}


def refit_newshape(call: Call, config: dict, sizes: list[tuple]) -> dict:
    return {**config, "newshape": _refitted(config["newshape"], sizes[0], call.outputs[0].shape)}


def _refitted(written: Sequence, left: Sequence, before: Sequence) -> tuple:
    """A written shape with changed sizes mended; -1 stays -1."""
    return tuple(w if w == -1 or b == n else n for w, n, b in zip(written, left, before, strict=True))


def refit_split(call: Call, config: dict, sizes: list[tuple]) -> dict:
    axis = config.get("axis", 0)
    ends = np.cumsum([size[axis] for size in sizes])[:-1]
    return {**config, "indices_or_sections": tuple(int(end) for end in ends)}


def refit_get_item(call: Call, args: tuple, kwargs: dict, kept: list) -> tuple[tuple, dict]:
    axes = iter(kept)
    parts = _parts(_key((args, kwargs)), len(kept))
    mended = tuple(None if part is None else _refit_part(part, next(axes)) for part in parts)
    if len(args) > 1:
        return (args[0], mended), kwargs
    return args, {**kwargs, "key": mended}


def _refit_part(part: slice | int, left: np.ndarray | None) -> slice | int:
    """A slice or number on an axis of which only the places `left` (boolean) stay."""
    if left is None:
        return part
    if isinstance(part, int):
        return int(left[: part % left.size].sum())
    start, stop, step = part.indices(left.size)
    if step == 1:
        return slice(int(left[:start].sum()), int(left[:stop].sum()))
    # Of each `step` places all stay or none, so that a place within them is what it was.
    whole = [int(left[: at - at % step].sum()) for at in (start, stop)]
    begun = stop % step if stop < left.size and left[stop] else 0
    return slice(whole[0] + start % step, whole[1] + begun, step)
