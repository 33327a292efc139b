"""Kernels as matrices: whatever the layer, W[g, n, o] holds the n weights that make one output from what it reads.

    Dense                     i o          ->  [1, i, o]
    convolution, in groups    h w i/g o    ->  [g, (h w i/g), o/g]
    transposed convolution    h w o i      ->  [1, (h w i), o]
    depthwise                 h w i m      ->  [i, (h w), m]

An output is then Σ_n x[g, n]·W[g, n, o] at every position, x being the patch that the kernel lies on. Input channels
are the fastest axis of n: neighbours in n are neighbours in memory, which is where sparse formats look for patterns.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from paredown.network import Call, Network
from paredown.weight_places import places

#: What `Kernel.kind` may be.
KINDS = ("dense", "conv", "transposed", "depthwise")
#: The last two axes of a kernel with positions -> its kind.
_LAYOUTS: dict[tuple[str, ...], str] = {
    ("i", "o"): "conv",
    ("im", "o"): "conv",
    ("o", "i"): "transposed",
    ("i", "m"): "depthwise",
}


@dataclass(frozen=True, eq=False)
class Kernel:
    """One weight of one layer, seen as W[g, n, o].

    Args:
        path: The layer's.
        layer: The layer.
        weight: Name of the weight, e.g. "kernel".
        kind: One of `KINDS`.
        axes: The weight's axes, e.g. ("h", "w", "i", "o").
        groups: g.
        run: How many neighbours in n are channels of one position; patterns along the input fit within them.
    """

    path: str
    layer: Any
    weight: str
    kind: str
    axes: tuple[str, ...]
    groups: int
    run: int

    @property
    def key(self) -> str:
        return f"{self.path}/{self.weight}"

    def value(self, layer: Any = None) -> np.ndarray:
        """The weight's value in its own shape, in `layer` or in the layer that it was found in."""
        return keras.ops.convert_to_numpy(self.variable(self.layer if layer is None else layer))

    def variable(self, layer: Any) -> Any:
        return next(weight for weight in layer.weights if weight.name == self.weight)

    def split(self, value: np.ndarray) -> np.ndarray:
        """A value in the weight's own shape as W[g, n, o]."""
        if self.kind == "depthwise":
            *taps, inputs, multiplier = value.shape
            return value.reshape(int(np.prod(taps)), inputs, multiplier).transpose(1, 0, 2)
        last = np.moveaxis(value, self.axes.index("o"), -1)
        return last.reshape(-1, self.groups, last.shape[-1] // self.groups).transpose(1, 0, 2)

    def join(self, matrices: np.ndarray) -> np.ndarray:
        """W[g, n, o] in the weight's own shape."""
        shape = tuple(self.variable(self.layer).shape)
        if self.kind == "depthwise":
            return matrices.transpose(1, 0, 2).reshape(shape)
        at = self.axes.index("o")
        last = (*shape[:at], *shape[at + 1 :], shape[at])
        return np.moveaxis(matrices.transpose(1, 0, 2).reshape(last), -1, at)


def kernels(network: Network) -> tuple[list[Kernel], dict[str, str]]:
    """The kernels of a network, each layer once however often it is called.

    Returns:
        (kernels in the network's order, layer path -> why its weights, matrices or larger, cannot be treated).
    """
    found: list[Kernel] = []
    skipped: dict[str, str] = {}
    seen = set()
    for call in network.all_calls():
        if call.is_layer and call.path not in seen:
            seen.add(call.path)
            of_layer = list(_of_layer(call))
            found += of_layer
            if not of_layer and any(len(weight.shape) > 1 for weight in call.operation.weights):
                skipped[call.path] = f"{type(call.operation).__name__} has no kernel of a kind that is treated"
    return found, skipped


def _of_layer(call: Call) -> Iterator[Kernel]:
    layer = call.operation
    for place in places(call):
        # What is inside another layer (of a Bidirectional one, say) is not the layer's own kernel.
        kind = _kind(layer, place.weight, place.axes) if place.owner is layer else None
        if kind is not None:
            grouped = place.groups if place.weight.name == "kernel" else 1
            channels = int(place.weight.shape[place.axes.index("im" if "im" in place.axes else "i")])
            groups, run = (channels, 1) if kind == "depthwise" else (grouped, channels)
            yield Kernel(call.path, layer, place.weight.name, kind, place.axes, groups, run)


def _kind(layer: Any, weight: Any, axes: tuple[str, ...]) -> str | None:
    """None for what is no kernel, or one that is laid out in another way."""
    channels = [axis for axis in axes if axis not in ("h", "w", "d", "1")]
    if not weight.name.endswith("kernel") or tuple(channels) != axes[-2:]:
        return None
    if isinstance(layer, keras.layers.Dense):
        return "dense" if axes == ("i", "o") else None
    return _LAYOUTS.get(tuple(channels)) if len(axes) > 2 else None
