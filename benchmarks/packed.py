"""What shared weights inside a .tflite file cost: three sizes and the latency of every form, at several k.

    python benchmarks/packed.py MODEL.keras [...] [--k 16 256] [--device host|browser|arm64] [--runs N] [--out DIR]

Every kernel of a network gets k values (Lloyd's iteration from quantiles: no more than is needed to have something to
pack; what k costs in accuracy is not asked here), and the network is exported plainly and in each form. A row for each
file: bytes, zipped, memory while running, median latency (instructions on arm64), how often the plain file's that is,
bytes that decoding takes beside indices and codebooks, kernels that are packed and not, their largest change ("run"
moves codebooks to a grid), and the distance of the outputs from the plain file's.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_ROUNDS = 10


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--k", type=int, nargs="+", default=[16])
    parser.add_argument("--device", default="host")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as aside:
        folder = given.out or Path(aside)
        folder.mkdir(parents=True, exist_ok=True)
        for name in given.models:
            for k in given.k:
                for line in measured(name, k, given.device, given.runs, folder):
                    print(line, flush=True)


def measured(name: str, k: int, device: str, runs: int, folder: Path) -> list[str]:
    """The rows of one network."""
    import keras

    from paredown import export_litert, pack_litert
    from paredown.devices import Options, measure_on
    from paredown.packed import FORMS

    stem = f"{Path(name).stem}-k{k}"
    shared = with_shared_weights(keras.models.load_model(name, compile=False), k)
    plain = export_litert(shared, folder / f"{stem}-plain.tflite").path
    packings = {form: pack_litert(plain, folder / f"{stem}-{form}.tflite", form) for form in FORMS}
    files = [plain, *(folder / f"{stem}-{form}.tflite" for form in FORMS)]
    lines = [
        f"{stem} on {device}: form, bytes, zipped, running, latency, x plain, overhead of decoding, kernels, "
        "largest change, outputs"
    ]
    for report in measure_on(device, files, Options(runs=runs, tell=lambda text: print(text, file=sys.stderr))):
        for form, row in zip(("plain", *FORMS), report.rows, strict=True):
            packing = packings.get(form)
            sizes = packing.after if packing else next(iter(packings.values())).before
            running = "unknown" if sizes.running_bytes is None else f"{sizes.running_bytes:,}"
            told = f"  {form}, {sizes.file_bytes:,}, {sizes.zipped_bytes:,}, {running}, {_latency(row)}"
            lines.append(told + (_told(packing) if packing else ""))
    return lines


def with_shared_weights(model: Any, k: int) -> Any:
    """The network, the weights of each of its kernels being k values."""
    from paredown.network import Network
    from paredown.sparse import kernels

    for kernel in kernels(Network(model))[0]:
        variable = kernel.variable(kernel.layer)
        variable.assign(clustered(kernel.value(), k))
    return model


def clustered(values: Any, k: int) -> Any:
    """The values, each being the nearest of k."""
    import numpy as np

    flat = np.unique(values)
    centres = np.unique(np.quantile(values, (np.arange(k) + 0.5) / k))
    for _ in range(_ROUNDS):
        bounds = np.searchsorted(flat, (centres[1:] + centres[:-1]) / 2)
        centres = np.array([part.mean() for part in np.split(flat, bounds) if len(part)])
    nearest = np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
    return centres.astype("float32")[nearest]


def _latency(row: Any) -> str:
    if hasattr(row, "instructions"):
        return f"{row.instructions:,} instructions, {1 / row.fewer:.2f}"
    return f"{row.median_ms:.3f} ms, {1 / row.speedup_median:.2f}"


def _told(packing: Any) -> str:
    check = packing.checks[0]
    left = "" if not packing.skips else f" ({len(packing.skips)} not)"
    return f", {packing.overhead_bytes:,}, {len(packing.kernels)}{left}, {packing.error:.2g}, {check.value:.2g}"


if __name__ == "__main__":
    main()
