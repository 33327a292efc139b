"""Draws a run's record as one HTML page that needs nothing beside itself."""

import json
import re
from datetime import datetime
from pathlib import Path

from paredown.errors import SettingError
from paredown.files import write_text
from paredown.report import charts, formats, layers, notices, search, search_section, steps, structure, summary

SCHEMA = 1
_NEEDED = ("model", "data", "environment", "metric", "original", "compressed", "steps", "export", "layers")
_ADVICE = "Name the folder that `paredown compress --out` wrote."


def read_record(path) -> dict:
    """Reads a run's record.

    Args:
        path: `run.json`.
    Returns:
        The record, schema 1.
    Raises:
        SettingError: If the file cannot be read or is no record of a run.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"run.json must be readable. Received: {path} ({error.strerror}). {_ADVICE}") from error
    except ValueError as error:
        raise SettingError(f"run.json must be JSON. Received: {path} ({error}). {_ADVICE}") from error
    _check(record, path)
    return record


def _check(record, where) -> None:
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != SCHEMA:
        raise SettingError(f"A run's record must have schema {SCHEMA}. Received: schema={schema} ({where}). {_ADVICE}")
    missing = [key for key in _NEEDED if key not in record]
    if missing:
        raise SettingError(f"A run's record must hold {', '.join(missing)}. Received: {where} without. {_ADVICE}")


def render(record: dict) -> str:
    """The page.

    Args:
        record: A run's record, schema 1.
    Returns:
        HTML; style, scripts and figures inside, so that nothing is requested from anywhere.
    Raises:
        SettingError: If `record` is no record of a run.
    """
    from plotly.offline import get_plotlyjs

    _check(record, "render()")
    figures = {
        "score": charts.score_chart(record),
        "latency": charts.latency_chart(record),
        "roofline": charts.roofline_chart(record),
    }
    section = search_section.section(record)
    figures |= section.figures if section else {}
    return (
        templates()
        .get_template("template.html.j2")
        .render(
            record=record,
            created=_date(record.get("created")),
            rows=summary.rows(record),
            notices=notices.notices(record),
            checks=summary.checks(record),
            skip_groups=summary.skip_groups(record),
            skip_count=len(summary.skips(record)),
            score_points=charts.score_points(record),
            latency_rows=summary.latency_rows(record),
            runs_beyond=charts.runs_beyond(record) if figures["latency"] else 0,
            slowest=summary.slowest_layers(record),
            bars=layers.bars(record["layers"]),
            outline=structure.outline(record["layers"]),
            steps=steps.steps(record),
            steps_seconds=steps.seconds(record),
            section=section,
            most_bars=layers.MOST_BARS,
            figures=figures,
            plotly_js=get_plotlyjs() if any(figures.values()) else "",
        )
    )


def write(record: dict, path) -> None:
    """Renders the record and writes the page; an older page stays whole until the new one is.

    Args:
        record: A run's record, schema 1.
        path: The HTML file.
    Raises:
        OutputError: If the page cannot be written.
    """
    write_text(path, render(record))


def templates():
    """The pages' templates, with what all of them use."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("paredown.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = _breakable
    environment.globals |= {"formats": formats, "search": search, "summary": summary, "told_figure": layers.told_figure}
    return environment


def _breakable(name: str):
    """A long layer name that may be broken after its separators, and only there."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([_/.]+)", r"\1<wbr>", str(escape(name))))


def _date(created: str | None) -> str:
    try:
        return datetime.fromisoformat(created or "").strftime("%-d %B %Y, %H:%M %Z")
    except ValueError:
        return created or formats.UNKNOWN
