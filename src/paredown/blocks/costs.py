"""What each block costs, counted without building it: MACs and parameters as sums of products.

One multiply-add is one MAC, per example. Each function takes the arguments of the block of its name that bear on the
cost, and the input's shape (height, width, channels) in the tensor's place. Parameters are all weights, those that
are not trained too: what `paredown.profile` and Keras's `count_params()` count.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from paredown.blocks.arguments import Pair, Shape, pair
from paredown.blocks.widths import (
    INCEPTION_V1,
    INCEPTION_V2,
    Branches,
    bottleneck_strides,
    bottleneck_width,
    changes,
    inception_v3_branches,
    inception_widths,
)

#: Parameters per channel behind a convolution: γ, β, mean and variance of BatchNormalization, or a bias.
NORM, BIAS = 4, 1


@dataclass(frozen=True)
class Cost:
    """What a block costs for one example, and what it gives; `a + b` is b behind a.

    Args:
        macs: Multiply-adds.
        params: Weights, all of them.
        kernels: Those of kernels alone, without biases and BatchNormalization: what the formulas count.
        shape: Of the output, (height, width, channels).
    """

    macs: int
    params: int
    kernels: int
    shape: Shape

    def __add__(self, then: "Cost") -> "Cost":
        return beside([self, then], then.shape)


def beside(parts: Sequence[Cost], shape: Shape) -> Cost:
    """Blocks that are all run, wherever they stand; `shape` is what they give together."""
    totals = (sum(getattr(part, name) for part in parts) for name in ("macs", "params", "kernels"))
    return Cost(*totals, shape=shape)


def size(n: int, kernel: int, strides: int, padding: str) -> int:
    """Positions along one axis: ceil(n / strides) with padding "same", else floor((n − kernel) / strides) + 1."""
    return -(-n // strides) if padding == "same" else (n - kernel) // strides + 1


def _positions(shape: Shape, kernel: tuple[int, int], strides: tuple[int, int], padding: str) -> tuple[int, int]:
    high, wide = (size(n, k, s, padding) for n, k, s in zip(shape[:2], kernel, strides, strict=True))
    return high, wide


def _kernel(weights: int, gives: Shape, per_channel: int) -> Cost:
    """A kernel that multiplies at each position, and what each output channel has beside it."""
    return Cost(gives[0] * gives[1] * weights, weights + per_channel * gives[2], weights, gives)


def convolution(
    shape: Shape, filters: int, kernel_size: Pair = 3, strides: Pair = 1, padding: str = "same", normalize: bool = True
) -> Cost:
    """[positions · h·w·K·L] MACs."""
    kernel, steps = pair("kernel_size", kernel_size, "costs"), pair("strides", strides, "costs")
    high, wide = _positions(shape, kernel, steps, padding)
    weights = kernel[0] * kernel[1] * shape[2] * filters
    return _kernel(weights, (high, wide, filters), NORM if normalize else BIAS)


def depthwise(shape: Shape, kernel_size: int, strides: int, padding: str, normalize: bool, multiplier: int = 1) -> Cost:
    """[positions · N²·K·I] MACs."""
    high, wide = _positions(shape, (kernel_size, kernel_size), (strides, strides), padding)
    filters = shape[2] * multiplier
    weights = kernel_size**2 * filters
    return _kernel(weights, (high, wide, filters), NORM if normalize else BIAS)


def one_dimensional(
    shape: Shape,
    filters: int,
    kernel_size: Pair = 3,
    strides: Pair = 1,
    padding: str = "same",
    width: int | None = None,
    normalize: bool = True,
) -> Cost:
    """[positions between · h·K·P] + [positions · w·P·L] MACs."""
    (high, wide), (down, right) = pair("kernel_size", kernel_size, "costs"), pair("strides", strides, "costs")
    between = convolution(shape, width or filters, (high, 1), (down, 1), padding, normalize=False)
    return between + convolution(between.shape, filters, (1, wide), (1, right), padding, normalize)


def separable(
    shape: Shape,
    filters: int,
    kernel_size: int = 3,
    strides: int = 1,
    padding: str = "same",
    multiplier: int = 1,
    normalize: bool = True,
) -> Cost:
    """[positions · K·I·(N² + L)] MACs."""
    thin = depthwise(shape, kernel_size, strides, padding, normalize, multiplier)
    return thin + convolution(thin.shape, filters, 1, normalize=normalize)


def basic(shape: Shape, filters: int, strides: int = 1, normalize: bool = True) -> Cost:
    """[positions · 9·(K + L)·L] MACs."""
    first = convolution(shape, filters, 3, strides, normalize=normalize)
    return first + convolution(first.shape, filters, 3, normalize=normalize)


def bottleneck(
    shape: Shape,
    filters: int,
    width: int | None = None,
    strides: int = 1,
    strides_at: str = "1x1",
    normalize: bool = True,
) -> Cost:
    """[positions of the first · K·w] + [positions · (9w² + w·L)] MACs."""
    first, middle = bottleneck_strides(strides, strides_at)
    inner = bottleneck_width(filters, width)
    reduced = convolution(shape, inner, 1, first, normalize=normalize)
    between = reduced + convolution(reduced.shape, inner, 3, middle, normalize=normalize)
    return between + convolution(between.shape, filters, 1, normalize=normalize)


def inception_v1(shape: Shape, filters: int | Sequence[int], strides: int = 1, normalize: bool = True) -> Cost:
    """The sum of the branches; pooling costs no MACs."""
    return _inception(shape, filters, strides, INCEPTION_V1, normalize)


def inception_v2(shape: Shape, filters: int | Sequence[int], strides: int = 1, normalize: bool = True) -> Cost:
    """The sum of the branches, the 5×5 as two 3×3: 18 multiply-adds a channel pair for 25."""
    return _inception(shape, filters, strides, INCEPTION_V2, normalize)


def inception_v3(
    shape: Shape, filters: int | Sequence[int], kernel_size: int = 7, strides: int = 1, normalize: bool = True
) -> Cost:
    """The sum of the branches, n×n as 1×n and n×1: 2n multiply-adds a channel pair for n²."""
    return _inception(shape, filters, strides, inception_v3_branches(kernel_size), normalize)


def _inception(shape: Shape, filters: int | Sequence[int], strides: int, branches: Branches, normalize: bool) -> Cost:
    one, reduce, middle, reduce_large, large, pooled = inception_widths(filters)
    pool = (*_positions(shape, (3, 3), (strides, strides), "same"), shape[2])

    def branch(kernels: tuple, narrow: int, width: int) -> Cost:
        total = convolution(shape, narrow, 1, normalize=normalize)
        widths = branches.widths(kernels, narrow, width)
        for number, (kernel, wide) in enumerate(zip(kernels, widths, strict=True), 1):
            step = strides if number == len(kernels) else 1
            total += convolution(total.shape, wide, kernel, step, normalize=normalize)
        return total

    parts = [
        convolution(shape, one, 1, strides, normalize=normalize),
        branch(branches.middle, reduce, middle),
        branch(branches.large, reduce_large, large),
        convolution(pool, pooled, 1, normalize=normalize),
    ]
    high, wide, _ = parts[0].shape
    channels = one + middle + large + pooled
    return beside(parts, (high, wide, channels))


def residual(
    shape: Shape,
    filters: int,
    body: Callable[..., Cost] = basic,
    shortcut: str = "B",
    strides: int = 1,
    normalize: bool = True,
    **settings: Any,
) -> Cost:
    """The body's cost (`body`: a function of this module), and [positions · K·L] MACs for a shortcut that projects."""
    inner = body(shape, filters, strides=strides, normalize=normalize, **settings)
    projects = shortcut == "C" or (shortcut == "B" and changes(shape[2], filters, strides))
    if not projects:
        return inner
    short = convolution(shape, filters, 1, strides, normalize=normalize)
    return beside([inner, short], inner.shape)


def inverted_residual(
    shape: Shape,
    filters: int,
    expansion: int = 6,
    kernel_size: int = 3,
    strides: int = 1,
    normalize: bool = True,
) -> Cost:
    """[positions in · K·tK] (none for t = 1) + [positions · tK·(N² + L)] MACs."""
    wide = convolution(shape, expansion * shape[2], 1, normalize=normalize) if expansion > 1 else pooled(shape)
    thin = wide + depthwise(wide.shape, kernel_size, strides, "same", normalize)
    return thin + convolution(thin.shape, filters, 1, normalize=normalize)


def pooled(shape: Shape) -> Cost:
    """No MACs and no weights: what gives this shape by pooling."""
    return Cost(0, 0, 0, shape)


def dense(inputs: int, outputs: int, bias: bool = True) -> Cost:
    """[N·M] MACs for one example."""
    return _kernel(inputs * outputs, (1, 1, outputs), BIAS if bias else 0)


def low_rank_dense(inputs: int, outputs: int, rank: int, bias: bool = True) -> Cost:
    """[L·(N + M)] MACs for one example: N to L without bias, L to M."""
    return dense(inputs, rank, bias=False) + dense(rank, outputs, bias)
