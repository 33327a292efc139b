"""What a layer's kernel multiplies, as a matrix: a layer is then `outputs = rows @ matrix + bias`.

    # [p, n] rows: one row per example and output position, n = window · input channels
    # [n, o] matrix: the kernel, rows in the order of its own axes (h, w, in)

A convolution is linear in its kernel, so that everything known of linear least squares holds for it. Rows of a
separable convolution are what its depthwise part gives, the matrix is its pointwise kernel. A transposed convolution
is a plain one of the input with zeros between its values, and the kernel mirrored.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import layers, ops

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)


def why_not_linear(layer: Any) -> str | None:
    """Why a layer's kernel cannot be seen as one matrix; None where it can."""
    kind = type(layer)
    if kind in _TRANSPOSED:
        odd = layer.output_padding is not None or set(layer.dilation_rate) != {1}
        return "is a transposed convolution with output padding or dilation" if odd else None
    if kind in (*_CONVOLUTIONS, *_SEPARABLE):
        return "is a grouped convolution" if getattr(layer, "groups", 1) > 1 else None
    return None if kind is layers.Dense else "is no Dense nor plain, separable or transposed convolution"


def known_shape(call: Any, x: Any) -> tuple[int, ...]:
    """The shape of a call's output for an input `x`, also where the network leaves sizes open."""
    shape = tuple(call.outputs[0].shape)
    return shape if None not in shape[1:] else tuple(call.operation.compute_output_shape(tuple(x.shape)))


@dataclass(frozen=True)
class Lattice:
    """Some of a tensor's positions: every `step`-th along each axis, from `first` on."""

    first: tuple[int, ...]
    step: tuple[int, ...]

    @staticmethod
    def draw(sizes: tuple[int, ...], limit: int, generator: np.random.Generator) -> "Lattice":
        """A lattice of about `limit` positions of a grid, at a random place."""
        step = max(1, round((math.prod(sizes) / max(1, limit)) ** (1 / max(1, len(sizes)))))
        steps = tuple(min(step, size) for size in sizes)
        return Lattice(tuple(int(generator.integers(0, s)) for s in steps), steps)

    def of(self, tensor: Any) -> Any:
        """The positions of a channels-last tensor (n, …, channels)."""
        places = (slice(first, None, step) for first, step in zip(self.first, self.step, strict=True))
        return tensor[(slice(None), *places)]


