"""The number formats that a search may end in: what is done to the weights before the export, and the export itself.

To add one: a row in `FORMATS`.
"""

from dataclasses import dataclass
from typing import Any

from paredown.transforms import ShareWeights


@dataclass(frozen=True)
class Format:
    """How a network's file holds its numbers.

    Args:
        method: What must be allowed for it: a method's name; None: always.
        quantization, pack: As of `Recipe`.
        sharing: Comes after fine-tuning, which then goes on with shared values.
        slower: Whether it may only be chosen where the size is limited: it gains nothing else.
    """

    method: str | None
    quantization: Any = None
    pack: str | None = None
    sharing: ShareWeights | None = None
    slower: bool = False


FORMATS: dict[str, Format] = {
    "float32": Format(None),
    "float16": Format("quantize", "float16", slower=True),
    "dynamic": Format("quantize", "dynamic", slower=True),
    "int8": Format("quantize", "int8"),
    "shared": Format("share_weights", pack="ship", sharing=ShareWeights(k=16), slower=True),
}


def allowed(methods: tuple[str, ...], sized: bool) -> list[str]:
    """The formats of a search.

    Args:
        methods: Those that may be used.
        sized: Whether the size is limited.
    """
    return [
        name
        for name, row in FORMATS.items()
        if row.method in (None, *methods) and (sized or not row.slower or methods == (row.method,))
    ]
