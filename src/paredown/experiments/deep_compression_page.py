"""The page of `deep_compression`: accuracy and the three sizes at every stage."""

from pathlib import Path

from paredown.experiments import plots
from paredown.experiments.markdown import table
from paredown.experiments.rows import Spread, grouped, spread, summarized
from paredown.report import formats

#: Kilobytes (1000 bytes) that Deep Compression reports: before, and after; and its error before and after, %.
_PAPER = {"LeNet-300-100": (1070, 27, 1.64, 1.58), "LeNet-5": (1720, 44, 0.80, 0.74)}
_FIGURES = ("accuracy_percent", "left_percent", "file_bytes", "zipped_bytes", "container_bytes", "ratio")


def page(rows: list[dict], folder: Path) -> str:
    trained = [row for row in rows if row["part"] == "lenet"]
    published = [row for row in rows if row["part"] == "squeezenet"]
    return "\n\n".join([*_lenets(trained, folder), *_squeezenet(published)])


def _stages(row: dict) -> list[dict]:
    """One row for each stage, with how many times smaller than the first stage's file its container is."""
    first = row["stages"][0]["file_bytes"]
    return [{**row, **stage, "ratio": first / stage["container_bytes"]} for stage in row["stages"]]


def _lenets(rows: list[dict], folder: Path) -> list[str]:
    row = rows[0]
    sections = [
        "Weights are set to zero by their magnitude over all layers, in four steps with training in between; then each "
        "kernel gets a codebook (exact k-means, weighted by what its inputs are) and the shared values are trained on. "
        "Three sizes, none of them another: the `.tflite` file that LiteRT loads, float32 throughout; the same file "
        "zipped (deflate, as an app's package is); and the container of `paredown pack`, which gives that file back "
        "byte for byte. Memory while running is that of the float32 network at every stage. Accuracy is that of the "
        "file out of the container, run in LiteRT.",
        f"MNIST: {row['train']:,} training images of the 60,000, drawn by the seed (for time), {row['epochs']} epochs "
        "from 0.001 (Adam, batches of 64, half a cosine), as many as each section says after the steps of pruning, "
        f"from 0.001 again, and with shared values from 0.0001; {row['test']:,} test images; mean ± standard deviation "
        "over the seeds.",
    ]
    flat = [stage for row in rows for stage in _stages(row)]
    for (name,), group in grouped(flat, "network").items():
        sections += [f"## {name}", _effort(group[0]), _table(group, "stage"), _against(name, group)]
    figure, axes = plots.axes("container, times smaller than the float32 file", "accuracy on test images (%)")
    plots.lines(
        axes, [{**row, "ratio": round(row["ratio"], 1)} for row in _means(flat)], "ratio", "accuracy_percent", "network"
    )
    sections.append(plots.save(figure, folder, "deep-compression-stages", "Accuracy over times smaller, by stage"))
    return sections


def _effort(row: dict) -> str:
    each, last = row["tuning_epochs"], row["last_epochs"]
    return (
        f"Indices of {row['bits']} bits; epochs after each step of pruning: {each}, after the last one: {last}, with "
        f"shared values: {each}."
    )


def _means(rows: list[dict]) -> list[dict]:
    """A stage's point on the picture: means over the seeds."""
    return [
        {"network": row["network"], "ratio": row["ratio"].mean, "accuracy_percent": row["accuracy_percent"].mean}
        for row in summarized(rows, ("network", "stage"), ("ratio", "accuracy_percent"))
    ]


def _table(rows: list[dict], label: str) -> str:
    columns = (label, "weights left (%)", "accuracy (%)", "file", "zipped", "container", "times smaller")
    cells = [
        (
            row[label],
            f"{row['left_percent']:.1f}",
            f"{row['accuracy_percent']:.2f}",
            *(_size(row[name]) for name in ("file_bytes", "zipped_bytes", "container_bytes")),
            f"{row['ratio']:.1f}",
        )
        for row in summarized(rows, (label,), _FIGURES)
    ]
    return table(columns, cells)


def _size(size: Spread) -> str:
    return formats.size(round(size.mean))


def _against(name: str, rows: list[dict]) -> str:
    before, after, error, error_after = _PAPER[name]
    groups = [group for _, group in grouped(rows, "stage").items()]
    lost = spread(groups[-1], "accuracy_percent").mean - spread(groups[0], "accuracy_percent").mean
    return (
        f"{spread(groups[-1], 'ratio'):.1f} times smaller, for {lost:+.2f} points of accuracy. Deep Compression has "
        f"{before:,} → {after} KB, {before / after:.0f} times, and an error of {error:.2f} → {error_after:.2f} %."
    ).replace(" -", " \u2212")


def _squeezenet(rows: list[dict]) -> list[str]:
    flat = []
    for row in rows:
        (stage,) = row["stages"]
        label = "as published, 8 bits" if row["bits"] is None else f"{row['bits']} bits"
        flat.append({**row, **stage, "indices": label, "ratio": stage["file_bytes"] / stage["container_bytes"]})
    theirs = rows[0]["their_bytes"]
    return [
        "## SqueezeNet",
        "The network that Deep Compression's authors published: a third of the weights, 256 values in each layer. Its "
        f"weights before compression are not at hand, so there is no first stage. Their file has {theirs:,} bytes: "
        "one byte for the value of each weight, and half a byte for the zeros before it. Below, the same network as a "
        "`.tflite` file in our container, and with fewer values, by exact k-means on the weights alone, untrained. "
        f"Accuracy is on {rows[0]['test']} photographs of ten of ImageNet's classes, all 1000 classes scored: one "
        f"standard error is about {_standard_error(flat[0]):.1f} points.",
        _table(flat, "indices"),
    ]


def _standard_error(row: dict) -> float:
    share = row["accuracy_percent"] / 100
    return 100 * (share * (1 - share) / row["test"]) ** 0.5
