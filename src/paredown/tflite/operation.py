"""Single operations of a .tflite file: what their time depends on.

An operation is described by its kernel, its options and the shapes of all its tensors. What it costs depends on nothing
else, so that the description is the key under which its time is kept; and the same operation with other numbers of
channels is the same description with other sizes.
"""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

#: Operations that multiply by a kernel [outputs, …, inputs]; a depthwise one has [1, …, outputs], one of volumes
#: […, inputs, outputs].
KERNEL_OUT_FIRST = ("CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
DEPTHWISE, VOLUMES = "DEPTHWISE_CONV_2D", "CONV_3D"
#: Operations without a kernel whose one constant is the shape of what they give.
_TOLD_SHAPE = ("RESHAPE", "BROADCAST_TO")
#: Operations that run other graphs of the file, or read what those have made: they cannot stand alone.
LOOPS = ("WHILE", "IF", "CALL", "READ_VARIABLE")
BITS = {"FLOAT32": 32, "INT32": 32, "FLOAT16": 16, "INT16": 16, "INT8": 8, "UINT8": 8, "BOOL": 8, "INT64": 64}
BITS |= {"INT4": 4, "INT2": 2}
DTYPES = {"INT32": np.int32, "INT64": np.int64, "BOOL": np.bool_, "FLOAT32": np.float32, "FLOAT16": np.float16}


@dataclass(frozen=True)
class Tensor:
    """One tensor of an operation.

    Args:
        shape: With the batch.
        type: Name in LiteRT's schema, e.g. "FLOAT32".
        role: "activation", "weights" (a constant whose numbers do not matter) or "constant".
        values: Of a constant.
        scales, zeros: That quantize it; none where it is not quantized.
        axis: Along which its scales lie.
        through: Type that a DEQUANTIZE turns it into on its way, "" where there is none (float16 weights).
    """

    shape: tuple[int, ...]
    type: str
    role: str = "activation"
    values: tuple = ()
    scales: tuple[float, ...] = ()
    zeros: tuple[int, ...] = ()
    axis: int = 0
    through: str = ""

    def to_key(self) -> list[Any]:
        """What time depends on: that it is quantized by channel, not by which numbers."""
        return [self.shape, self.type, self.role, self.values, len(self.scales) > 1, self.through]


@dataclass(frozen=True)
class Operation:
    """What an operation's time depends on.

    Args:
        kind: Name in LiteRT's schema, e.g. "CONV_2D".
        version: Of the kernel.
        options_type: The schema's class of its options, "" where it has none.
        options: (name, value), sorted.
        inputs: Its tensors; None where an optional one is left out.
        outputs: Those that it gives.
        names: In the file it was lifted from: of its constants, then of its outputs.
        reads, writes: Numbers of its activations in that file.
    """

    kind: str
    version: int
    options_type: str
    options: tuple[tuple[str, Any], ...]
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    names: tuple[str, ...] = field(default=(), compare=False)
    reads: tuple[int, ...] = field(default=(), compare=False)
    writes: tuple[int, ...] = field(default=(), compare=False)

    @cached_property
    def key(self) -> str:
        """Identifies the operation among all, 16 hexadecimal digits."""
        tensors = [[t and t.to_key() for t in side] for side in (self.inputs, self.outputs)]
        plain = [self.kind, self.version, self.options_type, self.options, tensors]
        return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:16]

    @property
    def kernel(self) -> Tensor | None:
        """What it multiplies by; None where it multiplies by none."""
        if self.kind not in (*KERNEL_OUT_FIRST, DEPTHWISE, VOLUMES):
            return None
        return next((t for t in self.inputs if t and t.role == "weights" and len(t.shape) > 1), None)

    @property
    def format(self) -> str:
        """Type of its kernel, of its first tensor where it has none."""
        return (self.kernel or next((t for t in self.inputs if t), self.outputs[0])).type

    @property
    def macs(self) -> int:
        """Multiply-adds of its kernel; 0 where it has none."""
        if self.kernel is None:
            return 0
        if self.kind == "TRANSPOSE_CONV":
            image = next(t for t in self.inputs if t and t.role == "activation")
            return math.prod(image.shape[:-1]) * math.prod(self.kernel.shape)
        shape = self.kernel.shape
        window = {DEPTHWISE: shape[1:-1], VOLUMES: shape[:-1]}.get(self.kind, shape[1:])
        return math.prod(self.outputs[0].shape) * math.prod(window)

    @property
    def bytes(self) -> int:
        """Bytes of all its tensors: what it reads and writes if it does so once."""
        return sum(math.ceil(math.prod(t.shape) * BITS.get(t.type, 32) / 8) for t in (*self.inputs, *self.outputs) if t)

    def resized(self, channels_in: int, channels_out: int) -> "Operation":
        """The same operation with other numbers of channels; one without a kernel has `channels_out` on all sides.

        Grouped convolutions keep their number of groups. A fully-connected operation's channels in are all its inputs.
        """
        old_in, old_out = self.channels

        def image(t: Tensor | None, size: int, old: int) -> Tensor | None:
            if t is None or t.role == "constant" or not t.shape or t.shape[-1] != old:
                return t
            return dataclasses.replace(t, shape=(*t.shape[:-1], size))

        if self.kernel is None:
            inputs = tuple(self._told(t, channels_out) or image(t, channels_out, old_out) for t in self.inputs)
            outputs = tuple(image(t, channels_out, old_out) for t in self.outputs)
            return dataclasses.replace(self, inputs=inputs, outputs=outputs)
        inputs = []
        for t in self.inputs:
            if t is not None and t is self.kernel:
                inputs.append(self._resized_kernel(t, channels_in, channels_out))
            elif t is not None and t.role == "weights":
                inputs.append(_sized(t, 0, channels_out))
            elif t is not None and t.role == "constant":
                # The output's shape, which a transposed convolution is told.
                inputs.append(dataclasses.replace(t, values=(*t.values[:-1], channels_out)))
            else:
                inputs.append(image(t, channels_in, old_in))
        outputs = tuple(image(t, channels_out, old_out) for t in self.outputs)
        options = self.options
        if self.kind == DEPTHWISE:
            options = tuple((k, channels_out // channels_in if k == "depthMultiplier" else v) for k, v in options)
        return dataclasses.replace(self, inputs=tuple(inputs), outputs=outputs, options=options)

    @property
    def channels(self) -> tuple[int, int]:
        """Of the activation that it reads first and of what it gives."""
        image = next(t for t in self.inputs if t and t.role == "activation")
        return (*image.shape, 1)[-1] if not image.shape else image.shape[-1], self.outputs[0].shape[-1]

    def _told(self, tensor: Tensor | None, channels: int) -> Tensor | None:
        """The constant that says the output's shape, for so many channels; None where the tensor is none."""
        if self.kind not in _TOLD_SHAPE or tensor is None or tensor.role != "constant":
            return None
        return dataclasses.replace(tensor, values=(*tensor.values[:-1], channels)) if tensor.values else None

    @property
    def groups(self) -> int:
        """Groups of channels that do not meet in its kernel; 1 where all do, or where each is its own."""
        return self.channels[0] // self.kernel.shape[-1] if self.kernel and self.kind == "CONV_2D" else 1

    def _resized_kernel(self, kernel: Tensor, channels_in: int, channels_out: int) -> Tensor:
        if self.kind == DEPTHWISE:
            return _sized(kernel, len(kernel.shape) - 1, channels_out)
        if self.kind == VOLUMES:
            return _sized(_sized(kernel, len(kernel.shape) - 2, channels_in), len(kernel.shape) - 1, channels_out)
        return _sized(_sized(kernel, 0, channels_out), len(kernel.shape) - 1, max(1, channels_in // self.groups))

    def __str__(self) -> str:
        shapes = ["×".join(map(str, t.shape)) for t in self.inputs if t and t.role != "constant" and len(t.shape) > 1]
        return f"{self.kind} {', '.join(shapes)}"


def _sized(tensor: Tensor, axis: int, size: int) -> Tensor:
    """Another size along one axis, and as many scales where they lie along it."""
    shape = (*tensor.shape[:axis], size, *tensor.shape[axis + 1 :])
    if len(tensor.scales) < 2 or tensor.axis != axis:
        return dataclasses.replace(tensor, shape=shape)
    scales, zeros = (tuple(np.resize(v, size).tolist()) for v in (tensor.scales, tensor.zeros))
    return dataclasses.replace(tensor, shape=shape, scales=scales, zeros=zeros)
