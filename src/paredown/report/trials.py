"""A search's trials as a reader opens them: figures, recipe, and which of them stand on the page."""

from dataclasses import dataclass

from paredown.report import formats, search
from paredown.report.search import STAGES

#: Beyond so many trials, the recipes of those that were neither tuned nor of the front are left to `run.json`.
MOST_RECIPES = 500


@dataclass(frozen=True)
class Trial:
    """One trial, ready to be shown.

    Args:
        place: Its place in the record's list; what a point of the plot opens.
        number: The search's own number of it.
        kind: `chosen`, `finalist`, or its stage.
        title: What it is and how far it came.
        label: Its recipe in short.
        score, latency, size, macs: Figures as text; the latency measured where it was.
        figures: Every figure that is known: (name, text).
        recipe: YAML, or "" where the page does not hold it.
        front: Whether no other trial is better in every respect.
    """

    place: int
    number: int
    kind: str
    title: str
    label: str
    score: str
    latency: str
    size: str
    macs: str
    figures: tuple[tuple[str, str], ...]
    recipe: str
    front: bool


def trials(found: dict) -> list[Trial]:
    """Every trial, in the record's order.

    Args:
        found: A record's `search`.
    """
    measured = _measured(found)
    chosen = places(found).get(found.get("chosen"))
    rows = found["trials"]
    return [_trial(found, place, measured.get(place), place == chosen, len(rows)) for place in range(len(rows))]


def places(found: dict) -> dict[int | None, int]:
    """Number -> where that trial stands; of several stages of one, the last."""
    return {trial["number"]: place for place, trial in enumerate(found["trials"])}


def _measured(found: dict) -> dict[int, dict]:
    where = places(found)
    finalists = found.get("finalists") or ()
    return {where[one["number"]]: one for one in finalists if one["number"] in where}


def latency_ms(trial: dict, measured: dict | None) -> float | None:
    """What was measured of a trial, else what tables say."""
    known = (measured or {}).get("latency_ms")
    return trial.get("latency_ms") if known is None else known


def points(found: dict) -> list[dict]:
    """Every trial with the latency that was measured of it, where it was."""
    measured = _measured(found)
    return [
        {**trial, "latency_ms": latency_ms(trial, measured.get(place))} for place, trial in enumerate(found["trials"])
    ]


def _trial(found: dict, place: int, measured: dict | None, chosen: bool, count: int) -> Trial:
    trial, metric = found["trials"][place], found["metric"]["name"]
    kind = "chosen" if chosen else "finalist" if measured else trial["stage"]
    keep = count <= MOST_RECIPES or kind != "cheap" or trial.get("front")
    return Trial(
        place,
        trial["number"],
        kind,
        _title(trial, kind),
        trial["label"],
        formats.score(trial.get("score"), metric),
        formats.ms(latency_ms(trial, measured)),
        formats.size(trial.get("size_bytes")),
        formats.count(trial.get("macs")),
        tuple(_figures(found, trial, measured)),
        (trial.get("recipe") or "") if keep else "",
        bool(trial.get("front")),
    )


def _title(trial: dict, kind: str) -> str:
    parts = [f"Trial {trial['number']}", STAGES.get(trial["stage"], trial["stage"])]
    parts += {"chosen": ["chosen"], "finalist": ["measured"]}.get(kind, [])
    parts += {"failed": ["failed"], "pruned": ["given up"]}.get(trial["state"], [])
    return ", ".join(parts)


def _figures(found: dict, trial: dict, measured: dict | None):
    metric = found["metric"]
    if trial.get("reason"):
        yield "Failed" if trial["state"] == "failed" else "Note", trial["reason"]
    if trial.get("of") is not None:
        yield "Continues", f"trial {trial['of']}"
    yield "Score", formats.score(trial.get("score"), metric["name"])
    if trial.get("drop") is not None:
        error = trial.get("drop_error")
        give = "" if not error else f" (± {search.difference(error, metric['name'])}, one standard error)"
        yield search.lost_name(metric), search.lost(trial["drop"], metric["name"]) + give
    if measured:
        yield (
            "Latency, measured",
            formats.ms(measured.get("latency_ms")) + _aside(speed(measured, "the original's speed")),
        )
    if trial.get("latency_ms") is not None:
        source = {"tables": "from tables", "estimated": "estimated"}.get(trial.get("latency_from") or "", "")
        yield "Latency" + (f", {source}" if source else ""), formats.ms(trial["latency_ms"])
    if trial.get("size_bytes") is not None:
        yield "File", formats.size(trial["size_bytes"])
    if trial.get("macs") is not None:
        yield "MACs", formats.count(trial["macs"])
    if trial.get("params") is not None:
        yield "Parameters", formats.count(trial["params"])
    if trial.get("seconds") is not None:
        yield "Took", formats.seconds(trial["seconds"])


def speed(measured: dict, unit: str = "") -> str:
    """A finalist's speed beside the original's, with its spread."""
    median, low, high = (measured.get(f"speedup_{name}") for name in ("median", "p10", "p90"))
    if median is None:
        return ""
    spread = "" if low is None or high is None else f", p10–p90 {formats.digits(low)} to {formats.digits(high)}"
    return f"{formats.factor(median)}{' ' if unit else ''}{unit}{spread}"


def _aside(text: str) -> str:
    return f" ({text})" if text else ""
