"""What the blocks take: sizes, tensors and choices, each refused with the rule it breaks."""

from collections.abc import Iterable
from typing import Any

from paredown.errors import SettingError

Pair = int | tuple[int, int]
Shape = tuple[int, int, int]


def whole(name: str, value: Any, block: str, least: int = 1) -> int:
    """A whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise SettingError(f"{name} must be a whole number of at least {least}. Received: {name}={value!r} ({block}).")
    return value


def pair(name: str, value: Any, block: str) -> tuple[int, int]:
    """One whole number for both axes, or one for each: (height, width)."""
    both = (value, value) if not isinstance(value, tuple | list) else tuple(value)
    if len(both) != 2 or not all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in both):
        raise SettingError(
            f"{name} must be a whole number of at least 1, or a pair of them. Received: {name}={value!r} ({block}). "
            "Use e.g. 3 or (3, 1)."
        )
    return both


def one_of(name: str, value: Any, choices: Iterable[str], block: str) -> Any:
    """One of a few names."""
    choices = tuple(choices)
    if value not in choices:
        raise SettingError(f"{name} must be one of {', '.join(choices)}. Received: {name}={value!r} ({block}).")
    return value


def channels_of(x: Any, block: str) -> int:
    """The channels of a feature map, shape (batch, height, width, channels); height and width may be open."""
    shape = tuple(getattr(x, "shape", ()))
    if len(shape) != 4 or not isinstance(shape[-1], int):
        raise SettingError(
            "x must be a tensor of shape (batch, height, width, channels), its channels known. "
            f"Received: {shape if shape else repr(x)} ({block})."
        )
    return shape[-1]


def fits(x: Any, kernel: tuple[int, int], padding: str, block: str) -> None:
    """Without padding a kernel must not be larger than the feature map."""
    if padding == "valid" and any(size is not None and size < k for size, k in zip(x.shape[1:3], kernel, strict=True)):
        raise SettingError(
            f"kernel_size must not exceed the feature map with padding='valid'. Received: kernel_size={kernel} for "
            f"{tuple(x.shape[1:3])} ({block}). Use a smaller kernel, or padding='same'."
        )
