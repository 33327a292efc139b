"""The network's outline: its layers in order as columns, each as wide as its channels, before and after."""

from dataclasses import dataclass

from paredown.report import formats, layers

#: The drawing's height, and a column's width, in its own units.
HEIGHT, STEP = 100, 10


@dataclass(frozen=True)
class Column:
    """One layer's column; heights grow with the square root of its channels, None where it is not there.

    Args:
        x: Left edge.
        before, after: Heights, of `HEIGHT`.
        state: `new`, `removed` or `kept`.
        text: The layer in words.
    """

    x: int
    before: float | None
    after: float | None
    state: str
    text: str


@dataclass(frozen=True)
class Outline:
    """The drawing: its columns, its width in its own units and what it shows in a sentence."""

    columns: list[Column]
    width: int
    text: str


def outline(rows: list[dict]) -> Outline:
    """The drawing of a record's layers, those that multiply.

    Args:
        rows: A record's `layers`.
    """
    shown = [row for row in rows if layers.worth_showing(row)]
    most = max((row.get(f"channels_{when}") or 0 for row in shown for when in ("before", "after")), default=0) or 1
    columns = [_column(place, row, most) for place, row in enumerate(shown)]
    return Outline(columns, STEP * max(1, len(columns)), _told(shown))


def _column(place: int, row: dict, most: float) -> Column:
    before, after = (row.get(f"channels_{when}") for when in ("before", "after"))
    heights = [None if value is None else round(HEIGHT * (value / most) ** 0.5, 2) for value in (before, after)]
    return Column(
        STEP * place, heights[0], heights[1], layers.state(row), f"{row['name']} ({row['kind']}): {_change(row)}"
    )


def _change(row: dict) -> str:
    before, after = (formats.count(row.get(f"channels_{when}")) for when in ("before", "after"))
    told = {"new": f"new, {after} channels", "removed": f"removed, had {before} channels"}
    same = f"{before} channels" if before == after else f"{before} → {after} channels"
    return told.get(layers.state(row), same)


def _told(rows: list[dict]) -> str:
    states = [layers.state(row) for row in rows]
    narrower = sum((row.get("channels_after") or 0) < (row.get("channels_before") or 0) for row in rows)
    narrower -= states.count("removed")
    parts = [(narrower, "narrower"), (states.count("new"), "new"), (states.count("removed"), "removed")]
    told = ", ".join(f"{number} {what}" for number, what in parts if number) or "all as wide as before"
    return f"{len(rows)} layers with MACs: {told}."
