"""What a method of a scan is, and one of its cases."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from paredown.scan.result import MethodSkip
from paredown.scan.scope import Scope
from paredown.transform import Transform


@dataclass(frozen=True, eq=False)
class Case:
    """One layer, or group of coupled layers, by one method at one level.

    Args:
        layer, layers, method, level: As in `Row`.
        settings: What its figures depend on beside network, data and seed.
        run: Tries it: the figures of a `Row`, and under "more" what its time follows from; or why it cannot be tried.
        alone: `alone(more)` gives what does the same to that layer alone; None where no transform can.
    """

    layer: str
    layers: tuple[str, ...]
    method: str
    level: float
    settings: dict[str, Any]
    run: Callable[[], dict[str, Any] | str]
    alone: Callable[[dict], Transform | None] = lambda more: None


Cases = tuple[list[Case], list[MethodSkip]]


@dataclass(frozen=True)
class Method:
    """A row of `METHODS`.

    Args:
        label: What figures call it, one short word.
        levels: (level, label) for the levels that are asked for.
        cases: `cases(scope, levels)`: what can be tried, and which layers cannot.
        times: `times(scope, mores)`: for each case's "more" the milliseconds that it saves, None where tables do not
            tell.
        untimed: Why they do not, where that is so of every case.
    """

    label: str
    levels: Callable[[Sequence[float]], list[tuple[float, str]]]
    cases: Callable[[Scope, Sequence[float]], Cases]
    times: Callable[[Scope, list[dict]], list[float | None]]
    untimed: str = ""


def shares(levels: Sequence[float]) -> list[tuple[float, str]]:
    """Levels that are a share of what a layer has."""
    return [(level, f"{100 * level:g} %") for level in levels]


def no_time(scope: Scope, mores: list[dict]) -> list[float | None]:
    """The same operations on the same shapes."""
    return [0.0] * len(mores)
