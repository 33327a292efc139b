"""The page of the experiment `structures`."""

from pathlib import Path
from typing import Any

from paredown import blocks
from paredown.experiments import plots
from paredown.experiments.markdown import table
from paredown.experiments.rows import grouped, spread, summarized
from paredown.report import formats

_BUDGETS = {"macs": "equal MACs", "params": "equal parameters"}
_FIGURES = ("accuracy_percent", "macs", "params", "latency_ms", "latency_ratio")


def page(rows: list[dict], folder: Path) -> str:
    parts = {name: [row for row in rows if row["part"] == name] for name in ("accuracy", "latency", "depth")}
    points = _joined(parts["accuracy"], parts["latency"])
    sections = [_setting(parts["accuracy"][0], parts["latency"][0])]
    for (data,), group in grouped(points, "data").items():
        sections += _of_data(data, group, folder)
    return "\n\n".join([*sections, *_depth(parts["depth"], folder), *_table_2_3()])


def _joined(accuracy: list[dict], latency: list[dict]) -> list[dict]:
    """One row for each network and seed: its accuracy and, of the same seed's measurement, its latency."""
    measured = {
        (row["data"], row["equal"], row["seed"], point["structure"], point["residual"]): point
        for row in latency
        for point in row["points"]
    }
    budgets = dict.fromkeys(row["equal"] for row in latency)
    # The plain network gives both budgets, but was trained once.
    whole = [
        {**row, "equal": equal}
        for row in accuracy
        for equal in (budgets if row["structure"] == "plain" else (row["equal"],))
    ]
    return [
        {**row, **measured[row["data"], row["equal"], row["seed"], row["structure"], row["residual"]]} for row in whole
    ]


def _setting(trained: dict, timed: dict) -> str:
    return (
        "Networks of one frame: a 3×3 convolution with stride 2, three stages with 1, 2 and 4 times the first one's "
        "channels, the second and third at half the size of the one before, one block each, average pooling, a dense "
        "layer. The block is two 3×3 (*plain*), inception v2, a bottleneck (width a quarter of its output), or two "
        "depthwise separable convolutions. The plain network starts with 16 channels; the others are as wide as its "
        "MACs, or its parameters, allow; both grow alike in such a frame, so that the two budgets give similar widths. "
        "Shortcuts are the identity, padded with zeros (A): a network with residual "
        "connections has the MACs and parameters of the one without.\n\n"
        f"Training is short: {trained['train']:,} images, the few epochs that each heading names, batches of 64, Adam "
        "at 0.002 falling to 0 along half a cosine, no augmentation, BatchNormalization's statistics taken anew at the "
        "end, the same for all; so the figures say what is learned soon, not what could be learned in the end. "
        f"Accuracy is on {trained['test']:,} test images, ± over seeds of initial weights and order. "
        "Latency is LiteRT's, float32, one thread, all networks of a budget in turn; *× plain* is the median over "
        f"{timed['runs']} turns of the time over that of the plain network without residual connections in the same "
        "turn, ± over the seeds' measurements."
    )


def _of_data(data: str, rows: list[dict], folder: Path) -> list[str]:
    sections = [f"## {data}, {_epochs(rows[0])}"]
    for (equal,), group in grouped(rows, "equal").items():
        sections += [f"### {_BUDGETS[equal][0].upper()}{_BUDGETS[equal][1:]}", _table(group), _in_words(group)]
        sections.append(_figure(data, equal, group, folder))
    return sections


def _epochs(row: dict) -> str:
    return f"{row['epochs']} epoch{'' if row['epochs'] == 1 else 's'}"


def _table(rows: list[dict]) -> str:
    rows = [{**row, "stages": " · ".join(map(str, row["widths"]))} for row in rows]
    cells = [
        (
            row["structure"],
            "yes" if row["residual"] else "no",
            row["stages"],
            f"{row['macs']:,.0f}",
            f"{row['params']:,.0f}",
            f"{row['accuracy_percent']:.2f}",
            f"{row['latency_ms']:.3f}",
            f"{row['latency_ratio']:.2f}",
        )
        for row in summarized(rows, ("structure", "residual", "stages"), _FIGURES)
    ]
    columns = ("structure", "residual", "channels", "MACs", "parameters", "accuracy (%)", "latency (ms)", "× plain")
    return table(columns, cells, left=3)


def _in_words(rows: list[dict]) -> str:
    means = summarized(rows, ("structure", "residual"), ("accuracy_percent", "latency_ratio"))
    named = {_named(row["structure"], row["residual"]): row for row in means}
    best = max(named, key=lambda name: named[name]["accuracy_percent"].mean)
    slowest = max(named, key=lambda name: named[name]["latency_ratio"].mean)
    gains = [
        with_it["accuracy_percent"].mean - without["accuracy_percent"].mean
        for with_it in means
        for without in means
        if with_it["residual"] and not without["residual"] and with_it["structure"] == without["structure"]
    ]
    said = (
        f"Most accurate: {best}, {named[best]['accuracy_percent']:.2f} %, at {named[best]['latency_ratio']:.2f} × the "
        f"plain network's time. Slowest: {slowest}, {named[slowest]['latency_ratio']:.2f} ×."
    )
    if gains:
        low, high = (f"{gain:+.2f}".replace("-", formats.MINUS) for gain in (min(gains), max(gains)))
        said += f" Residual connections change the accuracy by {low} to {high} points, by structure."
    return said


