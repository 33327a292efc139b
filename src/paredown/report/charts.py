"""The page's two plotly charts as plain figure dicts.

A colour is written as the name of a style sheet variable (`--after`); the page's script puts its value in,
and again when the reader's device changes between light and dark.
"""

import html
import math

from paredown.report import formats, summary

_BEFORE, _AFTER = "--before", "--after"
_LAST_LABELLED = 8


def score_points(record: dict) -> list[tuple[str, float | None]]:
    """The score along the run: the original network, after each step, and the exported file."""
    points = [("original", record["original"].get("keras_score"))]
    points += [(f"{step['index']} {step['name']}", step.get("score")) for step in record["steps"]]
    return [*points, ("exported file", record["compressed"].get("score"))]


def score_chart(record: dict) -> dict | None:
    """Score after each step; None where fewer than two are known."""
    # JSON knows no infinity; the table beneath shows it.
    points = [
        (label, value if value is not None and math.isfinite(value) else None) for label, value in score_points(record)
    ]
    if sum(value is not None for _, value in points) < 2:
        return None
    name = record["metric"]["name"]
    scale = 100 if name == "accuracy" else 1
    values = [None if value is None else scale * value for _, value in points]
    labels = [_wrapped(label) for label, _ in points]
    shown = [formats.score(value, name) for _, value in points]
    trace = {
        "type": "scatter",
        "mode": "lines+markers" + ("+text" if len(points) <= _LAST_LABELLED else ""),
        "x": labels,
        "y": values,
        "text": shown,
        "textposition": [_label_side(values, place) for place in range(len(values))],
        "textfont": {"size": 12, "color": "--ink"},
        "hovertemplate": "%{x}<br>%{text}<extra></extra>",
        "connectgaps": True,
        "cliponaxis": False,
        "line": {"color": _AFTER, "width": 2},
        "marker": {"size": 9, "color": [_BEFORE] + [_AFTER] * (len(points) - 1)},
    }
    known = [value for value in values if value is not None]
    room = max(max(known) - min(known), 0.02 * max(map(abs, known)), 1e-9)
    low = max(0.0, min(known) - 0.3 * room)
    plan = layout(300)
    plan["yaxis"] |= {
        "title": title(score_title(record["metric"])),
        "range": [low, max(known) + 0.25 * room],
        "nticks": 6,
    }
    plan["xaxis"] |= {"title": title("Step"), "showgrid": False, "type": "category"}
    plan["xaxis"] |= {"range": [-0.5, len(points) - 0.5], "tickangle": 0 if len(points) <= 5 else -60}
    return {"data": [trace], "layout": plan}


def latency_chart(record: dict) -> dict | None:
    """Every single run as a dot, p10 to p90 as a line, the median as a stroke; None where nothing was measured."""
    rows = [row for row in summary.latency_rows(record) if row.get("times_ms")]
    if not rows:
        return None
    traces = [trace for place, row in enumerate(rows) for trace in _latency_traces(place, row)]
    plan = layout(110 + 78 * len(rows))
    # A tail of interrupted runs must not press the distributions flat; the page says how many lie beyond.
    plan["xaxis"] |= {"title": title("Latency (ms per inference)"), "range": [0, axis_end_ms(record)], "nticks": 6}
    plan["yaxis"] |= {"range": [len(rows) - 0.55, -0.65], "visible": False}
    plan["margin"] = {"l": 14, "r": 14, "t": 6, "b": 48}
    plan["annotations"] = [_latency_label(place, row) for place, row in enumerate(rows)]
    return {"data": traces, "layout": plan}


def axis_end_ms(record: dict) -> float:
    """Where the latency axis ends."""
    return 1.2 * max(row["p90_ms"] for row in summary.latency_rows(record))


def runs_beyond(record: dict) -> int:
    """How many single runs lie beyond the end of the latency axis."""
    rows = summary.latency_rows(record)
    return sum(time > axis_end_ms(record) for row in rows for time in row.get("times_ms") or ())


