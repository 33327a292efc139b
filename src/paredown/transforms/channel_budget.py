"""The budgets of PruneChannels: a share of what a network costs, and the channels that stay within it.

To add one: a function that makes its `AdditiveCost`, a row in `COSTS`, and a field of the same name.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from paredown.allocation import AdditiveCost, keep_best, keep_optimal
from paredown.budget import keep_within
from paredown.channels import ChannelGroup, Channels
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
BUDGETS = ("sparsity", "threshold", *COSTS, "widths")
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


def keep_widths(
    channels: Channels, groups: Sequence[ChannelGroup], scores: np.ndarray, widths: Mapping[str, int]
) -> np.ndarray:
    """The best channels of each group that has a width; groups without one stay whole.

    Args:
        groups: Those that may lose channels.
        scores: Shape (count,), higher = keep.
        widths: Layer (or what is inside one, "attention/heads") -> channels that stay.
    Returns:
        Boolean, shape (count,).
    Raises:
        SettingError: If a layer has no channels that may go, or not so many, or its group got another width already.
    """
    quotas: dict[int, tuple[str, int]] = {}
    for path, width in widths.items():
        own = [number for number, group in enumerate(groups) if path in group.outputs]
        size = len(channels.outputs.get(path, ()))
        if not own or width > size:
            may = f"{size} channels" if own else "no channels that may go"
            raise SettingError(
                "widths must name layers that can lose channels, with as many as stay. Received: "
                f"widths={{{path!r}: {width}}}, which has {may} (PruneChannels). Run paredown profile --why."
            )
        for number in own:
            group = groups[number]
            quota, rest = divmod(width * group.size, size)
            if rest:
                raise SettingError(
                    f"widths must take whole channels. Received: widths={{{path!r}: {width}}}, whose {size} channels "
                    f"can go in {group.size} parts only (PruneChannels). Use a multiple of {size // group.size}."
                )
            other, before = quotas.setdefault(number, (path, quota))
            if before != quota:
                raise SettingError(
                    "widths must be the same for layers whose channels go together. Received: "
                    f"{other!r} and {path!r}, coupled, with {before} and {quota} (PruneChannels). Name one of them."
                )
    members = [group.components for group in groups]
    kept = [quotas.get(number, ("", group.size))[1] for number, group in enumerate(groups)]
    keep = keep_best(scores, members, kept)
    # Whoever asks for a width gets it: a channel that has to stay takes another's place.
    short = [
        n for n, (m, k) in enumerate(zip(members, kept, strict=True)) if not np.isfinite(scores[m][~keep[m]]).all()
    ]
    if short:
        path = quotas[short[0]][0]
        raise SettingError(
            f"widths must leave the channels that have to stay. Received: widths={{{path!r}: {widths[path]}}}, whose "
            "criterion holds more of them indispensable or gives no score (PruneChannels). Use a larger width."
        )
    return keep


def widths_left(channels: Channels, removed: Mapping[str, np.ndarray]) -> dict[str, int] | None:
    """The `widths` that take as many channels of each group as were removed.

    Args:
        removed: Key of `channels.outputs` -> indices of what is gone, as in `TransformResult.removed` and `inside`.
    Returns:
        Layer -> channels that stay, for groups that lost any; None where widths cannot tell groups apart: all layers of
        one have channels of others, too, which lost another share.
    """
    keep = np.ones(channels.count, bool)
    for path, indices in removed.items():
        keep[channels.outputs[path][indices]] = False
    shares = [Fraction(int(keep[group.components].sum()), group.size) for group in channels.groups]
    widths = {}
    for group, share in zip(channels.groups, shares, strict=True):
        if share == 1:
            continue
        alike = (
            path
            for path in group.outputs
            if {s for g, s in zip(channels.groups, shares, strict=True) if path in g.outputs} == {share}
            and share * len(channels.outputs[path]) % 1 == 0
        )
        path = next(alike, None)
        if path is None:
            return None
        widths[path] = int(share * len(channels.outputs[path]))
    return widths


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
    if name == "widths":
        _check_widths(value, owner)
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


def _check_widths(widths: Any, owner: str) -> None:
    whole = isinstance(widths, Mapping) and all(isinstance(w, int) and not isinstance(w, bool) for w in widths.values())
    if not whole or not widths or min(widths.values()) < 1:
        raise SettingError(
            f"widths must give each layer the channels that stay, at least 1. Received: widths={widths!r} ({owner}). "
            "Use e.g. {'conv1': 16}."
        )


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
