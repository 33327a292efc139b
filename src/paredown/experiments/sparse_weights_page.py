"""The page of `sparse_weights`: curves over the density, and where they cross 1."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from paredown.experiments import plots
from paredown.experiments.markdown import table
from paredown.experiments.rows import Spread, grouped, spread

#: Positions along each side that convolutions are measured at.
SIDE = 14
#: Density from which on TensorFlow's documentation advises dense matrices.
TENSORFLOW_BOUND = 0.15
#: Densities that are written below the figures.
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
#: Speed-up at the least density below which a curve counts as no gain: as much as two equal files were seen to differ.
GAIN = 1.05


def page(rows: list[dict], folder: Path) -> str:
    parts = {part: of_part for (part,), of_part in grouped(rows, "part").items()}
    return "\n\n".join(
        [
            "A density is the share of weights that are not zero. A speed-up is dense time / sparse time of pairs "
            "measured in turn (the median over a run's pairs), above 1 where sparse is faster; mean ± standard "
            "deviation over seeds, which draw the weights and their places. A crossing is the density below which "
            f"sparse is faster by {GAIN - 1:.0%} at every density measured, between two measured ones along a straight "
            "line in both logarithms; a curve that gains less even at its least density has none.",
            _tensorflow(parts["tensorflow"], folder),
            _litert(parts["litert"], folder),
            _accuracy(parts["accuracy"], folder),
        ]
    )


def crossing(points: Iterable[tuple[float, float]]) -> float | None:
    """The density below which the speed-up stays above `GAIN`: less is the noise of measuring.

    Args:
        points: Pairs of density and speed-up.
    Returns:
        The density at which the speed-up falls to `GAIN`, interpolated; the largest density measured where it never
        does; None where it is less at the least density measured already.
    """
    ordered = sorted(points)
    if ordered[0][1] <= GAIN:
        return None
    for (d0, s0), (d1, s1) in pairwise(ordered):
        if s1 <= GAIN:
            share = math.log(s0 / GAIN) / math.log(s0 / s1)
            return math.exp(math.log(d0) + share * (math.log(d1) - math.log(d0)))
    return ordered[-1][0]


def crossing_in_words(rows: list[dict]) -> str:
    """Over the seeds of a curve, e.g. `0.143 ± 0.010`."""
    found = [
        crossing([(row["density"], row["speedup"]) for row in of_seed]) for of_seed in grouped(rows, "seed").values()
    ]
    missing, least = found.count(None), min(row["density"] for row in rows)
    if missing == len(found):
        return f"no gain down to {least:g}"
    text = f"{Spread(tuple(d for d in found if d is not None)):.3f}"
    return text if not missing else f"{text} ({missing} of {len(found)} seeds: no gain down to {least:g})"


def _tensorflow(rows: list[dict], folder: Path) -> str:
    points = [{**row, **point} for row in rows for point in row["points"]]
    for point in points:
        point["columns"] = int(point["columns"])
    sizes = sorted({point["size"] for point in points})
    labels = ["density (share of weights that are not zero)"] * len(sizes)
    figure, panels = plots.axes(labels, "speed-up over tf.matmul", [f"{size} x {size} weights" for size in sizes])
    for panel, size in zip(panels, sizes, strict=True):
        plots.lines(panel, [p for p in points if p["size"] == size], "density", "speedup", by="columns")
        _logarithmic(panel)
        panel.axvline(TENSORFLOW_BOUND, color="#888888", linestyle=":")
    curves = grouped(points, "size", "columns")
    cells = [
        (f"{size} x {size}", columns, *_speedups(curve, (0.5, 0.15, 0.1, 0.05, 0.02)), crossing_in_words(curve))
        for (size, columns), curve in curves.items()
    ]
    shown = [d for d in (0.5, 0.15, 0.1, 0.05, 0.02) if any(p["density"] == d for p in points)]
    worst = max(point["difference"] for point in points)
    columns = ["weights", "columns of the product", *(f"speed-up at {d:g}" for d in shown), "crossing (density)"]
    return "\n\n".join(
        [
            "## `tf.sparse.sparse_dense_matmul` against `tf.matmul`",
            f"The weights are the sparse matrix. One thread. Both products are the same to {worst:.0e} of the largest "
            "number. TensorFlow's documentation, as the thesis quotes it, asks whether the matrix fits in memory when "
            "dense (the weights of a trained network do), whether the product has many columns, and whether the "
            f"density is above about {TENSORFLOW_BOUND:.0%} (the dotted line).",
            table(columns, cells, left=1),
            plots.save(figure, folder, "sparse-weights-tensorflow", "Speed-up of sparse_dense_matmul over the density"),
            _answer(curves, lambda key: f"{key[0]} x {key[0]} with {key[1]} column{'' if key[1] == 1 else 's'}"),
        ]
    )


def _answer(curves: dict[tuple, list[dict]], name: Callable[[tuple], str]) -> str:
    """Every curve's crossing in one sentence."""
    told = [f"{name(key)}: {crossing_in_words(curve)}" for key, curve in curves.items()]
    return f"Sparse is faster below a density of: {'; '.join(told)}."


