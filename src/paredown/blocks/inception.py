"""Inception: convolutions of several sizes side by side, each behind a 1×1 that keeps it narrow, joined at the end.

All three versions have four branches and six widths, in the order of GoogLeNet's table:
    1×1 | reduce, middle | reduce, large | pooling, 1×1

The versions differ in what `middle` and `large` are:
    v1   3×3             5×5
    v2   3×3             3×3, 3×3
    v3   1×n, n×1        1×n, n×1, 1×n, n×1
"""

from collections.abc import Sequence
from typing import Any

from keras import layers

from paredown.blocks.arguments import channels_of, whole
from paredown.blocks.convolutions import Activation, convolution, part
from paredown.blocks.widths import INCEPTION_V1, INCEPTION_V2, Branches, inception_v3_branches, inception_widths


def inception_v1(
    x: Any,
    filters: int | Sequence[int],
    strides: int = 1,
    activation: Activation = "relu",
    final_activation: bool = True,
    normalize: bool = True,
    name: str | None = None,
) -> Any:
    """Inception as in GoogLeNet: 1×1, 3×3, 5×5 and max pooling.

    Args:
        x: Feature map, shape (batch, height, width, channels).
        filters: Output channels, or the six widths: see `inception_widths`.
        strides: Of each branch's last convolution and of the pooling.
        activation: Behind each convolution.
        final_activation: Whether also behind the last one of each branch.
        normalize: Whether BatchNormalization follows each convolution (GoogLeNet itself had none).
        name: Prefix of the layers' names: `NAME_one_…`, `NAME_middle_…`, `NAME_large_…`, `NAME_pool_…`, `NAME_join`.
    Returns:
        Feature map; its channels are the four branches' side by side.
    Raises:
        SettingError: If an argument is outside its domain.
    Source:
        Szegedy et al. 2014, Going deeper with convolutions, arXiv:1409.4842, section 4, figure 2b.
    """
    settings = (activation, final_activation, normalize)
    return _inception(x, filters, strides, INCEPTION_V1, layers.MaxPooling2D, settings, name)


def inception_v2(
    x: Any,
    filters: int | Sequence[int],
    strides: int = 1,
    activation: Activation = "relu",
    final_activation: bool = True,
    normalize: bool = True,
    name: str | None = None,
) -> Any:
    """Inception with the 5×5 as two 3×3, and average pooling.

    Args and Raises as for `inception_v1`; both 3×3 have the width `large`.

    Source:
        Szegedy et al. 2015, Rethinking the Inception Architecture, arXiv:1512.00567, section 3.1, figure 5.
    """
    settings = (activation, final_activation, normalize)
    return _inception(x, filters, strides, INCEPTION_V2, layers.AveragePooling2D, settings, name)


def inception_v3(
    x: Any,
    filters: int | Sequence[int],
    kernel_size: int = 7,
    strides: int = 1,
    activation: Activation = "relu",
    final_activation: bool = True,
    normalize: bool = True,
    name: str | None = None,
) -> Any:
    """Inception with each n×n as 1×n and n×1: once in the branch `middle`, twice in `large`; average pooling.

    Args and Raises as for `inception_v1`, and:
        kernel_size: n; 7 as on the paper's 17×17 maps. All but a branch's last convolution have its reduced width.

    Source:
        Szegedy et al. 2015, Rethinking the Inception Architecture, arXiv:1512.00567, section 3.2, figure 6.
    """
    settings = (activation, final_activation, normalize)
    branches = inception_v3_branches(whole("kernel_size", kernel_size, "inception_v3", 2))
    return _inception(x, filters, strides, branches, layers.AveragePooling2D, settings, name)


def _inception(
    x: Any,
    filters: int | Sequence[int],
    strides: int,
    branches: Branches,
    pooling: Any,
    settings: tuple[Activation, bool, bool],
    name: str | None,
) -> Any:
    channels_of(x, "inception")
    whole("strides", strides, "inception")
    one, reduce, middle, reduce_large, large, pooled = inception_widths(filters)
    activation, final, normalize = settings
    last = activation if final else None

    def branch(kernels: tuple, narrow: int, width: int, called: str) -> Any:
        y = convolution(x, narrow, 1, 1, "same", activation, normalize, part(name, f"{called}_reduce"))
        widths = branches.widths(kernels, narrow, width)
        for number, (kernel, wide) in enumerate(zip(kernels, widths, strict=True), 1):
            ends = number == len(kernels)
            step, act = (strides, last) if ends else (1, activation)
            y = convolution(y, wide, kernel, step, "same", act, normalize, part(name, f"{called}_{number}"))
        return y

    pool = pooling(3, strides, "same", data_format="channels_last", name=part(name, "pool"))(x)
    joined = [
        convolution(x, one, 1, strides, "same", last, normalize, part(name, "one")),
        branch(branches.middle, reduce, middle, "middle"),
        branch(branches.large, reduce_large, large, "large"),
        convolution(pool, pooled, 1, 1, "same", last, normalize, part(name, "pool")),
    ]
    return layers.Concatenate(name=part(name, "join"))(joined)
