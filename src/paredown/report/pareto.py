"""The search's plot: every trial's score over what it costs, the limits as lines, the front as steps.

The x axis and the range of scores are the reader's to choose: `views` holds, for each choice, what is put over the
figure's own traces and layout.
"""

import html
import math
import textwrap

from paredown.report import axes, charts, formats, search
from paredown.report.trials import Trial, points

#: What can lie along the x axis -> its title.
COSTS = {"latency_ms": "Latency per inference", "size_bytes": "File", "macs": "MACs"}
#: Kinds of points, those that lie above the others last -> how they are told apart.
MARKERS = {
    "cheap": {"symbol": "circle-open", "size": 7, "color": "--before"},
    "short": {"symbol": "diamond-open", "size": 10, "color": "--after"},
    "long": {"symbol": "circle", "size": 9, "color": "--after"},
    "finalist": {"symbol": "circle", "size": 13, "color": "--after", "line": {"color": "--ink", "width": 2}},
    "original": {"symbol": "square", "size": 12, "color": "--ink"},
    "chosen": {"symbol": "star", "size": 19, "color": "--after", "line": {"color": "--ink", "width": 1.5}},
}
#: A hover text's line, and how many of them a phone has room for.
_LINE, _MOST_LINES = 36, 6


def costs(found: dict) -> list[str]:
    """The figures that any scored trial has, that of the first limit first.

    Args:
        found: A record's `search`.
    """
    known = [cost for cost in COSTS if any(_known(trial, cost) for trial in points(found))]
    limited = [limit["figure"] for limit in found["limits"]]
    return sorted(known, key=lambda cost: limited.index(cost) if cost in limited else len(limited))


def chart(found: dict, shown: list[Trial]) -> dict | None:
    """The plot with its views; None where no trial has both a score and a cost.

    Args:
        found: A record's `search`.
        shown: Its trials, in the record's order.
    """
    choices = costs(found)
    if not choices:
        return None
    rows, groups = points(found), _groups(shown)
    line = {"color": "--after", "width": 2, "shape": "hv"}
    steps = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": line}
    traces = [steps, *(_trace(found, name, rows, groups[name], shown) for name in groups)]
    plan = charts.layout(420)
    plan |= {"hovermode": "closest", "margin": {"l": 8, "r": 16, "t": 24, "b": 8}}
    views = {"x": {cost: _x_view(found, cost, rows, groups) for cost in choices}, "y": _y_views(found)}
    return {"data": traces, "layout": plan, "views": views}


def front(rows: list[dict], cost: str, higher_is_better: bool) -> list[tuple[float, float]]:
    """The steps of the front on one axis, cheapest first: of the trials marked as the front's, those that none of the
    others undercuts on this axis.

    Args:
        rows: Trials with `front`, `score` and the axis's figure.
        cost: Which figure is the cost.
        higher_is_better: Of the score.
    """
    sign = 1 if higher_is_better else -1
    marked = [(row[cost], row["score"]) for row in rows if row.get("front") and _known(row, cost)]
    steps: list[tuple[float, float]] = []
    for spent, score in sorted(marked, key=lambda point: (point[0], -sign * point[1])):
        if not steps or sign * score > sign * steps[-1][1]:
            steps.append((spent, score))
    return steps


def _groups(shown: list[Trial]) -> dict[str, list[int]]:
    """Kind of point -> the places of its trials; the original has none."""
    groups = {name: [trial.place for trial in shown if trial.kind == name] for name in MARKERS}
    return {name: members for name, members in groups.items() if members or name == "original"}


def _trace(found: dict, name: str, rows: list[dict], members: list[int], shown: list[Trial]) -> dict:
    whole = name == "original"
    scores = [found["original"].get("score")] if whole else [rows[place].get("score") for place in members]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "y": axes.scaled(found, scores),
        "text": [_original_text(found)] if whole else [_text(shown[place]) for place in members],
        "customdata": [None] if whole else members,
        "hovertemplate": "%{text}<extra></extra>",
        "marker": MARKERS[name],
    }


