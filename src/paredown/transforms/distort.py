"""Random changes of weights, so that units which share a feature part ways."""

from typing import Any

import keras
import numpy as np

from paredown.channels import Channels
from paredown.rebuild import rebuild
from paredown.weight_places import blocks, places


def distorted(model: Any, amount: float, seed: int) -> keras.Model:
    """A copy of the network with w + amount · random(shape) · (1 - var(w)) in the place of each kernel w.

    Random values are uniform in [-1, 1]. It concerns the kernels of dense, convolution and transposed convolution
    layers (and whatever else makes channels of its own) of which some channel may be removed: their units share
    features. Biases, normalization, output layers and what is not trainable stay. Where the variance exceeds 1, nothing
    is added: the formula would distort widely spread weights the more, without end over the cycles.

    Args:
        model: A built Functional or Sequential model; it is not touched.
        amount: Factor, unitless; 1 is the thesis's.
        seed: Of the random values.
    Source:
        Çallı 2017, Optimizing Neural Networks for Mobile Devices, section 2.2.2, Distorted Pruning.
    """
    copy = rebuild(model)
    generator = np.random.default_rng(seed)
    for kernel in _shared_kernels(copy):
        value = keras.ops.convert_to_numpy(kernel).astype("float32")
        spread = max(0.0, 1.0 - float(value.var()))
        kernel.assign(value + amount * spread * generator.uniform(-1, 1, value.shape))
    return copy


def _shared_kernels(model: Any) -> list[Any]:
    channels = Channels(model)
    prunable, found = channels.prunable, {}
    for call in channels.network.all_calls():
        for place in places(call):
            made = channels.outputs.get(place.makes, np.zeros(0, int))
            if place.is_kernel and any(map(blocks, place.axes)) and place.weight.trainable and prunable[made].any():
                found[id(place.weight)] = place.weight
    return list(found.values())
