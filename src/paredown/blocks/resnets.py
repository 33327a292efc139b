"""ResNet-34 and ResNet-50 for ImageNet, composed of the blocks: the thesis's Table 2.3."""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from paredown.blocks import costs
from paredown.blocks.arguments import Shape, one_of
from paredown.blocks.convolutions import convolution
from paredown.blocks.residuals import basic, bottleneck, residual

#: Residual blocks in each of the four stages, conv2_x to conv5_x. The thesis's table has three in every stage.
STAGES = (3, 4, 6, 3)
#: Layers -> the body, its cost, and how many times wider its output is than the stage's 64, 128, 256, 512.
BODIES: dict[str, tuple[Callable, Callable, int]] = {
    "34": (basic, costs.basic, 1),
    "50": (bottleneck, costs.bottleneck, 4),
}


def resnet(
    depth: int = 50,
    input_shape: Shape = (224, 224, 3),
    classes: int = 1000,
    shortcut: str = "B",
    **settings: Any,
) -> keras.Model:
    """A residual network as in the paper's table 1, with random weights.

    Args:
        depth: 34 (two 3×3) or 50 (bottlenecks): layers with weights.
        input_shape: (height, width, channels).
        classes: Softmax outputs.
        shortcut: See `residual`.
        **settings: Of the body, such as `strides_at="3x3"`.
    Raises:
        SettingError: If the depth is neither.
    Source:
        He et al. 2015, Deep Residual Learning, arXiv:1512.03385, table 1.
    """
    body, _, wider = BODIES[one_of("depth", str(depth), BODIES, "resnet")]
    image = keras.Input(input_shape, name="image")
    x = convolution(image, 64, 7, 2, name="conv1")
    x = layers.MaxPooling2D(3, 2, "same", data_format="channels_last", name="pool")(x)
    for name, filters, strides in _blocks(wider):
        x = residual(x, filters, body, shortcut, strides, name=name, **settings)
    x = layers.GlobalAveragePooling2D(data_format="channels_last", name="average")(x)
    return keras.Model(image, layers.Dense(classes, "softmax", name="scores")(x), name=f"resnet{depth}")


def resnet_cost(
    depth: int = 50,
    input_shape: Shape = (224, 224, 3),
    classes: int = 1000,
    shortcut: str = "B",
    **settings: Any,
) -> costs.Cost:
    """What `resnet` with these arguments costs; nothing is built."""
    _, body, wider = BODIES[one_of("depth", str(depth), BODIES, "resnet")]
    total = costs.convolution(input_shape, 64, 7, 2)
    high, wide, channels = total.shape
    total += costs.pooled((costs.size(high, 3, 2, "same"), costs.size(wide, 3, 2, "same"), channels))
    for _, filters, strides in _blocks(wider):
        total += costs.residual(total.shape, filters, body, shortcut, strides, **settings)
    return total + costs.dense(total.shape[2], classes)


def _blocks(wider: int) -> list[tuple[str, int, int]]:
    """Name, output channels and strides of each residual block; every stage but the first halves the size."""
    return [
        (f"conv{stage}_{number}", wider * 64 * 2 ** (stage - 2), 2 if number == 1 and stage > 2 else 1)
        for stage, count in enumerate(STAGES, 2)
        for number in range(1, count + 1)
    ]
