"""The sensitivity heat map: which layers are fat, that can lose much for little, and which are bone.

Drawn from `Scan.to_dict()`, in a run's record `record["search"]["scan"]`:

    {"schema": 1,
     "model": {"name", "macs", "params", "latency_ms"},   # latency_ms null where it was not measured
     "data": {"name", "examples", "judged", "labelled"},
     "seed": 0,
     "metric": {"name", "value", "higher_is_better"},       # null without labels
     "layers": ["conv1", …],                                # in the network's order
     "methods": [{"name", "label", "levels": [{"level", "label"}, …]}, …],
     "rows": [{"layer", "layers", "method", "level", "setting", "predicted", "measured", "score_drop",
               "saved_macs", "saved_params", "saved_bytes", "saved_ms",
               "share_macs", "share_params", "share_ms"}, …],
     "skips": [{"layer", "method", "level", "reason"}, …],  # level null: all levels
     "notes": ["…", …]}

`measured` is the mean square change of the network's outputs as a share of their variance, `score_drop` is positive
where the score became worse; what is not known is null.
"""

import html
import math

from paredown.report import formats

#: Losses at the ends of the colour scale; beyond them all is fat, or bone.
LEAST, MOST = 1e-4, 1.0
#: Space between two methods, in columns; longest layer name that is written out, and pixels of a layer's row.
_GAP, _LONGEST, _ROW_PX = 0.6, 20, 22
#: Pixels above the layers for the methods' names, and below for the levels' and the colour bar.
_ABOVE_PX, _BELOW_PX = 46, 100
_SCALE = [[0, "--fat"], [0.5, "--between"], [1, "--bone"]]


def heat_map(scan: dict) -> dict | None:
    """The heat map, layers from top to bottom, methods and levels from left to right.

    Args:
        scan: As above.
    Returns:
        A plotly figure as plain data, colours as names of style sheet variables; None where nothing was scanned.
    """
    methods = [method for method in scan["methods"] if any(row["method"] == method["name"] for row in scan["rows"])]
    known = {(row["layer"], row["method"], row["level"]): row for row in scan["rows"]}
    layers = [layer for layer in scan["layers"] if any(row["layer"] == layer for row in scan["rows"])]
    if not known:
        return None
    traces, ticks, titles, x = [], [], [], 0.0
    for method in methods:
        places = [x + i for i in range(len(method["levels"]))]
        traces += [_left_out(scan, method, layers, places, known), _cells(scan, method, layers, places, known)]
        ticks += [(place, level["label"]) for place, level in zip(places, method["levels"], strict=True)]
        titles.append(_above(method["label"], sum(places) / len(places)))
        x = places[-1] + 1 + _GAP
    return {"data": traces, "layout": _layout(layers, ticks, titles)}


def _cells(scan: dict, method: dict, layers: list, places: list, known: dict) -> dict:
    """One method's losses."""
    rows = [[known.get((layer, method["name"], level["level"])) for level in method["levels"]] for layer in layers]
    return {
        "type": "heatmap",
        "x": places,
        "y": list(range(len(layers))),
        "z": [[None if row is None else _height(row["measured"]) for row in line] for line in rows],
        "text": [["" if row is None else told(scan, row) for row in line] for line in rows],
        "hovertemplate": "%{text}<extra></extra>",
        "hoverongaps": False,
        "coloraxis": "coloraxis",
        "xgap": 2,
        "ygap": 2,
    }


def _left_out(scan: dict, method: dict, layers: list, places: list, known: dict) -> dict:
    """The places of what a method could not treat, with the reason."""
    reasons = {}
    for skip in scan["skips"]:
        if skip["method"] == method["name"]:
            levels = [level["level"] for level in method["levels"]] if skip["level"] is None else [skip["level"]]
            reasons |= {(skip["layer"], level): skip["reason"] for level in levels}
    empty = [
        [
            None if (layer, method["name"], level["level"]) in known else reasons.get((layer, level["level"]))
            for level in method["levels"]
        ]
        for layer in layers
    ]
    return {
        "type": "heatmap",
        "x": places,
        "y": list(range(len(layers))),
        "z": [[None if reason is None else 0 for reason in line] for line in empty],
        "text": [
            ["" if reason is None else f"<b>{_safe(layer)}</b><br>left alone: {_wrapped(reason)}" for reason in line]
            for layer, line in zip(layers, empty, strict=True)
        ],
        "hovertemplate": "%{text}<extra></extra>",
        "hoverongaps": False,
        "showscale": False,
        "colorscale": [[0, "--page"], [1, "--page"]],
        "xgap": 2,
        "ygap": 2,
    }


