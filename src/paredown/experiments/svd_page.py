"""The page of the experiment `svd`."""

from collections import Counter
from pathlib import Path
from typing import Any

from paredown.experiments import plots
from paredown.experiments.markdown import table
from paredown.experiments.rows import Spread, grouped, spread
from paredown.report import formats

#: Panels side by side in one figure.
_PANELS = 3
#: Kinds whose errors are drawn over the rank; the others have ranks of another size, and stand in the table.
_OVER_RANK = ("svd", "spatial", "tucker")
#: Below this speed-up a network counts as no faster: as much as two equal files were seen to differ.
_FASTER = 1.05
_NAMES = {
    "classifier": "the classifier of Table 2.2 (MNIST)",
    "resnet20": "ResNet-20 (CIFAR-10)",
    "resnet56": "ResNet-56 (CIFAR-10)",
}


def page(rows: list[dict], folder: Path) -> str:
    parts = {part: group for (part,), group in grouped(rows, "part").items()}
    return "\n\n".join([*_layers(parts["layer"], folder), *_networks(parts["network"], folder)])


# ---- one layer


def _layers(rows: list[dict], folder: Path) -> list[str]:
    first = rows[0]
    parts = [
        "## One layer",
        "What the output of one layer loses, mean square as a share of its variance, all else as it was. *Kernel "
        f"alone*: factors of the kernel. *Data-aware*: fitted to the outputs on {first['calibration']} training "
        f"images. Held out: {first['test']:,} test images, which were not looked at; *predicted*: what the second "
        "moments of the calibration images say (on those images it is exact). At up to 64 positions of each "
        "image, drawn at random; mean ± "
        f"standard deviation over {len({row['seed'] for row in rows})} seeds (the sample of images; of the classifier "
        "also its training). Vertical lines: where factors cost what the layer costs, by the positions that each "
        "factor is really computed at. *Half*: the error with half of the layer's MACs, between two ranks along a "
        "straight line in both logarithms.",
    ]
    cells = [
        [f"{network}, {layer}", _shape(group[0]), kind, _bound(group[0]), *_at_half(group)]
        for (network, layer, kind), group in grouped(rows, "network", "layer", "kind").items()
    ]
    columns = ("layer", "kernel", "kind", "saves up to rank", "kernel alone, half (%)", "data-aware, half (%)")
    parts.append(table((*columns, "predicted, half (%)"), cells, left=3))
    for (network,), group in grouped(rows, "network").items():
        parts += [f"### {_NAMES[network]}", *_over_macs(network, group, folder), _over_rank(network, group, folder)]
    return parts


def _shape(row: dict) -> str:
    return "×".join(map(str, row["shape"]))


def _bound(row: dict) -> str:
    return f"{row['bound']} of {row['most']}"


def _at_half(group: list[dict]) -> list[str]:
    names = ("plain_held_out", "aware_held_out", "aware_seen")
    return [f"{Spread(tuple(found)):.2f}" if (found := _halves(group, name)) else "none" for name in names]


def _halves(group: list[dict], name: str) -> list[float]:
    """The errors in percent at half of the MACs, of each seed; empty where no two ranks lie around it."""
    import numpy as np

    found = []
    for row in group:
        macs, errors = np.array(row["macs_percent"]), np.maximum(row[name], 1e-12)
        if macs.min() <= 50 <= macs.max():
            found.append(100 * float(np.exp(np.interp(np.log(50), np.log(macs), np.log(errors)))))
    return found


def _over_macs(network: str, rows: list[dict], folder: Path) -> list[str]:
    """Figures of a few layers each: errors of every kind over the share of the layer's MACs."""
    layers = list(grouped(rows, "layer").items())
    links = []
    for number, start in enumerate(range(0, len(layers), _PANELS)):
        shown = layers[start : start + _PANELS]
        titles = [f"{name}, {_shape(group[0])}" for (name,), group in shown]
        figure, panels = plots.axes(["MACs (% of the layer's)"] * len(shown), "error on test images (%)", titles)
        for panel, (_, group) in zip(panels, shown, strict=True):
            for place, ((kind,), of_kind) in enumerate(grouped(group, "kind").items()):
                _curve(panel, of_kind, "macs_percent", "aware_held_out", place, kind)
                _curve(panel, of_kind, "macs_percent", "plain_held_out", place, None, dashed=True)
            panel.axvline(100, color="#888888", linestyle=":")
            panel.legend()
        name = f"svd-{network}-macs{number + 1 if len(layers) > _PANELS else ''}"
        links.append(plots.save(figure, folder, name, "Error over MACs; solid: data-aware, dashed: kernel alone"))
    return [*links, "Solid: data-aware; dashed: the kernel alone."]


