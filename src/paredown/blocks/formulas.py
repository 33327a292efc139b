"""Closed forms of what structures cost per output position, and from where on they save.

The letters are the thesis's, sections 2.3.1, 2.4.1 and 2.6, whose formulas these correct (docs/blocks.md says where):
    N   side of the kernel                  K   input channels
    L   output channels                     P   channels between two one-dimensional convolutions
    I   depthwise filters on each channel   r   positions of a map in between / positions of the output
Multiply-adds and kernel weights are alike but for r: the kernels hold what r = 1 gives.
"""

import math
from fractions import Fraction

from paredown.blocks.arguments import Pair, Shape, pair
from paredown.blocks.costs import size

Ratio = int | Fraction


def convolution(N: int, K: int, L: int) -> int:
    """N²KL."""
    return N**2 * K * L


def one_dimensional(N: int, K: int, L: int, P: int, r: Ratio = 1) -> Ratio:
    """NP(rK + L): first N·K·P at r times as many positions, then N·P·L."""
    return N * P * (r * K + L)


def separable(N: int, K: int, L: int, I: int = 1) -> int:  # noqa: E741 - the thesis's letter
    """KI(N² + L): depthwise gives K·I channels, all of which 1×1 reads."""
    return K * I * (N**2 + L)


def bottleneck(K: int, L: int, w: int, r: Ratio = 1) -> Ratio:
    """rKw + 9w² + wL; at K = L = 4w it is 17w² against 288w² for two 3×3 of that width."""
    return r * K * w + 9 * w**2 + w * L


def low_rank(N: int, M: int, L: int) -> int:
    """L(N + M) for a dense layer of N inputs and M outputs at rank L; the batch only multiplies it."""
    return L * (N + M)


def one_dimensional_bound(N: int, K: int, L: int, r: Ratio = 1) -> Fraction:
    """A pair of one-dimensional convolutions saves where P < NKL / (rK + L); r = 1 for parameters."""
    return Fraction(N * K * L) / Fraction(r * K + L)


def separable_bound(N: int, L: int) -> Fraction:
    """A separable convolution saves where I < N²L / (N² + L), whatever K."""
    return Fraction(N**2 * L, N**2 + L)


def low_rank_bound(N: int, M: int) -> Fraction:
    """A dense layer of rank L saves where L < NM / (N + M), whatever the batch."""
    return Fraction(N * M, N + M)


def largest_below(bound: Fraction) -> int:
    """The largest whole number that still saves: strictly below the bound; 0 where none does."""
    return max(0, math.ceil(bound) - 1)


def intermediate_ratio(shape: Shape, kernel_size: Pair, strides: Pair = 1, padding: str = "same") -> Fraction:
    """r of a one-dimensional pair: positions behind the vertical convolution / positions of the output.

    1 for stride 1 and "same"; the horizontal stride s where the width is a multiple of it; N for an N×N kernel on an
    N×N map without padding.

    Args:
        shape: Of the input, (height, width, channels).
        kernel_size, strides, padding: Of the convolution that the pair stands for.
    """
    (_, wide), (_, right) = pair("kernel_size", kernel_size, "formulas"), pair("strides", strides, "formulas")
    return Fraction(shape[1], size(shape[1], wide, right, padding))
