"""Kernels that get other values while everything else of a network stays: putting them in, and proving the rest."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from paredown.errors import SettingError
from paredown.network import Call, Network
from paredown.rebuild import copy_weights
from paredown.sparse import Kernel, kernels
from paredown.transform import Skip

#: Layer path -> weight name -> its new value.
Values = dict[str, dict[str, np.ndarray]]


def chosen_kernels(
    transform: Any, network: Network, why_not: Callable[[Kernel], str | None]
) -> tuple[list[Kernel], list[Skip]]:
    """The kernels that a transform treats, and one Skip for each of the others.

    Args:
        transform: Has `include`, kinds of kernels, and `exclude`, names of layers.
        network: Where they are looked for.
        why_not: A kernel that these two leave -> the reason against it, if there is one.
    Raises:
        SettingError: If `exclude` names what is no layer with a kernel.
    """
    found, skipped = kernels(network)
    paths = {kernel.path for kernel in found}
    unknown = sorted(set(transform.exclude) - paths)
    if unknown:
        raise SettingError(
            f"exclude must name layers with kernels. Received: {unknown} ({type(transform).__name__}). "
            f"The network has: {', '.join(sorted(paths)[:8])}, …"
        )

    def reason(kernel: Kernel) -> str | None:
        if kernel.path in transform.exclude:
            return "excluded"
        if kernel.kind not in transform.include:
            return f"its {kernel.weight} is {kernel.kind}, which include={list(transform.include)} does not name"
        return why_not(kernel)

    reasons = [(kernel, reason(kernel)) for kernel in found]
    skips = [Skip(kernel.path, why) for kernel, why in reasons if why]
    skips += [Skip(path, why) for path, why in skipped.items()]
    return [kernel for kernel, why in reasons if why is None], skips


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
