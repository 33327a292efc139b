"""Widths of a network's layers for any budget, from losses that are measured once."""

from collections.abc import Callable
from typing import Any

import numpy as np

from paredown.channels import Channels
from paredown.data import Data
from paredown.errors import SettingError
from paredown.latency_table import LatencyTable
from paredown.moments import Moments
from paredown.narrow import fresh_states, removed_channels, removed_inside
from paredown.profiling import profile
from paredown.scoring import component_scores
from paredown.sensitivity import SHARES, measured_losses
from paredown.transforms.channel_budget import COSTS, keep_affordable, widths_left
from paredown.transforms.objective import example_loss

#: Examples on which narrowed networks are compared, and the multiply-adds that all of it may take.
EXAMPLES, FEWEST, MOST_MACS = 400, 32, 2e12


class WidthPlan:
    """What narrowing each group of a network's channels costs its outputs, and the best widths under a budget.

    `PruneChannels(scope="measured")` finds the same widths, and measures anew each time.

    Args:
        model: A built Keras model; not touched.
        data: Whose calibration part is read.
        criterion: Row of `criteria.CRITERIA`.
        examples: For second moments.
        seed: Of the draw of examples.
    Raises:
        ParedownError: As `PruneChannels`.
    """

    def __init__(self, model: Any, data: Data, criterion: str, examples: int, seed: int):
        self.channels = channels = Channels(model)
        self._input_shape = data.input_shape
        self.groups = channels.groups
        moments = Moments(channels, data.calibration.sample(examples, seed), seed)
        with fresh_states(channels.network):
            loss = example_loss(model, data.calibration) if data.calibration.y is not None else None
            self._scores = component_scores(channels, criterion, data, seed, loss=loss, moments=moments)
            split = moments.split.take(_affordable(model, data, len(self.groups)))
            self._losses = measured_losses(channels, self.groups, self._scores, [*moments.consumers.values()], split)

    def within(self, figure: str, share: float, table: LatencyTable | None = None) -> dict[str, int]:
        """Layer -> channels that stay, with the least sum of measured losses.

        Args:
            figure: "macs", "params" or "latency".
            share: Of the network's that may be kept, in (0, 1].
            table: For latency.
        Raises:
            SettingError: If the budget cannot be reached.
        """
        cost = COSTS[figure](self.channels, self._input_shape, table)
        members = [group.components for group in self.groups]
        keep = keep_affordable(cost, share, self._scores, members, "measured", losses=self._losses)
        gone = {**removed_channels(self.channels, keep), **removed_inside(self.channels, keep)}
        widths = widths_left(self.channels, gone)
        if widths is None:
            raise SettingError(
                f"A recipe names the width of every layer. Received: {self.channels.network.model.name}, where layers "
                "share channels in ways that widths do not tell apart. Leave prune_channels out."
            )
        return widths

    def narrower(self, widths: dict[str, int]) -> Callable[[str], list[int]]:
        """For a group's name the widths below its present one, largest first."""
        sizes = {group.name: len(self.channels.outputs[group.name]) // group.size for group in self.groups}

        def of(name: str) -> list[int]:
            now = widths.get(name, len(self.channels.outputs[name]))
            return list(range(now - sizes[name], 0, -sizes[name]))

        return of

    def cost(self, figure: str, widths: dict[str, int], table: LatencyTable | None = None) -> float:
        """A network's cost with these widths, as a share of the whole one's."""
        cost = COSTS[figure](self.channels, self._input_shape, table)
        keep = np.ones(self.channels.count, bool)
        for group in self.groups:
            if group.name in widths:
                stay = widths[group.name] * group.size // len(self.channels.outputs[group.name])
                keep[group.components[stay:]] = False
        return cost(keep) / cost(np.ones(self.channels.count, bool))


def _affordable(model: Any, data: Data, groups: int) -> int:
    macs = max(1, profile(model, data.input_shape).macs) * max(1, groups) * len(SHARES)
    return int(np.clip(MOST_MACS / macs, FEWEST, EXAMPLES))
