"""What a chain of the experiment `combine` loses and gains, held against its steps alone."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from paredown.experiments.rows import Spread, grouped, spread
from paredown.report import formats

#: The forms in which each chain's result is written.
FORMS = ("float", "int8")
NAMES = {"float": "float32", "int8": "int8"}
#: Two chains count as one if their shares of MACs differ by no more than this: shares are rounded.
_SAME_SHARE = 0.005
#: Beyond so many standard errors a difference counts as one.
_SURE = 2.0

#: A step: the method, and the share of the MACs before it that is left after it (None: it leaves them).
Step = tuple[str, float | None]


def steps_of(row: dict) -> tuple[Step, ...]:
    """A row's steps; the share of each is told against what the step before it was asked to leave."""
    found: list[Step] = []
    before = 1.0
    for method, share in row["steps"]:
        found.append((method, None if share is None else share / before))
        before = before if share is None else share
    return tuple(found)


def asked(row: dict) -> float:
    """The share of the MACs that a chain is to end at."""
    return min((share for _, share in row["steps"] if share is not None), default=1.0)


def left(row: dict) -> float:
    """The share of the MACs that it ends at."""
    return row["macs"][-1] / row["original_macs"] if row["macs"] else 1.0


def chain(row: dict) -> str:
    """Its methods in order; empty for the original."""
    return " → ".join(method for method, _ in row["steps"])


def named(row: dict, form: str) -> str:
    """One file of it: its methods in order, the share of the MACs that was asked for, and the form."""
    share = asked(row)
    at = "" if share == 1 else f" at {formats.digits(100 * share)} %"
    return f"{chain(row) or 'original'}{at}, {NAMES[form]}"


def methods(row: dict) -> frozenset[str]:
    return frozenset(method for method, _ in row["steps"])


def lost(row: dict, form: str) -> float:
    """Points of accuracy of one file of a row."""
    return row["original_percent"] - row[f"{form}_percent"]


@dataclass(frozen=True)
class Sum:
    """One file of a chain against its parts: each step alone, and int8 alone where the file is in int8.

    Args:
        name: Of the file, as `named` gives it.
        lost, parts_lost: Points of accuracy, and the sum of the parts'; over seeds.
        faster, parts_faster: Times as fast as the original, and the product of the parts'; over seeds.
        noise: Standard error of `lost` - `parts_lost`: over the seeds, and of so many test images.
    """

    name: str
    lost: Spread
    parts_lost: Spread
    faster: Spread
    parts_faster: Spread
    noise: float

    @property
    def beyond(self) -> float:
        """Points lost beyond what the parts lose together."""
        return self.lost.mean - self.parts_lost.mean

    @property
    def verdict(self) -> str:
        if abs(self.beyond) <= _SURE * self.noise:
            return "adds up"
        return "loses more" if self.beyond > 0 else "loses less"


def sums(rows: list[dict]) -> list[Sum]:
    """All files of one network's chains whose parts were all run alone, in every seed."""
    groups = grouped([{**row, "key": repr(row["steps"])} for row in rows], "key")
    found = [_sum(group, rows, form) for group in groups.values() for form in FORMS]
    return [one for one in found if one is not None]


def _sum(group: list[dict], rows: list[dict], form: str) -> Sum | None:
    figures: dict[str, list[float]] = {name: [] for name in ("lost", "parts", "faster", "product")}
    flipped = 0.0
    for row in group:
        parts = _parts(row, [other for other in rows if other["seed"] == row["seed"]], form)
        if parts is None or len(parts) < 2:
            return None
        losses = [lost(part, of) for part, of in parts]
        figures["lost"].append(lost(row, form))
        figures["parts"].append(sum(losses))
        figures["faster"].append(1 / row[f"{form}_latency_ratio"])
        figures["product"].append(_product(1 / part[f"{of}_latency_ratio"] for part, of in parts))
        # At least so many images were judged otherwise; each counts 100 / test points.
        flipped += max(1.0, (abs(lost(row, form)) + sum(map(abs, losses))) * row["test"] / 100)
    differences = [a - b for a, b in zip(figures["lost"], figures["parts"], strict=True)]
    count = len(group)
    seeds = statistics.variance(differences) / count if count > 1 else 0.0
    images = flipped * (100 / group[0]["test"] / count) ** 2
    lists = (Spread(tuple(figures[name])) for name in ("lost", "parts", "faster", "product"))
    return Sum(named(group[0], form), *lists, noise=(seeds + images) ** 0.5)


def _parts(row: dict, rows: list[dict], form: str) -> list[tuple[dict, str]] | None:
    """The rows of each step alone and their forms; None where one was not run."""
    found: list[tuple[dict, str]] = []
    for step in steps_of(row):
        alone = [other for other in rows if len(other["steps"]) == 1 and _same(steps_of(other)[0], step)]
        if not alone:
            return None
        found.append((alone[0], "float"))
    if form == "int8":
        originals = [other for other in rows if not other["steps"]]
        if not originals:
            return None
        found.append((originals[0], "int8"))
    return found


def _same(one: Step, other: Step) -> bool:
    (method, share), (other_method, other_share) = one, other
    if share is None or other_share is None:
        return one == other
    return method == other_method and abs(share - other_share) <= _SAME_SHARE


def _product(values: Iterable[float]) -> float:
    result = 1.0
    for value in values:
        result *= value
    return result


def mean(rows: Iterable[dict], figure: str) -> float:
    return spread(rows, figure).mean


def by_chain(rows: list[dict]) -> list[list[dict]]:
    """Rows of all seeds, chain by chain."""
    keyed: list[dict[str, Any]] = [{**row, "key": repr(row["steps"])} for row in rows]
    return list(grouped(keyed, "key").values())
