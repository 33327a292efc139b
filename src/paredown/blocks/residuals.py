"""Residual connections and what they go around: two 3×3, a bottleneck, MobileNetV2's inverted residual."""

from collections.abc import Callable
from typing import Any

from keras import layers, ops

from paredown.blocks.arguments import channels_of, one_of, whole
from paredown.blocks.convolutions import Activation, activate, convolution, depthwise, part
from paredown.blocks.widths import bottleneck_strides, bottleneck_width, changes
from paredown.errors import SettingError


def basic(
    x: Any,
    filters: int,
    strides: int = 1,
    activation: Activation = "relu",
    final_activation: bool = True,
    normalize: bool = True,
    name: str | None = None,
) -> Any:
    """Two 3×3 convolutions; the first takes the stride.

    Args:
        x: Feature map, shape (batch, height, width, channels).
        filters: Channels of both.
        strides: Of the first, for both axes.
        activation: Behind each convolution.
        final_activation: Whether also behind the second; a residual block has it behind the sum instead.
        normalize: Whether BatchNormalization follows each convolution; without it they have biases.
        name: Prefix of the layers' names: `NAME_1_…`, `NAME_2_…`.
    Returns:
        Feature map, shape (batch, height / strides, width / strides, filters).
    Raises:
        SettingError: If an argument is outside its domain.
    Source:
        He et al. 2015, Deep Residual Learning, arXiv:1512.03385, figure 5 (left).
    """
    channels_of(x, "basic")
    whole("strides", strides, "basic")
    y = convolution(x, filters, 3, strides, "same", activation, normalize, part(name, "1"))
    last = activation if final_activation else None
    return convolution(y, filters, 3, 1, "same", last, normalize, part(name, "2"))


def bottleneck(
    x: Any,
    filters: int,
    width: int | None = None,
    strides: int = 1,
    strides_at: str = "1x1",
    activation: Activation = "relu",
    final_activation: bool = True,
    normalize: bool = True,
    name: str | None = None,
) -> Any:
    """1×1 down to `width`, 3×3 there, 1×1 up to `filters`.

    Args:
        x, activation, final_activation, normalize: As for `basic`.
        filters: Output channels.
        width: Channels of the 3×3; None: a quarter of `filters`.
        strides: For both axes.
        strides_at: Which convolution takes them: "1x1", the first one, as in the paper; "3x3", as most do since: more
            MACs, and no input is dropped unseen.
        name: Prefix of the layers' names: `NAME_reduce_…`, `NAME_middle_…`, `NAME_expand_…`.
    Returns:
        Feature map, as from `basic`.
    Raises:
        SettingError: If an argument is outside its domain.
    Source:
        He et al. 2015, Deep Residual Learning, arXiv:1512.03385, figure 5 (right).
    """
    block = "bottleneck"
    channels_of(x, block)
    whole("strides", strides, block)
    first, middle = bottleneck_strides(strides, strides_at)
    inner = bottleneck_width(filters, width)
    y = convolution(x, inner, 1, first, "same", activation, normalize, part(name, "reduce"))
    y = convolution(y, inner, 3, middle, "same", activation, normalize, part(name, "middle"))
    last = activation if final_activation else None
    return convolution(y, filters, 1, 1, "same", last, normalize, part(name, "expand"))


def residual(
    x: Any,
    filters: int,
    body: Callable[..., Any] = basic,
    shortcut: str = "B",
    strides: int = 1,
    activation: Activation = "relu",
    normalize: bool = True,
    scale: float = 1.0,
    name: str | None = None,
    **settings: Any,
) -> Any:
    """activation(shortcut(x) + scale · body(x)).

    Args:
        x, strides, activation, normalize: As for `basic`.
        filters: Output channels.
        body: A block: called with `filters`, `strides`, `activation`, `final_activation=False`, `normalize`, `name`
            and `settings`.
        shortcut: "A": the identity, strided, with zeros for the channels that are missing; "B": a 1×1 convolution
            where width or size change, the identity elsewhere; "C": a 1×1 convolution always.
        scale: Of the body's output; 0.1 to 0.3 steadies wide inception bodies.
        name: Prefix of the layers' names: those of the body, `NAME_shortcut_…`, `NAME_add`, `NAME_out`.
        **settings: Of the body.
    Returns:
        Feature map, as from `basic`.
    Raises:
        SettingError: If an argument is outside its domain, or the body gives another shape than the shortcut.
    Source:
        He et al. 2015, Deep Residual Learning, arXiv:1512.03385, sections 3.2 and 4.1 (shortcuts A, B, C);
        Szegedy et al. 2016, Inception-v4, arXiv:1602.07261, section 3.3 (`scale`).
    """
    block = "residual"
    channels_of(x, block)
    whole("filters", filters, block)
    whole("strides", strides, block)
    one_of("shortcut", shortcut, SHORTCUTS, block)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= 1:
        raise SettingError(f"scale must be in (0, 1]. Received: scale={scale!r} ({block}). Use e.g. 0.2, or 1.")
    common = {"strides": strides, "activation": activation, "normalize": normalize}
    y = body(x, filters, **common, final_activation=False, name=name, **settings)
    if scale != 1:
        y = layers.Rescaling(scale, name=part(name, "scale"))(y)
    short = SHORTCUTS[shortcut](x, filters, strides, normalize, part(name, "shortcut"))
    if tuple(y.shape) != tuple(short.shape):
        raise SettingError(
            f"body must give filters channels at 1 / strides of the size, {tuple(short.shape[1:])}. Received: "
            f"{tuple(y.shape[1:])} ({block})."
        )
    return activate(layers.Add(name=part(name, "add"))([short, y]), activation, part(name, "out"))


