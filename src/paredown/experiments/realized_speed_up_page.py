"""The page of the experiment `realized-speed-up`."""

from pathlib import Path

import numpy as np

from paredown.experiments import plots
from paredown.experiments.markdown import table
from paredown.experiments.rows import grouped
from paredown.report import formats


def page(rows: list[dict], folder: Path) -> str:
    sections = [
        "Random weights. Pruned by the l2 norm, in every layer alike (*to MACs*), or where the measured time allows "
        '(*to latency*: `PruneChannels(latency=..., latency_table="host", scope="optimal")`); factorized without data, '
        "ranks for all layers at once. Ratios say what is left: 0.5 is half. Latency is LiteRT, float32, one thread, "
        f"the median over {rows[0]['runs']} turns of the smaller network's time over the original's in the same turn "
        "(p10 to p90 in brackets)." + _browser(rows) + _arm(rows)
    ]
    for (network,), group in grouped(rows, "network").items():
        cells = [
            (
                row["method"],
                f"{row['share']:g}",
                f"{row['macs_ratio']:.2f}",
                f"{row['latency_ratio']:.2f} ({row['latency_ratio_p10']:.2f} to {row['latency_ratio_p90']:.2f})",
                *(f"{row[key]:.2f}" if key in row else formats.ABSENT for key in ("browser_ratio", "arm_ratio")),
            )
            for row in group
        ]
        sections.append(f"## {network} ({group[0]['original_ms']:.2f} ms)")
        sections.append(table(("method", "asked for", "MACs left", "latency left", "browser", "Arm"), cells))
    return "\n\n".join([*sections, *_summary(rows), _picture(rows, folder)])


def _browser(rows: list[dict]) -> str:
    missing = [row["browser_missing"] for row in rows if "browser_missing" in row]
    if missing:
        return f" The browser was not measured: {missing[0]}"
    return f" *Browser* is the same ratio in a browser on this computer, one thread ({rows[0]['browser_runtime']})."


def _arm(rows: list[dict]) -> str:
    missing = [row["arm_missing"] for row in rows if "arm_missing" in row]
    if missing:
        return f" Arm instructions were not counted: {missing[0]}"
    return " *Arm* is the ratio of instructions in the aarch64 kernels, counted under emulation (Cortex-A76): no time."


def _summary(rows: list[dict]) -> list[str]:
    cells = []
    for (method,), group in grouped(rows, "method").items():
        # Of the time that the MACs (or the latency) asked for promise to save, what was saved.
        target = np.array([row["share"] if "latency" in method else row["macs_ratio"] for row in group])
        got = np.array([row["latency_ratio"] for row in group])
        realized = (1 - got) / (1 - target)
        cells.append(
            (method, len(group), f"{np.median(realized):.2f}", f"{realized.min():.2f}", f"{realized.max():.2f}")
        )
    return [
        "## How much of the promise is kept",
        "The saving in time over the saving in MACs (for *pruned to latency*: over the saving asked for); 1 is all of "
        "it.",
        table(("method", "cases", "median", "least", "most"), cells),
    ]


def _picture(rows: list[dict], folder: Path) -> str:
    networks = grouped(rows, "network")
    figure, panels = plots.axes(
        ["share asked for"] * len(networks), ["latency left"] * len(networks), [name for (name,) in networks]
    )
    for panel, group in zip(panels, networks.values(), strict=True):
        panel.plot([0, 1], [0, 1], color="#999999", linestyle="--", marker="", linewidth=1)
        plots.lines(panel, group, "share", "latency_ratio", by="method")
        panel.set(xlim=(0, 1), ylim=(0, max(1.1, *(1.05 * row["latency_ratio"] for row in group))))
    return plots.save(figure, folder, "realized-speed-up-latency", "Latency left over the share that was asked for")
