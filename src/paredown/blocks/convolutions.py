"""Convolution with what stands behind it, and the two ways to make one of thinner ones: one-dimensional, separable.

A convolution has no bias where BatchNormalization follows: that subtracts it again.
"""

from typing import Any

from keras import layers

from paredown.blocks.arguments import Pair, channels_of, fits, one_of, pair, whole
from paredown.errors import SettingError

Activation = Any
_PADDINGS = ("same", "valid")


def part(name: str | None, suffix: str) -> str | None:
    """The name of a block's part; None, Keras's own numbering, for a block without a name."""
    return None if name is None else f"{name}_{suffix}"


def activate(x: Any, activation: Activation, name: str | None) -> Any:
    """The activation as a layer named `name`; None: `x` itself."""
    if activation is None:
        return x
    try:
        return layers.Activation(activation, name=name)(x)
    except ValueError as error:
        raise SettingError(
            f"activation must be a function, None, or a name that Keras knows. Received: activation={activation!r} "
            f"({name or 'a block'}). Use e.g. 'relu'."
        ) from error


def follow(x: Any, activation: Activation, normalize: bool, name: str | None) -> Any:
    """What stands behind a convolution: BatchNormalization unless not asked for, the activation."""
    if normalize:
        x = layers.BatchNormalization(name=part(name, "norm"))(x)
    return activate(x, activation, part(name, "act"))


def convolution(
    x: Any,
    filters: int,
    kernel_size: Pair = 3,
    strides: Pair = 1,
    padding: str = "same",
    activation: Activation = "relu",
    normalize: bool = True,
    name: str | None = None,
) -> Any:
    """Convolution, BatchNormalization, activation.

    Args:
        x: Feature map, shape (batch, height, width, channels).
        filters: Output channels.
        kernel_size, strides: For both axes, or (height, width).
        padding: "same" or "valid".
        activation: A name that Keras knows, a function, or None for none.
        normalize: Whether BatchNormalization follows; without it the convolution has a bias.
        name: Prefix of the layers' names (`NAME_conv`, `NAME_norm`, `NAME_act`); None: Keras numbers them.
    Returns:
        Feature map, shape (batch, height / strides, width / strides, filters).
    Raises:
        SettingError: If an argument is outside its domain.
    """
    block = "convolution"
    channels_of(x, block)
    kernel, steps = pair("kernel_size", kernel_size, block), pair("strides", strides, block)
    fits(x, kernel, one_of("padding", padding, _PADDINGS, block), block)
    layer = layers.Conv2D(
        whole("filters", filters, block),
        kernel,
        steps,
        padding,
        data_format="channels_last",
        use_bias=not normalize,
        name=part(name, "conv"),
    )
    return follow(layer(x), activation, normalize, name)


def one_dimensional(
    x: Any,
    filters: int,
    kernel_size: Pair = 3,
    strides: Pair = 1,
    padding: str = "same",
    width: int | None = None,
    between: Activation = "relu",
    activation: Activation = "relu",
    final_activation: bool = True,
    normalize: bool = True,
    name: str | None = None,
) -> Any:
    """A convolution of height × width as a pair of one-dimensional ones: height × 1 with bias and ReLU, 1 × width.

    The first convolution takes the vertical stride, the second the horizontal one, so that the map in between is
    wider than the output by the stride (`costs.one_dimensional`, `formulas.intermediate_ratio`).

    Args:
        x, filters, strides, padding, activation, normalize: As for `convolution`.
        kernel_size: (height, width) of the convolution that the pair stands for, or one number for both.
        width: Channels in between (P); None: `filters`.
        between: Activation between the two; None makes the pair a linear map, a convolution of rank `width`.
        final_activation: Whether `activation` stands at the end.
        name: Prefix of the layers' names: `NAME_vertical`, `NAME_between`, `NAME_horizontal_conv` and what follows it.
    Returns:
        Feature map, as from `convolution`.
    Raises:
        SettingError: If an argument is outside its domain.
    Source:
        Alvarez & Petersson 2016, DecomposeMe, arXiv:1606.05426, section 3.
    """
    block = "one_dimensional"
    channels_of(x, block)
    (high, wide), (down, right) = pair("kernel_size", kernel_size, block), pair("strides", strides, block)
    fits(x, (high, wide), one_of("padding", padding, _PADDINGS, block), block)
    filters = whole("filters", filters, block)
    vertical = layers.Conv2D(
        filters if width is None else whole("width", width, block),
        (high, 1),
        (down, 1),
        padding,
        data_format="channels_last",
        name=part(name, "vertical"),
    )
    y = activate(vertical(x), between, part(name, "between"))
    last = activation if final_activation else None
    return convolution(y, filters, (1, wide), (1, right), padding, last, normalize, part(name, "horizontal"))


def depthwise(
    x: Any,
    kernel_size: int,
    strides: int,
    padding: str,
    activation: Activation,
    normalize: bool,
    name: str | None,
    multiplier: int = 1,
) -> Any:
    """Depthwise convolution, BatchNormalization, activation: `multiplier` channels of each."""
    layer = layers.DepthwiseConv2D(
        kernel_size,
        strides,
        padding,
        depth_multiplier=multiplier,
        data_format="channels_last",
        use_bias=not normalize,
        name=part(name, "conv"),
    )
    return follow(layer(x), activation, normalize, name)


def separable(
    x: Any,
    filters: int,
    kernel_size: int = 3,
    strides: int = 1,
    padding: str = "same",
    multiplier: int = 1,
    activation: Activation = "relu",
    final_activation: bool = True,
    normalize: bool = True,
    name: str | None = None,
) -> Any:
    """Depthwise separable convolution: a filter for each channel, then 1×1 over them, each with norm and activation.

    Args:
        x, filters, padding, normalize: As for `convolution`.
        kernel_size, strides: Of the depthwise convolution, for both axes.
        multiplier: Filters on each input channel (I).
        activation: Behind both convolutions.
        final_activation: Whether also behind the second.
        name: Prefix of the layers' names: `NAME_depthwise_…`, `NAME_pointwise_…`.
    Returns:
        Feature map, as from `convolution`.
    Raises:
        SettingError: If an argument is outside its domain.
    Source:
        Howard et al. 2017, MobileNets, arXiv:1704.04861, section 3.1.
    """
    block = "separable"
    channels_of(x, block)
    for key, value in (("multiplier", multiplier), ("kernel_size", kernel_size), ("strides", strides)):
        whole(key, value, block)
    fits(x, (kernel_size, kernel_size), one_of("padding", padding, _PADDINGS, block), block)
    filters = whole("filters", filters, block)
    y = depthwise(x, kernel_size, strides, padding, activation, normalize, part(name, "depthwise"), multiplier)
    last = activation if final_activation else None
    return convolution(y, filters, 1, 1, "same", last, normalize, part(name, "pointwise"))