class LinearLayer:
    """A layer with a kernel as rows times a matrix.

    Args:
        layer: A built layer for which `why_not_linear` says nothing.
    """

    def __init__(self, layer: Any):
        self.layer = layer
        self._separable = type(layer) in _SEPARABLE
        self._transposed = type(layer) in _TRANSPOSED
        self._first = getattr(layer, "data_format", None) == "channels_first"

    @cached_property
    def kernel(self) -> Any:
        """The variable that holds the matrix."""
        return self.layer.pointwise_kernel if self._separable else self.layer.kernel

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(inputs, outputs) of the matrix."""
        outputs = self.kernel.shape[-2 if self._transposed else -1]
        return math.prod(self.kernel.shape) // outputs, outputs

    @cached_property
    def matrix(self) -> np.ndarray:
        """Shape (inputs, outputs), float64; as the kernel was when it was first asked for."""
        return self.read()

    def read(self, dtype: str = "float64") -> np.ndarray:
        """The matrix as the kernel is now, which is not kept: large networks' would fill the memory."""
        kernel = keras.ops.convert_to_numpy(ops.cast(self.kernel, "float32")).astype(dtype, copy=False)
        if self._transposed:
            kernel = np.swapaxes(self._mirrored(kernel), -1, -2)
        return kernel.reshape(-1, kernel.shape[-1])

    def as_kernel(self, matrix: Any) -> Any:
        """A matrix, an array or tensor, in the kernel's own shape."""
        shape = self.kernel.shape
        if not self._transposed:
            return ops.reshape(matrix, shape)
        matrix = ops.convert_to_numpy(matrix).reshape(*shape[:-2], shape[-1], shape[-2])
        return self._mirrored(np.swapaxes(matrix, -1, -2))

    @staticmethod
    def _mirrored(kernel: np.ndarray) -> np.ndarray:
        return np.flip(kernel, tuple(range(kernel.ndim - 2)))

    def rows_of_channels(self, channels: np.ndarray) -> np.ndarray:
        """What holds for each input channel, shape (in,), for each row of the matrix, shape (inputs,)."""
        if self._separable:
            return np.repeat(channels, self.layer.depth_multiplier)
        return np.tile(channels, self.shape[0] // len(channels))

    def lattice(self, output_shape: tuple, limit: int, generator: np.random.Generator) -> Lattice:
        """Some positions of the output, whose shape (n, …) is given."""
        sizes = output_shape[2:] if self._first else output_shape[1:-1]
        return Lattice.draw(tuple(sizes), limit, generator)

    def outputs(self, y: Any, lattice: Lattice) -> Any:
        """The output tensor as a matrix, shape (p, o)."""
        y = lattice.of(self._channels_last(y))
        return ops.reshape(y, (-1, y.shape[-1]))

    def rows(self, x: Any, lattice: Lattice) -> Any:
        """The input tensor as a matrix, shape (p, inputs), for the output positions of `lattice`."""
        x = self._channels_last(ops.cast(x, "float32"))
        if isinstance(self.layer, layers.Dense):
            x = lattice.of(x)
            return ops.reshape(x, (-1, x.shape[-1]))
        return self._depthwise(x, lattice) if self._separable else self._windows(x, lattice)

    def _channels_last(self, x: Any) -> Any:
        return ops.moveaxis(x, 1, -1) if self._first and len(x.shape) > 2 else x

    def _windows(self, x: Any, lattice: Lattice) -> Any:
        """Each window of the convolution written out as one row."""
        layer = self.layer
        size, stride, dilation = layer.kernel_size, layer.strides, layer.dilation_rate
        reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
        if self._transposed:
            x, counts = _spread(x, layer.padding, size, stride)
            stride = (1,) * len(size)
        else:
            x, counts = _padded(x, layer.padding, reach, stride)
        parts = []
        for place in np.ndindex(*size):
            index: list[slice] = [slice(None)]
            for axis, at in enumerate(place):
                first, step = lattice.first[axis], lattice.step[axis]
                left = -(-(counts[axis] - first) // step)
                start = first * stride[axis] + at * dilation[axis]
                index.append(slice(start, start + (left - 1) * step * stride[axis] + 1, step * stride[axis]))
            parts.append(x[tuple(index)])
        rows = ops.concatenate(parts, -1)
        return ops.reshape(rows, (-1, rows.shape[-1]))

    def _depthwise(self, x: Any, lattice: Lattice) -> Any:
        layer = self.layer
        y = ops.depthwise_conv(
            x,
            layer.depthwise_kernel,
            strides=layer.strides,
            padding=layer.padding,
            data_format="channels_last",
            dilation_rate=layer.dilation_rate,
        )
        y = lattice.of(y)
        return ops.reshape(y, (-1, y.shape[-1]))


def _padded(x: Any, padding: str, reach: list[int], stride: tuple[int, ...]) -> tuple[Any, list[int]]:
    """The input with the zeros that the convolution adds, and the output's size along each axis."""
    sizes = x.shape[1:-1]
    if padding == "valid":
        return x, [(n - r) // s + 1 for n, r, s in zip(sizes, reach, stride, strict=True)]
    counts = [-(-n // s) for n, s in zip(sizes, stride, strict=True)]
    widths = []
    for n, r, s, count in zip(sizes, reach, stride, counts, strict=True):
        total = max((count - 1) * s + r - n, 0)
        # "causal": nothing of what comes later; output positions are those of "same".
        before = r - 1 if padding == "causal" else total // 2
        widths.append((before, 0 if padding == "causal" else total - before))
    return ops.pad(x, [(0, 0), *widths, (0, 0)]), counts


def _spread(x: Any, padding: str, size: tuple[int, ...], stride: tuple[int, ...]) -> tuple[Any, list[int]]:
    """The input with zeros between its values and around them, and the transposed convolution's output sizes."""
    widths, counts = [], []
    for axis, (k, s) in enumerate(zip(size, stride, strict=True), 1):
        n = x.shape[axis]
        x = _with_zeros_between(x, axis, s)
        count = n * s if padding == "same" else (n - 1) * s + max(k, s)
        cut = max(k - s, 0) // 2 if padding == "same" else 0
        before = k - 1 - cut
        widths.append((before, count + k - 1 - before - ((n - 1) * s + 1)))
        counts.append(count)
    return ops.pad(x, [(0, 0), *widths, (0, 0)]), counts


def _with_zeros_between(x: Any, axis: int, stride: int) -> Any:
    """Every value followed by stride - 1 zeros along an axis, but for the last."""
    if stride == 1:
        return x
    x = ops.expand_dims(x, axis + 1)
    x = ops.pad(x, [(0, stride - 1 if a == axis + 1 else 0) for a in range(len(x.shape))])
    shape = list(x.shape)
    x = ops.reshape(x, (*shape[:axis], shape[axis] * stride, *shape[axis + 2 :]))
    return x[tuple(slice(None, 1 - stride) if a == axis else slice(None) for a in range(len(x.shape)))]
