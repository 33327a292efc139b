"""The page of the experiment `combine`."""

from pathlib import Path
from typing import Any

from paredown.experiments import plots
from paredown.experiments.combine_sums import (
    FORMS,
    NAMES,
    asked,
    by_chain,
    chain,
    left,
    lost,
    mean,
    methods,
    named,
    sums,
)
from paredown.experiments.combine_words import in_words
from paredown.experiments.markdown import table
from paredown.experiments.rows import Spread, grouped, spread
from paredown.report import formats

#: What a reader must know of a network's figures.
_NOTES = {
    "ResNet-20": (
        "Substitution is left out: depthwise separable is one of the kinds that `Factorize` chooses from. The learning "
        "rate of the tuning is the best of 1e-4, 5e-4 and 1e-3 for pruning and for sharing alone, by these test images "
        "of seed 0: tuned accuracies are a little high for all chains alike."
    ),
    "MobileNetV2": (
        "Substitution is left out: there is no convolution but 1×1 and depthwise ones, save the first. Nothing here "
        "has labels to learn from; half of the photographs are looked at, the other half judged. They are of ten of "
        "the thousand classes that the network tells apart, so that what is refitted on them may come to suit these "
        "classes and end ahead of the original, and tuning towards the original's outputs may take that back: "
        "compare chains with each other, and with the original only with that in mind."
    ),
}


def page(rows: list[dict], folder: Path) -> str:
    sections = [_setting(rows[0])]
    for (network,), group in grouped(rows, "network").items():
        sections += [
            f"## {network}",
            f"{_about(group)} {_NOTES.get(network, '')}".strip(),
            _chains(group),
            _picture(network, group, folder),
            "### Do they add up?",
            _sums(group),
            *_orders(group),
            *in_words(group),
        ]
    return "\n\n".join(sections)


def _setting(row: dict) -> str:
    return (
        "A chain of steps, left to right, each given what the one before it left: *prune* (`PruneChannels`, "
        "`structured_obs`, widths of all layers at once, the rest refitted), *factorize* (`Factorize`, kinds and "
        "ranks of all layers at once, fitted to data), *substitute* (`SubstituteConv`, depthwise separable), *share* "
        "(`ShareWeights`, few values for each kernel, weighted by what it reads). Then one short fine-tuning towards "
        "the original's outputs (Adam, along half a cosine, statistics frozen, shared weights kept shared), the same "
        "number of steps for every chain. The result is written in float32, packed (`pack='run'`) where weights are "
        "shared, and in int8: quantizing is the last step of any chain. Packing is for float32 alone."
        "\n\n"
        "*Asked* is the share of the original's MACs that a chain is to end at, in equal factors from step to step: "
        "two chains of the same *asked* can be compared at equal cost. Each method also runs alone at the share that "
        "it has in a chain of two, so that losses can be added. Accuracies after tuning are those of the files, in "
        f"LiteRT. Time is LiteRT's, one thread, the median over {row['turns']} turns of the file's time over that of "
        "the original's float32 file in the same turn: 0.5 is half. Mean ± standard deviation over the seeds (the "
        "sample of images, the order of training; of the classifier also its own training)."
    )


