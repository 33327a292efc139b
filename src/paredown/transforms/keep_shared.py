"""Training that leaves equal weights equal: a plain network goes in and comes out, nothing is wrapped.

A value that weights share is one parameter; its gradient is the sum of theirs. Every weight is given that sum as its
own gradient. Weights that share a value then go the same way to the last bit with any optimizer that works element by
element, and it is the way that the shared value would go as a parameter of its own.

Steps are smaller than the places of an int8 grid are apart: a kernel that lies on one leaves it while it is trained,
and is put on the nearest one at the end.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import ops

from paredown.network import Network
from paredown.sharing import scale_of, snapped
from paredown.sparse import kernels


class Members:
    """Which weights of a variable are equal.

    Args:
        value: The variable's value, any shape.
    """

    def __init__(self, value: np.ndarray):
        _, first, codes = np.unique(value, return_index=True, return_inverse=True)
        self._shape, self._count = value.shape, first.size
        self._first, self._codes = (ops.convert_to_tensor(each.ravel().astype("int32")) for each in (first, codes))

    @property
    def any(self) -> bool:
        """Whether any two are."""
        return self._count < math.prod(self._shape)

    def summed(self, gradient: Any) -> Any:
        """Every weight's gradient replaced by the sum over those it shares its value with."""
        return self._spread(ops.segment_sum(ops.reshape(gradient, (-1,)), self._codes, self._count))

    def alike(self, value: Any) -> Any:
        """Every weight replaced by the first of those it shares its value with."""
        return self._spread(ops.take(ops.reshape(value, (-1,)), self._first))

    def _spread(self, values: Any) -> Any:
        return ops.reshape(ops.take(values, self._codes), self._shape)


class StayShared:
    """A constraint that an optimizer applies after every step; it moves nothing where the optimizer is element-wise.

    Args:
        members: Which weights are equal.
        own: The variable's constraint so far, applied first; None where it has none.
    """

    def __init__(self, members: Members, own: Any):
        self._members, self._own = members, own

    def __call__(self, value: Any) -> Any:
        value = ops.convert_to_tensor(value if self._own is None else self._own(value))
        return self._members.alike(value)


@contextlib.contextmanager
def sharing_kept(model: Any, trained: Any) -> Iterator[dict[int, Members]]:
    """While it is open, weights of a kernel that are equal stay so; for training with an optimizer of `summing`.

    When it closes, kernels that were on an int8 grid are on one again.

    Args:
        model: The network whose kernels count.
        trained: The one that is trained in its place (itself, or a twin with the same layers' names and values).
    Yields:
        id of a variable of `trained` -> its members, where any weights are equal.
    """
    layers = {call.path: call.operation for call in Network(trained).all_calls()}
    found = [(kernel.variable(layers[kernel.path]), kernel) for kernel in kernels(Network(model))[0]]
    every = [(variable, Members(kernel.value())) for variable, kernel in found]
    shared = [(variable, members, variable.constraint) for variable, members in every if members.any]
    on_grid = [variable for variable, kernel in found if scale_of(kernel.value()) is not None]
    for variable, members, own in shared:
        variable.constraint = StayShared(members, own)
    try:
        yield {id(variable): members for variable, members, _ in shared}
    finally:
        for variable, _, own in shared:
            variable.constraint = own
    for variable in on_grid:
        variable.assign(snapped(ops.convert_to_numpy(variable)))


def summing(optimizer: Any, members: dict[int, Members]) -> Any:
    """An optimizer of the same kind and settings that gives members of a shared value the sum of their gradients."""
    kind = type(optimizer)

    def apply(self: Any, grads: Any, trainable_variables: Any = None) -> Any:
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        summed = [
            gradient if gradient is None or id(variable) not in members else members[id(variable)].summed(gradient)
            for gradient, variable in zip(grads, variables, strict=True)
        ]
        return kind.apply(self, summed, trainable_variables)

    return type(kind.__name__, (kind,), {"apply": apply}).from_config(optimizer.get_config())
