"""The page of the experiment `model-costs`."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from paredown.experiments import plots
from paredown.experiments.markdown import table
from paredown.latency.roofline import BOUNDS
from paredown.report import formats

#: Operations, as LiteRT names them -> as people do.
_KINDS = {
    "CONV_2D 1": "1×1 convolution",
    "CONV_2D k": "k×k convolution",
    "DEPTHWISE_CONV_2D": "depthwise convolution",
    "FULLY_CONNECTED": "dense",
}
_OTHER = "without multiply-adds"


def page(rows: list[dict], folder: Path) -> str:
    by_time = sorted(rows, key=lambda row: -row["float32_ms_1"])
    return "\n\n".join(
        [_setting(rows), _costs(by_time), _arm(rows), *_why(by_time), *_macs(rows, folder), _quantized(by_time)]
    )


def _setting(rows: list[dict]) -> str:
    return (
        f"Random weights, batch 1, LiteRT with XNNPACK, medians of {rows[0]['runs']} turns in which float32 and int8 "
        "alternate; times of single operations, and what they are held against, are the fastest of several runs on one "
        "thread. Peak memory is that of the activations alone, in float32, in the order of the layers."
    )


def _costs(rows: list[dict]) -> str:
    columns = ("network", "input", "MACs", "parameters", "peak memory", "1 thread (ms)", "2 threads (ms)", "int8 (ms)")
    cells = [
        (
            row["network"],
            f"{row['input'][0]}²",
            formats.count(row["macs"]),
            formats.count(row["params"]),
            formats.size(row["peak_activation_bytes"]),
            f"{row['float32_ms_1']:.1f}",
            f"{row['float32_ms_2']:.1f}",
            f"{row['int8_ms_1']:.1f}" if "int8_ms_1" in row else formats.ABSENT,
            formats.digits(row["macs"] / row["float32_ms_1"] / 1e6),
            formats.count(row["float32_instructions"]) if row.get("float32_instructions") else formats.ABSENT,
            formats.count(row["int8_instructions"]) if row.get("int8_instructions") else formats.ABSENT,
        )
        for row in rows
    ]
    return "## What they cost\n\n" + table((*columns, "G MACs/s", "Arm instructions", "int8, Arm"), cells)


def _arm(rows: list[dict]) -> str:
    missing = dict.fromkeys(row["arm_missing"] for row in rows if "arm_missing" in row)
    known = [row for row in rows if row.get("float32_instructions")]
    said = [f"Arm instructions that are not there were not counted: {reason}." for reason in missing]
    if known:
        said.insert(
            0,
            "Arm instructions are those of one inference in the aarch64 kernels under emulation (Cortex-A76). They "
            "repeat to the digit, and they are not time: one that waits for memory counts like one that does "
            "not. Over the networks their rank correlation with the time here is "
            f"{_rank(known, 'float32_instructions', 'float32_ms_1')}.",
        )
    return " ".join(said)


def _why(rows: list[dict]) -> list[str]:
    peaks = rows[0]["peaks"]
    kinds = [*_KINDS.values(), _OTHER]
    cells = []
    for row in rows:
        by_kind = _by_kind(row)
        whole = sum(ms for ms, _ in by_kind.values())
        cells.append(
            (
                row["network"],
                *(f"{100 * row['shares'][bound]:.0f}" for bound in BOUNDS),
                *(f"{100 * by_kind.get(kind, (0, 0))[0] / whole:.0f}" for kind in kinds),
                f"{100 * (row['predicted_ms'] / row['fastest_ms'] - 1):+.1f}".replace("-", formats.MINUS),
            )
        )
    found = table(("network", *(f"{bound} (%)" for bound in BOUNDS), *(f"{k} (%)" for k in kinds), "sum (%)"), cells)
    errors = np.array([row["predicted_ms"] / row["fastest_ms"] - 1 for row in rows])
    return [
        "## Where the time goes",
        "Share of the time by what bounds a layer, then by kind of operation. *Sum* is how far the sum of all "
        "operations, each timed alone, is off the whole network: root mean square "
        f"{100 * np.sqrt(np.mean(errors**2)):.1f} %, at most {100 * np.abs(errors).max():.1f} %. This machine reaches "
        f"{peaks['macs_per_s'] / 1e9:.0f} G MACs/s and {peaks['bytes_per_s'] / 1e9:.0f} GB/s at best, and needs "
        f"{1e3 * peaks['overhead_ms']:.1f} µs for an empty operation.",
        found,
        *([_answer(rows)] if len(rows) > 1 else []),
    ]


def _answer(rows: list[dict]) -> str:
    """The page's conclusion, in figures of its rows."""
    slowest, fastest = rows[0], rows[-1]
    waste = min(rows, key=lambda row: row["macs"] / row["fastest_ms"])
    best = max(rows, key=lambda row: row["macs"] / row["fastest_ms"])
    speed = {row["network"]: row["macs"] / row["fastest_ms"] / 1e6 for row in rows}
    by_kind = _by_kind(waste)
    rest = by_kind.get(_OTHER, (0.0, 0))[0] / sum(ms for ms, _ in by_kind.values())
    return (
        f"**Slow are first of all the networks that multiply most.** {slowest['network']} needs "
        f"{slowest['float32_ms_1'] / fastest['float32_ms_1']:.0f} times as long as {fastest['network']} and has "
        f"{slowest['macs'] / fastest['macs']:.0f} times its MACs. **But a MAC has no fixed price.** "
        f"{best['network']} gets {speed[best['network']]:.0f} G MACs/s out of this machine, {waste['network']} "
        f"{speed[waste['network']]:.0f}: it has {len(waste['operations'])} operations against "
        f"{len(best['operations'])}, {100 * waste['shares']['compute']:.0f} % of its time is bound by compute against "
        f"{100 * best['shares']['compute']:.0f} %, and {100 * rest:.0f} % of it goes into operations that multiply "
        "nothing. Pruning and factorizing help where the time is bound by compute; where it is bound by memory or "
        "overhead, MACs that are removed need not be time that is saved."
    )


