"""The twin that is trained in a network's place: penalties, frozen statistics, and a way around a fault of TensorFlow.

The gradient of TensorFlow's 1x1 convolution with strides writes past its memory. Seen with TensorFlow 2.21's oneDNN
kernels on x86: training any network that holds one (every ResNet's projection shortcut) ends sooner or later in
"free(): invalid size". Taking every s-th position first and then convolving with stride 1 gives the same outputs and
gradients, and does not reach the faulty kernel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import keras

from paredown.network import Call, Network
from paredown.rebuild import Arguments, copy_weights, from_config, rebuild
from paredown.transforms.penalties import penalize_activations, penalize_weights


class SlicedConv2D(keras.layers.Conv2D):
    """A 1x1 convolution that leaves positions out before it works, not by its strides."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        # A window of one never needs padding: "same" and "valid" both start at the first position.
        rows, columns = self.strides
        return keras.ops.conv(inputs[:, ::rows, ::columns], kernel, strides=1, padding="valid")


class FrozenBatchNormalization(keras.layers.BatchNormalization):
    """Normalizes with the statistics that it has, in training too; gamma and beta learn."""

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        return super().call(inputs, training=False, mask=mask)


@dataclass(frozen=True)
class Twin:
    """What is trained in the place of a network.

    Args:
        model: The network that is trained.
        bring_back: Copies what it learned into the network that it stands for.
        callbacks: What `fit` tells how far it has come.
    """

    model: Any
    bring_back: Callable[[], None]
    callbacks: tuple[Any, ...] = ()


class Rounding(Protocol):
    """What makes a twin compute as a quantized file will; see `rounding.Rounding`."""

    def kind(self, call: Call, kind: type) -> type: ...
    def put(self, call: Call, layer: Any) -> Any: ...
    def arguments(self, call: Call, args: tuple, kwargs: dict) -> tuple[tuple, dict]: ...


def for_training(
    model: Any,
    penalty: str | None = None,
    strength: float = 0.0,
    frozen_statistics: bool = False,
    rounding: Rounding | None = None,
) -> Twin:
    """A network to train in the place of `model`, and what brings its weights back into `model`.

    Args:
        penalty, strength: What the twin adds to its loss, see `penalties`.
        frozen_statistics: Whether its BatchNormalization keeps its statistics.
        rounding: What of it is rounded, if anything.
    Returns:
        Twin: `model` itself where the fault cannot be met and nothing else is asked for; else one without strided 1x1
        convolutions.
    """
    calls = list(Network(model).all_calls())
    asked = penalty is not None or frozen_statistics or rounding is not None
    if not asked and not any(_faulty(call.operation) for call in calls):
        return Twin(model, lambda: None)
    made: dict[str, Any] = {}

    def remake(call: Call) -> Any:
        kind = _kind(call.operation, frozen_statistics)
        kind = rounding.kind(call, kind) if rounding else kind
        made[call.path] = from_config(call.operation, call.operation.get_config(), kind)
        return rounding.put(call, made[call.path]) if rounding else made[call.path]

    def bring_back() -> None:
        for call in calls:
            if call.is_layer:
                own = call.operation.variables
                # What rounding adds to a layer comes behind its own variables.
                for before, after in zip(own, made[call.path].variables[: len(own)], strict=True):
                    before.assign(after)

    def carry(call: Call, new: Any) -> None:
        copy_weights(call, made[call.path])

    arguments = _one_after_another(penalize_activations(model, penalty, strength), rounding)
    twin = rebuild(model, remake, carry, arguments=arguments, opened=lambda call: True)
    penalize_weights([layer for layer in made.values() if hasattr(layer, "trainable_variables")], penalty, strength)
    return Twin(twin, bring_back)


def _kind(layer: Any, frozen_statistics: bool) -> type:
    if _faulty(layer):
        return SlicedConv2D
    frozen = frozen_statistics and type(layer) is keras.layers.BatchNormalization
    return FrozenBatchNormalization if frozen else type(layer)


def _one_after_another(first: Arguments, rounding: Rounding | None) -> Arguments:
    if rounding is None:
        return first
    return lambda call, args, kwargs: first(call, *rounding.arguments(call, args, kwargs))


def _faulty(layer: Any) -> bool:
    return (
        keras.backend.backend() == "tensorflow"
        and type(layer) is keras.layers.Conv2D
        and layer.kernel_size == (1, 1)
        and layer.strides != (1, 1)
        and layer.data_format == "channels_last"
    )
