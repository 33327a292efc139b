"""What a device is: a place where .tflite files can be run and measured."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

#: How far a device's outputs may be from this computer's, as a share of an output's range: other processors round
#: elsewhere, and in an int8 file each step of rounding is a step.
TOLERANCE = 0.05


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Options:
    """How to measure; a device looks at what concerns it.

    Args:
        threads: Of the runtime, at least 1.
        runs: Timings per file, at least 1.
        timeout_s: Seconds after which a device that gives no sign of life is given up.
        port: TCP port to serve on; 0: any free one.
        https: Serve over HTTPS with a certificate of our own, which a browser must be told to trust.
        phones: Browsers to wait for.
        tell: Takes a line that a person must read while it goes on, such as the address to open.
    """

    threads: int = 1
    runs: int = 50
    timeout_s: float = 600.0
    port: int = 0
    https: bool = False
    phones: int = 1
    tell: Callable[[str], None] = _tell


class Report(Protocol):
    """What a device gives: figures of several files that were measured together."""

    @property
    def rows(self) -> Sequence[Any]:
        """One for each file, in order."""
        ...

    def to_dict(self) -> dict:
        """Plain data."""
        ...


@dataclass(frozen=True)
class Device:
    """A row of `DEVICES`.

    Args:
        name: As `--device` takes it.
        summary: What it is, for the command's help.
        why_not: `why_not(options)` says why nothing can be measured there now and what to do about it, None where it
            can; cheap.
        measure: `measure(files, options)` measures .tflite files, the first being what others are compared with, and
            gives a report for each machine that took part. Raises ModelError for a bad file, DeviceError where the
            device fails.
        setup: `setup()` makes it ready once and says where that is kept; what is ready already is left alone. Raises
            DeviceError where it fails, and leaves nothing half-made. None where there is nothing to set up.
    """

    name: str
    summary: str
    why_not: Callable[[Options], str | None]
    measure: Callable[[Sequence[Path], Options], tuple[Report, ...]]
    setup: Callable[[], Path] | None = None
