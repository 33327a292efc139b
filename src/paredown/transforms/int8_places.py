"""Where the file of a network holds rounded values: which of a float network's tensors are tensors of it, too.

kernel layer, BatchNormalization, ReLU    one operation, whose kernel takes up the normalization: one tensor, at its end
sum or product, ReLU                      the same
Dropout and the like                      nothing
Reshape, MaxPooling, ZeroPadding          the same values in another place: rounded already
AveragePooling, bilinear UpSampling       its input's range
softmax, sigmoid, tanh                    ranges that the runtime prescribes
every other                               a range of its own
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from keras import layers, tree

from paredown import flows, moves
from paredown.layer_rules import rule_for
from paredown.network import Call, Network
from paredown.sparse import Kernel, kernels
from paredown.transforms.fake_quantize import FIXED

#: What is fused with the operation before it.
RELUS = ("relu", "relu6")
_SUMS = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide")
_MOVING = (
    *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D),
    *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
    *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
    *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D),
)
_AVERAGING = (layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D, layers.UpSampling2D)
_MOVES = (moves.move, moves.transpose, moves.get_item, moves.blocks)

#: A call's output: the path of the layer or operation, and which of its outputs.
Place = tuple[str, int]


@dataclass(eq=False)
class _Value:
    """A tensor on its way through the network: what made it (None for an input), and what that read first."""

    call: Any
    number: int
    source: "_Value | None"
    floating: bool
    readers: list[Call] = field(default_factory=list)

    @property
    def place(self) -> Place:
        return (self.call.path if self.call else "", self.number)


class Int8Places:
    """The places of one network.

    Args:
        network: Of a built model; only looked at.
    Attributes:
        kernels: Path -> its kernels.
        skipped: Path -> why its weights are none that are rounded.
        apart: Paths of layers whose activation the file computes apart from them.
        alone: Paths of BatchNormalization layers that no kernel takes up.
        endings: Place -> None for a range of its own, a fixed range, or the place whose range it has.
        inputs: Numbers of the network's inputs that are rounded.
    """

    def __init__(self, network: Network):
        found, self.skipped = kernels(network)
        self.kernels: dict[str, list[Kernel]] = {}
        for kernel in found:
            self.kernels.setdefault(kernel.path, []).append(kernel)
        self._network = network
        values, self._ends = self._values
        made = [value for value in values if value.call is not None]
        self.apart = {value.place[0] for value in made if _function(value.call) and not self._is_plain(value.call)}
        own = [value for value in made if type(value.call.operation) is layers.BatchNormalization]
        self.alone = {value.place[0] for value in own if not self._taken_up(value)}
        self.endings = dict(self._endings(made))
        self.inputs = [value.number for value in values if value.call is None and value.floating]

    @cached_property
    def _values(self) -> tuple[list[_Value], set[int]]:
        """All tensors in order, and `id` of those that leave the network."""
        inputs = [_Value(None, i, None, _floats(t)) for i, t in enumerate(self._network.inputs)]
        values = list(inputs)

        def step(call: Call, args: tuple, kwargs: dict) -> list[_Value]:
            given = [leaf for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, _Value)]
            if _does_nothing(call):
                return given[:1]
            for value in given:
                value.readers.append(call)
            results = [_Value(call, i, next(iter(given), None), _floats(t)) for i, t in enumerate(call.outputs)]
            values.extend(results)
            return results

        ends = self._network.walk(inputs, step)
        return values, {id(value) for value in ends}

    def _endings(self, made: list[_Value]) -> Iterator[tuple[Place, Any]]:
        for value in made:
            fixed = FIXED.get(_last_function(value.call) or "")
            leaves = id(value) in self._ends
            # Scores that leave the network are rounded by the file alone: a small probability that became 0 would
            # teach nothing.
            if value.floating and not _moves(value.call) and not self._fused(value) and not (fixed and leaves):
                yield value.place, self._origin(value).place if isinstance(value.call.operation, _AVERAGING) else fixed

    def _origin(self, value: _Value) -> _Value:
        """Where a value came to the range that it still has."""
        while value.source and value.call and (_moves(value.call) or isinstance(value.call.operation, _AVERAGING)):
            value = value.source
        return value

    def _fused(self, value: _Value) -> bool:
        """Whether the only reader is computed together with what makes the value."""
        if len(value.readers) != 1 or id(value) in self._ends:
            return False
        if _normalizes(value.readers[0]):
            return self._is_linear_kernel(value.call)
        return _is_relu(value.readers[0]) and self._takes_relu(value.call)

    def _taken_up(self, normalized: _Value) -> bool:
        return normalized.source is not None and self._fused(normalized.source)

    def _takes_relu(self, call: Call | None) -> bool:
        return call is not None and (
            self._is_linear_kernel(call) or _normalizes(call) or type(call.operation).__name__ in _SUMS
        )

    def _is_linear_kernel(self, call: Call | None) -> bool:
        return call is not None and call.path in self.kernels and _function(call) is None

    def _is_plain(self, call: Call) -> bool:
        """Whether the activation inside a layer is computed together with it, or is all that it does."""
        return (
            _function(call) in RELUS or isinstance(call.operation, layers.Activation) or call.path not in self.kernels
        )


def _does_nothing(call: Call) -> bool:
    """At inference, that is."""
    rule = rule_for(call.operation)
    linear = isinstance(call.operation, layers.Activation) and _function(call) is None
    return linear or (rule is not None and rule.flow is flows.keep and len(call.inputs) == 1)


def _moves(call: Call) -> bool:
    operation = call.operation
    if isinstance(operation, layers.UpSampling2D) and operation.interpolation != "nearest":
        return False
    rule = rule_for(operation)
    return isinstance(operation, _MOVING) or (rule is not None and rule.flow in _MOVES)


def _function(call: Call) -> str | None:
    """Name of a layer's activation, None where it is linear or there is none."""
    activation = getattr(call.operation, "activation", None)
    name = getattr(activation, "__name__", type(activation).__name__.lower())
    return None if activation is None or name == "linear" else name


def _last_function(call: Call) -> str | None:
    own = type(call.operation).__name__.lower()
    return _function(call) or (own if own in FIXED else None)


def _is_relu(call: Call) -> bool:
    operation = call.operation
    if isinstance(operation, layers.ReLU):
        return not operation.negative_slope and not operation.threshold
    if isinstance(operation, layers.Activation):
        return _function(call) in RELUS
    return type(operation).__name__ in ("Relu", "Relu6")


def _normalizes(call: Call | None) -> bool:
    return call is not None and isinstance(call.operation, layers.BatchNormalization)


def _floats(tensor: Any) -> bool:
    return str(tensor.dtype).startswith(("float", "bfloat"))
