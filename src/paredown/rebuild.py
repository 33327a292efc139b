"""The only code that builds models: the same calls again, with layers copied, remade or swapped."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import tree
from keras.src.saving.serialization_lib import SafeModeScope

from paredown.errors import ModelError
from paredown.network import Call, Network

Remake = Callable[[Call], Any]
Carry = Callable[[Call, Any], None]
Arguments = Callable[[Call, tuple, dict], tuple[tuple, dict]]
Opened = Callable[[Call], bool]


def copied(call: Call) -> Any:
    """The operation again, from its config: same name, same settings, weights of its own."""
    return from_config(call.operation, call.operation.get_config())


def from_config(operation: Any, config: dict, kind: type | None = None) -> Any:
    """A new operation of the same class, or of class `kind`.

    Raises:
        ModelError: If the class cannot be made from its config.
    """
    try:
        # What is copied is loaded already: whether its code may run was decided then.
        with SafeModeScope(False):
            return (kind or type(operation)).from_config(_unbuilt(config))
    except (TypeError, ValueError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"Every layer must be made again from its get_config(). Received: {operation.name!r} of class "
            f"{type(operation).__name__}, which cannot: {reason}. Mend its get_config() or from_config()."
        ) from error


def _unbuilt(config: Any) -> Any:
    """The config without the shapes with which layers inside it were built: the new ones may differ."""
    if isinstance(config, dict):
        return {key: _unbuilt(value) for key, value in config.items() if key != "build_config"}
    return type(config)(map(_unbuilt, config)) if type(config) in (list, tuple) else config


def copy_weights(call: Call, new: Any, instead: dict[int, Any] | None = None) -> None:
    """Gives the new layer the values of all the old one's variables, or those of `instead` (by the variable's id).

    Variables that the new layer has behind those of the old one are its own matter.
    """
    old = call.operation.variables
    for before, after in zip(old, new.variables[: len(old)], strict=True):
        # A copy: JAX's arrays would be shared, and training the one gives away the memory of both.
        after.assign(keras.ops.copy((instead or {}).get(id(before), before)))
    if hasattr(new, "finalize_state"):
        # Normalization works with constants that it makes of its variables.
        new.finalize_state()


def unchanged(call: Call, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    return args, kwargs


def whole(call: Call) -> bool:
    return False


def rebuild(
    model: Any,
    remake: Remake = copied,
    carry: Carry = copy_weights,
    arguments: Arguments = unchanged,
    opened: Opened = whole,
) -> keras.Model:
    """Builds a network anew, call by call; without further arguments it is the same network, to the bit.

    Args:
        model: A built Functional or Sequential model; it is not touched.
        remake: `remake(call)` gives the operation (or any callable of the call's arguments) to put in place of the
            call's; asked once per operation, however often that is called.
        carry: `carry(call, new)` gives a new layer its weights, once it is built.
        arguments: `arguments(call, args, kwargs)` mends arguments that are no tensors.
        opened: `opened(call)` says whether a custom layer that was looked into becomes a nested model of its calls,
            of the same name; else it is remade whole, as what it is.
    Returns:
        A Functional model with the same inputs, outputs, names and compile configuration.
    """
    network, made = Network(model), {}
    new = _rebuild(network, [_shape(t) for t in network.inputs], made, remake, carry, arguments, opened)
    _copy_trainable(network, new, made)
    compile_like(model, new)
    return new


def compile_like(source: Any, target: Any) -> None:
    """Compiles `target` as `source` is compiled, with objects of its own; leaves it alone where `source` is not."""
    configuration = compile_configuration(source)
    if configuration:
        target.compile(**configuration)
        if target.optimizer is not None:
            target.optimizer.build(target.trainable_variables)


def compile_configuration(model: Any) -> dict[str, Any]:
    """What a model was compiled with, as new objects; empty where it was not compiled.

    Raises:
        ModelError: If a loss or metric cannot be made again, such as a lambda.
    """
    if not getattr(model, "compiled", False):
        return {}
    try:
        with keras.saving.custom_object_scope(_own_objects(model._compile_config.config)):
            return keras.saving.deserialize_keras_object(model.get_compile_config())
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"A compiled model's optimizer, loss and metrics must be such that Keras can make them again. Received: "
            f"{model.name!r}: {str(error).strip().splitlines()[0]} Give them names (no lambda), or compile it anew."
        ) from error


def _own_objects(compile_arguments: dict) -> dict[str, Any]:
    """The functions and classes that a model was compiled with, by name: nobody need have registered them."""
    leaves = [leaf for leaf in tree.flatten(dict(compile_arguments)) if callable(leaf)]
    found = [leaf if hasattr(leaf, "__name__") else type(leaf) for leaf in leaves]
    return {item.__name__: item for item in found if not item.__module__.startswith("keras.")}


def _rebuild(
    network: Network,
    shapes: list[tuple],
    made: dict[int, Any],
    remake: Remake,
    carry: Carry,
    arguments: Arguments,
    opened: Opened,
) -> Any:
    layers: list[tuple[Call, Any]] = []

    def step(call: Call, args: tuple, kwargs: dict) -> list[Any]:
        key = id(call.operation)
        first = key not in made
        inner = call.inner if not call.is_composite or opened(call) else None
        if first:
            if inner:
                shapes = _inner_shapes(call, args, kwargs)
                made[key] = _rebuild(inner, shapes, made, remake, carry, arguments, opened)
            else:
                made[key] = remake(call)
        if inner and call.is_composite:
            args, kwargs = _as_of_a_model(inner, args, kwargs)
        args, kwargs = arguments(call, args, kwargs)
        with _no_random_values(made[key]) if first else contextlib.nullcontext():
            outputs = tree.flatten(made[key](*args, **kwargs))
        if first and inner is None and call.is_layer:
            layers.append((call, made[key]))
        return outputs

    inputs = [_input_like(tensor, shape) for tensor, shape in zip(network.inputs, shapes, strict=True)]
    outputs = network.walk(inputs, step, descend=False)
    model = keras.Model(network.pack_inputs(inputs), network.pack_outputs(outputs), name=network.model.name)
    for call, new in layers:
        carry(call, new)
    return model


def _copy_trainable(network: Network, new: Any, made: dict[int, Any]) -> None:
    """From the outermost model inwards, for a model hands what it is told on to its layers."""
    if new.trainable != network.model.trainable:
        new.trainable = network.model.trainable
    for call in network.calls:
        layer = made[id(call.operation)]
        if call.inner and isinstance(layer, keras.Model):
            _copy_trainable(call.inner, layer, made)
        elif call.is_layer and getattr(layer, "trainable", None) not in (None, call.operation.trainable):
            layer.trainable = call.operation.trainable
        if call.is_composite and not isinstance(layer, keras.Model):
            pairs = zip(call.operation._flatten_layers(False), layer._flatten_layers(False), strict=True)
            for before, after in pairs:
                if after.trainable != before.trainable:
                    after.trainable = before.trainable


def _as_of_a_model(inner: Network, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """A custom layer's arguments as its nested model takes them: the tensors alone, in order."""
    tensors = [leaf for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, keras.KerasTensor)]
    training = {"training": kwargs["training"]} if kwargs.get("training") is not None else {}
    return (inner.pack_inputs(tensors),), training


