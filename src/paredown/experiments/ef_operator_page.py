"""The page of `ef_operator`: accuracy, what is counted, and time."""

from pathlib import Path

from paredown.experiments import plots
from paredown.experiments.markdown import table
from paredown.experiments.rows import grouped, spread, summarized
from paredown.report import formats

_FIGURES = ("before_percent", "accuracy_percent", "latency_ms", "latency_ratio", "file_bytes")
_COUNTS = ("macs", "additions", "sign_changes", "params")


def page(rows: list[dict], folder: Path) -> str:
    networks = [name for (name,) in grouped(rows, "network")]
    figure, panels = plots.axes([""] * len(networks), "accuracy on test images (%)", networks)
    sections = []
    for panel, ((name,), group) in zip(panels, grouped(rows, "network").items(), strict=True):
        short = [
            {**row, "short": row["way"].replace(", ", ",\n").replace(" for a trained", " for\na trained\n")}
            for row in group
        ]
        plots.bars(panel, short, "short", "accuracy_percent")
        # What differs stands at the top of the range.
        panel.set_ylim(max(0.0, min(row["accuracy_percent"] for row in group) - 2), 100)
        sections += [f"## {name}", _table(group), _in_words(group)]
    picture = plots.save(figure, folder, "ef-operator-accuracy", "Accuracy of sums and of products, for each network")
    return "\n\n".join([_setting(rows[0]), picture, *sections])


def _setting(row: dict) -> str:
    return (
        "The ef-operator puts sign(w)·x + sign(x)·w in the place of each product w·x ([how](../additive.md)). Every "
        "layer with a kernel is one of sums, the last one, too; *scaled* with a trainable factor for each output "
        "behind the sum, *no scale* without any multiplication. *For a trained network*: the ordinary network's "
        f"layers are replaced and fitted on {row['calibration']} training images (`SubstituteAdditive`), then trained "
        f"for {row['tuning_epochs']} epochs from 0.0005 on labels and the ordinary network's outputs.\n\n"
        f"MNIST: {row['train']:,} training images of the 60,000, drawn by the seed (for time), {row['epochs']} epochs, "
        "batches of 64, Adam from 0.001 along half a cosine, the same for all; accuracy on "
        f"{row['test']:,} test images, mean ± standard deviation over the seeds. Counted for one image: multiply-adds, "
        "and apart from them the additions and sign changes that stand for some. Time is LiteRT's, float32, one "
        "thread, in turns with the ordinary network."
    )


def _table(rows: list[dict]) -> str:
    columns = ("", "before tuning (%)", "accuracy (%)", "MACs", "additions", "sign changes", "file", "× its time")
    cells = [
        (
            row["way"],
            f"{row['before_percent']:.2f}" if row["before_percent"].values else formats.ABSENT,
            f"{row['accuracy_percent']:.2f}",
            *(f"{row[name].mean:,.0f}" for name in _COUNTS[:3]),
            formats.size(round(row["file_bytes"].mean)),
            f"{row['latency_ratio']:.2f}",
        )
        for row in summarized(rows, ("way",), (*_FIGURES, *_COUNTS))
    ]
    return table(columns, cells)


def _in_words(rows: list[dict]) -> str:
    of_way = {way: group for (way,), group in grouped(rows, "way").items()}
    accuracy = {way: spread(group, "accuracy_percent") for way, group in of_way.items()}
    (ordinary, plain), *others = accuracy.items()
    lost = "; ".join(f"{way}: {value.mean - plain.mean:+.2f}" for way, value in others).replace("-", "−")
    slow = spread([row for way, group in of_way.items() if way != ordinary for row in group], "latency_ratio")
    return (
        f"Points of accuracy against the {ordinary} network's: {lost}. In LiteRT sums take {slow:.2f} times as long:"
        " there is no kernel for them, so that a layer becomes two ordinary ones. What is saved is counted, not timed."
    )
