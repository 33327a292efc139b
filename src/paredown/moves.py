"""Operations that only move data: run on the label arrays themselves, so that no index arithmetic can be wrong.

Also how such an operation's own sizes (a target shape, a slice) are mended once channels went.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paredown.flows import pins, run_on_arrays
from paredown.labels import Flow, Trace, compressed
from paredown.network import Call


def _expanded(array: np.ndarray, shape: Sequence[int | None]) -> np.ndarray:
    """The array at the tensor's full size; the batch and unknown sizes count as 1."""
    sizes = [size or 1 for size in shape]
    sizes[0] = 1
    return np.ascontiguousarray(np.broadcast_to(array, sizes))


def move(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """An operation that only moves data is run on the labels themselves."""
    return _moved(call, flows, trace, _expanded)


def transpose(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """The same for one that needs no sizes, so that labels can stay compressed."""
    return _moved(call, flows, trace, lambda array, shape: array)


def _moved(call: Call, flows: list[Flow], trace: Trace, prepare: Callable) -> list[Flow]:
    labels = _run_on(call, [prepare(flow.labels, t.shape) for flow, t in zip(flows, call.inputs, strict=True)])
    rests = _run_on(call, [prepare(flow.rest, t.shape) for flow, t in zip(flows, call.inputs, strict=True)])
    results = [compressed(Flow(a, b)) for a, b in zip(labels, rests, strict=True)]
    trace.move(call, flows, results)
    return results


def _run_on(call: Call, arrays: list[np.ndarray]) -> list[np.ndarray]:
    args, kwargs = call.fill({id(tensor): array for tensor, array in zip(call.inputs, arrays, strict=True)})
    return run_on_arrays(call.operation, args, kwargs)


def concatenate(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """Channels side by side; only the axis of the concatenation, and those that change, are written out."""
    rank = len(call.outputs[0].shape)
    axis = call.operation.axis % rank

    def joined(arrays: list[np.ndarray]) -> np.ndarray:
        shape = list(np.broadcast_shapes(*([1 if a == axis else n for a, n in enumerate(x.shape)] for x in arrays)))
        parts = []
        for array, tensor in zip(arrays, call.inputs, strict=True):
            shape[axis] = tensor.shape[axis] or 1
            parts.append(np.broadcast_to(array, shape))
        return np.concatenate(parts, axis)

    result = compressed(Flow(joined([flow.labels for flow in flows]), joined([flow.rest for flow in flows])))
    trace.move(call, flows, [result])
    return [result]


def get_item(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
    """Slices: an entry picked by its number must stay."""
    key = _key(call.arguments)
    parts = key if isinstance(key, tuple | list) else (key,)
    simple = all(part is Ellipsis or isinstance(part, slice | int) for part in parts)
    if not simple or any(isinstance(part, slice) and part.step not in (None, 1) for part in parts):
        return pins("only slices of step 1 are followed")(call, flows, trace)
    results = move(call, flows, trace)
    if any(isinstance(part, int) for part in parts):
        trace.pin(results[0].labels, f"{call.path} picks it by its number")
    return results


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
    key = _key((args, kwargs))
    parts = list(key) if isinstance(key, tuple | list) else [key]
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    at = parts.index(Ellipsis)
    parts[at : at + 1] = [slice(None)] * (len(kept) - len(parts) + 1)
    mended = tuple(_refit_part(part, left) for part, left in zip(parts, kept, strict=True))
    if len(args) > 1:
        return (args[0], mended), kwargs
    return args, {**kwargs, "key": mended}


def _refit_part(part: slice | int, left: np.ndarray | None) -> slice | int:
    """A slice or number on an axis of which only the places `left` (boolean) stay."""
    if left is None:
        return part
    if isinstance(part, int):
        return int(left[: part % left.size].sum())
    start, stop, _ = part.indices(left.size)
    return slice(int(left[:start].sum()), int(left[:stop].sum()))
