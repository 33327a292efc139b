"""Every number format of a network: is it right, is it smaller, is it faster?

    python benchmarks/quantized.py MODEL [MODEL ...] [--data SRC] [--examples N]

MODEL is a .keras file or the name of a network of keras.applications (random weights). Without --data inputs are random
and there is no accuracy. Prints a row for each format: file size, distance of the outputs from Keras's (root mean
square, with the tolerance), accuracy of the file, time over float32's in the same turn, and the layers that stayed in
another format by reason. A format that is slower than float32 is said to be.
"""

import argparse
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data")
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--runs", type=int, default=30)
    given = parser.parse_args(arguments)
    for name in given.models:
        for line in measured(name, given.data, given.examples, given.runs):
            print(line, flush=True)


def measured(name: str, source: str | None, examples: int, runs: int) -> list[str]:
    """The rows of one network."""
    import keras

    from paredown import export_litert, measure_latency
    from paredown.export import FORMATS
    from paredown.measure import CLEARLY_SLOWER

    model = keras.models.load_model(name, compile=False) if Path(name).exists() else _application(name)
    data, judged = _data(model, source, examples)
    lines = [f"{Path(name).stem}: format, bytes, distance (tolerance), accuracy (%), x faster than float32"]
    with tempfile.TemporaryDirectory() as folder:
        exports = {
            chosen: export_litert(model, Path(folder) / f"{chosen}.tflite", chosen, data) for chosen in (None, *FORMATS)
        }
        report = measure_latency([export.path for export in exports.values()], runs=runs)
        for (chosen, export), row in zip(exports.items(), report.rows, strict=True):
            check, speed = export.checks[0], row.speedup_median
            said = f" (p10 to p90 {row.speedup_p10:.2f} to {row.speedup_p90:.2f})"
            slower = ", slower" if speed < CLEARLY_SLOWER else ""
            wrong = "" if check.passed else ", NOT NEAR KERAS"
            left = Counter(skip.reason for skip in export.skips)
            lines.append(
                f"  {chosen or 'float32'}, {export.size_bytes:,}, {check.value:.2g} ({check.tolerance:g}){wrong}, "
                f"{_accuracy(export.path, judged)}, {speed:.2f}{said}{slower}"
            )
            lines += [f"      {count} x {reason}" for reason, count in left.items()]
    return lines


def _application(name: str) -> Any:
    from keras import applications

    return getattr(applications, name)(weights=None)


def _data(model: Any, source: str | None, examples: int) -> tuple[Any, Any]:
    """What calibrates, and what is judged by (None where there are no labels)."""
    import numpy as np

    from paredown import Data

    if source is None:
        shape = tuple(size or 64 for size in model.input_shape[1:])
        return Data(calibration=np.random.default_rng(0).random((16, *shape), "float32")), None
    data = Data.load(source)
    assert data.validation is not None
    return data, data.validation.take(examples)


def _accuracy(path: Path, judged: Any) -> str:
    from paredown.measure import score_litert

    return "no labels" if judged is None else f"{100 * score_litert(path, judged).value:.1f}"


if __name__ == "__main__":
    main()
