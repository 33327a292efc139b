"""A network without some of its channels: narrower layers, weights sliced by the same components."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from paredown.channels import Channels, Move
from paredown.errors import CheckError
from paredown.flows import channel_axis, run_on_arrays
from paredown.layer_rules import rule_for, weight_axes
from paredown.network import Call, Network
from paredown.rebuild import copied, copy_weights, from_config, rebuild


def narrow(model: Any, channels: Channels, keep: np.ndarray) -> keras.Model:
    """Builds the network without the channels that are not kept.

    Args:
        model: The network that `channels` describes; it is not touched.
        keep: Boolean, shape (channels.count,), True for components that stay.
    Returns:
        A Functional model whose outputs are those of `model` with the removed channels set to zero.
    """
    moves = {move.call.path: move for move in channels.moves}

    def remake(call: Call) -> Any:
        rule = rule_for(call.operation)
        config = call.operation.get_config()
        if rule and rule.width and call.path in channels.outputs:
            config[rule.width] = int(keep[channels.outputs[call.path]].sum())
        elif rule and rule.refit_config and call.path in moves:
            config = rule.refit_config(call, config, _sizes_left(moves[call.path], keep))
        else:
            return copied(call)
        return from_config(call.operation, config)

    def arguments(call: Call, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        rule = rule_for(call.operation)
        if rule and rule.refit_arguments and call.path in moves:
            move = moves[call.path]
            kept = _kept_along_axes(move.inputs[0], keep)
            return rule.refit_arguments(call, args, kwargs, kept)
        return args, kwargs

    def carry(call: Call, new: Any) -> None:
        rule = rule_for(call.operation)
        if rule is None or not rule.weights or call.path not in channels.outputs:
            copy_weights(call, new)
            return
        for name, value in sliced_weights(call, channels, keep).items():
            next(weight for weight in new.weights if weight.name == name).assign(value)

    result = rebuild(model, remake, carry, arguments)
    _check_moves(channels, keep, result)
    return result


def removed_channels(channels: Channels, keep: np.ndarray) -> dict[str, np.ndarray]:
    """Layer path -> sorted indices of its removed output channels, for layers with weights that lost any."""
    lost = {path: np.flatnonzero(~keep[components]) for path, components in channels.outputs.items()}
    return {path: indices for path, indices in lost.items() if indices.size}


def sliced_weights(call: Call, channels: Channels, keep: np.ndarray) -> dict[str, np.ndarray]:
    """The layer's weights without the removed channels, by name.

    A removed channel that is a constant other than zero where the layer reads it goes into the layer's bias.
    """
    rule = rule_for(call.operation)
    assert rule is not None  # Only layers with a rule lose channels.
    kept_in = keep[channels.reads[call.path]] if call.path in channels.reads else np.ones(0, bool)
    kept_out = keep[channels.outputs[call.path]]
    result = {}
    for weight in call.operation.weights:
        value = keras.ops.convert_to_numpy(weight)
        axes = weight_axes(rule, weight)
        if weight.name == "bias" and axes == ("o",):
            value = value + _constant_input(call, channels, kept_in)
        for axis, letter in enumerate(axes):
            kept = {"i": kept_in, "o": kept_out, "im": kept_out if weight.name == "bias" else None}.get(letter)
            if letter == "im" and kept is None:
                kept = np.repeat(kept_in, value.shape[axis] // max(1, kept_in.size))
            # A size of 1 on a channel axis is shared by all channels (PReLU with shared axes).
            if kept is not None and value.shape[axis] == kept.size:
                value = np.compress(kept, value, axis)
        result[weight.name] = value
    return result


def _constant_input(call: Call, channels: Channels, kept_in: np.ndarray) -> np.ndarray | float:
    """What removed input channels add to each output, where their rest is not zero: [o] = [i] @ sum of [..., i, o]."""
    rest = np.where(kept_in, 0, channels.rest.get(call.path, np.zeros(0)))
    if not rest.any():
        return 0.0
    kernel = keras.ops.convert_to_numpy(call.operation.kernel)
    whole = kernel.astype("float64").reshape(-1, *kernel.shape[-2:]).sum(0)
    return (rest @ whole).astype(kernel.dtype)


def _kept_along_axes(components: np.ndarray, keep: np.ndarray) -> list[np.ndarray | None]:
    """For every axis of a tensor the places that are left; None along an axis where channels do not change."""
    kept = keep[components]
    others = [tuple(other for other in range(kept.ndim) if other != axis) for axis in range(kept.ndim)]
    return [np.any(kept, others[axis]) if size > 1 else None for axis, size in enumerate(kept.shape)]


def _sizes_left(move: Move, keep: np.ndarray) -> list[tuple]:
    """What is left of the shape of each output tensor."""
    sizes = []
    for tensor, components in zip(move.call.outputs, move.outputs, strict=True):
        kept = _kept_along_axes(components, keep)
        sizes.append(tuple(n if k is None else int(k.sum()) for n, k in zip(tensor.shape, kept, strict=True)))
    return sizes


def _check_moves(channels: Channels, keep: np.ndarray, model: Any) -> None:
    """Runs every rebuilt operation that moves channels on what is left of its labels: each must land where it was.

    Raises:
        CheckError: If one does not, so that a wrong network is never handed out.
    """
    rebuilt = {}
    for call in Network(model).all_calls():
        rebuilt.setdefault(call.path, []).append(call)
    seen: dict[str, int] = {}
    for move in channels.moves:
        number = seen.get(move.call.path, 0)
        seen[move.call.path] = number + 1
        if all(keep[array].all() for array in move.inputs):
            continue
        calls = rebuilt[move.call.path]
        new = calls[number % len(calls)]
        given = [_left(a, t.shape, keep) for a, t in zip(move.inputs, move.call.inputs, strict=True)]
        expected = [_left(a, t.shape, keep) for a, t in zip(move.outputs, move.call.outputs, strict=True)]
        args, kwargs = new.fill({id(tensor): array for tensor, array in zip(new.inputs, given, strict=True)})
        for result, wanted in zip(run_on_arrays(new.operation, args, kwargs), expected, strict=True):
            if not np.array_equal(result, wanted):
                raise CheckError(
                    f"{move.call.path} ({type(move.call.operation).__name__}) does not give the channels that are "
                    f"left in their order: {result.shape} against {wanted.shape}. Exclude the layers before it."
                )


def _left(components: np.ndarray, shape: tuple, keep: np.ndarray) -> np.ndarray:
    """A tensor's components at full size, without the removed ones."""
    sizes = [size or 1 for size in shape]
    sizes[0] = 1
    full = np.broadcast_to(components, sizes)
    for axis, kept in enumerate(_kept_along_axes(components, keep)):
        if kept is not None:
            full = np.compress(kept, full, axis)
    return np.ascontiguousarray(full).astype("int32")


def masked_outputs(network: Network, removed: dict[str, np.ndarray], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of the original network with the removed channels set to zero where their layers give them.

    Args:
        inputs: One array per network input, shape (batch, ...).
    """

    def step(call: Call, args: tuple, kwargs: dict) -> list[Any]:
        outputs = call.infer(args, kwargs)
        if call.path in removed:
            rank = len(outputs[0].shape)
            mask = np.ones(outputs[0].shape[channel_axis(call.operation, rank)], "float32")
            mask[removed[call.path]] = 0
            shape = [1] * rank
            shape[channel_axis(call.operation, rank)] = -1
            outputs = [outputs[0] * keras.ops.cast(mask.reshape(shape), outputs[0].dtype)]
        return outputs

    return [keras.ops.convert_to_numpy(y) for y in network.walk(network.cast_inputs(inputs), step)]
