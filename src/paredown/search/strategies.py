"""How a search decides what to try next.

To add one: a function that proposes to a `Bench` until `bench.exploring` is false, and its row in `STRATEGIES`.
"""

from collections.abc import Callable

from paredown.recipe import Recipe
from paredown.search.bench import Bench
from paredown.search.widths import WidthPlan
from paredown.transforms import PruneChannels

#: Steps in which the greedy strategy comes down to the limit, without a limit to a fifth, each keeping the same share;
#: the share that the smallest step keeps, where no group alone makes a larger one.
GREEDY_STEPS, GREEDY_END, LEAST_STEP = 8, 0.2, 0.98


def by_optuna(bench: Bench) -> None:
    """Tree-structured Parzen estimators over all methods, and successive halving of what deserves training.

    Source:
        Ozaki et al. 2022, doi:10.1613/jair.1.13188; Falkner et al. 2018, arXiv:1807.01774 (with successive halving).
    """
    bench.begin()
    while bench.exploring:
        bench.work()


def by_knapsack(bench: Bench) -> None:
    """One shot: for each sequence of methods the widths and ranks with the least sum of measured losses."""
    bench.begin()
    bench.drain()


def by_greed(bench: Bench) -> None:
    """From the whole network down step by step: each time every group of channels alone is narrowed until the step is
    made, and the network that loses least is taken.

    Where NetAdapt trains each proposal shortly, readers of removed channels are refitted by least squares here, for
    every proposal anew from the original network, which is as cheap and better.

    Source:
        Yang et al. 2018, arXiv:1804.03230, algorithm 1.
    """
    plan, widths = bench.judge.width_plan("l2_norm"), {}
    # A latency table ends at its narrowest measured widths; below them multiply-adds lead on.
    for figure in ("latency", "macs") if bench.judge.figure == "latency" else (bench.judge.figure,):
        widths, reached = _descended(bench, plan, widths, figure)
        if reached:
            return


def _descended(bench: Bench, plan: WidthPlan, widths: dict[str, int], figure: str) -> tuple[dict[str, int], bool]:
    """(the widths after as many steps as can be made, whether the limits are reached)."""
    judge = bench.judge
    table = judge.table if figure == "latency" else None
    end = min(1.0, bench.space.limit or GREEDY_END)
    full = rate = end ** (1 / GREEDY_STEPS)
    while bench.exploring and rate < 1 and rate <= max(full, LEAST_STEP):
        target, found = rate * plan.cost(figure, widths, table), []
        for group in plan.groups:
            proposed = _narrowed(plan, widths, group.name, target, figure, table)
            if proposed is None or not bench.exploring:
                continue
            recipe = Recipe([PruneChannels("l2_norm", widths=proposed, reconstruct=True, examples=judge.examples)])
            judgement = bench.judge_recipe(recipe)
            if judgement:
                found.append((judgement.drop, len(found), proposed, judgement))
        if not found:
            # No group alone makes so large a step.
            rate **= 0.5
            continue
        rate, (*_, widths, best) = full, min(found)
        if bench.use(best) <= 1 if bench.limits else plan.cost(figure, widths, table) <= end:
            return widths, True
    return widths, False


def _narrowed(plan: WidthPlan, widths: dict, name: str, target: float, figure: str, table) -> dict | None:
    """The widths with one group just so narrow that the target is reached; None where it cannot be."""
    for width in plan.narrower(widths)(name):
        proposed = {**widths, name: width}
        if plan.cost(figure, proposed, table) <= target:
            return proposed
    return None


STRATEGIES: dict[str, Callable[[Bench], None]] = {"optuna": by_optuna, "knapsack": by_knapsack, "greedy": by_greed}
