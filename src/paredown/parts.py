"""Parts of a layer: inner layers with weights of their own, and channels that never leave the layer.

An attention layer's heads and the units of a Bidirectional layer's two halves are channels like any other: they have
labels, stand in `Channels.outputs` under a key such as `"attention/heads"`, and go when no budget wants them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Part:
    """Some of a layer's weights, and whose channels their axes carry.

    Args:
        owner: The inner layer (or the layer itself) whose `weights` are meant.
        weights: Weight name -> its axes, as in a row of `layer_rules`.
        reads, makes, own: What the layer's path is followed by in the keys of `Channels.reads` for axes "i", and of
            `Channels.outputs` for axes "o" and "r"; "" means the layer itself.
        at: At the positions of which tensor its kernels multiply: "output", "input" or an argument's name.
    """

    owner: Any
    weights: Mapping[str, str]
    reads: str = ""
    makes: str = ""
    own: str = ""
    at: str | None = None


def key(path: str, name: str) -> str:
    """The key of what is inside a layer, e.g. `"attention/heads"`; that of the layer itself where `name` is ""."""
    return f"{path}/{name}" if name else path
