"""What a search must keep to: limits of latency, size and multiply-adds, as a share of the original's or absolute.

Needs neither Keras nor Optuna: the command line looks at them before it loads either.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paredown.errors import SettingError

#: Figure -> (option on the command line, unit suffix -> how many of the figure's own unit).
FIGURES: dict[str, tuple[str, dict[str, float]]] = {
    "latency_ms": ("max_latency", {"": 1, "ms": 1, "us": 1e-3, "s": 1e3}),
    "size_bytes": ("max_size", {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20}),
    "macs": ("max_macs", {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}),
}
#: Where nothing is limited, this is what is traded against the score.
DEFAULT = "latency_ms"
#: How far over a limit a figure may be that is only predicted.
SLACK = 1.03


@dataclass(frozen=True)
class Limit:
    """A figure that must not be exceeded.

    Args:
        figure: A key of `FIGURES`.
        asked: As the user wrote it.
        amount: A share of the original's figure where `relative`, else in the figure's unit.
        relative: Whether it is a share.
    """

    figure: str
    asked: str
    amount: float
    relative: bool

    def value(self, original: Mapping[str, Any]) -> float:
        """The limit in the figure's unit."""
        return self.amount * original[self.figure] if self.relative else self.amount

    def share(self, original: Mapping[str, Any]) -> float:
        """The limit as a share of the original's figure."""
        return self.value(original) / original[self.figure]


def parse_limits(**asked: Any) -> tuple[Limit, ...]:
    """The limits of `max_latency=`, `max_size=` and `max_macs=`; those that are None are none.

    Each is a share of the original's ("0.5x"), or a number with or without a unit: milliseconds ("3ms", 3), bytes
    ("200kB", 200000), multiply-adds ("1.5M").

    Raises:
        SettingError: If one is not of these forms, or not above 0; a share must be at most 1.
    """
    options = {option: figure for figure, (option, _) in FIGURES.items()}
    return tuple(_limit(options[name], text) for name, text in asked.items() if text is not None)


def _limit(figure: str, asked: Any) -> Limit:
    option, units = FIGURES[figure]
    text = str(asked).strip()
    found = re.fullmatch(r"([0-9.]+(?:e-?[0-9]+)?)\s*([a-z]*)", text, re.IGNORECASE)
    try:
        number = float(found[1]) if found else math.nan
    except ValueError:
        number = math.nan
    unit = found[2].lower() if found else ""
    relative = unit == "x"
    if not number > 0 or not (relative or unit in units) or (relative and number > 1):
        known = ", ".join(name for name in units if name)
        raise SettingError(
            f"{option} must be a share of the original's, up to 1x, or a number above 0 (units: {known}). "
            f"Received: {option}={asked!r}. Use e.g. 0.5x."
        )
    return Limit(figure, text, number if relative else number * units[unit], relative)


def used(limits: tuple[Limit, ...], original: Mapping[str, Any], figures: Mapping[str, Any]) -> float:
    """The largest figure as a share of its limit: at most 1 where all are kept.

    Without limits: the share of the original's latency (of its MACs, where latency is not known).
    """
    if not limits:
        figure = DEFAULT if figures.get(DEFAULT) is not None else "macs"
        return float(figures[figure] / original[figure])
    return float(max(figures[limit.figure] / limit.value(original) for limit in limits))
