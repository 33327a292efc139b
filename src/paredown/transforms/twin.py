"""The twin that is trained in a network's place: penalties, frozen statistics, and a way around a fault of TensorFlow.

The gradient of TensorFlow's 1x1 convolution with strides writes past its memory. Seen with TensorFlow 2.21's oneDNN
kernels on x86: training any network that holds one (every ResNet's projection shortcut) ends sooner or later in
"free(): invalid size". Taking every s-th position first and then convolving with stride 1 gives the same outputs and
gradients, and does not reach the faulty kernel.
"""

from collections.abc import Callable
from typing import Any

import keras

from paredown.network import Call, Network
from paredown.rebuild import copied, rebuild
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


def for_training(
    model: Any, penalty: str | None = None, strength: float = 0.0, frozen_statistics: bool = False
) -> tuple[Any, Callable[[], None]]:
    """A network to train in the place of `model`, and what brings its weights back into `model`.

    Args:
        penalty, strength: What the twin adds to its loss, see `penalties`.
        frozen_statistics: Whether its BatchNormalization keeps its statistics.
    Returns:
        (`model` itself, nothing to do) where the fault cannot be met and nothing else is asked for; else a twin
        without strided 1x1 convolutions and a function that copies all of its variables to `model`.
    """
    calls = list(Network(model).all_calls())
    fault = keras.backend.backend() == "tensorflow"
    if penalty is None and not frozen_statistics and not (fault and any(_strided(call.operation) for call in calls)):
        return model, lambda: None
    made: dict[str, Any] = {}

    def remake(call: Call) -> Any:
        layer, config = call.operation, call.operation.get_config()
        if fault and _strided(layer):
            made[call.path] = SlicedConv2D.from_config(config)
        elif frozen_statistics and type(layer) is keras.layers.BatchNormalization:
            made[call.path] = FrozenBatchNormalization.from_config(config)
        else:
            made[call.path] = copied(call)
        return made[call.path]

    def bring_back() -> None:
        for call in calls:
            if call.is_layer:
                for before, after in zip(call.operation.variables, made[call.path].variables, strict=True):
                    before.assign(after)

    twin = rebuild(model, remake, arguments=penalize_activations(model, penalty, strength), opened=lambda call: True)
    penalize_weights([layer for layer in made.values() if hasattr(layer, "trainable_variables")], penalty, strength)
    return twin, bring_back


def _strided(layer: Any) -> bool:
    return (
        type(layer) is keras.layers.Conv2D
        and layer.kernel_size == (1, 1)
        and layer.strides != (1, 1)
        and layer.data_format == "channels_last"
    )
