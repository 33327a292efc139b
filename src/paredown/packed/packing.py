"""From a float32 .tflite file whose kernels share few values to a packed one, checked and measured."""

import dataclasses
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paredown.checks import Check, largest_difference, root_mean_square_difference
from paredown.errors import CheckError, DeviceError
from paredown.files import replacing
from paredown.measure import CLEARLY_SLOWER, LiteRTRunner, measure_latency, running_bytes
from paredown.measure.size import deflated_bytes, read_tflite
from paredown.packed.forms import AUTO, FORMS, TOLERANCE, PackedKernel, Source, Written, check_form, check_tolerance
from paredown.packed.piece import ROUNDED
from paredown.progress import task
from paredown.transform import Skip

#: How far outputs may be from the plain file's, as a share of their range: what other kernels of LiteRT, which add up
#: in another order, are allowed everywhere. 5e-6 was seen with MobileNetV2.
EQUAL = 1e-4
#: Random inputs are tried at these sizes: a softmax that is sure of one class hides what differs.
_SCALES = (1.0, 0.1, -1.0)
#: How far where kernels were moved to a grid: root mean square, as a share of the outputs' own.
NEAR = 0.1
_LATENCY_RUNS = 50
PLAIN = "plain"


@dataclass(frozen=True)
class Sizes:
    """Three sizes that are not each other.

    Args:
        file_bytes: Of the file.
        zipped_bytes: Of the file after deflate at level 9.
        running_bytes: Memory that loading it and one inference take at their peak, as `measure.running_bytes` counts
            it; None where the system does not say.
    """

    file_bytes: int
    zipped_bytes: int
    running_bytes: int | None


