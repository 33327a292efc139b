"""A network without some of its channels: narrower layers, weights sliced by the same components."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.backend import get_keras_mask, set_keras_mask

from paredown.channels import Channels, Move
from paredown.errors import CheckError
from paredown.flows import channel_axis, run_on_arrays
from paredown.layer_rules import groups_of, rule_for
from paredown.network import Call, Network
from paredown.parts import key
from paredown.rebuild import copied, copy_weights, from_config, rebuild
from paredown.weight_places import Place, along, places


def narrow(model: Any, channels: Channels, keep: np.ndarray) -> keras.Model:
    """Builds the network without the channels that are not kept.

    Args:
        model: The network that `channels` describes; it is not touched.
        keep: Boolean, shape (channels.count,), True for components that stay.
    Returns:
        A Functional model whose outputs are those of `model` with the removed channels set to zero.
    """
    moves = {move.call.path: move for move in channels.moves}

    def left(path: str) -> int | None:
        return int(keep[channels.outputs[path]].sum()) if path in channels.outputs else None

    def remake(call: Call) -> Any:
        rule = rule_for(call.operation)
        config = call.operation.get_config()
        if rule and rule.resize:
            config = rule.resize(config, lambda name: left(key(call.path, name)))
        elif rule and rule.width and call.path in channels.outputs:
            config[rule.width] = left(call.path)
            if groups_of(rule, call.operation) > 1:
                config[rule.groups] = _groups_left(keep[channels.reads[call.path]], groups_of(rule, call.operation))
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
        copy_weights(call, new, sliced_weights(call, channels, keep))

    def opened(call: Call) -> bool:
        return _loses_any(call, channels, keep)

    result = rebuild(model, remake, carry, arguments, opened)
    _check_moves(channels, keep, result)
    return result


def _loses_any(call: Call, channels: Channels, keep: np.ndarray) -> bool:
    """Whether a custom layer that was looked into is given, or holds, removed channels."""
    seen = list(channels.entered.get(call.path, []))
    for inside in call.inner.all_calls() if call.inner else ():
        seen += [channels.outputs[inside.path]] if inside.path in channels.outputs else []
        seen += [channels.reads[inside.path]] if inside.path in channels.reads else []
    return not all(keep[components].all() for components in seen)


def removed_channels(channels: Channels, keep: np.ndarray) -> dict[str, np.ndarray]:
    """Layer path -> sorted indices of its removed output channels, for layers with weights that lost any."""
    return {path: gone for path, gone in _removed(channels, keep).items() if path not in channels.inside}


def removed_inside(channels: Channels, keep: np.ndarray) -> dict[str, np.ndarray]:
    """Key such as "attention/heads" -> sorted indices of what was removed inside the layer, where anything was."""
    return {path: gone for path, gone in _removed(channels, keep).items() if path in channels.inside}


def _removed(channels: Channels, keep: np.ndarray) -> dict[str, np.ndarray]:
    lost = {path: np.flatnonzero(~keep[components]) for path, components in channels.outputs.items()}
    return {path: indices for path, indices in lost.items() if indices.size}


def sliced_weights(call: Call, channels: Channels, keep: np.ndarray) -> dict[int, np.ndarray]:
    """The layer's weights without the removed channels, by the `id` of the variable.

    A removed channel that is a constant other than zero where the layer reads it goes into the layer's bias.
    """
    result = {}
    for place in places(call):
        value = keras.ops.convert_to_numpy(place.weight)
        if place.name == "bias" and place.axes == ("o",) and place.reads in channels.reads:
            value = value + _constant_input(place, channels, keep)
        for axis in range(value.ndim):
            components = along(place, axis, channels)
            if components is not None:
                value = np.compress(keep[components], value, axis)
        result[id(place.weight)] = value
    return result


def _groups_left(kept: np.ndarray, groups: int) -> int:
    return int(kept.reshape(groups, -1).any(1).sum())


def _constant_input(place: Place, channels: Channels, keep: np.ndarray) -> np.ndarray | float:
    """What removed input channels add to each output, where their rest is not zero.

    [o] = [i] @ sum of [..., i, o]; in groups each output reads the inputs of its own group.
    """
    rest = np.where(keep[channels.reads[place.reads]], 0, channels.rest[place.reads])
    if not rest.any():
        return 0.0
    kernel = keras.ops.convert_to_numpy(place.owner.kernel)
    whole = kernel.astype("float64").reshape(-1, *kernel.shape[-2:]).sum(0)
    by_group = rest.reshape(-1, whole.shape[0])
    by_output = np.repeat(by_group, whole.shape[1] // len(by_group), 0)
    return (by_output.T * whole).sum(0).astype(kernel.dtype)


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
    """The outputs of the original network with the removed channels set to zero.

    A channel is zero where its layer gives it, and where the layer itself reads it: a recurrent unit says nothing to
    the other units either, a head's slice of the output projection is zero.

    Args:
        removed: As `removed_channels` and `removed_inside` give it.
        inputs: One array per network input, shape (batch, ...).
    """

    def step(call: Call, args: tuple, kwargs: dict) -> list[Any]:
        return masked_results(call, removed, args, kwargs)

    with fresh_states(network):
        return [keras.ops.convert_to_numpy(y) for y in network.walk(network.cast_inputs(inputs), step)]


def masked_results(call: Call, removed: dict[str, np.ndarray], args: tuple, kwargs: dict) -> list[Any]:
    """What one call gives at inference with the removed channels set to zero; arguments as for `masked_outputs`."""
    outputs = _with_silent(call, removed, args, kwargs)
    states = rule.states if (rule := rule_for(call.operation)) else None
    of_outputs = [call.path, *[None if states is None else key(call.path, states)] * (len(outputs) - 1)]
    return [_masked(call, y, removed.get(path)) for y, path in zip(outputs, of_outputs, strict=True)]


def _with_silent(call: Call, removed: dict[str, np.ndarray], args: tuple, kwargs: dict) -> list[Any]:
    """The call's outputs with zero for the weights by which the layer reads removed channels of its own."""
    silent = {}
    for place in places(call):
        if "r" in place.axes and place.own in removed:
            value = np.array(keras.ops.convert_to_numpy(place.weight))
            np.moveaxis(value, place.axes.index("r"), 0)[removed[place.own]] = 0
            silent[id(place.weight)] = keras.ops.convert_to_tensor(value, place.weight.dtype)
    return call.infer(args, kwargs, silent)


