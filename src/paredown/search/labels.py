"""A recipe in a few words, for tables and plots."""

from paredown.recipe import Recipe
from paredown.transform import Transform

_WORDS = {
    "prune_channels": "prune",
    "factorize": "factorize",
    "substitute_conv": "substitute",
    "share_weights": "share",
    "fine_tune": "tune",
}


def label(recipe: Recipe) -> str:
    """E.g. `prune → factorize 0.5, int8`."""
    words = [_word(transform) for transform in recipe.transforms]
    steps = " → ".join(dict.fromkeys(word for word in words if word))
    export = recipe.pack or (recipe.quantization if isinstance(recipe.quantization, str) else None)
    return ", ".join(filter(None, [steps or "as it is", export]))


def _word(transform: Transform) -> str:
    settings = transform.settings()
    shown = settings.get("structure") or settings.get("k")
    shown = shown or next((f"{settings[name]:.2f}" for name in ("macs", "params", "latency") if name in settings), "")
    word = _WORDS.get(transform.name, "")
    return f"{word} {shown}".strip() if word and word != "tune" else ""
