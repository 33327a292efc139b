"""The transforms, by the names that recipes use. To add one: write its file and its row here."""

from paredown.transform import Transform
from paredown.transforms.factorize import Factorize
from paredown.transforms.fine_tune import FineTune
from paredown.transforms.prune_channels import PruneChannels
from paredown.transforms.prune_cycle import PruneCycle
from paredown.transforms.prune_gradually import PruneGradually
from paredown.transforms.prune_weights import PruneWeights
from paredown.transforms.quantize_aware import QuantizeAware
from paredown.transforms.reestimate_batch_norm import ReestimateBatchNorm
from paredown.transforms.share_weights import ShareWeights
from paredown.transforms.substitute_additive import SubstituteAdditive
from paredown.transforms.substitute_conv import SubstituteConv

TRANSFORMS: dict[str, type[Transform]] = {
    kind.name: kind
    for kind in (
        PruneChannels,
        Factorize,
        SubstituteConv,
        SubstituteAdditive,
        PruneWeights,
        ShareWeights,
        PruneCycle,
        PruneGradually,
        ReestimateBatchNorm,
        FineTune,
        QuantizeAware,
    )
}

__all__ = [
    "TRANSFORMS",
    "Factorize",
    "FineTune",
    "PruneChannels",
    "PruneCycle",
    "PruneGradually",
    "PruneWeights",
    "QuantizeAware",
    "ReestimateBatchNorm",
    "ShareWeights",
    "SubstituteAdditive",
    "SubstituteConv",
]
