"""The per-layer bars: which layers are shown, and how long their bars are."""

from dataclasses import dataclass

from paredown.report import formats

#: More bars than this are not looked at; the whole list stands in the table beneath.
MOST_BARS = 40


@dataclass(frozen=True)
class Bar:
    """One figure of one layer before and after; widths in percent of the longest bar, None = unknown or not there."""

    before: str
    after: str
    before_percent: float | None
    after_percent: float | None


@dataclass(frozen=True)
class LayerBars:
    """One layer's line in the chart."""

    name: str
    kind: str
    state: str
    macs: Bar
    channels: Bar


def bars(layers: list[dict]) -> list[LayerBars]:
    """The layers worth a bar, in the network's order, at most `MOST_BARS`: those with the most MACs.

    Layers without a kernel (zero MACs) have none; a layer of unknown MACs counts as worth showing.
    """
    worth = [row for row in layers if worth_showing(row)]
    costliest = sorted(worth, key=_cost, reverse=True)[:MOST_BARS]
    chosen = {id(row) for row in costliest}
    shown = [row for row in worth if id(row) in chosen]
    macs, channels = _longest(shown, "macs"), _longest(shown, "channels")
    return [
        LayerBars(row["name"], row["kind"], state(row), _bar(row, "macs", macs), _bar(row, "channels", channels))
        for row in shown
    ]


def worth_showing(row: dict) -> bool:
    """Whether a layer multiplies, or may for all that is known."""
    unknown = row.get("macs_before") is None and row.get("channels_before") is not None
    return bool(row.get("macs_before") or row.get("macs_after")) or unknown


def _cost(row: dict) -> float:
    return row.get("macs_before") or row.get("macs_after") or 0


def _longest(rows: list[dict], figure: str) -> float:
    return max((row.get(f"{figure}_{when}") or 0 for row in rows for when in ("before", "after")), default=0)


def _bar(row: dict, figure: str, longest: float) -> Bar:
    before, after = row.get(f"{figure}_before"), row.get(f"{figure}_after")
    percent = [
        None if value is None else round(100 * value / longest, 2) if longest else 0.0 for value in (before, after)
    ]
    return Bar(told_figure(row, figure, "before"), told_figure(row, figure, "after"), *percent)


def state(row: dict) -> str:
    """`new` for a layer that a step put in, `removed` for one that it took out, else `kept`."""
    if row.get("channels_before") is None:
        return "new"
    return "removed" if row.get("channels_after") is None else "kept"


def told_figure(row: dict, figure: str, when: str) -> str:
    """A figure in words; a layer that a step put in, or replaced, has none before, or after."""
    there = row.get(f"channels_{when}") is not None
    return formats.count(row.get(f"{figure}_{when}")) if there else formats.ABSENT
