"""The only code that builds models: the same calls again, with layers copied, remade or swapped."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import tree

from paredown.errors import ModelError
from paredown.network import Call, Network

Remake = Callable[[Call], Any]
Carry = Callable[[Call, Any], None]
Arguments = Callable[[Call, tuple, dict], tuple[tuple, dict]]


def copied(call: Call) -> Any:
    """The operation again, from its config: same name, same settings, weights of its own."""
    return from_config(call.operation, call.operation.get_config())


def from_config(operation: Any, config: dict) -> Any:
    """A new operation of the same class.

    Raises:
        ModelError: If the class cannot be made from its config.
    """
    try:
        return type(operation).from_config(config)
    except (TypeError, ValueError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"Every layer must be made again from its get_config(). Received: {operation.name!r} of class "
            f"{type(operation).__name__}, which cannot: {reason}. Mend its get_config() or from_config()."
        ) from error


def copy_weights(call: Call, new: Any) -> None:
    """Gives the new layer the values of all the old one's variables."""
    for before, after in zip(call.operation.variables, new.variables, strict=True):
        after.assign(before)


def unchanged(call: Call, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    return args, kwargs


def rebuild(
    model: Any, remake: Remake = copied, carry: Carry = copy_weights, arguments: Arguments = unchanged
) -> keras.Model:
    """Builds a network anew, call by call; without further arguments it is the same network, to the bit.

    Args:
        model: A built Functional or Sequential model; it is not touched.
        remake: `remake(call)` gives the operation (or any callable of the call's arguments) to put in place of the
            call's; asked once per operation, however often that is called.
        carry: `carry(call, new)` gives a new layer its weights, once it is built.
        arguments: `arguments(call, args, kwargs)` mends arguments that are no tensors.
    Returns:
        A Functional model with the same inputs, outputs, names and compile configuration.
    """
    new = _rebuild(Network(model), {}, remake, carry, arguments)
    if getattr(model, "compiled", False):
        new.compile_from_config(model.get_compile_config())
    return new


def _rebuild(network: Network, made: dict[int, Any], remake: Remake, carry: Carry, arguments: Arguments) -> Any:
    layers: list[tuple[Call, Any]] = []

    def step(call: Call, args: tuple, kwargs: dict) -> list[Any]:
        key = id(call.operation)
        first = key not in made
        if first:
            made[key] = _rebuild(call.inner, made, remake, carry, arguments) if call.inner else remake(call)
        args, kwargs = arguments(call, args, kwargs)
        with _no_random_values(made[key]) if first else contextlib.nullcontext():
            outputs = tree.flatten(made[key](*args, **kwargs))
        if first and call.inner is None and call.is_layer:
            layers.append((call, made[key]))
        return outputs

    inputs = [_input_like(tensor) for tensor in network.inputs]
    outputs = network.walk(inputs, step, descend=False)
    model = keras.Model(network.pack_inputs(inputs), network.pack_outputs(outputs), name=network.model.name)
    model.trainable = network.model.trainable
    for call, new in layers:
        new.trainable = call.operation.trainable
        carry(call, new)
    return model


def _input_like(tensor: Any) -> Any:
    layer = tensor._keras_history.operation
    return keras.layers.InputLayer.from_config(layer.get_config()).output


@contextlib.contextmanager
def _no_random_values(layer: Any) -> Iterator[None]:
    """Builds the layer without drawing initial values that would be overwritten at once."""
    names = [name for name in vars(layer) if name.endswith("_initializer") and getattr(layer, name) is not None]
    kept = {name: getattr(layer, name) for name in names}
    for name in names:
        setattr(layer, name, keras.initializers.Zeros())
    try:
        yield
    finally:
        for name, initializer in kept.items():
            setattr(layer, name, initializer)