def _masked(call: Call, output: Any, gone: np.ndarray | None) -> Any:
    if gone is None:
        return output
    shape = [1] * len(output.shape)
    axis = channel_axis(call.operation, len(shape))
    shape[axis] = output.shape[axis]
    mask = np.ones(shape[axis], "float32")
    mask[gone] = 0
    result = output * keras.ops.cast(mask.reshape(shape), output.dtype)
    # Keras keeps which steps count beside the tensor.
    set_keras_mask(result, get_keras_mask(output))
    return result


@contextlib.contextmanager
def fresh_states(network: Network) -> Iterator[None]:
    """Within the block stateful layers start from zero; afterwards they are as they were before."""
    layers = {id(call.operation): call.operation for call in network.all_calls()}.values()
    states = [state for layer in layers for state in _states(layer)]
    before = [keras.ops.convert_to_numpy(state) for state in states]
    try:
        for state in states:
            state.assign(keras.ops.zeros_like(state))
        yield
    finally:
        for state, value in zip(states, before, strict=True):
            state.assign(value)


def _states(layer: Any) -> list[Any]:
    inner = [getattr(layer, name, None) for name in ("forward_layer", "backward_layer")]
    return [state for part in [layer, *inner] for state in keras.tree.flatten(getattr(part, "states", None) or [])]
