"""The axes of the search's plot: what they span, their round figures, and which scores are near what was asked for."""

import math
from collections.abc import Sequence
from typing import TypeGuard

#: From where on an axis of costs is logarithmic: largest over smallest.
_WIDE = 6
#: How many times the allowed loss the narrower range of scores shows.
_ROOM = 3


def finite(value: float | None) -> TypeGuard[float]:
    """Whether a figure is known and has a place on an axis."""
    return value is not None and math.isfinite(value)


def span(values: list) -> dict:
    """An axis of costs: linear from 0, or logarithmic where the costs are far apart."""
    known = [value for value in values if finite(value) and value > 0]
    least, most = (min(known), max(known)) if known else (1.0, 1.0)
    if most / least < _WIDE:
        return {"type": "linear", "range": [0, 1.06 * most]}
    room = 0.05 * math.log10(most / least)
    return {"type": "log", "range": [math.log10(least) - room, math.log10(most) + room]}


def ticks(spanned: dict, show) -> dict:
    """Round figures with their units, few enough for a phone.

    Args:
        spanned: As `span` gives it.
        show: Writes a figure with its unit.
    """
    low, high = spanned["range"]
    values = _decades(low, high) if spanned["type"] == "log" else _multiples(high)
    return {"tickmode": "array", "tickvals": values, "ticktext": [_short(show(value)) for value in values]}


def _decades(low: float, high: float) -> list[float]:
    """1, 2, 5 of each power of ten between two exponents; fewer where there are many powers."""
    steps = (1, 2, 5) if high - low < 1.45 else (1, 3) if high - low < 2.6 else (1,)
    values = [step * 10.0**power for power in range(math.floor(low), math.ceil(high)) for step in steps]
    return [value for value in values if low <= math.log10(value) <= high]


def _multiples(high: float) -> list[float]:
    """0 and at most five multiples of 1, 2 or 5 times a power of ten."""
    unit = 10.0 ** math.floor(math.log10(high / 5))
    step = next(unit * times for times in (1, 2, 5, 10) if high / (unit * times) <= 5)
    return [step * place for place in range(int(high / step) + 1)]


def _short(text: str) -> str:
    """A round figure without the zeros that say nothing: 0.200 ms is 0.2 ms."""
    number, _, unit = text.partition(" ")
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{number} {unit}".strip()


def worst(found: dict) -> float | None:
    """The score that may just be reached; None where no loss was named, or the original's score is not known."""
    original, most = found["original"].get("score"), found.get("max_drop")
    return None if original is None or most is None else _after(found, most)


def _after(found: dict, drop: float) -> float:
    """The score that a loss leads to. Losses of other metrics than these two are relative."""
    original, metric = found["original"]["score"], found["metric"]["name"]
    whole = 1.0 if metric in ("accuracy", "output_error") else abs(original)
    return original - sign(found) * drop * whole


def sign(found: dict) -> int:
    """1 where a higher score is better, else -1."""
    return 1 if found["metric"]["higher_is_better"] else -1


def scores(found: dict) -> list[float]:
    """The scores of all trials that have one."""
    return [trial["score"] for trial in found["trials"] if finite(trial.get("score"))]


def near(found: dict) -> tuple[float, float] | None:
    """The scores between a few times the allowed loss and the best, the chosen trial's among them."""
    original, most, known = found["original"].get("score"), found.get("max_drop"), scores(found)
    if not finite(original) or not most or not known:
        return None
    better, number = sign(found), found.get("chosen")
    kept = [row["score"] for row in found["trials"] if row["number"] == number and finite(row.get("score"))]
    low = min(_after(found, _ROOM * most), *kept, key=lambda score: better * score)
    high = max(original, *known, key=lambda score: better * score)
    room = 0.08 * abs(high - low)
    return min(low, high) - room, max(low, high) + room


def beyond(found: dict) -> int:
    """How many scored trials lie outside the narrower range of scores; 0 where there is no narrower range."""
    ends = near(found)
    return sum(not ends[0] <= score <= ends[1] for score in scores(found)) if ends else 0


def whole(found: dict) -> tuple[float, float]:
    """All scores, the original's and the limit."""
    ends = [value for value in (*scores(found), found["original"].get("score"), worst(found)) if finite(value)]
    room = 0.06 * (max(ends) - min(ends)) or 0.01 * abs(max(ends)) or 0.01
    return min(ends) - room, max(ends) + room


def scale(found: dict) -> int:
    """What scores are multiplied by to be shown: accuracy in percent."""
    return 100 if found["metric"]["name"] == "accuracy" else 1


def scaled(found: dict, values: Sequence) -> list:
    """Scores as they are drawn; None, which JSON has, for what has no place."""
    return [scale(found) * value if finite(value) else None for value in values]
