"""Which axis of which weight of a layer carries which channels: the table's rows, with a layer's parts resolved."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from paredown.channels import Channels
from paredown.flows import loses_whole_groups
from paredown.layer_rules import groups_of, rule_for, weight_name
from paredown.network import Call
from paredown.parts import Part, key


@dataclass(frozen=True)
class Place:
    """One weight.

    Args:
        weight: The variable.
        axes: Its axes, e.g. ("h", "w", "i", "o"); see `layer_rules`.
        owner: The layer that multiplies with it: the layer itself, or one inside it.
        reads: Key in `Channels.reads` for axes "i" and "im".
        makes: Key in `Channels.outputs` for axes "o", "4o" and the like.
        own: Key in `Channels.outputs` for axis "r".
        at: At the positions of which tensor it multiplies; see `parts.Part`.
        name: What the row calls it.
        groups: In how many groups its channels are, that do not meet.
    """

    weight: Any
    axes: tuple[str, ...]
    owner: Any
    reads: str
    makes: str
    own: str
    at: str | None
    name: str
    groups: int

    @property
    def is_kernel(self) -> bool:
        return self.name.endswith("kernel")


def places(call: Call) -> list[Place]:
    """The weights of a layer with a row, in the order of the layer's own list; none where it has no row."""
    rule = rule_for(call.operation)
    if rule is None or not call.is_layer:
        return []
    parts = rule.parts(call.operation) if rule.parts else (Part(call.operation, rule.weights, at=rule.macs_at),)
    found, groups = {}, groups_of(rule, call.operation)
    for part in parts:
        reads, makes, own = (key(call.path, name) for name in (part.reads, part.makes, part.own))
        for weight in part.owner.weights:
            name = weight_name(part.owner, weight)
            axes = _axes(part.weights.get(name, "..."), len(weight.shape))
            found[id(weight)] = Place(weight, axes, part.owner, reads, makes, own, part.at, name, groups)
    return [found[id(weight)] for weight in call.operation.weights if id(weight) in found]


def blocks(letter: str) -> int:
    """How many blocks of output channels an axis holds, one behind the other: 4 for "4o", 1 for "o", 0 for others."""
    return int(letter[:-1] or 1) if letter.endswith("o") else 0


def along(place: Place, axis: int, channels: Channels) -> np.ndarray | None:
    """The component of each place along one axis of a weight, shape (size,); None where it carries no channels."""
    letter, size = place.axes[axis], place.weight.shape[axis]
    if letter in ("i", "im") and place.name != "bias":
        components = channels.reads.get(place.reads)
        times = size // max(1, components.size) if letter == "im" and components is not None else 1
        components = None if components is None else np.repeat(_of_one_group(place, components), times)
    elif letter == "r":
        components = channels.outputs.get(place.own)
    elif letter == "im" or blocks(letter):
        components = channels.outputs.get(place.makes)
        components = None if components is None else np.tile(components, max(1, blocks(letter)))
    else:
        components = None
    # A size of 1 on a channel axis is shared by all channels (PReLU with shared axes).
    return components if components is not None and components.size == size else None


def keeps_inputs(place: Place) -> bool:
    """Whether an output goes on reading as many channels, for only whole groups go."""
    return place.groups > 1 and loses_whole_groups(place.owner)


def _of_one_group(place: Place, components: np.ndarray) -> np.ndarray:
    """What one output reads: channels of its own group, the same places in each."""
    if place.groups == 1:
        return components
    return np.zeros(0, int) if keeps_inputs(place) else components.reshape(place.groups, -1)[0]


def made_by(call: Call) -> dict[str, np.ndarray]:
    """The weights that make each channel of a layer, or inside it.

    Returns:
        Key in `Channels.outputs` -> shape (weights per channel, channels); where several kernels make the same
        channels (of a recurrent layer, of the two halves of a Bidirectional one) they stand below each other.
    """
    kernels: dict[str, list[np.ndarray]] = {}
    for place in places(call):
        if place.name.endswith(("kernel", "embeddings")) and any(map(blocks, place.axes)):
            kernels.setdefault(place.makes, []).append(_by_channel(place))
    for place in places(call):
        if place.is_kernel and "m" in place.axes and place.makes not in kernels:
            # A depthwise kernel [h, w, i, m] makes channel i * m + k.
            value = keras.ops.convert_to_numpy(place.weight)
            kernels[place.makes] = [value.reshape(-1, value.shape[-2] * value.shape[-1])]
    return {name: np.concatenate(values) for name, values in kernels.items()}


def _by_channel(place: Place) -> np.ndarray:
    """A kernel as [weights per channel, channels]."""
    axis = next(a for a, letter in enumerate(place.axes) if blocks(letter))
    value = np.moveaxis(keras.ops.convert_to_numpy(place.weight), axis, -1)
    value = value.reshape(-1, blocks(place.axes[axis]), value.shape[-1] // blocks(place.axes[axis]))
    return value.reshape(-1, value.shape[-1])


def _axes(row: str, rank: int) -> tuple[str, ...]:
    """The axes of one weight, e.g. ("h", "w", "i", "o"); "" where it carries no channel."""
    axes = row.split()
    if "..." in axes:
        at = axes.index("...")
        axes[at : at + 1] = [""] * (rank - len(axes) + 1)
    return tuple(axes)
