"""What makes the training twin of a network compute as its file will: which layers, what comes behind them, ranges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from paredown.compiled import compiled
from paredown.network import Call, Network
from paredown.progress import task
from paredown.transforms.fake_quantize import (
    FakeQuantize,
    RoundedActivation,
    RoundedBatchNormalization,
    watching,
    with_rounded_kernels,
)
from paredown.transforms.int8_places import Int8Places, Place

_ROWS = 50


@dataclass(frozen=True)
class NumberFormat:
    """What a format rounds.

    Args:
        bits: Kind of a kernel (see `sparse.Kernel`) -> bits per weight; kinds that are not named stay in float.
        activations: Whether activations are rounded to ranges from calibration.
    """

    bits: Mapping[str, int]
    activations: bool


_EIGHT = {"dense": 8, "conv": 8, "transposed": 8}
#: The formats of `export_litert` that can be trained for, by its names for them.
FORMATS = {
    "int8": NumberFormat({**_EIGHT, "depthwise": 8}, activations=True),
    "dynamic": NumberFormat(_EIGHT, activations=False),
    "int4": NumberFormat({**_EIGHT, "dense": 4}, activations=False),
}


class Rounding:
    """What `for_training` asks for each call of a network.

    Args:
        network: Whose twin will be made.
        number_format: What is rounded.
    """

    def __init__(self, network: Network, number_format: NumberFormat):
        self.places, self._format = Int8Places(network), number_format
        self._inputs = {id(t): i for i, t in enumerate(network.inputs)} if number_format.activations else {}
        self._quantizers: dict[Place, FakeQuantize] = {}

    def kind(self, call: Call, kind: type) -> type:
        """The class for a layer that would be of class `kind`."""
        if self._format.activations and call.path in self.places.alone:
            return RoundedBatchNormalization
        return with_rounded_kernels(kind) if self._bits(call.path) else kind

    def put(self, call: Call, layer: Any) -> Any:
        """What stands in the twin for a call whose layer or operation is `layer`: that, and what rounds its results."""
        bits = self._bits(call.path)
        if bits:
            layer.rounds = bits
        if not self._format.activations:
            return layer
        if call.path in self.places.apart:
            layer.activation = RoundedActivation(layer.activation)
        return Then(layer, [self._quantizer((call.path, i)) for i in range(len(call.outputs))])

    def arguments(self, call: Call, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """A call's arguments with the network's inputs rounded."""
        given = tree.flatten((args, kwargs))
        symbolic = [i for i, leaf in enumerate(given) if isinstance(leaf, keras.KerasTensor)]
        for i, tensor in zip(symbolic, call.inputs, strict=True):
            number = self._inputs.get(id(tensor))
            if number in self.places.inputs:
                given[i] = self._shared(("", number))(given[i])
        return tree.pack_sequence_as((args, kwargs), given)

    def _bits(self, path: str) -> dict[str, tuple[tuple[int, ...], int]]:
        found = {}
        for kernel in self.places.kernels.get(path, ()):
            if kernel.kind in self._format.bits:
                apart = ("i", "m") if kernel.kind == "depthwise" else ("o",)
                axes = tuple(a for a, name in enumerate(kernel.axes) if name not in apart)
                found[kernel.weight] = (axes, self._format.bits[kernel.kind])
        return found

    def _quantizer(self, place: Place) -> FakeQuantize | None:
        if place not in self.places.endings:
            return None
        ending = self.places.endings[place]
        # A range that is prescribed is a pair of numbers, a place begins with a path.
        return FakeQuantize(ending) if ending and not isinstance(ending[0], str) else self._shared(ending or place)

    def _shared(self, place: Place) -> FakeQuantize:
        if place not in self._quantizers:
            self._quantizers[place] = FakeQuantize()
        return self._quantizers[place]


class Then:
    """A layer or operation, and what rounds each of its outputs; None where one stays as it is."""

    def __init__(self, layer: Any, quantizers: Sequence[FakeQuantize | None]):
        self.layer, self._quantizers = layer, quantizers

    @property
    def trainable(self) -> bool | None:
        return getattr(self.layer, "trainable", None)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self.layer.trainable = value

    def __call__(self, *args: Any, **kwargs: Any) -> list[Any]:
        outputs = tree.flatten(self.layer(*args, **kwargs))
        return [o if q is None else q(o) for o, q in zip(outputs, self._quantizers, strict=True)]


class Calibrate(keras.callbacks.Callback):
    """Sets the ranges of a twin to the extremes of the unrounded network on calibration inputs, as the export does.

    They follow the weights: while it trains they are taken anew at the beginning of each epoch.

    Args:
        twin: The network whose ranges they are.
        columns: One array (n, ...) per input.
    """

    def __init__(self, twin: Any, columns: Sequence[np.ndarray]):
        super().__init__()
        self._network, self._columns = Network(twin), columns
        self._met: list[FakeQuantize] = []
        self._extremes = compiled(self._watched, twin)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.now()

    def now(self) -> None:
        ranges: dict[FakeQuantize, tuple[Any, Any]] = {}
        with task("Calibrate", total=len(self._columns[0])) as advance:
            for start in range(0, len(self._columns[0]), _ROWS):
                rows = [ops.convert_to_tensor(column[start : start + _ROWS]) for column in self._columns]
                found = ops.convert_to_numpy(self._extremes(rows))
                for quantizer, (low, high) in zip(self._met, found, strict=True):
                    least, largest = ranges.get(quantizer, (low, high))
                    ranges[quantizer] = min(least, low), max(largest, high)
                advance(len(rows[0]))
        for quantizer, ends in ranges.items():
            quantizer.range.assign(ends)

    def _watched(self, inputs: list) -> Any:
        """Least and largest values, shape (places, 2), of the places in `_met`."""
        with watching() as seen:
            self._network.model(self._network.pack_inputs(inputs), training=False)
        self._met = [quantizer for quantizer, _, _ in seen]
        return ops.stack([ops.stack([ops.cast(end, "float32") for end in ends]) for _, *ends in seen])