def _inner_shapes(call: Call, args: tuple, kwargs: dict) -> list[tuple]:
    """The input shapes of a nested model: its own, with the sizes that changed where it is called."""
    assert call.inner is not None
    given = [leaf for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, keras.KerasTensor)]
    shapes = []
    for own, before, now in zip(call.inner.inputs, call.inputs, given, strict=True):
        changed = dict(enumerate(now.shape)) if len(now.shape) == len(own.shape) else {}
        changed = {axis: size for axis, size in changed.items() if size != before.shape[axis]}
        shapes.append(tuple(changed.get(axis, size) for axis, size in enumerate(_shape(own))))
    return shapes


def _shape(tensor: Any) -> tuple:
    return tuple(tensor.shape)


def _input_like(tensor: Any, shape: tuple) -> Any:
    layer = tensor._keras_history.operation
    return keras.layers.InputLayer.from_config({**layer.get_config(), "batch_shape": shape}).output


@contextlib.contextmanager
def _no_random_values(layer: Any) -> Iterator[None]:
    """Builds the layer without drawing initial values that would be overwritten at once."""
    inner = layer._flatten_layers() if isinstance(layer, keras.layers.Layer) else [layer]
    kept = [
        (part, name, initializer)
        for part in inner
        for name, initializer in vars(part).items()
        if name.endswith("_initializer") and initializer is not None
    ]
    for part, name, _ in kept:
        setattr(part, name, keras.initializers.Zeros())
    try:
        yield
    finally:
        for part, name, initializer in kept:
            setattr(part, name, initializer)
