"""Measured milliseconds of layers at several widths, and the file that holds them.

    {"format": "paredown latency table 1",
     "device": "Pixel 8", "runtime": "LiteRT 2.1.0", "threads": 1,
     "fixed_ms": 0.1,
     "layers": {"conv1": {"in": [3], "out": [8, 16, 32], "ms": [[0.11, 0.12, 0.19]]}}}

`ms` has a row for each width in `in` and a column for each in `out`.
"""

import json
import math
import os
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paredown.errors import SettingError
from paredown.files import write_text

_FORMAT = "paredown latency table 1"


@dataclass(frozen=True)
class LayerLatency:
    """One layer's measurements.

    Args:
        channels_in, channels_out: The widths measured, rising.
        ms: Milliseconds, one row for each of `channels_in`, one column for each of `channels_out`.
    """

    channels_in: tuple[int, ...]
    channels_out: tuple[int, ...]
    ms: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of each layer on a grid of widths.

    Between two measured widths the next larger one counts: a kernel works in steps of its vector width, so that a
    layer takes as long as the step it falls into. Nothing is interpolated, and a wider layer may be the faster one.

    Args:
        layers: Layer path -> measurements.
        device, runtime: What was measured, for the reader.
        threads: Threads of the runtime.
        fixed_ms: What the network takes beside these layers.
        source: Where it came from, for messages.
    """

    layers: Mapping[str, LayerLatency]
    device: str
    runtime: str
    threads: int = 1
    fixed_ms: float = 0.0
    source: str = field(default="latency table", compare=False)

    def of(self, layer: str, channels_in: int, channels_out: int) -> float:
        """Milliseconds of a layer with so many channels.

        Raises:
            SettingError: If the layer is missing or wider than what was measured.
        """
        self.require([layer])
        row = self.layers[layer]
        i, o = bisect_left(row.channels_in, channels_in), bisect_left(row.channels_out, channels_out)
        if i == len(row.channels_in) or o == len(row.channels_out):
            raise SettingError(
                f"A latency table must reach up to the widths that a layer has. Received: {channels_in} channels in "
                f"and {channels_out} out for {layer}, measured up to {row.channels_in[-1]} and {row.channels_out[-1]} "
                f"({self.source}). Measure the layer at its full width, too."
            )
        return row.ms[i][o]

    def require(self, layers: Sequence[str]) -> None:
        """Raises SettingError naming the layers that are missing."""
        missing = [path for path in dict.fromkeys(layers) if path not in self.layers]
        if missing:
            raise SettingError(
                f"A latency table must have every layer that multiplies. Received: none for {', '.join(missing)} "
                f"({self.source}). Measure these layers on {self.device}, too."
            )

    @staticmethod
    def load(path: str | os.PathLike) -> "LatencyTable":
        """Reads a table from a JSON file.

        Raises:
            SettingError: If the file is missing or is no table; names the layer.
        """
        try:
            plain = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is no JSON"
            raise SettingError(
                f"The latency table must be a readable JSON file. Received: {str(path)!r}: {reason}. "
                "Write one with LatencyTable(...).save(path)."
            ) from error
        return LatencyTable.from_dict(plain, str(path))

    @staticmethod
    def from_dict(plain: Any, where: str = "latency table") -> "LatencyTable":
        """The table that a file's content describes; raises SettingError as `load` does."""
        if not isinstance(plain, dict) or plain.get("format") != _FORMAT or not isinstance(plain.get("layers"), dict):
            given = plain.get("format") if isinstance(plain, dict) else type(plain).__name__
            raise SettingError(
                f"A latency table must have the format {_FORMAT!r} and layers. Received: {given!r} ({where}). "
                "docs/budgets.md describes it."
            )
        layers = {name: _layer(name, row, where) for name, row in plain["layers"].items()}
        unknown = set(plain) - {"format", "layers", "device", "runtime", "threads", "fixed_ms"}
        if unknown or not {"device", "runtime", "threads"} <= set(plain):
            raise SettingError(
                "A latency table must say device, runtime and threads, and may say fixed_ms. Received: "
                f"{sorted(plain)} ({where})."
            )
        fixed = plain.get("fixed_ms", 0.0)
        if not _is_time(fixed):
            raise SettingError(f"fixed_ms must be milliseconds of at least 0. Received: fixed_ms={fixed!r} ({where}).")
        return LatencyTable(layers, plain["device"], plain["runtime"], plain["threads"], fixed, where)

    def to_dict(self) -> dict[str, Any]:
        """The table as the plain data of its file."""
        rows = {
            name: {"in": list(row.channels_in), "out": list(row.channels_out), "ms": [list(r) for r in row.ms]}
            for name, row in self.layers.items()
        }
        about = {key: getattr(self, key) for key in ("device", "runtime", "threads", "fixed_ms")}
        return {"format": _FORMAT, **about, "layers": rows}

    def save(self, path: str | os.PathLike) -> None:
        """Writes the table to a JSON file, whole or not at all."""
        write_text(path, json.dumps(self.to_dict(), indent=1))


def _layer(name: str, row: Any, where: str) -> LayerLatency:
    try:
        widths = tuple(row["in"]), tuple(row["out"])
        ms = tuple(tuple(line) for line in row["ms"])
    except (KeyError, TypeError):
        ms, widths = (), ((), ())
    rising = all(w and all(_is_width(n) for n in w) and list(w) == sorted(set(w)) for w in widths)
    full = len(ms) == len(widths[0]) and all(len(line) == len(widths[1]) for line in ms)
    if not rising or not full or not all(_is_time(value) for line in ms for value in line):
        raise SettingError(
            "A layer of a latency table must have rising widths in and out, and ms with a row for each of in and a "
            f"column for each of out, all at least 0. Received: {json.dumps(row)[:120]} for {name} ({where})."
        )
    return LayerLatency(*widths, ms)


def _is_width(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
