"""What a study holds, as plain data: who was judged, how, and who deserves more training.

A study's trials are judgements. One that trains a candidate further is a trial of its own with the same parameters; its
attributes say which stage it is and whose it is.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from paredown.search.judgement import STAGES, Judgement

#: Of so many candidates that reached a stage one may go on to the next.
RATE = 3
#: How far above its limits a candidate may be and still be trained: what is only predicted may be wrong.
HOPEFUL = 1.05


@dataclass(frozen=True)
class Entry:
    """One trial.

    Args:
        number: Of the trial in the study.
        stage: One of `STAGES`.
        of: The trial whose candidate this is; its own number at the first stage.
        state: "complete", "pruned" (it could not be made), "failed", "running" or "waiting".
        reason: Why it was pruned.
        judgement: Where it is complete.
        attributes: All that stands in the study.
        params: What was drawn.
        identity: What it judges: of several trials of one identity only one counts.
    """

    number: int
    stage: str
    of: int
    state: str
    reason: str | None
    judgement: Judgement | None
    attributes: dict[str, Any]
    params: dict[str, Any]
    identity: tuple = ()

    def seen_from(self, original_ms: float) -> "Entry":
        """The same with its latency on a machine where the original takes so many milliseconds.

        A network is taken to be as much faster there as it was where it was judged.
        """
        ratio = original_ms / self.attributes.get("original_ms", original_ms)
        if self.judgement is None or ratio == 1:
            return self
        judgement = dataclasses.replace(self.judgement, latency_ms=self.judgement.latency_ms * ratio)
        return dataclasses.replace(self, judgement=judgement)


def entries_of(trials: Sequence[Any]) -> list[Entry]:
    """The entries of Optuna's trials, without void ones; of several of one identity the first that did not fail."""
    found, seen = [], set()
    for entry in (_entry(trial) for trial in trials if "void" not in trial.user_attrs):
        if entry.state != "failed":
            if entry.identity in seen:
                continue
            seen.add(entry.identity)
        found.append(entry)
    return found


def identity(trial: Any) -> tuple:
    """What a trial judges: a candidate at a stage, a recipe, one of those to begin with; else only itself."""
    attributes = trial.user_attrs
    if "of" in attributes:
        return attributes["stage"], attributes["of"]
    return next(((name, attributes[name]) for name in ("key", "first") if name in attributes), (trial.number,))


def _entry(trial: Any) -> Entry:
    attributes = trial.user_attrs
    judged = attributes.get("judgement")
    state = "failed" if trial.state.name == "FAIL" else str(trial.state.name).lower()
    return Entry(
        trial.number,
        attributes.get("stage", STAGES[0]),
        attributes.get("of", trial.number),
        state,
        attributes.get("reason"),
        Judgement(**judged) if judged and state == "complete" else None,
        attributes,
        trial.params or trial.system_attrs.get("fixed_params", {}),
        identity(trial),
    )


def judged(entries: Sequence[Entry], stage: str) -> list[Entry]:
    """Those with a judgement at a stage."""
    return [entry for entry in entries if entry.stage == stage and entry.judgement]


def best_first(entries: Sequence[Entry], use: Callable[[Judgement], float], limited: bool) -> list[Entry]:
    """Entries by what they promise: within the limits the least loss first, then the nearest to the limits.

    Args:
        use: The largest figure as a share of its limit.
        limited: Whether there are limits; without, entries that no other beats in loss and cost come first.
    """

    def key(entry: Entry) -> tuple:
        assert entry.judgement
        if not limited:
            cost, drop = use(entry.judgement), entry.judgement.drop
            beaten = sum(
                1
                for e in entries
                if e.judgement and e.judgement.drop <= drop and use(e.judgement) < cost and e is not entry
            )
            return beaten, drop
        return promise(entry.judgement, use)

    return sorted(entries, key=key)


def promise(judgement: Judgement, use: Callable[[Judgement], float]) -> tuple[int, float]:
    """What networks are ordered by, the best first: within the limits the least loss, then the nearest to them."""
    cost = use(judgement)
    return (0, judgement.drop) if cost <= HOPEFUL else (1, cost)


def promoted(
    entries: Sequence[Entry], use: Callable[[Judgement], float], limited: bool, stages: Sequence[str] = STAGES
) -> Entry | None:
    """Whose turn it is to be trained (further): of the highest stage, the best of a third that has not been.

    Args:
        use, limited: As of `best_first`.
        stages: Those that candidates go through.
    Source:
        Li et al. 2020, arXiv:1810.05934, algorithm 2 (asynchronous successive halving).
    """
    for stage, following in reversed(list(itertools.pairwise(stages))):
        reached = best_first(judged(entries, stage), use, limited)
        gone = {entry.of for entry in entries if entry.stage == following and entry.state != "failed"}
        # Of the first few one goes on at once, so that training is under way while most are still unjudged.
        for entry in reached[: math.floor(len(reached) / RATE)]:
            assert entry.judgement
            if entry.of not in gone and (not limited or use(entry.judgement) <= HOPEFUL):
                return entry
    return None
