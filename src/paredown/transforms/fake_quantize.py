"""Rounding to a number format inside a float network: forwards as the file will compute, backwards as if unrounded.

For a weight, per output channel with its values w, and b bits:

    step = max|w| / (2^(b-1) - 1)             w' = step · round(w / step)

For an activation with values from l <= 0 to h >= 0, 8 bits, zero being exact:

    step = (h - l) / 255                      zero = round(-128 - l / step)
    x' = step · (clip(round(x / step) + zero, -128, 127) - zero)

The gradient of w' is that of w; the gradient of x' that of x within the range and 0 outside. Scaling an output channel
scales its step: a BatchNormalization that is folded into a kernel on export changes nothing of its rounding, so that
kernels are rounded as they are and no folding is needed. Biases stay as they are: the file keeps them in 32 bits.

Source: Jacob et al. 2018, arXiv:1712.05877, sections 2.1 and 3; Bengio et al. 2013, arXiv:1308.3432 (straight through).
"""

import contextlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import keras
from keras import ops

#: The least width of a range, as the quantizer has it.
_TINY = 1e-9
#: Function -> the range that LiteRT's int8 kernels give its results.
FIXED = {"softmax": (0.0, 255 / 256), "sigmoid": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}
#: What passes see instead of rounding, the innermost last; empty: they round.
_WATCHES: list[list] = []


@contextlib.contextmanager
def watching() -> Iterator[list[tuple["FakeQuantize", Any, Any]]]:
    """While it is open nothing is rounded; gives (layer, least, largest value) of what would be, in order."""
    _WATCHES.append([])
    try:
        yield _WATCHES[-1]
    finally:
        _WATCHES.pop()


class FakeQuantize(keras.layers.Layer):
    """Rounds to 256 values between the ends of a range, which is part of its state.

    Args:
        fixed: (least, largest), where the runtime prescribes them; None: what `calibrate` finds.
    """

    def __init__(self, fixed: tuple[float, float] | None = None, **kwargs: Any):
        super().__init__(trainable=False, **kwargs)
        self.fixed = fixed
        start = keras.initializers.Constant(list(fixed or (0.0, 0.0)))
        self.range = self.add_weight(name="range", shape=(2,), initializer=start, trainable=False)
        self.built = True  # A trial run, by which Keras would build it, is nothing that watches should see.

    def call(self, inputs: Any) -> Any:
        if _WATCHES:
            if self.fixed is None:
                _WATCHES[-1].append((self, ops.min(inputs), ops.max(inputs)))
            return inputs
        return rounded(inputs, self.range[0], self.range[1])


def rounded(x: Any, low: Any, high: Any) -> Any:
    """An activation as int8 holds it.

    Args:
        x: Tensor of any shape.
        low, high: Scalars, the ends of its range; widened to hold 0.
    """
    x = ops.cast(x, "float32")
    # Ends that come of weights teach them nothing: where several are the least, backends disagree whose gradient it is.
    low, high = ops.stop_gradient(ops.minimum(low, 0.0)), ops.stop_gradient(ops.maximum(high, 0.0))
    step = ops.maximum(high - low, _TINY) / 255
    zero = ops.round(-128 - low / step)
    clipped = ops.clip(x, (-128 - zero) * step, (127 - zero) * step)
    return clipped + ops.stop_gradient(ops.round(clipped / step) * step - clipped)


def rounded_weight(weight: Any, axes: Sequence[int], bits: int) -> Any:
    """A weight as the file holds it.

    Args:
        weight: Tensor of any shape.
        axes: The axes along which one step holds: all but those of output channels.
        bits: Per weight.
    """
    weight = ops.convert_to_tensor(weight)
    step = ops.maximum(ops.max(ops.abs(weight), axis=tuple(axes), keepdims=True), _TINY) / (2 ** (bits - 1) - 1)
    return weight + ops.stop_gradient(ops.round(weight / step) * step - weight)


class RoundedKernels:
    """Put before a layer class: the layer computes with rounded weights, and learns the unrounded ones."""

    #: Name of a weight -> (axes, bits), as `rounded_weight` takes them.
    rounds: dict[str, tuple[tuple[int, ...], int]]

    def call(self, inputs: Any) -> Any:
        layer: Any = super()
        if _WATCHES:
            return layer.call(inputs)
        # All of the layer's variables: within the scope nothing is seen of one around it.
        with keras.StatelessScope([(variable, self._rounded(variable)) for variable in self.variables]):  # pyright: ignore
            return layer.call(inputs)

    def _rounded(self, variable: Any) -> Any:
        value = ops.convert_to_tensor(variable)
        return rounded_weight(value, *self.rounds[variable.name]) if variable.name in self.rounds else value


@cache
def with_rounded_kernels(kind: type) -> type:
    """The layer class that computes with rounded weights."""
    return type(f"Rounded{kind.__name__}", (RoundedKernels, kind), {})


class RoundedActivation(keras.layers.Layer):
    """An activation that the file computes apart from the layer which it belongs to: it reads rounded values."""

    def __init__(self, activation: Any):
        super().__init__()
        self.activation, self.reads = activation, FakeQuantize()
        # x·sigmoid(x) is two operations in the file.
        self.gate = FakeQuantize(FIXED["sigmoid"]) if activation is keras.activations.silu else None
        self.__name__ = getattr(
            activation, "__name__", type(activation).__name__
        )  # Whoever looks for "softmax" finds it.
        self.built = True

    def call(self, inputs: Any) -> Any:
        x = self.reads(inputs)
        return self.activation(x) if self.gate is None else x * self.gate(ops.sigmoid(x))


class RoundedBatchNormalization(keras.layers.BatchNormalization):
    """One that no kernel takes up: the file multiplies and adds, factors and summands being rounded by the tensor.

    It normalizes with the statistics that it has, as the file does.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.product = FakeQuantize()

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if _WATCHES:
            factor, summand = self._affine(inputs)
            return self.product(inputs * factor) + summand
        factor, summand = (rounded(each, ops.min(each), ops.max(each)) for each in self._affine(inputs))
        return self.product(inputs * factor) + summand

    def _affine(self, inputs: Any) -> tuple[Any, Any]:
        """x·factor + summand is what the layer gives; both of shape (1, …, channels, …, 1)."""
        axis = self.axis % len(inputs.shape)
        factor = ops.rsqrt(ops.cast(self.moving_variance, "float32") + self.epsilon)
        factor = factor if self.gamma is None else factor * self.gamma
        summand = -self.moving_mean * factor
        summand = summand if self.beta is None else summand + self.beta
        shape = [-1 if a == axis else 1 for a in range(len(inputs.shape))]
        return ops.reshape(factor, shape), ops.reshape(summand, shape)
