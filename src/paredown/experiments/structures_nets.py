"""The networks of the experiment `structures`: one frame, four bodies, and widths that meet a budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from paredown import blocks
from paredown.blocks import costs

#: Widths are solved in these steps of the first stage's; the stages have 1, 2 and 4 times as many channels.
STEP = 0.25
#: The narrowest that every body can be.
NARROWEST = 8.0
#: Shortcuts without weights: a network with residual connections costs what it costs without.
SHORTCUT = "A"


def _two_separable(x: Any, filters: int, strides: int = 1, name: str = "", final_activation: bool = True, **settings):
    x = blocks.separable(x, filters, strides=strides, name=f"{name}_1", **settings)
    return blocks.separable(x, filters, name=f"{name}_2", final_activation=final_activation, **settings)


def _two_separable_cost(shape: Any, filters: int, strides: int = 1, **settings: Any) -> costs.Cost:
    first = costs.separable(shape, filters, strides=strides, **settings)
    return first + costs.separable(first.shape, filters, **settings)


#: Structure -> its block and what it costs.
STRUCTURES: dict[str, tuple[Callable[..., Any], Callable[..., costs.Cost]]] = {
    "plain": (blocks.basic, costs.basic),
    "inception": (blocks.inception_v2, costs.inception_v2),
    "bottleneck": (blocks.bottleneck, costs.bottleneck),
    "separable": (_two_separable, _two_separable_cost),
}


@dataclass(frozen=True)
class Frame:
    """What all networks have around their blocks: a 3×3 convolution, three stages, average pooling, a dense layer.

    Args:
        shape: Of the images, (height, width, channels).
        per_stage: Blocks in each stage; the first of the second and third halves the size.
        stem_strides: Of the first convolution.
    """

    shape: tuple[int, int, int]
    per_stage: int = 1
    stem_strides: int = 2


def stage_widths(scale: float) -> tuple[int, int, int]:
    """Output channels of the three stages; those of the first are the first convolution's too."""
    first, second, third = (round(times * scale) for times in (1, 2, 4))
    return first, second, third


def network(frame: Frame, structure: str, residual: bool, scale: float) -> keras.Model:
    """A network for ten classes on raw images, values 0..255; weights are drawn from Keras's seed."""
    body, _ = STRUCTURES[structure]
    image = keras.Input(frame.shape, name="image")
    x = layers.Rescaling(1 / 127.5, -1, name="rescale")(image)
    x = blocks.convolution(x, stage_widths(scale)[0], strides=frame.stem_strides, name="stem")
    for name, filters, strides in _blocks(frame, scale):
        if residual:
            x = blocks.residual(x, filters, body, SHORTCUT, strides, name=name)
        else:
            x = body(x, filters, strides=strides, name=name)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(image, layers.Dense(10, "softmax", name="scores")(x), name=structure)


def cost(frame: Frame, structure: str, scale: float) -> costs.Cost:
    """What `network` costs, with residual connections or without; nothing is built."""
    _, body = STRUCTURES[structure]
    total = costs.convolution(frame.shape, stage_widths(scale)[0], strides=frame.stem_strides)
    for _, filters, strides in _blocks(frame, scale):
        total += body(total.shape, filters, strides=strides)
    return total + costs.dense(total.shape[2], 10)


def solved_scale(frame: Frame, structure: str, figure: str, budget: int) -> float:
    """The widest scale whose `figure` ("macs" or "params") is within the budget."""
    scale = NARROWEST
    while getattr(cost(frame, structure, scale + STEP), figure) <= budget:
        scale += STEP
    return scale


def _blocks(frame: Frame, scale: float) -> Sequence[tuple[str, int, int]]:
    """Name, output channels and strides of each block."""
    return [
        (f"stage{stage}_{number}", filters, 2 if number == 1 and stage > 1 else 1)
        for stage, filters in enumerate(stage_widths(scale), 1)
        for number in range(1, frame.per_stage + 1)
    ]
