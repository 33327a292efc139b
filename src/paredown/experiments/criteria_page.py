"""The page of the experiment `criteria`."""

from pathlib import Path

from paredown.experiments import plots
from paredown.experiments.markdown import table
from paredown.experiments.rows import grouped, spread, summarized

_FIGURES = ("pruned_accuracy", "tuned_accuracy", "ratio")
#: Drawn; the table has all.
_DRAWN = ("random", "l2_norm", "taylor_2019", "fisher", "thinet", "redundancy", "structured_obs")


def page(rows: list[dict], folder: Path) -> str:
    rows = [{**row, "ratio": row["original_macs"] / row["macs"]} for row in rows]
    sweep = [row for row in rows if row["part"] == "sweep"]
    protocol = [row for row in rows if row["part"] == "protocol"]
    return "\n\n".join([*_protocol(protocol), *_sweep(sweep, folder)])


def _protocol(rows: list[dict]) -> list[str]:
    parts = [
        "## A full epoch",
        "CIFAR-10, accuracy (%) on the test images before and after one epoch of fine-tuning over "
        f"{rows[0]['train']:,} training images (batch 128, SGD at 0.01, momentum 0.9, weight decay 5e-4, cosine to 0, "
        "crop and flip). Every criterion takes the same share of the inner channels of each residual block and hands "
        "on means (`compensate`); *refitted*: with `reconstruct=True`. The first row takes all there is: structured "
        "OBS, `scope='measured'`, `reconstruct=True`, and fine-tuning towards the original's outputs (rate 0.003, "
        "temperature 4, weight 0.95). *From scratch* has its shape and random weights, trained for the same epoch at "
        "0.1. Nothing but those training images was looked at.",
    ]
    for (network, factor), group in grouped(rows, "network", "factor").items():
        found = summarized(group, ("method",), _FIGURES)
        cells = [
            [
                row["method"],
                f"{row['ratio']:.2f}",
                f"{row['pruned_accuracy']:.2f}",
                f"{row['tuned_accuracy']:.2f}",
                row["count"],
            ]
            for row in found
        ]
        before = spread(group, "original_accuracy")
        columns = ("method", "times fewer MACs", "pruned (%)", "fine-tuned (%)", "seeds")
        parts += [f"### {network}, {factor} × fewer MACs; the original {before:.2f} %", table(columns, cells)]
    return parts


def _sweep(rows: list[dict], folder: Path) -> list[str]:
    factors = list(dict.fromkeys(row["factor"] for row in rows))
    tuned_at = next(row["factor"] for row in rows if row["tuned_accuracy"] is not None)
    first = rows[0]
    parts = [
        "## Every criterion, five budgets",
        f"ResNet-20, refitted (`reconstruct=True` on {first['examples']} images), no fine-tuning: accuracy (%) on "
        f"{first['test']:,} test images, mean ± standard deviation over {len({row['seed'] for row in rows})} seeds "
        "(the sample that is looked at, random scores, the order of training). The same share of the inner channels of "
        f"each block. *Tuned* at {tuned_at} ×: after {first['steps']} steps of 128 images towards the original's "
        "outputs, as in the first row above. "
        f"The original scores {spread(rows, 'original_accuracy'):.1f} on these images.",
    ]
    figure, panel = plots.axes("times fewer MACs", "accuracy on test images (%)")
    drawn = [{**row, "criterion": row["method"]} for row in rows if row["method"] in _DRAWN]
    plots.lines(panel, drawn, "factor", "pruned_accuracy", "criterion")
    parts.append(plots.save(figure, folder, "criteria-accuracy", "Accuracy over the MAC budget for seven criteria"))
    cells = [
        [
            method,
            *(f"{spread((r for r in group if r['factor'] == f), 'pruned_accuracy'):.1f}" for f in factors),
            f"{spread(group, 'tuned_accuracy'):.1f}",
        ]
        for (method,), group in grouped(rows, "method").items()
    ]
    columns = ("criterion", *(f"{factor} ×" for factor in factors), f"tuned, {tuned_at} ×")
    return [*parts, table(columns, cells)]
