"""The transforms, by the names that recipes use. To add one: write its file and its row here."""

from paredown.transform import Transform
from paredown.transforms.fine_tune import FineTune
from paredown.transforms.prune_channels import PruneChannels
from paredown.transforms.prune_weights import PruneWeights

TRANSFORMS: dict[str, type[Transform]] = {kind.name: kind for kind in (PruneChannels, PruneWeights, FineTune)}

__all__ = ["TRANSFORMS", "FineTune", "PruneChannels", "PruneWeights"]