def _named(structure: str, residual: bool) -> str:
    return f"{structure}{', residual' if residual else ''}"


def _figure(data: str, equal: str, rows: list[dict], folder: Path) -> str:
    """Latency over MACs, which says whether equal MACs take equal time, and accuracy over latency."""
    accuracy, latency = "accuracy on test images (%)", "latency / plain network's"
    figure, panels = plots.axes(["multiply-adds (millions)", latency], [latency, accuracy], [data, data])
    rows = [{**row, "macs_millions": row["macs"] / 1e6} for row in rows]
    _scatter(panels[0], rows, "macs_millions", "latency_ratio")
    _scatter(panels[1], rows, "latency_ratio", "accuracy_percent")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside right center")
    shows = f"Latency over MACs and accuracy over latency on {data}, structures at {_BUDGETS[equal]}"
    return plots.save(figure, folder, f"structures-{data}-{equal}", shows)


def _scatter(panel: Any, rows: list[dict], x: str, y: str) -> None:
    """A marker for each structure, filled with residual connections; whiskers are standard deviations."""
    for place, ((structure,), group) in enumerate(grouped(rows, "structure").items()):
        for (residual,), points in grouped(group, "residual").items():
            across, up = spread(points, x), spread(points, y)
            panel.errorbar(
                across.mean,
                up.mean,
                up.deviation,
                across.deviation,
                marker=plots.MARKERS[place],
                color=plots.PALETTE[place],
                markerfacecolor=plots.PALETTE[place] if residual else "white",
                markersize=8,
                linestyle="",
                label=_named(structure, residual),
            )


def _depth(rows: list[dict], folder: Path) -> list[str]:
    rows = [{**row, "network": "residual" if row["residual"] else "plain"} for row in rows]
    figure, panels = plots.axes(
        ["layers with weights"] * 2, ["accuracy on test images (%)", "training loss (cross-entropy)"]
    )
    for panel, y in zip(panels, ("accuracy_percent", "loss"), strict=True):
        plots.lines(panel, rows, "layers", y, "network")
    found = summarized(rows, ("layers", "network"), ("macs", "accuracy_percent", "loss"))
    cells = [
        (row["layers"], row["network"], f"{row['macs']:,.0f}", f"{row['accuracy_percent']:.2f}", f"{row['loss']:.3f}")
        for row in found
    ]
    lengths = sorted({row["layers"] for row in found})
    shallow, deep = (
        {row["network"]: row["loss"] for row in found if row["layers"] == layers}
        for layers in (lengths[0], lengths[-1])
    )
    rises = "; ".join(f"{name}: {shallow[name]:.3f} to {deep[name]:.3f}" for name in shallow if name in deep)
    return [
        "## Depth",
        f"Blocks of two 3×3 convolutions on {rows[0]['data']}, {rows[0]['widths'][0]} channels in the first stage and "
        "more and more blocks in each, with the identity around every block and without. Trained as above, "
        f"{_epochs(rows[0])}. "
        "Where the training loss rises with depth it is learning that fails, not generalization. From "
        f"{lengths[0]} to {lengths[-1]} layers it goes, {rises}.",
        table(("layers", "network", "MACs", "accuracy (%)", "training loss"), cells, left=2),
        plots.save(figure, folder, "structures-depth", "Accuracy and training loss over the number of layers"),
    ]


def _table_2_3() -> list[str]:
    networks = {
        "34 layers, two 3×3": (34, {}),
        "34 layers, shortcuts without weights (A)": (34, {"shortcut": "A"}),
        "50 layers, bottlenecks": (50, {}),
        "50 layers, stride in the 3×3": (50, {"strides_at": "3x3"}),
    }
    cells = []
    for name, (depth, settings) in networks.items():
        cost = blocks.resnet_cost(depth, **settings)
        cells.append((name, *(f"{figure:.2f}" for figure in (cost.macs / 1e9, cost.kernels / 1e6, cost.params / 1e6))))
    return [
        "## The thesis's Table 2.3, corrected",
        "34 layers against 50 on ImageNet, 224 × 224. The table in the thesis repeats every stage's block three times; "
        "the networks that it costs have 3, 4, 6 and 3 of them. What it calls FLOPs are multiply-adds. Counted "
        "by `paredown.blocks.resnet_cost`, which a test holds against the profile of the networks built of the blocks:",
        table(("network", "MACs (10⁹)", "kernel weights (10⁶)", "all weights (10⁶)"), cells),
        "The fifty layers have no *small increase in parameters*: 17 % more, for 5 % more MACs. A bottleneck of inner "
        "width w takes 17w² multiply-adds a position where two 3×3 of its outer width 4w would take 288w². The "
        "thesis's errors are the paper's, of two ways of testing, and stand in one column; they were not measured "
        "here. For one crop the authors give 24.7 % (top 1) and 7.8 % (top 5) for the 50 layers.",
    ]
