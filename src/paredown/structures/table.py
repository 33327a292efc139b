"""THE table of structures that can stand for a convolution.

    one_dimensional  k×1 to R, 1×k to T              DR(S + T)             R = T unless said otherwise
    separable        depthwise k×k to M·S, 1×1 to T  M·S(D² + T)           M = 1
    bottleneck       1×1 to R, k×k to R, 1×1 to T    S·R + D²·R² + R·T     R = T / 4
    grouped          k×k in G groups to R, 1×1 to T  D²·S·R/G + R·T        R = T
    stacked          3×3 to R, 3×3 to T for a 5×5    9·S·R + 9·R·T         R = T

Costs are MACs per output position at stride 1; D is the window, S the input and T the output channels. Width is R,
of "separable" M.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from paredown.factors import FACTORIZATIONS, Piece, Problem
from paredown.patches import why_not_linear
from paredown.structures.starts import grouped_start, stacked_start


@dataclass(frozen=True)
class Structure:
    """One row.

    Args:
        why_not: `why_not(layer, groups, shape)` says why a Conv2D cannot become it, None where it can; `shape` is that
            of the layer's input, None for what is open.
        usual: `usual(S, T)` is the width where none is asked for.
        most: `most(window, S, T, groups)` is the largest width that can be of use.
        pieces: `pieces(layer, width, groups, shape)` gives the layers that take its place.
        start: `start(problem, width, groups)` gives their kernels, as Keras holds them.
    """

    why_not: Callable[[Any, int, tuple], str | None]
    usual: Callable[[int, int], int]
    most: Callable[[tuple[int, ...], int, int, int], int]
    pieces: Callable[[Any, int, int, tuple], tuple[Piece, ...]]
    start: Callable[[Problem, int, int], list[np.ndarray]]


def _of_kind(
    kind: str, usual: Callable[[int, int], int], rank: Callable[[int], Any] = lambda width: width
) -> Structure:
    """A row whose structure is a factorization; `rank` makes the factorization's rank of a width."""
    row = FACTORIZATIONS[kind]
    return Structure(
        why_not=lambda layer, groups, shape: row.why_not(layer),
        usual=usual,
        most=lambda window, inputs, outputs, groups: row.most(window, inputs, outputs),
        pieces=lambda layer, width, groups, shape: row.pieces(layer, rank(width)),
        start=lambda problem, width, groups: row.solver(problem, width).factors(rank(width))[0],
    )


# ---- grouped


def _grouped_why_not(layer: Any, groups: int, shape: tuple) -> str | None:
    why = FACTORIZATIONS["tucker"].why_not(layer)
    inputs = layer.kernel.shape[-2]
    return why or (f"has {inputs} input channels, which {groups} groups do not divide" if inputs % groups else None)


def _grouped_most(window: tuple[int, ...], inputs: int, outputs: int, groups: int) -> int:
    return groups * min(int(np.prod(window)) * inputs // groups, outputs)


def _grouped_pieces(layer: Any, width: int, groups: int, shape: tuple) -> tuple[Piece, ...]:
    first = Piece("grouped", "conv", layer.kernel_size, width, layer.strides, layer.dilation_rate, groups)
    return first, Piece("pointwise", "conv", (1, 1), layer.filters)


# ---- stacked


def _stacked_why_not(layer: Any, groups: int, shape: tuple) -> str | None:
    why = why_not_linear(layer)
    if why is None and tuple(layer.kernel_size) != (5, 5):
        why = f"has a window of {layer.kernel_size[0]}×{layer.kernel_size[1]}, not of 5×5"
    if why is None and layer.padding == "same" and max(layer.strides) > 1 and None in shape[1:]:
        why = "has strides and padding 'same' on an input of open size, so that its border is not known"
    return why


def _stacked_pieces(layer: Any, width: int, groups: int, shape: tuple) -> tuple[Piece, ...]:
    """The first goes beyond the edge where the 5×5 did: padding "same" of both would cut off what the second reads."""
    border = _border(layer, shape)
    dilation = layer.dilation_rate
    return (
        *((Piece("border", "border", (), 0, border=border),) if border else ()),
        Piece("first", "conv", (3, 3), width, (1, 1), dilation, padding="valid"),
        Piece("second", "conv", (3, 3), layer.filters, layer.strides, dilation, padding="valid"),
    )


def _border(layer: Any, shape: tuple) -> tuple[tuple[int, int], ...]:
    """The zeros that padding "same" puts around the input of a 5×5."""
    if layer.padding == "valid":
        return ()
    sizes = shape[2:] if layer.data_format == "channels_first" else shape[1:-1]
    found = []
    for size, stride, dilation in zip(sizes, layer.strides, layer.dilation_rate, strict=True):
        total = 4 * dilation if stride == 1 else max((-(-size // stride) - 1) * stride + 4 * dilation + 1 - size, 0)
        found.append((total // 2, total - total // 2))
    return tuple(found)


def _outputs(inputs: int, outputs: int) -> int:
    return outputs


STRUCTURES: dict[str, Structure] = {
    "one_dimensional": _of_kind("spatial", _outputs),
    "separable": _of_kind("depthwise", lambda inputs, outputs: 1),
    "bottleneck": dataclasses.replace(
        _of_kind("tucker", lambda inputs, outputs: -(-outputs // 4), lambda width: (width, width)),
        most=lambda window, inputs, outputs, groups: min(inputs, outputs),
    ),
    "grouped": Structure(_grouped_why_not, _outputs, _grouped_most, _grouped_pieces, grouped_start),
    "stacked": Structure(
        _stacked_why_not,
        _outputs,
        lambda window, inputs, outputs, groups: 9 * min(inputs, outputs),
        _stacked_pieces,
        lambda problem, width, groups: stacked_start(problem, width),
    ),
}
