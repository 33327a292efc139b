"""How a search decides what to try next.

To add one: a function that proposes to a `Bench` until `bench.exploring` is false, and its row in `STRATEGIES`.
"""

from collections.abc import Callable

from paredown.recipe import Recipe
from paredown.search.bench import Bench
from paredown.search.widths import WidthPlan
from paredown.transforms import PruneChannels

#: Steps in which the greedy strategy comes down to the limit; without a limit to a fifth.
GREEDY_STEPS, GREEDY_END = 8, 0.2


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
    """From the whole network down in equal steps: each time every group of channels alone is narrowed until the step is
    made, and the network that loses least is taken.

    Where NetAdapt trains each proposal shortly, readers of removed channels are refitted by least squares here, for
    every proposal anew from the original network, which is as cheap and better.

    Source:
        Yang et al. 2018, arXiv:1804.03230, algorithm 1.
    """
    judge = bench.judge
    plan, figure, table = judge.width_plan("l2_norm"), judge.figure, judge.table
    end = min(1.0, bench.space.limit or GREEDY_END)
    share, widths = 1.0, {}
    while bench.exploring and share > end:
        target = max(end, share - (1 - end) / GREEDY_STEPS)
        found = []
        for group in plan.groups:
            proposed = _narrowed(plan, widths, group.name, target, figure, table)
            if proposed is None or not bench.exploring:
                continue
            recipe = Recipe([PruneChannels("l2_norm", widths=proposed, reconstruct=True, examples=judge.examples)])
            judgement = bench.judge_recipe(recipe)
            if judgement:
                found.append((judgement.drop, len(found), proposed))
        if not found:
            return
        widths = min(found)[2]
        share = plan.cost(figure, widths, table)


def _narrowed(plan: WidthPlan, widths: dict, name: str, target: float, figure: str, table) -> dict | None:
    """The widths with one group just so narrow that the target is reached; None where it cannot be."""
    for width in plan.narrower(widths)(name):
        proposed = {**widths, name: width}
        if plan.cost(figure, proposed, table) <= target:
            return proposed
    return None


STRATEGIES: dict[str, Callable[[Bench], None]] = {"optuna": by_optuna, "knapsack": by_knapsack, "greedy": by_greed}
