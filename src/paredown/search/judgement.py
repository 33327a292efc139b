"""What a search knows of a network: its loss, its costs, and how they were found."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: In which order a network is looked at: without training, after a short one, after a long one.
STAGES = ("cheap", "short", "long")


@dataclass(frozen=True)
class Judgement:
    """One network's figures.

    Args:
        score: On the judged rows, in the metric's own unit.
        drop: How much worse than the original: see `drop_of`. Rows of its own training data, from which the judged
            ones are taken, the original does better than new ones, so that this is rather too much than too little.
        drop_error: One standard error of it, an upper bound; 0 where it is not known.
        macs, params, size_bytes: Of the network and its file; MACs None where a layer has no rule.
        latency_ms: Predicted from operations.
        latency_from: "tables": every operation was measured; "estimated": some times are scaled from others.
        seconds: That it took.
        step_seconds: A step of training; None without training, or where it was too short to tell.
        recipe: What makes the network, as YAML.
        label: The same in a few words.
    """

    score: float
    drop: float
    drop_error: float
    macs: int | None
    params: int
    size_bytes: float
    latency_ms: float
    latency_from: str
    seconds: float
    step_seconds: float | None
    recipe: str
    label: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)


def drop_of(metric: Mapping[str, Any], before: float, after: float) -> float:
    """How much worse a score is: accuracy lost (share of 1), the relative rise of an error, or the distance from the
    original's outputs itself."""
    if metric["name"] == "accuracy":
        return before - after
    if metric["name"] == "output_error":
        return after
    return (after - before) / max(abs(before), 1e-12)


def drop_error_of(metric: Mapping[str, Any], before: float, after: float, rows: int) -> float:
    """One standard error of a drop in accuracy at most: as if the two networks never erred on the same example."""
    return float(np.sqrt(max(2 - before - after, 0) / rows)) if metric["name"] == "accuracy" else 0.0


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other beats in both figures (lower is better), by the first figure, rising."""
    order = sorted(range(len(points)), key=lambda i: points[i])
    best, kept = np.inf, []
    for i in order:
        if points[i][1] < best:
            kept.append(i)
            best = points[i][1]
    return kept


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """The area between a reference and the front of points (lower is better); of points beyond it nothing counts.

    Source:
        Zitzler & Thiele 1999, IEEE Transactions on Evolutionary Computation 3(4), section IV.
    """
    inside = [p for p in points if p[0] < reference[0] and p[1] < reference[1]]
    corners = [inside[i] for i in front(inside)]
    ends = [*(x for x, _ in corners), reference[0]][1:]
    return float(sum((end - x) * (reference[1] - y) for (x, y), end in zip(corners, ends, strict=True)))
