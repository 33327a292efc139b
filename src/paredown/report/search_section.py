"""Everything that the page shows of a search, from a record's `search`."""

from dataclasses import dataclass, field

from paredown.report import axes, formats, heat_map, pareto, search, trials
from paredown.report.trials import Trial


@dataclass(frozen=True)
class Finalist:
    """One measured trial: what tables promised and what came of it."""

    trial: Trial
    promised: str
    measured: str
    speed: str


@dataclass(frozen=True)
class Section:
    """The page's sections of a search.

    Args:
        found: The record's `search`.
        asked: The limits and what became of them.
        facts: What was tried, in a sentence.
        front: The front's trials, cheapest first.
        others: The other trials that have their recipe on the page, or failed.
        left_out: How many trials' recipes are not on the page.
        costs: The x axis's choices: (figure, name).
        beyond: Trials outside the scores shown first.
        kinds: The kinds of points that there are: (name, what it says).
        opened: Place of the trial that is open at first.
        figures: Charts by name.
    """

    found: dict
    asked: list[search.Asked]
    facts: str
    front: list[Trial]
    others: list[Trial]
    left_out: int
    finalists: list[Finalist]
    costs: list[tuple[str, str]]
    beyond: int
    kinds: list[tuple[str, str]]
    opened: int | None
    figures: dict = field(default_factory=dict)


#: What the key says of each kind of point.
KEYS = {
    "chosen": "chosen",
    "finalist": "measured",
    **{stage: search.STAGES[stage] for stage in ("long", "short", "cheap")},
    "original": "original",
}


def section(record: dict) -> Section | None:
    """What is shown of the record's search; None for a run that no search ended in.

    Args:
        record: A run's record, schema 1.
    """
    found = record.get("search")
    if not found:
        return None
    rows, costs = trials.trials(found), pareto.costs(found)
    front = _by_cost(found, [row for row in rows if row.front], costs)
    others = [row for row in rows if not row.front and (row.recipe or found["trials"][row.place]["state"] == "failed")]
    kinds = {row.kind for row in rows} | {"original"}
    chart = pareto.chart(found, rows)
    return Section(
        found,
        search.asked(found),
        search.facts(found),
        front,
        others,
        len(rows) - len(front) - len(others),
        _finalists(found, rows),
        [(cost, search.FIGURES[cost][0]) for cost in costs],
        axes.beyond(found),
        [(kind, text) for kind, text in KEYS.items() if kind in kinds],
        trials.places(found).get(found.get("chosen"), front[0].place if front else None),
        {name: figure for name, figure in (("pareto", chart), ("heat-map", _heat_map(found))) if figure},
    )


def _heat_map(found: dict) -> dict | None:
    return heat_map.heat_map(found["scan"]) if found.get("scan") else None


def _by_cost(found: dict, rows: list[Trial], costs: list[str]) -> list[Trial]:
    """The cheapest first, those of unknown cost last."""
    points = trials.points(found)

    def cost(row: Trial) -> float:
        value = points[row.place].get(costs[0]) if costs else None
        return value if value is not None and axes.finite(value) else float("inf")

    return sorted(rows, key=cost)


def _finalists(found: dict, rows: list[Trial]) -> list[Finalist]:
    places = trials.places(found)
    return [
        Finalist(
            rows[place],
            formats.ms(found["trials"][place].get("latency_ms")),
            formats.ms(one.get("latency_ms")),
            trials.speed(one),
        )
        for one in found.get("finalists") or ()
        if (place := places.get(one["number"])) is not None
    ]
