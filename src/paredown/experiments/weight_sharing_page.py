"""The page of `weight_sharing`: accuracy over k, three sizes, and time."""

from pathlib import Path

from paredown.experiments import plots
from paredown.experiments.markdown import table
from paredown.experiments.rows import Spread, grouped, spread, summarized
from paredown.report import formats

_ACCURACIES = ("alone_percent", "weighted_percent", "tuned_percent")
_SIZES = ("file_bytes", "zipped_bytes", "running_bytes")
_FORMS = ("ship", "run")


def page(rows: list[dict], folder: Path) -> str:
    shared = [row for row in rows if row["k"] is not None]
    sections = [_setting(rows[0]), _figure(shared, folder)]
    for (name,), group in grouped(rows, "network").items():
        sections += [f"## {name}", _about(group), _accuracies(group), _sizes(group)]
    return "\n\n".join(sections)


def _setting(row: dict) -> str:
    return (
        "Each kernel gets k different values by exact k-means (`ShareWeights`): *kernel alone*; *weighted*, each "
        f"weight by the mean square of what it is multiplied with on {row['calibration']} images; *trained on*, the "
        "weighted one after a pass of `FineTune(keep_shared=True)` at a learning rate of 0.0001. int8 and int4 are "
        "LiteRT's formats (int4 for dense layers alone), calibrated on the same images. Means ± standard deviations "
        "over seeds where there are several.\n\n"
        "Sizes are three, none of them another: the file that LiteRT loads; the same file zipped; and memory, the "
        "resident bytes at the peak of a process that loads and runs it. *Ship* is the smallest file, *run* the fast "
        "one ([both](../packing.md)); the container of `paredown pack` is for the way to the phone, where the plain "
        "float32 file comes out of it. Time is LiteRT's here, one thread, as a multiple of the plain float32 file's, "
        "in turns."
    )


def _about(rows: list[dict]) -> str:
    row = rows[0]
    trained = (
        f"Trained here on {row['train']:,} images in {row['epochs']} epochs"
        if len({row["seed"] for row in rows}) > 1
        else f"Given; trained on with {row['train']:,} images"
        if row["tuning_epochs"]
        else "Given; not trained on"
    )
    return f"{trained}; {row['test']:,} test images; the plain network: {spread(rows, 'plain_percent'):.2f} %."


def _figure(rows: list[dict], folder: Path) -> str:
    figure, axes = plots.axes("different values per kernel, k", "accuracy lost, trained on or weighted (points)")
    axes.set_xscale("log", base=2)
    lost = []
    for row in rows:
        best = row["weighted_percent"] if row["tuned_percent"] is None else row["tuned_percent"]
        lost.append({**row, "lost": row["plain_percent"] - best})
    plots.lines(axes, lost, "k", "lost", "network")
    return plots.save(figure, folder, "weight-sharing-accuracy", "Accuracy lost over the number of values per kernel")


def _label(row: dict) -> str:
    return f"k = {row['k']}" if row["k"] is not None else row["format"]


def _accuracies(rows: list[dict]) -> str:
    labelled = [{**row, "label": _label(row)} for row in rows]
    columns = ("", "kernel alone (%)", "weighted (%)", "trained on, or the format (%)")
    cells = [
        (row["label"], *(f"{row[name]:.2f}" if row[name].values else formats.ABSENT for name in _ACCURACIES))
        for row in summarized(labelled, ("label",), _ACCURACIES)
    ]
    return table(columns, cells)


def _sizes(rows: list[dict]) -> str:
    labelled = [{**row, "label": _label(row)} for row in rows]
    names = [f"{form}_{name}" for form in _FORMS for name in (*_SIZES, "time")]
    columns = [
        "",
        *(f"{form}: {what}" for form in _FORMS for what in ("file", "zipped", "memory", "× time")),
        "container",
    ]
    found = summarized(labelled, ("label",), (*names, "container_bytes"))
    cells = [
        (
            row["label"],
            *(_time(row[name]) if name.endswith("time") else _size(row[name]) for name in names),
            _size(row["container_bytes"]),
        )
        for row in found
    ]
    plain = [_size(spread(rows, f"plain_{name}")) for name in _SIZES]
    return f"The plain file: {plain[0]}, zipped {plain[1]}, memory {plain[2]}.\n\n" + table(columns, cells)


def _size(size: Spread) -> str:
    return formats.size(round(size.mean)) if size.values else formats.ABSENT


def _time(time: Spread) -> str:
    return f"{time:.2f}" if time.values else formats.ABSENT
