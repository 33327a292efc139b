"""Kernels that get other values while everything else of a network stays: putting them in, and proving the rest."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from paredown.network import Call, Network
from paredown.rebuild import copy_weights
from paredown.sparse import Kernel

#: Layer path -> weight name -> its new value.
Values = dict[str, dict[str, np.ndarray]]


def carrying(values: Values) -> Any:
    """What `rebuild` carries weights over with, so that some get new values."""

    def carry(call: Call, new: Any) -> None:
        copy_weights(call, new)
        for weight in new.weights:
            if weight.name in values.get(call.path, {}):
                weight.assign(values[call.path][weight.name])

    return carry


def changed_elsewhere(network: Network, layers: dict[str, Any], treated: Iterable[Kernel]) -> float:
    """How many numbers differ in variables that are no treated kernels.

    Args:
        network: The network as it was.
        layers: Layer path -> the layer in the new network.
        treated: Kernels that may differ.
    """
    names = {(kernel.path, kernel.weight) for kernel in treated}
    differ = 0
    for path, layer in {call.path: call.operation for call in network.all_calls() if call.is_layer}.items():
        for old, new in zip(layer.weights, layers[path].weights, strict=True):
            if (path, old.name) not in names:
                differ += int((keras.ops.convert_to_numpy(old) != keras.ops.convert_to_numpy(new)).sum())
    return float(differ)
