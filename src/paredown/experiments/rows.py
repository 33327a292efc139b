"""Statistics of an experiment's rows: grouped by their settings, mean ± standard deviation over the seeds."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from paredown.report.formats import MINUS, UNKNOWN


@dataclass(frozen=True)
class Spread:
    """Some values of one figure.

    Written with a format it reads as in a table: `f"{spread:.2f}"` is `99.14 ± 0.02`, the mean alone where all values
    are one, `unknown` where there are none.

    Args:
        values: At least one number for a mean to exist.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values) if self.values else float("nan")

    @property
    def deviation(self) -> float:
        """The sample's standard deviation (n - 1); 0 for a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0

    def __format__(self, form: str) -> str:
        if not self.values:
            return UNKNOWN
        mean = f"{self.mean:{form}}".replace("-", MINUS)
        # The sign that a form may ask for (`+.2f`) belongs to the mean.
        return mean if not self.deviation else f"{mean} ± {self.deviation:{form.lstrip('+')}}"


def spread(rows: Iterable[dict], figure: str) -> Spread:
    """The spread of one figure over rows; rows in which it is missing or None are left out."""
    return Spread(tuple(float(row[figure]) for row in rows if row.get(figure) is not None))


def grouped(rows: Iterable[dict], *settings: str) -> dict[tuple[Any, ...], list[dict]]:
    """Rows by the values of their settings, in the order in which those first appear."""
    groups: dict[tuple[Any, ...], list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in settings), []).append(row)
    return groups


def summarized(rows: Iterable[dict], by: Sequence[str], figures: Sequence[str]) -> list[dict]:
    """One row for each group of settings, its figures as `Spread`s, how many rows it stands for as `"count"`."""
    return [
        {**dict(zip(by, values, strict=True)), **{name: spread(group, name) for name in figures}, "count": len(group)}
        for values, group in grouped(rows, *by).items()
    ]
