"""What layers see of their input channels over data: one streaming pass, reduced inside the compiled graph.

Memory does not grow with the data: each batch gives one number per example, channel and reduction, which are added up
in double precision.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops, tree

from paredown.channels import Channels
from paredown.compiled import compiled
from paredown.data import Split
from paredown.flows import channel_axis
from paredown.network import Call
from paredown.progress import task
from paredown.weight_places import blocks, places

#: Each gives a tensor of the activations' shape, to be summed over examples and positions.
REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "positive": lambda x: ops.cast(x > 0, "float32"),
    "zero": lambda x: ops.cast(ops.equal(x, 0), "float32"),
    "value": lambda x: ops.cast(x, "float32"),
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


@dataclass(frozen=True, eq=False)
class Sites:
    """Where a network reads removable channels to make others of them.

    BatchNormalization, depthwise convolution and the like only hand channels on: what these are worth is decided by
    the readers of their outputs.

    Attributes:
        reader: Symbolic tensor (its `id`) -> path of the first layer that reads it, which stands for all of them.
        components: Path of each such layer -> component of each input channel, shape (in,), in order of execution.
        readers: Paths of all layers that read such a tensor.
    """

    reader: dict[int, str]
    components: dict[str, np.ndarray]
    readers: frozenset[str]


def reading_sites(channels: Channels) -> Sites:
    """Every tensor of removable channels that a layer makes other channels of."""
    prunable = channels.prunable
    reader: dict[int, str] = {}
    readers = []
    for call in channels.network.all_calls():
        reads = channels.reads.get(call.path)
        if reads is not None and prunable[reads].any() and makes_channels(call):
            reader.setdefault(id(call.inputs[0]), call.path)
            readers.append(call.path)
    components = {path: channels.reads[path] for path in dict.fromkeys(reader.values())}
    return Sites(reader, components, frozenset(readers))


def makes_channels(call: Call) -> bool:
    """Whether a layer has a kernel that makes channels of its own."""
    return any(blocks(letter) for place in places(call) if len(place.axes) > 1 for letter in place.axes)


def activation_statistics(
    channels: Channels, split: Split, reductions: Sequence[str], batch_size: int = 128
) -> dict[str, ActivationStatistics]:
    """Streams data through the network and reduces what each layer that makes channels reads.

    Args:
        channels: The network with its channels.
        split: Inputs; labels are not looked at.
        reductions: Names of rows of `REDUCTIONS`.
        batch_size: Examples per step.
    Returns:
        Layer path -> its statistics, for every layer that makes channels of removable ones. Layers that read the
        same tensor share one entry's work, and the first of them stands for all.
    """
    sites = reading_sites(channels)
    if not sites.components:
        return {}
    probe = compiled(_reduced(channels, sites, tuple(reductions)), channels.network.model)
    totals = {path: np.zeros((len(reductions), len(reads))) for path, reads in sites.components.items()}
    positions = dict.fromkeys(sites.components, 0)
    with task("Statistics", total=len(split)) as advance:
        for x, _ in split.inputs_only().batches(batch_size):
            inputs = list(x) if isinstance(x, tuple) else [x]
            for path, (sums, per_example) in probe(inputs).items():
                # Sums over the positions of one example are exact counts up to 2^24 positions.
                totals[path] += [ops.convert_to_numpy(s).sum(0, dtype="float64") for s in sums]
                positions[path] += int(ops.convert_to_numpy(per_example)) * len(inputs[0])
            advance(len(inputs[0]))
    return {
        path: ActivationStatistics(dict(zip(reductions, totals[path], strict=True)), positions[path])
        for path in sites.components
    }


def _reduced(channels: Channels, sites: Sites, reductions: tuple[str, ...]) -> Callable:
    """A function of a batch: site -> per reduction its sums over positions, (batch, channels), and their number."""

    def function(inputs):
        found: dict[str, tuple[list, Any]] = {}

        def step(call: Call, args: tuple, kwargs: dict) -> list[Any]:
            if call.inputs and sites.reader.get(id(call.inputs[0])) == call.path:
                x = tree.flatten((args, kwargs))[0]
                axis = channel_axis(call.operation, len(x.shape))
                others = [a for a in range(1, len(x.shape)) if a != axis]
                sums = [ops.sum(REDUCTIONS[r](x), axis=others) if others else REDUCTIONS[r](x) for r in reductions]
                count = math.prod(x.shape[a] or ops.shape(x)[a] for a in others)
                if call.path in found:  # A layer that is called more than once sees all of it.
                    before, counted = found[call.path]
                    sums, count = [a + b for a, b in zip(before, sums, strict=True)], counted + count
                found[call.path] = sums, count
            return call.infer(args, kwargs)

        channels.network.walk(channels.network.cast_inputs(inputs), step)
        return {path: (sums, ops.convert_to_tensor(count)) for path, (sums, count) in found.items()}

    return function