def _padded(x: Any, filters: int, strides: int, normalize: bool, name: str | None) -> Any:
    """Shortcut A, made so that channels can be pruned through it.

    Padding by constants would pin the channels that they are added to. Zeros that are made of the channels themselves
    go where those go: channel k and the zeros beside it, k + channels, are pruned together.
    """
    channels = channels_of(x, "residual")
    if filters < channels:
        raise SettingError(
            f"shortcut 'A' cannot drop channels. Received: filters={filters} behind {channels} channels (residual). "
            "Use shortcut 'B'."
        )
    if strides != 1:
        # A window of one position with strides: the strided identity.
        x = layers.MaxPooling2D(1, strides, data_format="channels_last", name=part(name, "skip"))(x)
    if filters == channels:
        return x
    nothing = ops.zeros_like(x)
    times, left = divmod(filters - channels, channels)
    zeros = [nothing] * times + ([nothing[..., :left]] if left else [])
    return layers.Concatenate(name=part(name, "pad"))([x, *zeros])


def _projected(x: Any, filters: int, strides: int, normalize: bool, name: str | None) -> Any:
    return convolution(x, filters, 1, strides, "same", None, normalize, name)


def _projected_where_it_changes(x: Any, filters: int, strides: int, normalize: bool, name: str | None) -> Any:
    if not changes(channels_of(x, "residual"), filters, strides):
        return x
    return _projected(x, filters, strides, normalize, name)


#: How the shortcut gets the body's shape: shortcut(x, filters, strides, normalize, name).
SHORTCUTS: dict[str, Callable[..., Any]] = {"A": _padded, "B": _projected_where_it_changes, "C": _projected}


def inverted_residual(
    x: Any,
    filters: int,
    expansion: int = 6,
    kernel_size: int = 3,
    strides: int = 1,
    activation: Activation = "relu6",
    normalize: bool = True,
    name: str | None = None,
) -> Any:
    """1×1 up to `expansion` times the channels, depthwise there, 1×1 down without activation, plus `x` where it fits.

    Args:
        x, strides, normalize: As for `basic`.
        filters: Output channels.
        expansion: t; 1 leaves the first convolution out.
        kernel_size: Of the depthwise convolution, for both axes.
        activation: Behind the first two convolutions.
        name: Prefix of the layers' names: `NAME_expand_…`, `NAME_depthwise_…`, `NAME_project_…`, `NAME_add`.
    Returns:
        Feature map, as from `basic`.
    Raises:
        SettingError: If an argument is outside its domain.
    Source:
        Sandler et al. 2018, MobileNetV2, arXiv:1801.04381, section 3.3 and table 1.
    """
    block = "inverted_residual"
    channels = channels_of(x, block)
    for key, value in (("expansion", expansion), ("kernel_size", kernel_size), ("strides", strides)):
        whole(key, value, block)
    whole("filters", filters, block)
    y = x
    if expansion > 1:
        y = convolution(y, expansion * channels, 1, 1, "same", activation, normalize, part(name, "expand"))
    y = depthwise(y, kernel_size, strides, "same", activation, normalize, part(name, "depthwise"))
    y = convolution(y, filters, 1, 1, "same", None, normalize, part(name, "project"))
    return y if changes(channels, filters, strides) else layers.Add(name=part(name, "add"))([x, y])
