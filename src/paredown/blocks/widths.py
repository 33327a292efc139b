"""The widths and kernels inside the blocks, which building and costing them share."""

from collections.abc import Sequence
from dataclasses import dataclass

from paredown.blocks.arguments import one_of, whole
from paredown.errors import SettingError

#: Fewest output channels of an inception block whose widths are not given one by one.
LEAST = 5
#: Where a bottleneck may take its stride.
STRIDES_AT = ("1x1", "3x3")


@dataclass(frozen=True)
class Branches:
    """What an inception block's two branches of larger kernels are made of, behind their 1×1.

    Args:
        middle, large: The kernels of each branch in order, (height, width).
        inner_reduced: Whether convolutions before a branch's last one have the width of its 1×1, not of its end.
    """

    middle: tuple[tuple[int, int], ...]
    large: tuple[tuple[int, int], ...]
    inner_reduced: bool = False

    def widths(self, kernels: Sequence, reduced: int, width: int) -> list[int]:
        """The width of each convolution of a branch with these kernels."""
        return [*[reduced if self.inner_reduced else width] * (len(kernels) - 1), width]


INCEPTION_V1 = Branches(((3, 3),), ((5, 5),))
INCEPTION_V2 = Branches(((3, 3),), ((3, 3), (3, 3)))


def inception_v3_branches(n: int) -> Branches:
    """n×n as 1×n and n×1: once in the middle, twice in the large branch."""
    pair = ((1, n), (n, 1))
    return Branches(pair, pair + pair, inner_reduced=True)


def inception_widths(filters: int | Sequence[int]) -> tuple[int, int, int, int, int, int]:
    """The six widths of an inception block.

    Args:
        filters: The widths themselves: (1×1, middle's reduce, middle, large's reduce, large, behind the pooling). Or
            one number, the output channels altogether, shared out as in GoogLeNet's first block (3a), whose widths
            are (64, 96, 128, 16, 32, 32) for 256 channels.
    Raises:
        SettingError: If there are not six, one is below 1, or the one number is below 5.
    """
    block = "inception"
    if isinstance(filters, Sequence) and not isinstance(filters, str):
        if len(filters) != 6:
            raise SettingError(
                "filters must be one number, or six: (1×1, reduce, middle, reduce, large, pooling). "
                f"Received: filters={tuple(filters)!r} ({block}). Use e.g. (64, 96, 128, 16, 32, 32)."
            )
        one, reduce, middle, reduce_large, large, pooled = (whole("filters", f, block) for f in filters)
        return one, reduce, middle, reduce_large, large, pooled
    total = whole("filters", filters, block, LEAST)
    middle, large = total // 2, max(1, total // 8)
    return total - middle - 2 * large, max(1, total * 3 // 8), middle, max(1, total // 16), large, large


def bottleneck_width(filters: int, width: int | None) -> int:
    """The inner width that is asked for; a quarter of `filters` where none is."""
    whole("filters", filters, "bottleneck")
    return max(1, filters // 4) if width is None else whole("width", width, "bottleneck")


def bottleneck_strides(strides: int, strides_at: str) -> tuple[int, int]:
    """The strides of the first 1×1 and of the 3×3."""
    one_of("strides_at", strides_at, STRIDES_AT, "bottleneck")
    return (strides, 1) if strides_at == "1x1" else (1, strides)


def changes(channels: int, filters: int, strides: int) -> bool:
    """Whether a block's output has another width or size than its input."""
    return channels != filters or strides != 1
