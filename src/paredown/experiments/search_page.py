"""The page of the experiment `search`."""

import math
from pathlib import Path

from paredown.experiments import plots
from paredown.experiments.markdown import table
from paredown.experiments.rows import Spread, grouped
from paredown.report import formats
from paredown.search.judgement import front, hypervolume

#: The worst that counts: two points of accuracy lost, the original's latency.
REFERENCE_DROP = 0.02
#: Shares of the latency that the picture's axis may name.
_TICKS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)


def page(rows: list[dict], folder: Path) -> str:
    first = rows[0]
    share = float(first["limit"].rstrip("x"))
    searches = grouped(rows, "search")
    cells, volumes = [], {}
    for (name,), group in searches.items():
        volumes[name] = Spread(tuple(_volume(row["points"]) for row in group))
        best = [_least_drop(row["points"], share) for row in group]
        reached = Spread(tuple(100 * drop for drop in best if drop is not None))
        cells.append(
            (
                name,
                f"{volumes[name]:.2f}",
                f"{reached:.2f}" if reached.values else formats.ABSENT,
                f"{len(reached.values)} of {len(group)}",
                f"{Spread(tuple(row['proposed'] for row in group)):.0f}",
                f"{Spread(tuple(row['tuned'] for row in group)):.0f}",
                f"{Spread(tuple(row['used_seconds'] for row in group)):.0f}",
            )
        )
    columns = (
        "search",
        "hypervolume",
        "points lost within the limit",
        "limit reached",
        "proposed",
        "trained",
        "processor time (s)",
    )
    return "\n\n".join(
        [
            f"A classifier of five 3×3 convolutions on {first['data'].upper()} ({first['original_macs'] / 1e6:.1f} M "
            f"MACs), {len(searches[next(iter(searches))])} seeds; limit: "
            f"{first['limit']} of its latency in LiteRT. Every search may use {first['seconds']:g} s of processor "
            "time of all threads, fine-tuning included; looking at the original, which all share, is not counted. Loss "
            "is of rows held out of the training data, of which nothing learned, but by which networks were chosen, "
            "for all searches alike. *Hypervolume*: points of accuracy times doublings of speed between the front of "
            f"all networks that were made and a network that loses {100 * REFERENCE_DROP:g} points and is no faster; "
            "more is better. *Greedy* narrows one group of channels at a time (NetAdapt's algorithm, refitted instead "
            "of trained at each step); its three best are trained like everybody's.",
            table(columns, cells),
            _in_words(volumes),
            "The front of each search (first seed):",
            _picture(rows, folder),
            "What stands on the front of all methods (first seed):",
            _front_table(next(iter(searches.values()))[0]["points"]),
        ]
    )


def _xy(points: list[dict]) -> list[tuple[float, float]]:
    return [(100 * p["drop"], math.log2(p["latency_share"])) for p in points]


def _volume(points: list[dict]) -> float:
    return hypervolume(_xy(points), (100 * REFERENCE_DROP, 0.0))


def _least_drop(points: list[dict], share: float) -> float | None:
    return min((p["drop"] for p in points if p["latency_share"] <= share), default=None)


def _in_words(volumes: dict[str, Spread]) -> str:
    ordered = sorted(volumes, key=lambda name: -volumes[name].mean)
    best, second = ordered[0], ordered[1] if len(ordered) > 1 else ordered[0]
    return f"Most is found by *{best}* ({volumes[best]:.2f}), then by *{second}* ({volumes[second]:.2f})."


def _picture(rows: list[dict], folder: Path) -> str:
    figure, axes = plots.axes("latency left (share of the original's)", "accuracy lost (points)")
    first = [row for row in rows if row["seed"] == rows[0]["seed"]]
    for row in first:
        points = [p for p in row["points"] if p["drop"] <= REFERENCE_DROP]
        kept = [points[i] for i in front([(p["drop"], p["latency_share"]) for p in points])]
        xs, ys = [p["latency_share"] for p in kept], [100 * p["drop"] for p in kept]
        axes.plot(xs, ys, marker="o", drawstyle="steps-post", label=row["search"])
    axes.set(xscale="log")
    shares = [share for share in _TICKS if axes.get_xlim()[0] <= share <= axes.get_xlim()[1]]
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    axes.set_xticks([], minor=True)
    axes.axvline(float(first[0]["limit"].rstrip("x")), color="#999999", linestyle="--", linewidth=1)
    axes.legend(fontsize=8)
    return plots.save(figure, folder, "search-fronts", "Accuracy lost over latency left, the front of each search")


def _front_table(points: list[dict]) -> str:
    kept = [points[i] for i in front([(p["drop"], p["latency_share"]) for p in points])]
    cells = [
        (
            p["label"],
            p["stage"],
            f"{100 * p['drop']:+.2f}".replace("-", formats.MINUS),
            f"{1 / p['latency_share']:.1f}",
            f"{1 / p['macs_share']:.1f}",
            f"{1 / p['size_share']:.1f}",
        )
        for p in kept
        if p["drop"] <= REFERENCE_DROP
    ]
    return table(("recipe", "trained", "points lost", "× faster", "× fewer MACs", "× smaller"), cells, left=2)