def _by_kind(row: dict) -> dict[str, tuple[float, int]]:
    """Kind of operation -> (milliseconds, MACs)."""
    found: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for kind, macs, _, ms in row["operations"]:
        entry = found[_named(kind, macs)]
        entry[0], entry[1] = entry[0] + ms, entry[1] + macs
    return {kind: (ms, int(macs)) for kind, (ms, macs) in found.items()}


def _named(kind: str, macs: int) -> str:
    if not macs:
        return _OTHER
    return _KINDS.get(kind, kind)


def _macs(rows: list[dict], folder: Path) -> list[str]:
    figure, axes = plots.axes("MACs (G)", "latency, 1 thread (ms)")
    axes.set(xscale="log", yscale="log")
    axes.margins(x=0.15)
    plots.named_points(axes, {row["network"]: (row["macs"] / 1e9, row["float32_ms_1"]) for row in rows})
    picture = plots.save(figure, folder, "model-costs-macs", "Latency over multiply-adds of all networks")
    operations = [operation for row in rows for operation in row["operations"] if operation[1]]
    cells = []
    for name in dict.fromkeys(_named(kind, macs) for kind, macs, _, _ in operations):
        group = np.array([[m, b, ms] for kind, m, b, ms in operations if _named(kind, m) == name])
        rate = group[:, 0] / group[:, 2] / 1e6
        low, middle, high = np.percentile(rate, (10, 50, 90))
        rho = _correlation(group[:, 0].tolist(), group[:, 2].tolist())
        cells.append((name, len(group), rho, f"{low:.0f}", f"{middle:.0f}", f"{high:.0f}"))
    whole = [_rank(rows, "macs", f"float32_ms_{threads}") for threads in (1, 2)]
    return [
        "## How well do MACs predict time?",
        f"Over the networks the rank correlation (Spearman) of MACs and time is {whole[0]} on one thread and "
        f"{whole[1]} on two; of parameters and time {_rank(rows, 'params', 'float32_ms_1')}. By kind of "
        "operation, over all operations of all networks:",
        table(("operation", "how many", "rank correlation", "G MACs/s, p10", "median", "p90"), cells),
        picture,
    ]


def _rank(rows: list[dict], x: str, y: str) -> str:
    """Spearman's rank correlation of two figures over networks."""
    return _correlation([row[x] for row in rows], [row[y] for row in rows])


def _correlation(x: Sequence[float], y: Sequence[float]) -> str:
    return formats.UNKNOWN if len(x) < 3 else f"{stats.spearmanr(x, y).statistic:.2f}"


def _quantized(rows: list[dict]) -> str:
    cells = [
        (
            row["network"],
            formats.size(row["float32_bytes"]),
            formats.size(row["int8_bytes"]),
            f"{row['int8_speedup_1']:.2f}",
            f"{row['int8_speedup_2']:.2f}",
            row["int8_left"],
        )
        for row in rows
        if "int8_bytes" in row
    ]
    columns = (
        "network",
        "float32 file",
        "int8 file",
        "faster, 1 thread (×)",
        "2 threads (×)",
        "operations left in float",
    )
    slower = [row["network"] for row in rows if row.get("int8_speedup_1", 1) < 1]
    said = f"Slower in int8: {', '.join(slower)}." if slower else "None is slower in int8."
    missing = [f"{row['network']} has no int8 file: {row['int8_missing']}" for row in rows if "int8_missing" in row]
    return "\n\n".join(["## int8", table(columns, cells), " ".join([said, *missing])])
