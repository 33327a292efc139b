"""Layers that a transform's settings name."""

from collections.abc import Sequence
from typing import Any

from paredown.errors import SettingError
from paredown.network import Network


def names(value: str | Sequence[str]) -> tuple[str, ...]:
    """One name, or several, as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def check_names(transform: Any, network: Network, fields: Sequence[str] = ("layers", "exclude")) -> None:
    """Raises SettingError where one of the fields names a layer that the network does not have."""
    known = [call.path for call in network.all_calls() if call.is_layer]
    for name in fields:
        unknown = sorted(set(getattr(transform, name)) - set(known))
        if unknown:
            raise SettingError(
                f"{name} must name layers of the network. Received: {unknown} ({type(transform).__name__}). "
                f"The network has: {', '.join(known[:8])}, …"
            )
