"""The methods that a search combines, each with its numbers settled for the network at hand.

To add one: a function that gives the transform, and its row in `METHODS`.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paredown.channels import Channels
from paredown.errors import SettingError
from paredown.network import Network
from paredown.profiling import profile
from paredown.recipe import Recipe
from paredown.search.candidate import Candidate
from paredown.transform import Transform
from paredown.transforms import Factorize, PruneChannels, SubstituteConv
from paredown.transforms.channel_budget import widths_left

if TYPE_CHECKING:
    from paredown.search.judge import Judge

#: Multiply-adds that are aimed at below the narrowest widths of a latency table, as a share of the latency asked for:
#: what is left there is mostly overhead.
_BEYOND_THE_TABLE = 0.5
#: Passes over the examples in which a substituted layer learns what the layer gave.
SUBSTITUTE_EPOCHS = 4


@dataclass(frozen=True)
class Draft:
    """A network on its way.

    Args:
        model: What it is now.
        transforms: What made it, with all numbers settled.
    """

    model: Any
    transforms: tuple[Transform, ...] = ()


#: (judge, draft, share of the present cost to keep, candidate) -> the draft after the method.
Method = Callable[["Judge", Draft, float, Candidate], Draft]


def _prune(judge: "Judge", draft: Draft, share: float, candidate: Candidate) -> Draft:
    common = {"criterion": candidate.criterion, "reconstruct": True, "examples": judge.examples}
    if not draft.transforms:
        widths = _widths(judge, share, candidate.criterion)
        if not widths:
            return draft
        return _done(judge, draft, PruneChannels(widths=widths, **common))
    figure = "params" if judge.figure == "params" else "macs"
    budgeted = PruneChannels(**_keeping(figure, share), scope="optimal", **common)
    result = judge.transformed(budgeted, draft.model)
    widths = widths_left(Channels(draft.model), {**result.removed, **result.inside})
    settled = budgeted
    if widths:
        settled = dataclasses.replace(budgeted, **_keeping(figure, None), scope="layer", widths=widths)
    return Draft(result.model, (*draft.transforms, settled))


def _widths(judge: "Judge", share: float, criterion: str) -> dict[str, int]:
    """Layer -> channels that stay, of the original's."""
    plan = judge.width_plan(criterion)
    try:
        return plan.within(judge.figure, share, judge.table)
    except SettingError:
        if judge.table is None:
            raise
        # A table ends at its narrowest measured widths; below them multiply-adds lead on, and the judge sees what came.
        return plan.within("macs", share * _BEYOND_THE_TABLE)


def _factorize(judge: "Judge", draft: Draft, share: float, candidate: Candidate) -> Draft:
    figure = "params" if judge.figure == "params" else "macs"
    return _done(judge, draft, Factorize(**_keeping(figure, share), examples=judge.examples))


def _substitute(judge: "Judge", draft: Draft, share: float, candidate: Candidate) -> Draft:
    costliest = sorted(
        (row for row in profile(draft.model, judge.data.input_shape).layers if row.macs and _suits(draft.model, row)),
        key=lambda row: -(row.macs or 0),
    )
    chosen = tuple(row.name for row in costliest[: max(1, round(candidate.layers * len(costliest)))])
    if not chosen:
        raise SettingError("Convolutions of more than one place can be substituted. Received: a network with none.")
    substitute = SubstituteConv(candidate.structure, layers=chosen, epochs=SUBSTITUTE_EPOCHS, examples=judge.examples)
    return _done(judge, draft, substitute)


def _suits(model: Any, row: Any) -> bool:
    calls = {call.path: call.operation for call in Network(model).all_calls()}
    layer = calls.get(row.name)
    return row.kind == "Conv2D" and layer is not None and max(layer.kernel_size) > 1


def _keeping(figure: str, share: float | None) -> dict[str, Any]:
    """A transform's budget as a setting."""
    return {figure: share}


def _done(judge: "Judge", draft: Draft, transform: Transform) -> Draft:
    transforms = (*draft.transforms, transform)
    return Draft(judge.made.by(Recipe(transforms)), transforms)


#: Key, as in a candidate's `methods` -> (what it does, whether it keeps to a share that it is given).
METHODS: dict[str, tuple[Method, bool]] = {
    "prune_channels": (_prune, True),
    "factorize": (_factorize, True),
    "substitute_conv": (_substitute, False),
}
#: All that a search may use; the last two are formats of the file.
ALL = (*METHODS, "share_weights", "quantize")
