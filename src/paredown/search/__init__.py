"""From a trained network and limits to the recipe that loses least: `search(model, data, out, max_latency="0.5x")`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paredown.search.searching import search

__all__ = ["search"]


def __getattr__(name: str) -> Any:
    # The command line looks at limits before Keras and Optuna are loaded.
    if name != "search":
        raise AttributeError(f"module 'paredown.search' has no attribute {name!r}")
    from paredown.search.searching import search

    return search
