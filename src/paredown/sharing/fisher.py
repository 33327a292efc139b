"""What single weights matter to the loss: the diagonal of the empirical Fisher information.

With g the gradient of one example's loss to a weight, F = mean over the examples of g². Near a minimum changing a
weight by δ costs about ½·F·δ².
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from paredown.compiled import gradient
from paredown.data import Split
from paredown.network import Network
from paredown.progress import task


def fisher(network: Network, variables: dict[str, Any], split: Split, loss: Callable) -> dict[str, np.ndarray]:
    """Streams data through the network and back, one example at a time, weights untouched.

    Args:
        network: The network, at inference.
        variables: Anything that names them -> variables of the network.
        split: Inputs, and labels where `loss` needs them.
        loss: `loss(outputs, labels)`, both lists of tensors (n, ...), gives each example's loss, shape (n,).
    Returns:
        The same names -> F, in the variable's shape, float64.
    Source:
        Martens 2020, arXiv:1412.1193, section 11 (empirical Fisher).
    """
    of_variables = gradient(_loss_of(network, list(variables.values()), loss), network.model)
    values = [keras.ops.convert_to_numpy(variable)[None].astype("float32") for variable in variables.values()]
    sums = [np.zeros(value.shape[1:]) for value in values]
    with task("Fisher information", total=len(split)) as advance:
        for x, y in split.batches(1):
            found = of_variables(values, _columns(x), _columns(y))
            for total, each in zip(sums, found, strict=True):
                total += np.square(keras.ops.convert_to_numpy(each)[0], dtype="float64")
            advance(1)
    return {name: total / len(split) for name, total in zip(variables, sums, strict=True)}


def _loss_of(network: Network, variables: list[Any], loss: Callable) -> Callable:
    """`f(values, inputs, labels)`: the loss with the variables at given values, each with an axis of 1 in front."""
    numbers = {id(variable): number for number, variable in enumerate(variables)}

    def function(values: list, inputs: list, labels: list) -> Any:
        # Values of all others are looked up before the inner scope hides an outer one.
        mapping = [
            (v, keras.ops.cast(values[numbers[id(v)]][0], v.dtype) if id(v) in numbers else v.value)
            for v in network.model.variables
        ]
        with keras.StatelessScope(state_mapping=mapping):
            outputs = network.walk(network.cast_inputs(inputs), lambda call, args, kwargs: call.infer(args, kwargs))
            return keras.ops.sum(loss([keras.ops.cast(y, "float32") for y in outputs], labels))

    return function


def _columns(value: Any) -> list[np.ndarray]:
    return [] if value is None else list(value) if isinstance(value, tuple) else [value]
