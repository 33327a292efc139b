"""The settings of a scan, checked before anything is loaded or run."""

from collections.abc import Sequence

from paredown.errors import SettingError
from paredown.scan.methods import METHODS
from paredown.transform import is_number, is_whole


def check_settings(
    methods: str | Sequence[str] | None, levels: float | Sequence[float], seed: int = 0, examples: int = 512
) -> tuple[list[str], list[float]]:
    """The methods and, rising loss last, the levels; raises SettingError for those that are none."""
    names = list(METHODS if methods is None else [methods] if isinstance(methods, str) else methods)
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise SettingError(f"methods must be of {', '.join(METHODS)}. Received: {unknown or names} (scan).")
    given = [levels] if isinstance(levels, int | float) else list(levels)
    wrong = [level for level in given if not (is_number(level) and 0 < level < 1)]
    if wrong or not given:
        raise SettingError(
            f"levels must be in (0, 1), the share of a layer that is kept. Received: levels={wrong or given} (scan). "
            "Use e.g. 0.75, 0.5 and 0.25."
        )
    for name, value, least in (("examples", examples, 1), ("seed", seed, 0)):
        if not is_whole(value, least):
            raise SettingError(f"{name} must be a whole number of at least {least}. Received: {name}={value!r} (scan).")
    return list(dict.fromkeys(names)), sorted({float(level) for level in given}, reverse=True)