def _about(rows: list[dict]) -> str:
    row = rows[0]
    epochs, seeds = row["epochs"], len({r["seed"] for r in rows})
    trained = f"Trained here on {row['train']:,} images in {_counted(epochs, 'epoch')}" if epochs else "Given"
    return (
        f"{trained}; the original: {spread(rows, 'original_percent'):.2f} % on {row['test']:,} test images (one image "
        f"is {100 / row['test']:.2g} points), {formats.count(row['original_macs'])} MACs, "
        f"{formats.size(row['original_bytes'])}, {formats.ms(mean(rows, 'original_ms'))}. {row['calibration']} images "
        f"to calibrate with; {row['k']} values for each shared kernel; fine-tuned for {row['tuning_steps']} steps of "
        f"{row['batch']} images from a learning rate of {row['rate']:g}; {_counted(seeds, 'seed')}."
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _chains(rows: list[dict]) -> str:
    columns = ("steps", "asked (% MACs)", "MACs (%)", "layers", "after the steps (%)", "tuned (%)", "tuned, int8 (%)")
    sizes = ("file", "zipped", "int8 file", "int8 zipped")
    cells = [
        (
            chain(group[0]) or "none",
            formats.digits(100 * asked(group[0])),
            f"{Spread(tuple(100 * left(row) for row in group)):.1f}",
            f"{mean(group, 'layers'):.0f}",
            f"{spread(group, 'stepped_percent'):.2f}",
            *(f"{spread(group, f'{form}_percent'):.2f}" for form in FORMS),
            *(
                formats.size(round(mean(group, f"{form}_{size}")))
                for form in FORMS
                for size in ("bytes", "zipped_bytes")
            ),
            *(f"{spread(group, f'{form}_latency_ratio'):.2f}" for form in FORMS),
        )
        for group in by_chain(rows)
    ]
    return table((*columns, *sizes, "time", "int8 time"), cells)


def _picture(network: str, rows: list[dict], folder: Path) -> str:
    """Every file, those named that none beats in both."""
    figure, axes = plots.axes("latency left (of the original's)", "accuracy on test images (%)")
    groups = by_chain(rows)
    points = {
        (named(group[0], form), at, form): _point(group, form) for at, group in enumerate(groups) for form in FORMS
    }
    for number, (label, belongs) in enumerate(_KINDS.items()):
        for form, fill in (("float", "none"), ("int8", "full")):
            shown = [
                place for (_, at, f), place in points.items() if f == form and belongs(len(methods(groups[at][0])))
            ]
            if shown:
                look = {"color": plots.PALETTE[number + 1], "marker": plots.MARKERS[number], "fillstyle": fill}
                axes.plot(*zip(*shown, strict=True), linestyle="none", label=f"{label}, {NAMES[form]}", **look)
    axes.set_xscale("log")
    axes.margins(x=0.2)
    for which in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        which(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else "")
    axes.legend(fontsize=8)
    front = {name: place for (name, _, _), place in points.items() if not _beaten(place, points.values())}
    plots.named_points(axes, front)
    name = f"combine-{''.join(c for c in network.lower() if c.isalnum())}-accuracy"
    shows = f"Accuracy over latency of every file of {network}; named: those that no other beats in both"
    return plots.save(figure, folder, name, shows)


_KINDS: dict[str, Any] = {
    "as it is": lambda count: count == 0,
    "one method": lambda count: count == 1,
    "two": lambda count: count == 2,
    "all": lambda count: count > 2,
}


def _point(group: list[dict], form: str) -> tuple[float, float]:
    return mean(group, f"{form}_latency_ratio"), mean(group, f"{form}_percent")


def _beaten(place: tuple[float, float], others: Any) -> bool:
    return any(x <= place[0] and y >= place[1] and (x, y) != place for x, y in others)


def _sums(rows: list[dict]) -> str:
    cells = [
        (
            one.name,
            one.verdict,
            f"{one.lost:.2f}",
            f"{one.parts_lost:.2f}",
            f"{one.beyond:+.2f} (± {one.noise:.2f})".replace("-", formats.MINUS),
            f"{one.faster:.2f}",
            f"{one.parts_faster:.2f}",
            f"{one.faster.mean / one.parts_faster.mean:.2f}",
        )
        for one in sums(rows)
    ]
    columns = ("chain", "accuracy", "lost (points)", "parts' sum", "beyond it (± standard error)")
    lead = (
        "Lost: points of accuracy after tuning, against the sum of what its parts lose, each alone at the share that "
        "it has here (int8: the original in int8). *Adds up*: within two standard errors, of the seeds and of so "
        "many test images. Speed-ups are held against the product of the parts'; their ratio is 1 where they "
        "multiply."
    )
    return f"{lead}\n\n{table((*columns, 'speed-up (×)', 'product of the parts', 'of it'), cells, left=2)}"


def _orders(rows: list[dict]) -> list[str]:
    """Chains of the same steps in both orders, side by side."""
    pairs = [group for group in by_chain(rows) if len(group[0]["steps"]) == 2]
    cells = []
    for number, group in enumerate(pairs):
        for other in pairs[number + 1 :]:
            same = methods(group[0]) == methods(other[0]) and asked(group[0]) == asked(other[0])
            if same:
                cells += [_order(of, against) for of, against in ((group, other), (other, group))]
    if not cells:
        return []
    columns = ("order", "MACs (%)", "after the steps (%)", "tuned (%)", "tuned, int8 (%)", "ahead (points)")
    lead = "*Ahead*: the tuned float32 file's accuracy over that of the other order, seed by seed."
    return ["### In which order?", f"{lead}\n\n{table((*columns, 'file', 'time', 'int8 time'), cells)}"]


def _order(group: list[dict], other: list[dict]) -> list[str]:
    against = {row["seed"]: row for row in other}
    ahead = Spread(tuple(lost(against[r["seed"]], "float") - lost(r, "float") for r in group if r["seed"] in against))
    return [
        chain(group[0]),
        f"{Spread(tuple(100 * left(row) for row in group)):.1f}",
        f"{spread(group, 'stepped_percent'):.2f}",
        *(f"{spread(group, f'{form}_percent'):.2f}" for form in FORMS),
        f"{ahead:+.2f}",
        formats.size(round(mean(group, "float_bytes"))),
        *(f"{spread(group, f'{form}_latency_ratio'):.2f}" for form in FORMS),
    ]