def _over_rank(network: str, rows: list[dict], folder: Path) -> str:
    """One convolution: errors over the rank, one panel for each kind, the bound drawn."""
    convolution = [row for row in rows if len(row["shape"]) > 2]
    ((layer,), chosen), *_ = grouped(convolution, "layer").items()
    kinds = [(kind, of_kind) for (kind,), of_kind in grouped(chosen, "kind").items() if kind in _OVER_RANK]
    titles = [f"{layer}, {kind}" for kind, _ in kinds]
    figure, panels = plots.axes(["rank"] * len(kinds), "error (%)", titles)
    for panel, (_, of_kind) in zip(panels, kinds, strict=True):
        _curve(panel, of_kind, "ranks", "plain_held_out", 1, "kernel alone, held out", dashed=True)
        _curve(panel, of_kind, "ranks", "aware_held_out", 0, "data-aware, held out")
        _curve(panel, of_kind, "ranks", "aware_seen", 2, "data-aware, predicted")
        panel.axvline(of_kind[0]["bound"], color="#888888", linestyle=":", label="saves up to here")
    panels[0].legend()
    return plots.save(figure, folder, f"svd-{network}-rank", f"Error over the rank of {layer}, and where it saves")


def _curve(panel: Any, rows: list[dict], x: str, y: str, place: int, label: str | None, dashed: bool = False) -> None:
    """The mean over seeds of one error in percent; ranks and MACs are the same in all of them."""
    places = rows[0][x]
    means = [Spread(tuple(100 * max(row[y][at], 1e-10) for row in rows)).mean for at in range(len(places))]
    look = {"color": plots.PALETTE[place], "marker": plots.MARKERS[place], "linestyle": "--" if dashed else "-"}
    panel.plot(places, means, label=label, fillstyle="none" if dashed else "full", **look)
    panel.set(xscale="log", yscale="log")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")


# ---- whole networks


def _networks(rows: list[dict], folder: Path) -> list[str]:
    rows = [{**row, "ratio": row["original_macs"] / row["macs"]} for row in rows]
    first = rows[0]
    parts = [
        "## Whole networks",
        f"Every kind but `cp` may be used; {first['calibration']} calibration images, {first['test']:,} test images; "
        f"mean ± standard deviation over {len({row['seed'] for row in rows})} seeds (the sample of images, the "
        "order of training; of the classifier also its own training). *Uniform*: every layer keeps the same share of "
        "its MACs (`layer_macs`), so that the network keeps that share but for the layers that no rank makes so cheap "
        "and what rounding down gives away. *Asymmetric*: each layer fitted to what it gave, from what those before "
        "it give now. *Optimal*: kinds and ranks of all layers at once within the network's MACs (`macs`), the least "
        "sum of the layers' losses; *measured*: of what those do to the network's outputs (`scope='measured'`). "
        f"Fine-tuned: {first['steps']} steps of 128 images towards the original's outputs (SGD at 0.003, momentum 0.9, "
        "weight decay 5e-4, cosine to 0, temperature 4, weight 0.95, moved crops, CIFAR-10 also mirrored), the same "
        f"for all. Speed-up: LiteRT, float32, {first['threads']} thread, original's time / factorized network's time, "
        f"median of {first['timings']} pairs measured in turn, in brackets their 10th to 90th percentile; of seed 0.",
    ]
    for (network,), group in grouped(rows, "network").items():
        parts += [f"### {_NAMES[network]}; the original {spread(group, 'original_accuracy'):.2f} %", _table(group)]
        if len({row["factor"] for row in group}) > 1:
            parts.append(_accuracies(network, group, folder))
    return [*parts, "## Fewer MACs, faster?", _speedups(rows, folder), _no_faster(rows), *_in_words(rows)]


def _table(rows: list[dict]) -> str:
    cells = [
        [
            method,
            f"{factor:g}",
            f"{spread(group, 'ratio'):.2f}",
            f"{spread(group, 'factorized_accuracy'):.2f}",
            f"{spread(group, 'tuned_accuracy'):.2f}",
            f"{spread(group, 'factorized_ms'):.3f}",
            _speedup(group[0]),
            _kinds(group),
        ]
        for (factor, method), group in grouped(rows, "factor", "method").items()
    ]
    columns = ("method", "asked (×)", "fewer MACs (×)", "factorized (%)", "fine-tuned (%)", "latency (ms)")
    return table((*columns, "speed-up (×)", "layers of each kind, seed 0"), cells)


