"""The page of `one_dimensional`: accuracy, cost and time over P as a share of its bound."""

from pathlib import Path
from typing import Any

from paredown.experiments import plots
from paredown.experiments.markdown import table
from paredown.experiments.rows import grouped, spread, summarized

_SHARE = "channels in between, P (share of the bound)"
#: Accuracy (%) near that of guessing.
_STUCK = 20
_FIGURES = ("before_percent", "after_percent", "lost_percent", "speedup")


def page(rows: list[dict], folder: Path) -> str:
    for row in rows:
        row["lost_percent"] = row["after_percent"] - row["plain_percent"]
        row["macs_percent"] = 100 * row["macs"] / row["plain_macs"]
        row["params_percent"] = 100 * row["params"] / row["plain_params"]
        row["time_percent"] = 100 / row["speedup"]
    return "\n\n".join(
        [_setting(rows), _bounds(rows), _accuracy(rows, folder), _cost(rows, folder), _in_words(rows), _all(rows)]
    )


def _setting(rows: list[dict]) -> str:
    row, seeds = rows[0], len({row["seed"] for row in rows})
    return (
        "The classifier of the thesis's Table 2.2 with each convolution, N × N from K to L channels, as a pair: N × 1 "
        "to P channels, 1 × N to L. That takes N·P·(rK + L) multiply-adds per output position instead of N²KL, r being "
        "the positions in between for each position of the output, and saves where P < NKL / (rK + L). P is the same "
        "share of that bound in every layer, rounded down, at least 1, and at most the kernel's own rank "
        "N·min(K, L).\n\n"
        f"MNIST: {row['train']:,} training images of the 60,000, drawn by the seed (for time), accuracy on "
        f"{row['test']:,} test images; {seeds} seed{'' if seeds == 1 else 's'}, mean ± standard deviation. Trained by "
        "Adam, batches of 128, the rate falling along half a cosine. The plain network and the pairs from scratch: "
        f"{row['epochs']} epochs from 0.002. The pairs from the trained weights: `Factorize(kinds=('spatial',))` on "
        f"{row['calibration']:,} training images (for layers that it leaves since they would not become cheaper, the "
        f"same split of the kernel alone), then {row['tuning_epochs']} epoch from 0.001; a ReLU in between is put "
        f"there after the split, which did not know of it. The plain network: {spread(rows, 'plain_percent'):.2f} %, "
        f"{row['plain_macs']:,} MACs, {row['plain_params']:,} parameters, {spread(rows, 'plain_ms'):.3f} ms. Time is "
        "LiteRT's on one thread, float32, plain and pairs in turn, the median of the ratios within a turn."
    )


def _bounds(rows: list[dict]) -> str:
    """The bounds of all layers, and what P they give."""
    channels = {share: group[0]["channels"] for (share,), group in sorted(grouped(rows, "share").items())}
    cells = [
        (f"{b['layer']}: {b['N']:g} × {b['N']:g}, {b['K']:g} → {b['L']:g}, r = {b['r']:g}", f"{b['macs']:.1f}",
         f"{b['params']:.1f}", *(of_share[place] for of_share in channels.values()))
        for place, b in enumerate(rows[0]["bounds"])
    ]  # fmt: skip
    columns = ["layer", "P < (MACs)", "P < (parameters)", *(f"P at {share:g}" for share in channels)]
    return "## The bound\n\n" + table(columns, cells)


def _accuracy(rows: list[dict], folder: Path) -> str:
    ways = list(grouped(rows, "weights"))
    figure, panels = plots.axes([_SHARE] * len(ways), "accuracy on test images (%)", [way for (way,) in ways])
    named = [{**row, "in_between": row["between"]} for row in rows if row["after_percent"] >= _STUCK]
    plain = spread(rows, "plain_percent")
    for panel, (way,) in zip(panels, ways, strict=True):
        plots.lines(panel, [row for row in named if row["weights"] == way], "share", "after_percent", by="in_between")
        panel.axhline(plain.mean, color="#888888", linestyle="--")
        panel.annotate("plain", (0.02, plain.mean), xycoords=("axes fraction", "data"), va="bottom", color="#666666")
        _draw_bound(panel)
    return "## Accuracy\n\n" + plots.save(
        figure, folder, "one-dimensional-accuracy", "Accuracy over P as a share of the bound, the bound at 1"
    )


def _cost(rows: list[dict], folder: Path) -> str:
    kinds = {"macs_percent": "multiply-adds", "params_percent": "parameters", "time_percent": "time in LiteRT"}
    figure, panel = plots.axes(_SHARE, "of the plain network (%)")
    drawn = [{**row, "figure": said, "percent": row[name]} for name, said in kinds.items() for row in rows]
    plots.lines(panel, drawn, "share", "percent", by="figure")
    panel.axhline(100, color="#888888", linestyle="--")
    _draw_bound(panel)
    return "## Cost\n\n" + plots.save(
        figure, folder, "one-dimensional-cost", "Multiply-adds, parameters and time over P as a share of the bound"
    )


def _draw_bound(panel: Any) -> None:
    panel.axvline(1, color="#000000", linestyle=":")
    panel.annotate(" bound", (1, 0.02), xycoords=("data", "axes fraction"))


def _in_words(rows: list[dict]) -> str:
    """Where time is saved, what it costs, and whether a ReLU in between pays."""
    shares = {share: group for (share,), group in sorted(grouped(rows, "share").items())}
    faster = [share for share, group in shares.items() if spread(group, "speedup").mean > 1]
    cheaper = [share for share, group in shares.items() if group[0]["macs"] < group[0]["plain_macs"]]
    said = [
        f"Pairs take fewer multiply-adds than the plain network up to {max(cheaper):g} times the bound"
        if cheaper
        else "Pairs take no fewer multiply-adds at any share measured",
        f"and less time up to {max(faster):g} times it." if faster else "and at no share measured less time.",
    ]
    told = [" ".join(said)]
    for (weights,), group in grouped(rows, "weights").items():
        best = [
            f"{between}: {spread(found, 'lost_percent'):+.2f} points"
            for (between, share), found in grouped(group, "between", "share").items()
            if share == min(shares)
        ]
        if best:
            told.append(f"At {min(shares):g} times the bound, {weights}, against plain; in between {'; '.join(best)}.")
    stuck = [row for row in rows if row["after_percent"] < _STUCK]
    for (weights, between, share), found in grouped(stuck, "weights", "between", "share").items():
        told.append(
            f"{weights[0].upper()}{weights[1:]}, in between {between}, {share:g} times the bound: {len(found)} of "
            f"{len(_same(rows, found[0]))} trainings ended below {_STUCK} %, as if guessing; the picture leaves it out."
        )
    return "\n".join(f"- {line}" for line in told)


def _same(rows: list[dict], one: dict) -> list[dict]:
    """Those of all seeds with the settings of one of them."""
    return [row for row in rows if all(row[name] == one[name] for name in ("weights", "between", "share"))]


def _all(rows: list[dict]) -> str:
    cells = [
        (m["weights"], m["between"], f"{m['share']:g}", f"{m['macs']:,}", f"{m['params']:,}",
         *(f"{m[name]:{form}}" for name, form in zip(_FIGURES, (".2f", ".2f", "+.2f", ".2f"), strict=True)))
        for m in summarized(rows, ["weights", "between", "share", "macs", "params"], _FIGURES)
    ]  # fmt: skip
    columns = ["weights", "in between", "P / bound", "MACs", "parameters", "before training (%)", "after (%)",
               "against plain (points)", "times faster"]  # fmt: skip
    return "## All figures\n\n" + table(columns, cells, left=2)
