"""What kernels read, as patches, and its second moments over data: the layer-wise Hessian 2·mean(xxᵀ).

Patches come from the layer itself: the same layer with the identity in the place of its kernel gives, at every output
position, the n numbers that an output is summed from. Strides, padding, dilation, groups and transposition are then
Keras's own, and no index arithmetic here can differ from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from paredown.data import Split
from paredown.flows import channel_axis
from paredown.network import Call, Network
from paredown.progress import task
from paredown.sparse.kernels import Kernel

#: Inputs whose products are kept together; a Hessian of more falls into blocks, each keeping its own part of the
#: output.
LARGEST = 2048
#: Numbers in the patches that are made at a time.
_PATCHES = 2**24


@dataclass(frozen=True, eq=False)
class Hessian:
    """2·mean over examples of Σ over positions of xxᵀ, for the inputs of one kernel, in blocks along its diagonal.

    Args:
        inputs: Which of the n inputs each block is of.
        blocks: One array (g, size, size) per block, float32; (g, size) where only the diagonal was asked for.
    """

    inputs: tuple[slice, ...]
    blocks: tuple[np.ndarray, ...]


def hessians(
    network: Network, kernels: Sequence[Kernel], split: Split, batch_size: int, whole: bool = True, multiple: int = 1
) -> dict[str, Hessian]:
    """Streams data through the network and sums what each kernel reads.

    Memory does not grow with the data: 4·n·min(n, `LARGEST`) bytes a kernel, and the patches of a few examples.

    Args:
        network: The network that the kernels are of.
        kernels: Those to look at; "pointwise_kernel"s read what lies inside their layer and are not allowed.
        split: Inputs; labels are not looked at.
        batch_size: Examples per step.
        whole: False gives diagonals only.
        multiple: Blocks begin at multiples of it.
    Returns:
        Kernel key -> its Hessian.
    """
    sums = {kernel.key: _Sums(kernel, whole, multiple) for kernel in kernels}
    of_layer: dict[str, list[_Sums]] = {}
    for kernel in kernels:
        of_layer.setdefault(kernel.path, []).append(sums[kernel.key])

    def step(call: Call, args: tuple, kwargs: dict) -> list[Any]:
        for each in of_layer.get(call.path, ()):
            each.add(keras.tree.flatten((args, kwargs))[0])
        return call.infer(args, kwargs)

    with task("What kernels read", total=len(split)) as advance:
        for x, _ in split.batches(batch_size):
            columns = list(x) if isinstance(x, tuple) else [x]
            network.walk(network.cast_inputs(columns), step)
            advance(len(columns[0]))
    return {key: each.hessian(len(split)) for key, each in sums.items()}


class _Sums:
    def __init__(self, kernel: Kernel, whole: bool, multiple: int):
        self._patches, self._whole = Patches(kernel), whole
        n = self._patches.n
        step = max(1, LARGEST // multiple) * multiple
        self._inputs = tuple(slice(start, min(start + step, n)) for start in range(0, n, step))
        self._blocks = [np.zeros(0)] * len(self._inputs)

    def add(self, x: Any) -> None:
        at_once = max(1, _PATCHES // max(1, self._patches.per_example(x)))
        for start in range(0, int(x.shape[0]), at_once):
            patches = self._patches(x[start : start + at_once])
            for number, inputs in enumerate(self._inputs):
                part = patches[:, :, inputs]
                here = ops.einsum("pgn,pgm->gnm", part, part) if self._whole else ops.sum(ops.square(part), axis=0)
                before = self._blocks[number]
                here = ops.convert_to_numpy(here)
                self._blocks[number] = before + here if before.size else here

    def hessian(self, examples: int) -> Hessian:
        return Hessian(self._inputs, tuple(block * (2 / examples) for block in self._blocks))


class Patches:
    """`patches(x)`: what a kernel multiplies, shape (positions, g, n), float32, for the layer's input x."""

    def __init__(self, kernel: Kernel):
        self._kernel = kernel
        self.groups, self.n, _ = kernel.split(kernel.value()).shape
        self._layer = None if kernel.kind == "dense" else _reader(kernel, self.groups, self.n)

    def __call__(self, x: Any) -> Any:
        x = ops.cast(x, "float32")
        if self._layer is None:
            return ops.reshape(x, (-1, 1, self.n))
        y = self._layer(x)
        y = ops.moveaxis(y, channel_axis(self._layer, len(y.shape)), -1)
        return ops.reshape(y, (-1, self.groups, self.n))

    def per_example(self, x: Any) -> int:
        """How many numbers the patches of one example hold."""
        shape = tuple(x.shape) if self._layer is None else self._layer.compute_output_shape(tuple(x.shape))
        return int(np.prod(shape[1:]))


def _reader(kernel: Kernel, groups: int, n: int) -> Any:
    """The layer with the identity for a kernel: gives g·n outputs, those of a group side by side."""
    layer, depthwise = kernel.layer, kernel.kind == "depthwise"
    width = {"depth_multiplier": n} if depthwise else {"filters": groups * n}
    plain = {"name": "reader", "dtype": "float32", "use_bias": False, "activation": None, "kernel_regularizer": None}
    plain |= {"kernel_initializer": "zeros", "kernel_constraint": None, "trainable": False}
    plain |= {"depthwise_initializer": "zeros", "depthwise_regularizer": None, "depthwise_constraint": None}
    config = layer.get_config()
    reader = type(layer).from_config({**config, **{k: v for k, v in plain.items() if k in config}, **width})
    taps = tuple(layer.kernel.shape)[:-2]
    channels = groups if depthwise else groups * kernel.run
    free = [None] * len(taps)
    first = getattr(layer, "data_format", None) == "channels_first"
    reader.build((None, channels, *free) if first else (None, *free, channels))
    if depthwise:
        identity = np.broadcast_to(np.eye(n).reshape(*taps, 1, n), reader.kernel.shape)
    elif kernel.kind == "transposed":
        identity = np.eye(n).reshape(*taps, -1, n).swapaxes(-1, -2)
    else:
        identity = np.tile(np.eye(n).reshape(*taps, -1, n), groups)
    reader.kernel.assign(identity.astype("float32"))
    return reader
