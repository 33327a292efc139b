"""What the emulated core executed."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from paredown.devices.device import TOLERANCE

NOT_TIME = "Instructions are not time: an emulator knows no caches, no memory bandwidth, no two instructions at once."


@dataclass(frozen=True)
class Instructions:
    """One file's figures.

    Args:
        path: The file.
        instructions: Executed in one inference, on one thread.
        fewer: The first file's instructions / this one's; unitless, above 1 is fewer than the first.
        difference: Largest difference from the outputs of LiteRT on this computer, as a share of the output's range;
            unitless, infinite where a value is not finite.
    """

    path: str
    instructions: int
    fewer: float
    difference: float


@dataclass(frozen=True)
class InstructionReport:
    """Figures of several files.

    Args:
        core: The Arm core that was emulated.
        runtime: Name and version of the runtime.
        emulator: Name and version of the emulator.
        rows: One `Instructions` per file, in order.
    """

    unit: ClassVar[str] = "instructions"

    core: str
    runtime: str
    emulator: str
    rows: tuple[Instructions, ...]

    def to_dict(self) -> dict:
        """Plain data."""
        return {"unit": self.unit, "threads": 1, **dataclasses.asdict(self), "notes": self.notes}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know, in sentences."""
        return (NOT_TIME, *(_mistrust(row) for row in self.rows if not row.difference <= TOLERANCE))


def _mistrust(row: Instructions) -> str:
    return (
        f"{row.path}: outputs differ from LiteRT's on this computer by {row.difference:.3g} of their range; do not "
        "trust its count either."
    )