def _litert(rows: list[dict], folder: Path) -> str:
    curves = grouped(rows, "layer", "size", "pattern")
    figure, panel = plots.axes("density (share of weights that are not zero)", "speed-up over the file stored in full")
    named = [{**row, "file": _name((row["layer"], row["size"], row["pattern"]))} for row in rows]
    plots.lines(panel, named, "density", "speedup", by="file")
    _logarithmic(panel)
    sized, side = plots.axes("density (share of weights that are not zero)", "size of the file (% of the full one)")
    for row in named:
        row["size_percent"] = 100 * row["sparse_bytes"] / row["dense_bytes"]
    plots.lines(side, named, "density", "size_percent", by="file")
    _over_density(side)
    chosen = [d for d in (0.5, 0.2, 0.1, 0.05) if any(row["density"] == d for row in rows)]
    cells = [
        (
            _name(key),
            *_speedups(curve, chosen),
            f"{spread([r for r in curve if r['density'] == min(chosen)], 'dense_ms'):.3f}",
            crossing_in_words(curve),
        )
        for key, curve in curves.items()
    ]
    worst = max(row["difference"] for row in rows)
    columns = ["layer", *(f"speed-up at {d:g}" for d in chosen), "stored in full (ms)", "crossing (density)"]
    return "\n\n".join(
        [
            "## LiteRT: files with sparse storage",
            "The same pruned weights, exported in full and with `export_litert(..., sparse=True)`; float32, batch 1, "
            f"one thread, convolutions at {SIDE} x {SIDE} positions. The outputs of both files differ by {worst:.0e} "
            "of their range at most, over all cases. Fully-connected layers in blocks of 4 along the input have a "
            "sparse kernel of their own; unstructured ones are filled up when the file is loaded and gain nothing "
            "but the smaller file, until so few weights are left that the converter stores them in blocks, too (at "
            "0.02 the file is larger than at 0.05, and fast). For 1x1 convolutions XNNPACK has a sparse path that it "
            "leaves off on x86 "
            "with AVX (it is on in WebAssembly and on Arm64, for whole clusters of such layers): no gain is to be "
            "expected on such a machine, and these curves say nothing about a phone. Sparse storage together with "
            "quantization is refused by `export_litert`: such files of LiteRT's own converter do not load, or compute "
            "wrong numbers without a word.",
            table(columns, cells, left=1),
            plots.save(figure, folder, "sparse-weights-litert", "Speed-up of sparse .tflite files over the density"),
            _answer(curves, _name),
            plots.save(sized, folder, "sparse-weights-size", "Size of sparse .tflite files over the density"),
        ]
    )


def _name(key: tuple) -> str:
    layer, size, pattern = key
    return f"{layer} {size}, {pattern}"


def _accuracy(rows: list[dict], folder: Path) -> str:
    labels = ["density (share of weights that are not zero)"] * 2
    figure, panels = plots.axes(labels, "accuracy (%)", ["without training after it", "after a short training"])
    for panel, name in zip(panels, ("pruned_percent", "tuned_percent"), strict=True):
        plots.lines(panel, [row for row in rows if "n:m" not in row["variant"]], "density", name, by="variant")
        _over_density(panel)
    panels[1].get_legend().remove()
    cells = [
        (variant, f"{density:g}", f"{spread(group, 'pruned_percent'):.1f}", f"{spread(group, 'tuned_percent'):.1f}")
        for (variant, density), group in grouped(rows, "variant", "density").items()
    ]
    original = {row["seed"]: row for row in rows}.values()
    best = _best(rows)
    return "\n\n".join(
        [
            "## What the zeros cost",
            "A small classifier of scikit-learn's digits (two convolutions, two dense layers), "
            f"{spread(original, 'original_percent'):.1f} % before. Accuracy on the 360 validation images, with the "
            f"zeros put in at once, then after a short training that keeps them ({rows[0]['tuning_epochs']} x 1437 "
            "images, `FineTune(keep_zeros=True)`). Patterns leave out the first convolution, which reads one channel. "
            "In n:m, n of m neighbours along the input axis stay (table only).",
            table(["method", "density", "pruned (%)", "tuned (%)"], cells, left=1),
            plots.save(figure, folder, "sparse-weights-accuracy", "Accuracy over the density, by method"),
            best,
        ]
    )


def _best(rows: list[dict]) -> str:
    """Which method is ahead at the least density, before and after training."""
    least = min(row["density"] for row in rows)
    here = grouped([row for row in rows if row["density"] == least], "variant")

    def ahead(name: str) -> str:
        (variant,) = max(here, key=lambda key: spread(here[key], name).mean)
        return f"{variant} ({spread(here[(variant,)], name):.1f} %)"

    return (
        f"At a density of {least:g} the best without training is {ahead('pruned_percent')}, after it "
        f"{ahead('tuned_percent')}."
    )


def _speedups(curve: list[dict], densities: Sequence[float]) -> list[str]:
    by_density = {d: group for (d,), group in grouped(curve, "density").items()}
    return [f"{spread(by_density[d], 'speedup'):.2f}" for d in densities if d in by_density]


def _logarithmic(panel: Any) -> None:
    _over_density(panel)
    panel.set(yscale="log")
    panel.axhline(1, color="#000000", linewidth=1)


def _over_density(panel: Any) -> None:
    panel.set(xscale="log")
    low, high = panel.dataLim.intervalx
    shown = [density for density in TICKS if low / 1.5 <= density <= high * 1.5]
    panel.set_xticks(shown, [f"{density:g}" for density in shown])
    panel.set_xticks([], minor=True)
