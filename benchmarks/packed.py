"""What shared weights inside a .tflite file cost: three sizes and the latency of every form, at several k.

    python benchmarks/packed.py MODEL.keras [...] [--k 16 256] [--grid int8] [--data SRC] [--device host|arm64]
                                [--runs N] [--out DIR]

Every kernel of a network gets k values (`ShareWeights(k=k)`), and the network is exported plainly and in each form. A
row for each file: bytes, zipped, memory while running, median latency (instructions on arm64), how often the plain
file's that is, accuracy on 500 examples with --data; and of the packed ones bytes that decoding takes beside indices
and codebooks, kernels that are packed and not, their largest change ("run" moves codebooks to a grid), and the distance
of the outputs from the plain file's. Files stay in --out, for `paredown bench --device browser`.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_EXAMPLES, _TRIED = 500, 8


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--k", type=int, nargs="+", default=[16])
    parser.add_argument("--grid")
    parser.add_argument("--data")
    parser.add_argument("--device", default="host")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as aside:
        folder = given.out or Path(aside)
        folder.mkdir(parents=True, exist_ok=True)
        for name in given.models:
            for k in given.k:
                for line in measured(name, k, given.grid, given.data, given.device, given.runs, folder):
                    print(line, flush=True)


def measured(
    name: str, k: int, grid: str | None, source: str | None, device: str, runs: int, folder: Path
) -> list[str]:
    """The rows of one network."""
    import keras
    import numpy as np

    from paredown import ShareWeights, export_litert
    from paredown.data import Data
    from paredown.devices import Options, measure_on
    from paredown.measure import score_litert
    from paredown.packed import FORMS, packed_content

    stem = f"{Path(name).stem}-k{k}"
    judged = None if source is None else Data.load(source).validation.take(_EXAMPLES)
    shared = ShareWeights(k=k, grid=grid)(keras.models.load_model(name, compile=False)).model
    files = {form: folder / f"{stem}-{form}.tflite" for form in ("plain", *FORMS)}
    plain = export_litert(shared, files["plain"]).path.read_bytes()
    packings = {}
    for form in FORMS:
        columns = None if judged is None else [np.float32(judged.rows(np.arange(_TRIED))[0])]
        content, packings[form] = packed_content(plain, form, columns=columns)
        files[form].write_bytes(content)
    lines = [
        f"{stem} on {device}: form, bytes, zipped, running, latency, x plain, accuracy (%), overhead of decoding, "
        "kernels, largest change, outputs"
    ]
    (report,) = measure_on(device, list(files.values()), Options(runs=runs))
    for form, row in zip(files, report.rows, strict=True):
        packing = packings.get(form)
        sizes = packing.after if packing else packings["ship"].before
        running = "unknown" if sizes.running_bytes is None else f"{sizes.running_bytes:,}"
        right = "no labels" if judged is None else f"{100 * score_litert(files[form], judged).value:.1f}"
        told = f"  {form}, {sizes.file_bytes:,}, {sizes.zipped_bytes:,}, {running}, {_latency(row)}, {right}"
        lines.append(told + (_told(packing) if packing else ""))
    return lines


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
