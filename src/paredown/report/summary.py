"""What a run came to: before, after and the factor; its checks and skips."""

from dataclasses import dataclass

from paredown.report import formats

SCORE_NAMES = {
    "accuracy": "Accuracy",
    "mean_squared_error": "Mean squared error",
    "output_error": "Output error",
}


METRIC_NOTES = {
    "output_error": "root mean square difference from the original's outputs over their spread; lower is better"
}


@dataclass(frozen=True)
class Row:
    """One figure before and after, ready to be shown.

    Args:
        label: What it is, with its unit where the figures do not carry it.
        before, after: The figures as text.
        factor: Ratio or difference as text, e.g. `12.3 ×`.
        means: What the factor says, e.g. `fewer MACs`.
        spread: Between what the factor lay, or "".
        worse: Whether the network got worse in this respect beyond doubt.
    """

    label: str
    before: str
    after: str
    factor: str
    means: str
    spread: str = ""
    worse: bool = False


#: Layers that the report names as the slowest.
MOST_SLOW = 8


def score_name(metric: dict) -> str:
    """The metric's name for people."""
    return SCORE_NAMES.get(metric["name"]) or str(metric["name"]).replace("_", " ").capitalize()


def rows(record: dict) -> list[Row]:
    """The figures of a run, the score first.

    Args:
        record: A run's record, schema 1.
    Returns:
        Score, latency, MACs, parameters, file, zipped file, peak activation memory.
    """
    return [
        _score_row(record),
        _latency_row(record),
        _ratio_row(record, "macs", "MACs", "fewer MACs", formats.count),
        _ratio_row(record, "params", "Parameters", "fewer parameters", formats.count),
        _ratio_row(record, "size_bytes", "File", "smaller file", formats.size),
        _ratio_row(record, "zipped_bytes", "File, zipped", "smaller zipped", formats.size),
        _ratio_row(record, "peak_activation_bytes", "Peak activation memory", "less memory", formats.size),
    ]


def _score_row(record: dict) -> Row:
    metric = record["metric"]
    before, after = record["original"].get("score"), record["compressed"].get("score")
    means = METRIC_NOTES.get(metric["name"]) or ("" if metric["higher_is_better"] else "lower is better")
    worse = None not in (before, after) and (after < before) == metric["higher_is_better"] and after != before
    return Row(
        score_name(metric),
        formats.score(before, metric["name"]),
        formats.score(after, metric["name"]),
        formats.score_change(before, after, metric["name"]),
        means,
        worse=worse,
    )


def _ratio_row(record: dict, key: str, label: str, means: str, show) -> Row:
    before, after = record["original"].get(key), record["compressed"].get(key)
    ratio = before / after if before is not None and after else None
    worse = ratio is not None and round(ratio, 3) < 1
    return Row(label, show(before), show(after), _factor(ratio), _OPPOSITE[means] if worse else means, worse=worse)


_OPPOSITE = {
    "faster": "slower",
    "fewer MACs": "more MACs",
    "fewer parameters": "more parameters",
    "smaller file": "larger file",
    "smaller zipped": "larger zipped",
    "less memory": "more memory",
}


def _factor(ratio: float | None) -> str:
    """A ratio never below 1; what it says is then the opposite."""
    return formats.factor(1 / ratio if ratio and round(ratio, 3) < 1 else ratio)


def _latency_row(record: dict) -> Row:
    before, after = record["original"].get("latency_ms"), record["compressed"].get("latency_ms")
    found = latency_rows(record)
    last = found[-1] if len(found) > 1 else {}
    ratio, low, high = (last.get(f"speedup_{name}") for name in ("median", "p10", "p90"))
    worse = ratio is not None and round(ratio, 3) < 1
    spread = ""
    if low and high:
        low, high = (1 / high, 1 / low) if worse else (low, high)
        spread = f"{formats.digits(low)} to {formats.digits(high)}"
    means = "slower" if worse else "faster"
    return Row("Latency", formats.ms(before), formats.ms(after), _factor(ratio), means, spread, worse)


def latency_rows(record: dict) -> list[dict]:
    """The measured files, the original first, or nothing where latency was not measured."""
    return (record.get("latency") or {}).get("rows") or []


def checks(record: dict) -> list[dict]:
    """Every check of the run with the step it belongs to, under `where`."""
    found = [{**check, "where": step["name"]} for step in record["steps"] for check in step.get("checks", ())]
    return found + [{**check, "where": "export"} for check in record["export"].get("checks", ())]


def skips(record: dict) -> list[dict]:
    """Every skipped layer of the run with the step that left it alone, under `where`."""
    found = [{**skip, "where": step["name"]} for step in record["steps"] for skip in step.get("skips", ())]
    return found + [{**skip, "where": "export"} for skip in record["export"].get("skips", ())]


def skip_groups(record: dict) -> list[tuple[str, list[dict]]]:
    """Skips by reason, the commonest reason first."""
    groups: dict[str, list[dict]] = {}
    for skip in skips(record):
        groups.setdefault(skip["reason"], []).append(skip)
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def slowest_layers(record: dict) -> list[dict]:
    """The layers of the compressed network that take most of its time, the slowest first; none where not timed."""
    return ((record.get("roofline") or {}).get("compressed") or {}).get("layers", [])[:MOST_SLOW]
