"""Which number format each layer of a file gets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paredown.errors import SettingError

FLOAT32 = "float32"
NAMES = ("float16", "dynamic", "int8", "int4")
#: Stands for every layer that is not named.
OTHERS = "*"


@dataclass(frozen=True)
class Plan:
    """Number formats by layer.

    Args:
        others: Of layers that are not named: one of `NAMES`, or "float32".
        layers: Path of a layer -> its format.
    """

    others: str = FLOAT32
    layers: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(quantization: Any) -> "Plan":
        """The plan of a setting: None, a format, or formats by layer with "*" for the others.

        Raises:
            SettingError: If it is none of these, or names an unknown format.
        """
        if isinstance(quantization, Plan):
            return quantization
        if isinstance(quantization, Mapping) and set(map(type, quantization)) <= {str}:
            wrong = {layer: name for layer, name in quantization.items() if name not in (*NAMES, FLOAT32)}
            if wrong:
                raise SettingError(
                    f"quantization gives each layer one of {', '.join((FLOAT32, *NAMES))}. Received: {wrong}. "
                    "Use e.g. {'*': 'int8', 'scores': 'float32'}."
                )
            layers = dict(quantization)
            return Plan(layers.pop(OTHERS, FLOAT32), layers)
        if quantization is not None and (not isinstance(quantization, str) or quantization not in NAMES):
            raise SettingError(
                f"quantization must be None or one of {', '.join(NAMES)}. Received: quantization={quantization!r}. "
                "Use int8 for speed, dynamic where there are no calibration inputs; formats by layer as {'*': 'int8', "
                "'scores': 'float32'}."
            )
        return Plan(quantization or FLOAT32)

    @property
    def formats(self) -> list[str]:
        """All formats but float32, each once."""
        return [name for name in dict.fromkeys([self.others, *self.layers.values()]) if name != FLOAT32]

    def of_layer(self, path: str) -> str:
        return self.layers.get(path, self.others)

    def __str__(self) -> str:
        """E.g. `int8, but scores float32`."""
        named = ", ".join(f"{layer} {name}" for layer, name in self.layers.items())
        return f"{self.others}, but {named}" if named else self.others