def _speedup(row: dict) -> str:
    return f"{row['speedup']:.2f} ({row['speedup_p10']:.2f} to {row['speedup_p90']:.2f})"


def _kinds(group: list[dict]) -> str:
    kinds = Counter(group[0]["kinds"])
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "none"


def _accuracies(network: str, rows: list[dict], folder: Path) -> str:
    titles = ["as factorized", "after a short fine-tuning"]
    figure, panels = plots.axes(["times fewer MACs"] * 2, "accuracy on test images (%)", titles)
    for panel, figure_name in zip(panels, ("factorized_accuracy", "tuned_accuracy"), strict=True):
        for (method,), group in grouped(rows, "method").items():
            _points(panel, group, figure_name, method)
        panel.axhline(spread(rows, "original_accuracy").mean, color="#000000", linewidth=1, linestyle=":")
    panels[-1].legend(loc="lower left")
    return plots.save(figure, folder, f"svd-{network}-accuracy", "Accuracy over MACs; dotted: the original")


def _points(panel: Any, rows: list[dict], y: str, label: str) -> None:
    """Means with whiskers over the MACs that the networks really have, which differ a little between methods."""
    groups = [group for _, group in sorted(grouped(rows, "factor").items())]
    means, ratios = [spread(group, y) for group in groups], [spread(group, "ratio").mean for group in groups]
    panel.errorbar(ratios, [s.mean for s in means], [s.deviation for s in means], capsize=3, label=label)


def _speedups(rows: list[dict], folder: Path) -> str:
    figure, panel = plots.axes("times fewer MACs", "times faster in LiteRT, one thread")
    for (network,), group in grouped(rows, "network").items():
        points = [
            (spread(g, "ratio").mean, spread(g, "speedup").mean) for g in grouped(group, "factor", "method").values()
        ]
        panel.plot(*zip(*points, strict=True), linestyle="none", label=_NAMES[network])
    high = max(row["ratio"] for row in rows)
    panel.plot([1, high], [1, high], color="#888888", linestyle=":", marker="", label="as many times as fewer MACs")
    panel.axhline(1, color="#000000", linewidth=1)
    panel.legend()
    return plots.save(figure, folder, "svd-latency", "Speed-up over the MACs saved, a point for each method and budget")


def _no_faster(rows: list[dict]) -> str:
    told = []
    for (network, method, _), group in grouped(rows, "network", "method", "factor").items():
        if spread(group, "speedup").mean < _FASTER:
            ratio, speedup = spread(group, "ratio").mean, spread(group, "speedup").mean
            told.append(f"{network}, {method}: {formats.digits(ratio)} × fewer MACs, {speedup:.2f} × as fast")
    if not told:
        return f"All of them are faster by more than {_FASTER - 1:.0%}."
    return "Fewer MACs, yet not faster by more than " + f"{_FASTER - 1:.0%}: " + "; ".join(told) + "."


def _in_words(rows: list[dict]) -> list[str]:
    """What each step of the method is worth at 2 × fewer MACs, in points of accuracy without fine-tuning."""
    parts = []
    for (network,), group in grouped([row for row in rows if row["factor"] == 2], "network").items():
        lost = {
            method: f"{Spread(tuple(r['original_accuracy'] - r['factorized_accuracy'] for r in of_method)):.1f}"
            for (method,), of_method in grouped(group, "method").items()
        }
        told = "; ".join(f"{method} {points}" for method, points in lost.items())
        parts.append(f"Points of accuracy lost by {network} at half the MACs, before fine-tuning: {told}.")
    return [*parts, *_tuned_for_the_worse(rows)]


def _tuned_for_the_worse(rows: list[dict]) -> list[str]:
    """Where so short a fine-tuning took accuracy away."""
    groups = grouped(rows, "network", "method", "factor").values()
    worse = [g for g in groups if spread(g, "tuned_accuracy").mean < spread(g, "factorized_accuracy").mean - 0.05]
    if not worse:
        return []
    methods = dict.fromkeys(group[0]["method"] for group in worse)
    return [
        f"So short a fine-tuning helps what lost much and takes accuracy away from what lost little ({len(worse)} of "
        f"{len(groups)} rows: {', '.join(methods)}). One reason may be that each batch normalizes by its own "
        "statistics, which are not those that the factors were fitted under. Tune such networks longer, or not at all."
    ]
