"""What a search asked for and reached: the limits, the score, and what it took, ready to be shown."""

from collections import Counter
from dataclasses import dataclass

from paredown.report import formats

#: What a limit can be set on -> its name, and how its figures are written.
FIGURES = {
    "latency_ms": ("Latency", formats.ms),
    "size_bytes": ("File", formats.size),
    "macs": ("MACs", formats.count),
}
#: How far a trial came -> what is said of it.
STAGES = {"cheap": "judged without training", "short": "fine-tuned briefly", "long": "fine-tuned longer"}


@dataclass(frozen=True)
class Asked:
    """One limit and what became of it.

    Args:
        label: What it is set on.
        asked: As the user wrote it.
        limit, reached: The figures as text; `unknown` where nothing was reached.
        met: Whether it holds; None where that is unknown.
        missed: By how much it does not, e.g. `23 % over`, or "".
    """

    label: str
    asked: str
    limit: str
    reached: str
    met: bool | None
    missed: str = ""


def asked(search: dict) -> list[Asked]:
    """Every limit that the search was given, the loss of score last.

    Args:
        search: A record's `search`.
    """
    rows = [_limit(limit) for limit in search["limits"]]
    return rows if search.get("max_drop") is None else [*rows, _drop(search)]


def _limit(limit: dict) -> Asked:
    label, show = FIGURES.get(limit["figure"], (limit["figure"], formats.digits))
    value, reached = limit["value"], limit.get("reached")
    met = None if reached is None else reached <= value
    return Asked(
        label,
        limit["asked"],
        show(value),
        formats.UNKNOWN if reached is None else show(reached),
        met,
        _over(reached, value),
    )


def _over(reached: float | None, value: float) -> str:
    if reached is None or reached <= value or not value:
        return ""
    return f"{formats.digits(100 * (reached / value - 1), 2)} % over"


def _drop(search: dict) -> Asked:
    metric, most, drop = search["metric"]["name"], search["max_drop"], search.get("drop")
    met = None if drop is None else drop <= most
    missed = "" if met or drop is None else f"{difference(drop - most, metric)} more"
    return Asked(lost_name(search["metric"]), f"{most:g}", difference(most, metric), lost(drop, metric), met, missed)


def lost_name(metric: dict) -> str:
    """What a loss of score is called: accuracy lost, error added."""
    return (
        "Accuracy lost"
        if metric["name"] == "accuracy"
        else "Score lost"
        if metric["higher_is_better"]
        else "Error added"
    )


def difference(value: float, metric: str) -> str:
    """A loss of score in its unit: accuracy in points, the distance from the original's outputs as it is, and what an
    error rose by in percent of it."""
    if metric == "accuracy":
        return f"{100 * value:.2f} points"
    return formats.digits(value) if metric == "output_error" else f"{formats.digits(100 * value)} %"


def lost(value: float | None, metric: str) -> str:
    """A loss as text; what was gained is said to be so."""
    if value is None:
        return formats.UNKNOWN
    return f"{difference(-value, metric)} gained" if value < 0 else difference(value, metric)


def nearest(search: dict) -> str:
    """What was found in the place of what was asked, for a search that did not meet its limits."""
    missed = [row for row in asked(search) if not row.met]
    if not missed:
        return ""
    parts = [f"{row.label} {row.reached} where at most {row.limit} was asked{_aside(row.missed)}" for row in missed]
    return f"The nearest thing found: {'; '.join(parts)}."


def _aside(text: str) -> str:
    return f" ({text})" if text else ""


def facts(search: dict) -> str:
    """How much was tried, in what time and by what means."""
    trials, rows = search["trials"], search.get("judged_rows")
    took = f"{counted(len(trials), 'recipe')} tried in {formats.seconds(search.get('seconds'))}"
    stages = Counter(trial["stage"] for trial in trials)
    parts = [f"{stages[stage]:,} {text}" for stage, text in STAGES.items() if stages[stage]]
    if search.get("finalists"):
        parts.append(f"{len(search['finalists']):,} of them measured")
    failed = sum(trial["state"] == "failed" for trial in trials)
    parts += [f"{failed:,} failed"] if failed else []
    judged = f" Scores while searching are of {rows:,} rows." if rows else ""
    return f"{took}{': ' if parts else ''}{', '.join(parts)}.{judged}"


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