def roofline_chart(record: dict) -> dict | None:
    """Each layer's multiply-adds per second over its multiply-adds per byte, before and after, under the machine's
    roof; None where layers were not timed."""
    if not record.get("roofline"):
        return None
    peaks = record["roofline"]["compressed"]["peaks"]
    groups = [(_BEFORE, "original"), (_AFTER, "compressed")]
    traces = [trace for colour, label in groups if (trace := _roofline_dots(colour, record["roofline"][label]))]
    if not traces:
        return None
    intensities = [x for trace in traces for x in trace["x"]]
    ridge = peaks["macs_per_s"] / peaks["bytes_per_s"]
    ends = min(*intensities, ridge) / 2, max(*intensities, ridge) * 2
    roof = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"color": "--ink", "width": 2}}
    roof |= {"x": [ends[0], ridge, ends[1]]}
    roof |= {"y": [min(peaks["bytes_per_s"] * x, peaks["macs_per_s"]) / 1e9 for x in roof["x"]]}
    plan = layout(340)
    plan["xaxis"] |= {"title": title("MACs per byte"), "type": "log", "dtick": 1}
    plan["yaxis"] |= {"title": title("G MACs per second"), "type": "log", "dtick": 1}
    return {"data": [roof, *traces], "layout": plan}


def _roofline_dots(colour: str, network: dict) -> dict | None:
    layers = [layer for layer in network["layers"] if layer["macs"]]
    if not layers:
        return None
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [layer["macs"] / layer["bytes"] for layer in layers],
        "y": [layer["macs"] / layer["ms"] / 1e6 for layer in layers],
        "text": [f"{html.escape(layer['layer'])}<br>{formats.ms(layer['ms'])}" for layer in layers],
        "hovertemplate": "%{text}<extra></extra>",
        # Areas, not widths, are as the shares of the time.
        "marker": {"color": colour, "opacity": 0.7, "size": [6 + 34 * layer["share"] ** 0.5 for layer in layers]},
    }


def _latency_traces(place: int, row: dict) -> list[dict]:
    colour = _BEFORE if place == 0 else _AFTER
    times = row["times_ms"]
    spread = [place + 0.28 * ((0.618034 * i) % 1 - 0.5) for i in range(len(times))]
    common = {"type": "scatter", "showlegend": False}
    dots = {"x": times, "y": spread, "mode": "markers", "marker": {"size": 6, "color": colour, "opacity": 0.35}}
    line = {"x": [row["p10_ms"], row["p90_ms"]], "y": [place] * 2, "mode": "lines", "hoverinfo": "skip"}
    line["line"] = {"color": colour, "width": 3}
    stroke = {"x": [row["median_ms"]] * 2, "y": [place - 0.24, place + 0.24], "mode": "lines", "hoverinfo": "skip"}
    stroke["line"] = {"color": "--ink", "width": 3}
    return [
        {**common, **dots, "hovertemplate": "%{x:.3~g} ms<extra></extra>"},
        {**common, **line},
        {**common, **stroke},
    ]


def _latency_label(place: int, row: dict) -> dict:
    text = f"<b>{html.escape(row['label'])}</b>  {formats.ms(row['median_ms'])}"
    return {
        "text": text,
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": place - 0.46,
        "yanchor": "middle",
        "showarrow": False,
        "align": "left",
        "font": {"size": 13, "color": "--ink"},
    }


def _label_side(values: list, place: int) -> str:
    """Beneath a point that lies lower than its neighbours, where the line would cross the text; else above."""
    here = values[place]
    before = [value for value in values[:place] if value is not None][-1:]
    after = [value for value in values[place + 1 :] if value is not None][:1]
    lower = here is not None and before and after and here <= min(before + after) < max(before + after)
    return "bottom center" if lower else "top center"


def _wrapped(label: str) -> str:
    """A step's name on lines short enough for a phone; plotly reads markup in labels, so it is escaped."""
    return html.escape(label).replace("_", "<br>").replace(" ", "<br>", 1)


def score_title(metric: dict) -> str:
    """The score's name with its unit."""
    return summary.score_name(metric) + (" (%)" if metric["name"] == "accuracy" else "")


def title(text: str) -> dict:
    """An axis's title."""
    return {"text": text, "font": {"size": 12}, "standoff": 12}


def layout(height: int) -> dict:
    """What all charts have in common; `height` in pixels."""
    axis = {"fixedrange": True, "automargin": True, "zeroline": False}
    axis |= {"gridcolor": "--line", "linecolor": "--line", "tickfont": {"size": 12}}
    return {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 16, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "--soft"},
        "hoverlabel": {"bgcolor": "--card", "font": {"color": "--ink"}},
        "showlegend": False,
        "dragmode": False,
        "xaxis": dict(axis),
        "yaxis": dict(axis),
    }
