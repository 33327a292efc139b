"""What a reader must not miss: it stands at the top of the report and under the command line's table."""

from dataclasses import dataclass
from itertools import pairwise

from paredown.measure import CLEARLY_SLOWER
from paredown.report import formats, search, summary


@dataclass(frozen=True)
class Notice:
    """Something that a reader must not miss."""

    title: str
    text: str


def notices(record: dict) -> list[Notice]:
    """What stands at the top of the report: limits that were not met, checks that failed, steps that made the network
    slower or larger."""
    found = [*_failed_checks(record), *_undone(record), *_slower(record), *_more_macs(record)]
    return [*_limits_not_met(record), *found]


def _limits_not_met(record: dict) -> list[Notice]:
    found = record.get("search")
    if not found or found["met"]:
        return []
    return [Notice("The search could not meet its limits", search.nearest(found) or found["verdict"])]


def _failed_checks(record: dict) -> list[Notice]:
    return [
        Notice(
            f"A check failed: {check['name']} ({check['where']})",
            f"It came to {formats.digits(check['value'])}; at most {formats.digits(check['tolerance'])} passes. "
            "Do not use this network before the cause is known.",
        )
        for check in summary.checks(record)
        if not check["passed"]
    ]


def _undone(record: dict) -> list[Notice]:
    """Steps, quantization and packing that were taken back, since they made the network slower."""
    steps = [(f"{step['index']} {step['name']}", step["undone"]) for step in record["steps"] if step.get("undone")]
    quantized = record["export"].get("undone")
    if quantized:
        pack, format_ = quantized.get("pack"), quantized["quantization"]
        steps.append((f"Packing ({pack})" if pack else f"Quantization ({format_})", quantized))
    return [
        Notice(
            f"{label} was undone: it made the network {formats.factor(1 / slower['speedup'])} slower",
            f"{formats.ms(slower['before_ms'])} would have become {formats.ms(slower['after_ms'])}.",
        )
        for label, slower in steps
    ]


def _slower(record: dict) -> list[Notice]:
    """Every measured file that is slower than the one before it, and a last one that is not faster than the first."""
    found = summary.latency_rows(record)
    # Of two files alone the second sentence says it.
    out = [_slower_step(a, b) for a, b in pairwise(found if len(found) > 2 else []) if _clearly_slower(a, b)]
    first, last = found[:1], found[-1:]
    ratio = last[0].get("speedup_median") if len(found) > 1 else None
    if ratio is None or ratio >= 1:
        return out
    times = f"{formats.ms(first[0]['median_ms'])} before, {formats.ms(last[0]['median_ms'])} after"
    high = last[0].get("speedup_p90")
    if high is not None and high >= 1:
        title = "The compressed network is not measurably faster than the original"
    else:
        title = f"The compressed network is {formats.factor(1 / ratio)} slower than the original"
    return [*out, Notice(title, f"{times}.")]


def _clearly_slower(earlier: dict, later: dict) -> bool:
    """Whether `later` lost more speed than two medians differ by on a quiet machine."""
    was, now = earlier.get("speedup_median"), later.get("speedup_median")
    return was is not None and now is not None and now < CLEARLY_SLOWER * was


def _slower_step(earlier: dict, later: dict) -> Notice:
    slower = formats.factor(earlier["speedup_median"] / later["speedup_median"])
    return Notice(
        f"{later['label']} made the network {slower} slower",
        f"{formats.ms(earlier['median_ms'])} ({earlier['label']}) became {formats.ms(later['median_ms'])}.",
    )


def _more_macs(record: dict) -> list[Notice]:
    out, before = [], record["original"].get("macs")
    for step in record["steps"]:
        after = step.get("macs")
        if None not in (before, after) and after > before:
            text = f"{formats.count(before)} became {formats.count(after)}."
            out.append(Notice(f"Step {step['index']}, {step['name']}, added MACs", text))
        before = after
    return out
