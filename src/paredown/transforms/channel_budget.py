"""The budgets of PruneChannels: a share of what a network costs, and the channels that stay within it.

To add one: a function that makes its `AdditiveCost`, a row in `COSTS`, and a field of the same name.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paredown.allocation import AdditiveCost, keep_optimal
from paredown.budget import keep_within
from paredown.channels import Channels
from paredown.errors import SettingError
from paredown.latency import measured_table
from paredown.latency_table import LatencyTable
from paredown.profiling import LatencyCount, MacCount, ParameterCount

#: Field -> what it is a share of: `cost(channels, input_shape, table)`.
COSTS: dict[str, Callable[[Channels, Any, Any], AdditiveCost]] = {
    "macs": lambda channels, input_shape, table: MacCount(channels, input_shape),
    "params": lambda channels, input_shape, table: ParameterCount(channels),
    "latency": lambda channels, input_shape, table: LatencyCount(
        channels, opened(table, channels.network.model, input_shape), input_shape
    ),
}
#: In the place of a table: this computer is measured.
HOST = "host"
#: Of a transform exactly one is given.
BUDGETS = ("sparsity", "threshold", *COSTS)
SCOPES = ("layer", "global", "optimal", "measured")


def keep_affordable(
    cost: AdditiveCost,
    share: float,
    scores: np.ndarray,
    groups: Sequence[np.ndarray],
    scope: str,
    round_to: int = 1,
    least: int = 1,
    losses: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """The channels that stay so that at most a share of the whole network's cost is left.

    Args:
        share: In (0, 1].
        scores, groups, round_to, least: As for `budget.keep_share`.
        scope: Row of `SCOPES`.
        losses: For scope "measured": per group the loss with 0, 1, … channels gone, shape (size + 1,).
    Returns:
        Boolean, shape (count,).
    """
    limit = share * cost(np.ones(len(scores), bool))
    if scope in ("optimal", "measured"):
        return keep_optimal(scores, groups, cost, limit, round_to, least, losses)
    return keep_within(scores, groups, cost, limit, scope, round_to, least)


def opened(table: Any, model: Any, input_shape: tuple[int, ...] | None = None) -> LatencyTable:
    """The table itself: measured here and now for "host", read where a path is given."""
    if table == HOST:
        return measured_table(model, input_shape=input_shape)
    return table if isinstance(table, LatencyTable) else LatencyTable.load(table)


def table_identity(table: Any) -> Any:
    """What a table changes in a result: its figures; of "host" the name, since to measure it again gives others."""
    return table if table in (None, HOST) else opened(table, None).to_dict()


def check_budgets(given: dict[str, Any], scope: str, table: Any, owner: str) -> None:
    """Checks that exactly one budget is given, within its domain, and has what it needs.

    Args:
        given: The budgets that are not None.
        scope: A row of `SCOPES`.
        table: The latency table, its path, or None.
        owner: The transform, for the message.
    Raises:
        SettingError: If not.
    """
    if len(given) != 1:
        raise SettingError(
            f"Exactly one of {', '.join(BUDGETS[:-1])} and {BUDGETS[-1]} must be given. Received: {given or 'none'} "
            f"({owner}). Use sparsity=0.5 to remove half the channels."
        )
    ((name, value),) = given.items()
    if name == "sparsity" and not 0 <= value < 1:
        raise SettingError(
            f"sparsity must be in [0, 1). Received: sparsity={value} ({owner}). Use 0.5 to remove half the channels."
        )
    if name in COSTS and not 0 < value <= 1:
        raise SettingError(
            f"{name} must be in (0, 1]. Received: {name}={value} ({owner}). Use 0.5 to halve {_NAMES[name]}."
        )
    if scope in ("optimal", "measured") and name not in COSTS:
        raise SettingError(
            f"scope {scope!r} must have one of {', '.join(COSTS)} to keep to. Received: {name}={value} ({owner}). "
            "Use scope='global' to rank all channels together."
        )
    _check_table(name, value, table, owner)


def _check_table(name: str, value: float, table: Any, owner: str) -> None:
    if name == "latency" and table is None:
        raise SettingError(
            f"latency must come with latency_table, the measured times of the layers. Received: latency={value}, "
            f"latency_table=None ({owner}). Use 'host' to measure this computer, or the path of a table's JSON "
            "file; docs/budgets.md describes it."
        )
    if name != "latency" and table is not None:
        raise SettingError(
            f"latency_table must come with latency. Received: {name}={value} and a latency_table ({owner}). "
            f"Leave the table out, or give latency= in place of {name}=."
        )
    if table is not None and not isinstance(table, LatencyTable | str | os.PathLike):
        raise SettingError(
            f"latency_table must be a LatencyTable, the path of its file, or 'host'. Received: latency_table={table!r} "
            f"({owner}). Use 'host' to measure this computer."
        )


_NAMES = {"macs": "the MACs", "params": "the parameters", "latency": "the time"}
