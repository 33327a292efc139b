"""Networks that recipes make of one original; those made last are at hand."""

from collections.abc import Callable
from typing import Any

from paredown.recipe import Recipe
from paredown.transform import Transform

#: Networks that are kept, and weights of all of them, at most.
KEPT, KEPT_WEIGHTS = 32, 2**26


class Made:
    """The networks.

    Args:
        original: What recipes begin with.
        transformed: transformed(transform, model) -> the network that it makes.
    """

    def __init__(self, original: Any, transformed: Callable[[Transform, Any], Any]):
        self._original, self._transformed = original, transformed
        self._networks: dict[str, Any] = {}

    def by(self, recipe: Recipe) -> Any:
        """What a recipe's transforms make; where they begin like another's, it goes on from there."""
        if not recipe.transforms:
            return self._original
        key = _key(recipe)
        if key not in self._networks:
            *before, last = recipe.transforms
            self.keep(recipe, self._transformed(last, self.by(Recipe(before))))
        return self._networks[key]

    def keep(self, recipe: Recipe, model: Any) -> None:
        """Keeps what a recipe's transforms have made; the oldest go."""
        self._networks[_key(recipe)] = model
        while len(self._networks) > 1 and self._are_many():
            del self._networks[next(iter(self._networks))]

    def _are_many(self) -> bool:
        weights = sum(model.count_params() for model in self._networks.values())
        return len(self._networks) > KEPT or weights > KEPT_WEIGHTS


def _key(recipe: Recipe) -> str:
    return Recipe(recipe.transforms).to_yaml()
