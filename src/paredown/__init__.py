"""paredown: makes a trained Keras 3 network small and fast on a phone, and proves it."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paredown import blocks
    from paredown.channels import ChannelGroup, channel_groups
    from paredown.data import Data, Split
    from paredown.errors import ParedownError
    from paredown.export import Export, export_litert
    from paredown.latency import OperationTable, measured_table, predict_latency, roofline
    from paredown.latency_table import LatencyTable
    from paredown.layer_rules import Rule, register_layer_rule
    from paredown.measure import LatencyReport, measure_latency
    from paredown.packed import Packing, pack_litert
    from paredown.pipeline import compress
    from paredown.profiling import Profile, profile
    from paredown.recipe import Recipe
    from paredown.run import Run
    from paredown.scan import Scan, scan_sensitivity
    from paredown.transform import Change, Skip, Transform, TransformResult
    from paredown.transforms import (
        Factorize,
        FineTune,
        PruneChannels,
        PruneCycle,
        PruneGradually,
        PruneWeights,
        QuantizeAware,
        ReestimateBatchNorm,
        ShareWeights,
        SubstituteAdditive,
        SubstituteConv,
    )

# Where each name lives. Loaded when it is first asked for: Keras takes seconds to import, and `paredown --help` and the
# error classes need none of it.
_HOMES = {
    "paredown.channels": ("ChannelGroup", "channel_groups"),
    "paredown.data": ("Data", "Split"),
    "paredown.errors": ("ParedownError",),
    "paredown.export": ("Export", "export_litert"),
    "paredown.latency": ("OperationTable", "measured_table", "predict_latency", "roofline"),
    "paredown.latency_table": ("LatencyTable",),
    "paredown.layer_rules": ("Rule", "register_layer_rule"),
    "paredown.measure": ("LatencyReport", "measure_latency"),
    "paredown.packed": ("Packing", "pack_litert"),
    "paredown.pipeline": ("compress",),
    "paredown.profiling": ("Profile", "profile"),
    "paredown.recipe": ("Recipe",),
    "paredown.run": ("Run",),
    "paredown.scan": ("Scan", "scan_sensitivity"),
    "paredown.transform": ("Change", "Skip", "Transform", "TransformResult"),
    "paredown.transforms": (
        "Factorize",
        "FineTune",
        "PruneChannels",
        "PruneCycle",
        "PruneGradually",
        "PruneWeights",
        "QuantizeAware",
        "ReestimateBatchNorm",
        "SubstituteAdditive",
        "ShareWeights",
        "SubstituteConv",
    ),
}
#: Modules that are named whole.
_MODULES = ("blocks",)
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__version__ = version("paredown")
__all__ = [
    "Change",
    "ChannelGroup",
    "Data",
    "Export",
    "Factorize",
    "FineTune",
    "LatencyReport",
    "LatencyTable",
    "OperationTable",
    "Packing",
    "ParedownError",
    "Profile",
    "PruneChannels",
    "PruneCycle",
    "PruneGradually",
    "PruneWeights",
    "QuantizeAware",
    "Recipe",
    "ReestimateBatchNorm",
    "Rule",
    "Run",
    "Scan",
    "ShareWeights",
    "Skip",
    "Split",
    "SubstituteAdditive",
    "SubstituteConv",
    "Transform",
    "TransformResult",
    "blocks",
    "channel_groups",
    "compress",
    "export_litert",
    "measure_latency",
    "measured_table",
    "pack_litert",
    "predict_latency",
    "profile",
    "register_layer_rule",
    "roofline",
    "scan_sensitivity",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"paredown.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'paredown' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value
