"""What a search can propose: which methods, in which order, and how much each keeps."""

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """One proposal, before its numbers are settled for a network.

    Args:
        methods: Keys of `methods.METHODS`, in order.
        keep: Share of the original's cost that all of them together keep, in (0, 1].
        split: How much of that the first of several takes: it keeps keep**split, the others the rest.
        criterion: By which channels are pruned.
        structure: That convolutions are substituted by.
        layers: Share of the convolutions, the costliest first, that are.
        format: Key of `formats.FORMATS`.
        learning_rate: At the start of fine-tuning.
        teacher_weight: Share of the original's outputs in the loss of labelled fine-tuning.
        augment: As of `FineTune`.
    """

    methods: tuple[str, ...]
    keep: float
    split: float = 0.5
    criterion: str = "structured_obs"
    structure: str = "separable"
    layers: float = 1.0
    format: str = "float32"
    learning_rate: float = 1e-3
    teacher_weight: float = 0.5
    augment: str = "none"

    def __post_init__(self):
        object.__setattr__(self, "methods", tuple(self.methods))

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**dataclasses.asdict(self), "methods": list(self.methods)}
