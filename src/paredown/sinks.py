"""Where the output of a layer goes: what can take up a shift of its mean, and the sum that it enters."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from paredown.network import Call, Network

#: A BatchNormalization hardly passes on a channel whose gain is below this share of its largest.
_LEAST_GAIN = 1e-3


@dataclass(frozen=True, eq=False)
class Sink:
    """Where a layer's output goes.

    Args:
        shift: Adds to the layer's mean output, shape (o,); None where nothing can take that up.
        norm: The BatchNormalization, in the copy, that alone reads the output, if one does.
        summands: Symbolic tensors of the original that are added to the output (behind `norm`), if they are.
    """

    shift: Callable[[np.ndarray], None] | None
    norm: Any = None
    summands: tuple[Any, ...] = ()

    def unscaled(self, outputs: int) -> np.ndarray:
        """What turns a difference behind the BatchNormalization into one before it, shape (o,)."""
        if self.norm is None:
            return np.ones(outputs)
        gain = _numpy(self.norm.gamma) if self.norm.scale else np.ones(outputs)
        gain = gain / np.sqrt(_numpy(self.norm.moving_variance) + self.norm.epsilon)
        passes = np.abs(gain) > _LEAST_GAIN * np.abs(gain).max()
        return np.where(passes, 1 / np.where(passes, gain, 1), 0)


class Sinks:
    """The sinks of a network's layers.

    Args:
        network: The network.
        made: Path -> the layer of a copy, whose weights a shift changes.
    """

    def __init__(self, network: Network, made: dict[str, Any]):
        self._made = made
        self._times: dict[str, int] = {}
        self._readers: dict[int, list[Call]] = {}
        for call in network.all_calls():
            self._times[call.path] = self.times(call.path) + 1
            self._read_by(call)
        for call in _nested(network):
            self._read_by(call)
        self._ends = {id(tensor) for tensor in network.outputs}

    def _read_by(self, call: Call) -> None:
        for tensor in call.inputs:
            self._readers.setdefault(id(tensor), []).append(call)

    def times(self, path: str) -> int:
        """How often a layer is called."""
        return self._times.get(path, 0)

    def of(self, call: Call) -> Sink:
        """Where the output of a call goes."""
        layer = self._made[call.path]
        shift = layer.bias.assign_add if getattr(layer, "use_bias", False) else None
        activation = getattr(layer, "activation", None)
        if activation is not None and activation is not keras.activations.linear:
            return Sink(shift)
        norm, tensor = None, call.outputs[0]
        reader = self._only_reader(tensor)
        if reader is not None and type(reader.operation) is layers.BatchNormalization and self.times(reader.path) == 1:
            norm, tensor = self._made[reader.path], reader.outputs[0]
            shift = shift or norm.moving_mean.assign_sub
            reader = self._only_reader(tensor)
        if reader is None or type(reader.operation).__name__ != "Add":
            return Sink(shift, norm)
        return Sink(shift, norm, tuple(t for t in reader.inputs if t is not tensor))

    def _only_reader(self, tensor: Any) -> Call | None:
        found = self._readers.get(id(tensor), [])
        return found[0] if len(found) == 1 and id(tensor) not in self._ends else None


def _nested(network: Network) -> Iterator[Call]:
    """The calls of nested models themselves, at every depth: they read, too."""
    for call in network.calls:
        if call.inner is not None:
            yield call
            yield from _nested(call.inner)


def _numpy(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor).astype("float64")