@dataclass(frozen=True)
class Packing:
    """What packing did.

    Args:
        form: Of the file, a key of `FORMS`; "plain" where no kernel could be packed.
        asked: The form that was asked for.
        kernels: Those that are packed.
        skips: Large constants that are not, with the reason.
        before, after: Sizes of the plain and of the packed file.
        checks: The outputs' equality with the plain file's.
        speeds: For the plain file and each form that was tried the median of the ratios plain file's time / its time
            in LiteRT here; empty where no kernel could be packed.
        latencies_ms: For the same the median time of one inference.
    """

    form: str
    asked: str
    kernels: tuple[PackedKernel, ...]
    skips: tuple[Skip, ...]
    before: Sizes
    after: Sizes
    checks: tuple[Check, ...]
    speeds: Mapping[str, float]
    latencies_ms: Mapping[str, float]

    @property
    def payload_bytes(self) -> int:
        """What the packed kernels' bits, codebooks and scales take."""
        return sum(kernel.payload_bytes for kernel in self.kernels)

    @property
    def overhead_bytes(self) -> int:
        """What decoding takes beside: operations, tensors, tables, in the file."""
        plain = sum(kernel.plain_bytes for kernel in self.kernels)
        return self.after.file_bytes - (self.before.file_bytes - plain) - self.payload_bytes

    @property
    def error(self) -> float:
        """The largest change of a kernel, as a share of its own size."""
        return max((kernel.error for kernel in self.kernels), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in run.json."""
        return {
            **dataclasses.asdict(self),
            "checks": [check.to_dict() for check in self.checks],
            "payload_bytes": self.payload_bytes,
            "overhead_bytes": self.overhead_bytes,
        }


def pack_litert(
    source: str | os.PathLike, path: str | os.PathLike, form: str = AUTO, tolerance: float = TOLERANCE
) -> Packing:
    """Writes a float32 .tflite file whose kernels share few values so that it is smaller, and plain LiteRT runs it.

    Args:
        source: The file, of batch 1: what `export_litert` makes of a network after `ShareWeights`.
        path: Where to write; may be `source`. Written aside first.
        form: "ship", the smallest file: indices at their true width and a codebook, decoded once, before the first
            inference; convolutions then leave the fast path. "run", full speed: one byte for each weight, which must
            lie on a grid (a step times -127 to 127; for each channel where scales or codebooks differ) and is moved
            there. "auto": both are measured in LiteRT here, and the smaller one of those is taken that are not slower
            than the faster one by more than 3 %.
        tolerance: With "run": a kernel that the grid would change by more (root mean square, as a share of its own)
            stays as it is.
    Returns:
        Packing: what was packed, what was not and why, and file, zipped and memory size apart.
    Raises:
        SettingError: If `form` or `tolerance` is none.
        ModelError: If the file is missing, damaged or not of batch 1.
        CheckError: If the packed file does not give what the plain one gives.
        OutputError: If `path` cannot be written.
    """
    content, packing = packed_content(read_tflite(source), form, tolerance)
    with replacing(path) as aside:
        aside.write_bytes(content)
    return packing


def packed_content(
    content: bytes,
    form: str = AUTO,
    tolerance: float = TOLERANCE,
    layers: Mapping[str, str] | None = None,
    columns: Sequence[np.ndarray] | None = None,
) -> tuple[bytes, Packing]:
    """A packed file's content, as `pack_litert` writes it.

    Args:
        content: The plain file.
        form, tolerance: As in `pack_litert`.
        layers: Name of a tensor -> the layer that it comes from, as far as it is known.
        columns: Inputs to compare outputs on, one array (n, ...) each; None: random ones.
    """
    check_form(form)
    check_tolerance(tolerance)
    with task(f"Pack: {form}", total=None) as advance:
        source = Source(content, layers)
        made = {name: source.written(name, tolerance) for name in (FORMS if form == AUTO else (form,))}
        made = {name: written for name, written in made.items() if written.kernels} or {
            PLAIN: next(iter(made.values()))
        }
        checks = {name: _check(content, written, columns) for name, written in made.items()}
        with tempfile.TemporaryDirectory(prefix="paredown-") as folder:
            paths = _files({PLAIN: content, **{name: written.content for name, written in made.items()}}, folder)
            speeds, latencies_ms = _measured(paths)
            chosen = fast_and_small(speeds, {name: len(made[name].content) for name in made})
            before, after = (_sizes(paths[name]) for name in (PLAIN, chosen))
        advance(1)
    written = made[chosen]
    packing = Packing(chosen, form, written.kernels, written.skips, before, after, checks[chosen], speeds, latencies_ms)
    return written.content, packing


def fast_and_small(speeds: Mapping[str, float], sizes: Mapping[str, int]) -> str:
    """The smallest of the files that are not slower than the fastest one by more than 3 %.

    Args:
        speeds: Name -> times faster than one and the same file; empty: all alike.
        sizes: Name -> bytes.
    """
    fastest = max(speeds.get(name, 1.0) for name in sizes)
    fast = [name for name in sizes if speeds.get(name, 1.0) >= CLEARLY_SLOWER * fastest]
    return min(fast, key=lambda name: sizes[name])


def _check(content: bytes, written: Written, columns: Sequence[np.ndarray] | None) -> tuple[Check, ...]:
    if not written.kernels:
        return ()
    plain, packed = LiteRTRunner(content), LiteRTRunner(written.content)
    inputs = tuple(_trial(plain.random_inputs()) if columns is None else columns)
    before, after = plain.run(inputs), packed.run(inputs)
    if max(kernel.error for kernel in written.kernels) > ROUNDED:
        name = "packed near plain, root mean square"
        return (Check(name, root_mean_square_difference(before, after), NEAR),)
    check = Check("packed equals plain", largest_difference(before, after), EQUAL)
    if not check.passed:
        raise CheckError(
            f"The packed file must equal the plain one to {EQUAL:g} of its outputs' range. "
            f"Received: {check.value:.3g}. Leave pack out, and report the network that shows it."
        )
    return (check,)


def _trial(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A few inputs for each of a file's, from one."""
    return [
        np.concatenate([array * np.float32(scale) if array.dtype.kind == "f" else array for scale in _SCALES])
        for array in arrays
    ]


def _files(contents: Mapping[str, bytes], folder: str) -> dict[str, Path]:
    paths = {name: Path(folder) / f"{name}.tflite" for name in contents}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    return paths


def _measured(paths: Mapping[str, Path]) -> tuple[dict[str, float], dict[str, float]]:
    """Speeds over the plain file and times of each file, in turns; nothing where there is but the plain one."""
    if set(paths) == {PLAIN}:
        return {}, {}
    rows = measure_latency(list(paths.values()), runs=_LATENCY_RUNS).rows
    speeds = {name: row.speedup_median for name, row in zip(paths, rows, strict=True)}
    return speeds, {name: row.median_ms for name, row in zip(paths, rows, strict=True)}


def _sizes(path: Path) -> Sizes:
    content = path.read_bytes()
    try:
        running = running_bytes(path)
    except DeviceError:  # Not Linux: what a process takes is not told.
        running = None
    return Sizes(len(content), deflated_bytes(content), running)