def _x_view(found: dict, cost: str, rows: list[dict], groups: dict[str, list[int]]) -> dict:
    """What choosing a cost puts in: every trace's x, the front's steps, the axis and the limits."""
    original = found["original"].get(cost)
    steps = front(rows, cost, found["metric"]["higher_is_better"])
    line = {"x": [spent for spent, _ in steps], "y": axes.scaled(found, [score for _, score in steps])}
    columns = [[rows[place].get(cost) for place in members] or [original] for members in groups.values()]
    limits = [limit["value"] for limit in found["limits"] if limit["figure"] == cost]
    span = axes.span([*(row[cost] for row in rows if _known(row, cost)), original, *limits])
    xaxis = {**charts.layout(0)["xaxis"], "title": charts.title(COSTS[cost]), **span}
    xaxis |= axes.ticks(span, search.FIGURES[cost][1])
    lines = [_cost_line(value, cost, span) for value in limits] + _score_line(found)
    data = [line, *({"x": [value if axes.finite(value) else None for value in column]} for column in columns)]
    plan = {"xaxis": xaxis, "shapes": [shape for shape, _ in lines], "annotations": [note for _, note in lines]}
    return {"data": data, "layout": plan}


def _y_views(found: dict) -> dict:
    """The scores near what was asked for first, where not all are; then all."""
    axis = charts.layout(0)["yaxis"] | {"title": charts.title(charts.score_title(found["metric"])), "nticks": 8}
    near = axes.near(found) if axes.beyond(found) else None
    ranges = {**({"near": near} if near else {}), "all": axes.whole(found)}
    return {name: {"layout": {"yaxis": {**axis, "range": axes.scaled(found, ends)}}} for name, ends in ranges.items()}


def _cost_line(value: float, cost: str, span: dict) -> tuple[dict, dict]:
    """A limit of a cost, upright, and its words above."""
    at = math.log10(value) if span["type"] == "log" and value > 0 else value
    shape = {"x0": value, "x1": value, "y0": 0, "y1": 1, "xref": "x", "yref": "paper"}
    low, high = span["range"]
    side = "right" if at > (low + high) / 2 else "left"
    note = {"x": at, "y": 1, "xref": "x", "yref": "paper", "xanchor": side, "yanchor": "bottom"}
    return shape | _STROKE, note | _note(f"at most {search.FIGURES[cost][1](value)}")


def _score_line(found: dict) -> list[tuple[dict, dict]]:
    """Where the score may not fall below, level, and its words on the good side."""
    worst = axes.worst(found)
    if worst is None:
        return []
    y = axes.scale(found) * worst
    text = search.difference(found["max_drop"], found["metric"]["name"])
    shape = {"x0": 0, "x1": 1, "y0": y, "y1": y, "xref": "paper", "yref": "y"}
    # Where both limits are met there are the fewest points.
    note = {"x": 0, "y": y, "xref": "paper", "yref": "y", "xanchor": "left"}
    note["yanchor"] = "bottom" if found["metric"]["higher_is_better"] else "top"
    return [(shape | _STROKE, note | _note(f"{text} {'lost' if found['metric']['higher_is_better'] else 'more'}"))]


_STROKE = {"type": "line", "line": {"color": "--bad", "width": 1.5, "dash": "dash"}, "layer": "below"}


def _note(text: str) -> dict:
    return {"text": html.escape(text), "showarrow": False, "font": {"size": 12, "color": "--bad"}}


def _text(trial: Trial) -> str:
    """What hovering shows; plotly reads markup in it, so it is escaped."""
    lines = textwrap.wrap(trial.label, _LINE)[:_MOST_LINES]
    figures = [figure for figure in (trial.score, trial.latency, trial.size) if figure != formats.UNKNOWN]
    macs = [] if trial.macs == formats.UNKNOWN else [f"{trial.macs} MACs"]
    title = f"<b>{html.escape(trial.title)}</b>"
    return "<br>".join([title, *map(html.escape, lines), " · ".join([*figures, *macs])])


def _original_text(found: dict) -> str:
    original = found["original"]
    figures = [formats.score(original.get("score"), found["metric"]["name"])]
    figures += [show(original.get(cost)) for cost, (_, show) in search.FIGURES.items() if cost != "macs"]
    known = [figure for figure in figures if figure != formats.UNKNOWN]
    return "<b>The original</b><br>" + " · ".join(known)


def _known(row: dict, cost: str) -> bool:
    return axes.finite(row.get("score")) and axes.finite(row.get(cost))
