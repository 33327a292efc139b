"""What a network costs: MACs, parameters, bytes, layer by layer."""

from paredown.profiling.cost import MacCount, Shapes, mac_terms
from paredown.profiling.counts import LatencyCount, ParameterCount
from paredown.profiling.layers import LayerProfile, Profile, compared, profile

__all__ = [
    "LatencyCount",
    "LayerProfile",
    "MacCount",
    "ParameterCount",
    "Profile",
    "Shapes",
    "compared",
    "mac_terms",
    "profile",
]
