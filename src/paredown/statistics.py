"""What layers see of their input channels over data: one streaming pass, reduced inside the compiled graph.

Memory does not grow with the data: each batch gives one number per channel and reduction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from paredown.channels import Channels
from paredown.data import Split
from paredown.flows import channel_axis
from paredown.network import Call
from paredown.progress import task

#: Each gives a tensor of the activations' shape, to be summed over examples and positions.
REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "positive": lambda x: ops.cast(x > 0, "float32"),
    "zero": lambda x: ops.cast(ops.equal(x, 0), "float32"),
}


@dataclass(frozen=True, eq=False)
class ActivationStatistics:
    """What one layer reads.

    Args:
        sums: Reduction -> sum over all examples and positions, shape (channels,), float64.
        positions: How many examples times positions there were: one number, or one per channel.
    """

    sums: dict[str, np.ndarray]
    positions: int | np.ndarray


def activation_statistics(
    channels: Channels, split: Split, reductions: Sequence[str], batch_size: int = 128
) -> dict[str, ActivationStatistics]:
    """Streams data through the network and reduces what each layer with a kernel reads.

    Args:
        channels: The network with its channels.
        split: Inputs; labels are not looked at.
        reductions: Names of rows of `REDUCTIONS`.
        batch_size: Examples per step.
    Returns:
        Layer path -> its statistics, for every layer whose weights read removable channels. Layers that read the
        same tensor share one entry's work, and the first of them stands for all.
    """
    probe = _Probe(channels, tuple(reductions))
    if not probe.sites:
        return {}
    totals = np.zeros(0)
    positions = np.zeros(len(probe.sites))
    with task("Statistics", total=len(split)) as advance:
        for x, _ in split.batches(batch_size):
            inputs = list(x) if isinstance(x, tuple) else [x]
            sums, counted = probe.predict_on_batch(channels.network.pack_inputs(inputs))
            totals = sums.astype("float64") + (totals if totals.size else 0)
            positions += counted
            advance(len(inputs[0]))
    result, at = {}, 0
    for number, (path, size) in enumerate(probe.sites):
        parts = {}
        for name in reductions:
            parts[name] = totals[at : at + size]
            at += size
        result[path] = ActivationStatistics(parts, int(positions[number]))
    return result


class _Probe(keras.Model):
    """Runs a network and gives, instead of its outputs, the sums of what its layers read in one vector."""

    def __init__(self, channels: Channels, reductions: tuple[str, ...]):
        super().__init__(name="probe")
        self.observed = channels.network.model
        self._network = channels.network
        self._reductions = reductions
        prunable = channels.prunable
        #: The first layer that reads a tensor of removable channels, by the tensor; BatchNormalization and the
        #: like do not decide what a channel is worth, their outputs' readers do.
        self._wanted: dict[int, str] = {}
        self.sites: list[tuple[str, int]] = []
        for call in channels.network.all_calls():
            reads = channels.reads.get(call.path)
            if reads is None or not prunable[reads].any() or not _has_kernel(call):
                continue
            first = self._wanted.setdefault(id(call.inputs[0]), call.path)
            if first == call.path and (call.path, len(reads)) not in self.sites:
                self.sites.append((call.path, len(reads)))
        self.compile()

    def call(self, inputs, training=None):
        sums, counts = {}, {}

        def step(call: Call, args: tuple, kwargs: dict) -> list[Any]:
            path = self._wanted.get(id(call.inputs[0])) if call.inputs else None
            if path == call.path:
                x = keras.tree.flatten((args, kwargs))[0]
                axis = channel_axis(call.operation, len(x.shape))
                others = [a for a in range(len(x.shape)) if a != axis]
                here = ops.concatenate([ops.sum(REDUCTIONS[r](x), axis=others) for r in self._reductions])
                shape = ops.shape(x)
                count = ops.prod(ops.convert_to_tensor([shape[a] for a in others]))
                # A layer that is called more than once sees all of it.
                sums[path] = here + sums[path] if path in sums else here
                counts[path] = count + counts[path] if path in counts else count
            return call.infer(args, kwargs)

        self._network.walk(self._network.cast_inputs(keras.tree.flatten(inputs)), step)
        paths = [path for path, _ in self.sites]
        return (
            ops.concatenate([ops.cast(sums[path], "float32") for path in paths]),
            ops.stack([ops.cast(counts[path], "float32") for path in paths]),
        )


def _has_kernel(call: Call) -> bool:
    return any(weight.name.endswith("kernel") for weight in call.operation.weights)
