"""What each step of a run gave and cost, in one table: the original, the steps, the exported file."""

from dataclasses import dataclass

from paredown.report import formats, summary

#: Settings longer than this are folded away.
LONG = 120


@dataclass(frozen=True)
class Cell:
    """A figure after a step, and what became of it by the step: `1.03 M`, `10.7 × fewer`."""

    value: str
    change: str = ""


@dataclass(frozen=True)
class Step:
    """One row of the table.

    Args:
        label: Its place and name.
        note: What a fine-tuning did to its loss, or that the step was undone.
        settings: What differs from the defaults, as text.
        took: Its time.
        macs, params, score, latency: The figures after it; latency is `–` where the network's shape did not change.
    """

    label: str
    note: str
    settings: str
    took: str
    macs: Cell
    params: Cell
    score: Cell
    latency: Cell

    @property
    def long(self) -> bool:
        return len(self.settings) > LONG


def steps(record: dict) -> list[Step]:
    """The rows, in the run's order.

    Args:
        record: A run's record, schema 1.
    """
    latencies = {row["label"]: row for row in summary.latency_rows(record)}
    original = {**record["original"], "score": record["original"].get("keras_score")}
    before, fastest = original, latencies.get("original")
    rows = [_row(record, "original", {**original, "text": ""}, None, None, fastest)]
    for step in record["steps"]:
        label = f"{step['index']} {step['name']}"
        timed = None if step.get("undone") else latencies.get(label)
        shown = {**step, "text": settings(step.get("settings")), "note": _note(step)}
        rows.append(_row(record, label, shown, before, fastest, timed))
        before, fastest = step, timed or fastest
    last = list(latencies.values())[-1] if len(latencies) > 1 else None
    exported = {**record["compressed"], "text": _format(record["export"].get("quantization"))}
    return [*rows, _row(record, "export", exported, before, fastest, last)]


def seconds(record: dict) -> float | None:
    """What all steps together took; None where that of one is unknown."""
    times = [step.get("seconds") for step in record["steps"]]
    return None if None in times else sum(times)


def settings(values: dict | None) -> str:
    """Settings as text."""
    return ", ".join(f"{key} {value}" for key, value in (values or {}).items()) or "as they come"


def _format(quantization) -> str:
    return settings(quantization) if isinstance(quantization, dict) else quantization or "float32"


def _row(record: dict, label: str, step: dict, before: dict | None, fastest: dict | None, timed: dict | None) -> Step:
    metric = record["metric"]["name"]
    was = (before or {}).get("score")
    changed = "" if None in (was, step.get("score")) else formats.score_change(was, step["score"], metric)
    return Step(
        label,
        step.get("note", ""),
        step["text"],
        formats.seconds(step["seconds"]) if "seconds" in step else "",
        _fewer(step.get("macs"), (before or {}).get("macs")),
        _fewer(step.get("params"), (before or {}).get("params")),
        Cell(formats.score(step.get("score"), metric), changed),
        _latency(timed, fastest if before else None),
    )


def _fewer(value: float | None, before: float | None) -> Cell:
    ratio = before / value if before and value else 1
    return Cell(formats.count(value), _times(ratio, "fewer", "more"))


def _latency(timed: dict | None, before: dict | None) -> Cell:
    """A measured file's median; its gain is the ratio of the paired speeds, not of the medians."""
    if timed is None:
        return Cell(formats.ABSENT)
    was, now = (before or {}).get("speedup_median"), timed.get("speedup_median")
    return Cell(formats.ms(timed["median_ms"]), _times(now / was if was and now else 1, "faster", "slower"))


def _times(ratio: float, better: str, worse: str) -> str:
    if round(ratio, 2) == 1:
        return ""
    return f"{formats.factor(ratio)} {better}" if ratio > 1 else f"{formats.factor(1 / ratio)} {worse}"


def _note(step: dict) -> str:
    log = step.get("log") or {}
    losses = (log.get("history") or {}).get("loss")
    parts = ["undone: slower"] if step.get("undone") else []
    if losses:
        course = " → ".join(formats.digits(loss) for loss in dict.fromkeys((losses[0], losses[-1])))
        parts.append(f"{log['loss']} {course}, {log['optimizer']}")
    return "; ".join(parts)
