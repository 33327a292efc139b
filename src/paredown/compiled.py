"""Functions of arrays made fast, and their gradients, on the backend that Keras runs on: the few lines that differ.

A function takes lists of arrays whose first axis is the batch. It is traced once, whatever the number of rows.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import tree


def compiled(function: Callable, model: Any) -> Callable:
    """`function(*lists of arrays)`, compiled.

    Args:
        function: Of `keras.ops` and the model's layers at inference; gives any structure of tensors.
        model: The model whose layers it calls.
    """
    return _BACKENDS[keras.backend.backend()][0](function, model)


def gradient(function: Callable, model: Any) -> Callable:
    """The gradient of `function(first, *more)`, a scalar, to the arrays of its first argument, compiled."""
    return _BACKENDS[keras.backend.backend()][1](function, model)


def _tensorflow(function: Callable, model: Any) -> Callable:
    import tensorflow as tf

    traced: list[Callable] = []
    fixed = any(tensor.shape[0] is not None for tensor in model.inputs)

    def call(*args):
        if not traced:
            # An open batch size, so that a last batch of fewer rows is not traced again; unless the network fixes it.
            specs = tree.map_structure(
                lambda a: tf.TensorSpec((a.shape[0] if fixed else None, *a.shape[1:]), a.dtype), args
            )
            traced.append(tf.function(function, input_signature=specs, autograph=False))
        return traced[0](*args)

    return call


def _tensorflow_gradient(function: Callable, model: Any) -> Callable:
    import tensorflow as tf

    def of_first(first, *more):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(first)
            value = function(first, *more)
        return tape.gradient(value, first, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return _tensorflow(of_first, model)


def _jax(function: Callable, model: Any, transform: Callable = lambda function: function) -> Callable:
    import jax  # pyright: ignore[reportMissingImports]

    def pure(first, more, values):
        # Weights are arguments: as constants of the program they would be compiled into it.
        with keras.StatelessScope(state_mapping=list(zip(model.variables, values, strict=True))):
            return function(first, *more)

    traced = jax.jit(transform(pure))
    return lambda first, *more: traced(first, more, [variable.value for variable in model.variables])


def _jax_gradient(function: Callable, model: Any) -> Callable:
    import jax  # pyright: ignore[reportMissingImports]

    return _jax(function, model, jax.grad)


def _torch(function: Callable, model: Any) -> Callable:
    import torch  # pyright: ignore[reportMissingImports]

    def call(*args):
        with torch.no_grad():
            return function(*tree.map_structure(keras.ops.convert_to_tensor, args))

    return call


def _torch_gradient(function: Callable, model: Any) -> Callable:
    import torch  # pyright: ignore[reportMissingImports]

    def call(first, *more):
        first = [keras.ops.convert_to_tensor(array).requires_grad_() for array in first]
        value = function(first, *tree.map_structure(keras.ops.convert_to_tensor, more))
        found = torch.autograd.grad(value, first, allow_unused=True)
        return [torch.zeros_like(a) if g is None else g for a, g in zip(first, found, strict=True)]

    return call


_BACKENDS: dict[str, tuple[Callable, Callable]] = {
    "tensorflow": (_tensorflow, _tensorflow_gradient),
    "jax": (_jax, _jax_gradient),
    "torch": (_torch, _torch_gradient),
}
