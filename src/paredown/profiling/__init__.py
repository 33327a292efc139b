"""What a network costs: MACs, parameters, bytes, layer by layer."""

from paredown.profiling.cost import MacCount, Shapes
from paredown.profiling.layers import LayerProfile, Profile, profile

__all__ = ["LayerProfile", "MacCount", "Profile", "Shapes", "profile"]