def told(scan: dict, row: dict) -> str:
    """What a cell says when it is pointed at."""
    metric, lines = scan["metric"], [f"<b>{_safe(row['layer'])}</b>: {_safe(row['setting'])}"]
    others = [layer for layer in row["layers"] if layer != row["layer"]]
    if others:
        lines.append(
            f"together with {_safe(', '.join(others[:2]))}{f' and {len(others) - 2} more' * (len(others) > 2)}"
        )
    lines.append(f"loss {loss(row['measured'])}, predicted {loss(row['predicted'])}")
    if metric and row["score_drop"] is not None:
        sign = -1 if metric["higher_is_better"] else 1
        after = metric["value"] + sign * row["score_drop"]
        lines.append(
            f"{metric['name'].replace('_', ' ')} {formats.score_change(metric['value'], after, metric['name'])}"
        )
    lines.append(", ".join(saved(row)) or "saves nothing")
    return "<br>".join(lines)


def loss(value: float | None) -> str:
    """A loss in words."""
    return formats.UNKNOWN if value is None else f"< {LEAST:g}" if value < LEAST else formats.digits(value, 2)


def saved(row: dict) -> list[str]:
    """What a case saves of the whole network, in words."""
    parts = [
        f"{_percent(row[key])} of {name}"
        for key, name in (("share_macs", "MACs"), ("share_params", "parameters"), ("share_ms", "latency"))
        if row[key]
    ]
    if row["saved_bytes"] and not row["saved_params"]:
        parts.append(f"{formats.size(row['saved_bytes'])} of weights")
    return parts


def _percent(share: float) -> str:
    return f"{formats.MINUS if share > 0 else '+'}{formats.digits(100 * abs(share), 2)} %"


def _height(loss: float) -> float:
    """Of a loss on the colour scale."""
    return math.log10(min(MOST, max(LEAST, loss))) if math.isfinite(loss) else math.log10(MOST)


def _safe(text: str) -> str:
    # Plotly reads markup in labels.
    return html.escape(text)


def _wrapped(text: str, width: int = 44) -> str:
    lines = [""]
    for word in _safe(text).split():
        lines += [""] if len(lines[-1]) + len(word) > width else []
        lines[-1] += f"{word} "
    return "<br>".join(line.strip() for line in lines)


def _short(name: str) -> str:
    """A long name by its end, which tells layers of one network apart."""
    return _safe(name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}")


def _above(label: str, x: float) -> dict:
    return {
        "text": _safe(label),
        "x": x,
        "y": 1,
        "yref": "paper",
        "yanchor": "bottom",
        "showarrow": False,
        # Side by side they would not fit on a phone.
        "textangle": -30,
        "font": {"size": 11, "color": "--ink"},
    }


def _layout(layers: list, ticks: list, titles: list) -> dict:
    exponents = list(range(round(math.log10(LEAST)), round(math.log10(MOST)) + 1))
    axis = {"fixedrange": True, "showgrid": False, "zeroline": False, "ticks": ""}
    return {
        "height": _ABOVE_PX + _BELOW_PX + _ROW_PX * len(layers),
        "margin": {"l": 8, "r": 8, "t": _ABOVE_PX, "b": _BELOW_PX},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "--soft"},
        "hoverlabel": {"bgcolor": "--card", "bordercolor": "--line", "font": {"color": "--ink"}, "align": "left"},
        "dragmode": False,
        "showlegend": False,
        "annotations": titles,
        "xaxis": axis
        | {
            "tickvals": [x for x, _ in ticks],
            "ticktext": [_safe(label) for _, label in ticks],
            "tickangle": -90,
            "tickfont": {"size": 10},
        },
        "yaxis": axis
        | {
            "tickvals": list(range(len(layers))),
            "ticktext": [_short(layer) for layer in layers],
            "range": [len(layers) - 0.5, -0.5],
            "tickfont": {"size": 11, "color": "--ink"},
            "automargin": True,
        },
        "coloraxis": {
            # A little beyond the last tick, whose label would be left out.
            "cmin": exponents[0] - 0.02,
            "cmax": exponents[-1] + 0.02,
            "colorscale": _SCALE,
            "colorbar": {
                "orientation": "h",
                "thickness": 10,
                "len": 1,
                "x": 0.5,
                "y": 0,
                "yref": "container",
                "yanchor": "bottom",
                "ypad": 4,
                "xpad": 0,
                "outlinewidth": 0,
                "tickvals": exponents,
                "ticktext": [f"{10.0**e:g}" for e in exponents],
                "tickfont": {"size": 11},
            },
        },
    }
