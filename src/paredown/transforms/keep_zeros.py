"""Training that leaves zeros where they are: a plain network goes in and comes out, nothing is wrapped."""

import contextlib
from collections.abc import Iterator
from typing import Any

from keras import ops

from paredown.network import Network
from paredown.sparse import kernels


class StayZero:
    """A constraint that an optimizer applies after every step: what was zero is zero again.

    Args:
        start: The value that training starts from.
        own: The variable's own constraint, applied first; None where it has none.
    """

    def __init__(self, start: Any, own: Any):
        self._zero, self._own = ops.equal(start, 0), own

    def __call__(self, value: Any) -> Any:
        # The optimizer gives the variable itself, which not every backend's operations take.
        value = ops.convert_to_tensor(value if self._own is None else self._own(value))
        return ops.where(self._zero, ops.zeros_like(value), value)


@contextlib.contextmanager
def zeros_kept(model: Any, trained: Any) -> Iterator[None]:
    """While it is open, training changes no kernel's weights that are exactly zero; biases and the like are free.

    Args:
        model: The network whose kernels count.
        trained: The one that is trained in its place (itself, or a twin with the same layers' names and values).
    """
    layers = {call.path: call.operation for call in Network(trained).all_calls()}
    variables = [kernel.variable(layers[kernel.path]) for kernel in kernels(Network(model))[0]]
    own = [variable.constraint for variable in variables]
    for variable, constraint in zip(variables, own, strict=True):
        variable.constraint = StayZero(variable.value, constraint)
    try:
        yield
    finally:
        for variable, constraint in zip(variables, own, strict=True):
            variable.constraint = constraint
