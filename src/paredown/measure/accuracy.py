"""How well a network does on data: one figure, the same code for a Keras model and for a .tflite file.

The metric follows from the labels: class indices (or one-hot rows) give top-1 accuracy, per position where the
output is a map; 0 or 1 against a single score gives accuracy at 0.5; other values the mean squared error; no labels
the distance from reference outputs. Of a network with several outputs the labels of the first are scored.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paredown import progress
from paredown.data import Split
from paredown.errors import DataError
from paredown.measure.litert_runner import LiteRTRunner

# Rows per batch: at most 256, and at most this many input numbers, so that large images do not fill the memory.
ROWS_PER_BATCH = 256
NUMBERS_PER_BATCH = 2**22
# Rows per batch where all outputs are kept.
_OUTPUT_ROWS = 16

Outputs = list[np.ndarray]
Run = Callable[[Any], Outputs]


@dataclass(frozen=True)
class Score:
    """One figure for a network on data.

    Args:
        name: "accuracy" (share of 1), "mean_squared_error", or "output_error" (root mean square difference from
            the reference outputs over their standard deviation).
        value: The figure, unitless.
        higher_is_better: Which way is better.
    """

    name: str
    value: float
    higher_is_better: bool


def score_keras(model: Any, split: Split, reference: Sequence[Any] | None = None) -> Score:
    """Scores a Keras model.

    Args:
        model: A built Keras model.
        split: Inputs, and labels or None.
        reference: The original network's outputs on `split.x`, one array (n, ...) per output; used where there are
            no labels. None: the network is its own reference, error 0.
    Returns:
        Score.
    Raises:
        DataError: If labels do not fit the first output, or the reference does not fit the outputs.
    """
    return _score(_keras_run(model), split, reference)


def score_litert(
    path: str | os.PathLike, split: Split, reference: Sequence[Any] | None = None, threads: int = 1
) -> Score:
    """Scores a .tflite file as `score_keras` does a model.

    Args:
        path: The file, batch 1.
        split, reference: As in `score_keras`.
        threads: Of the interpreter.
    Raises:
        ModelError: If the file is missing or damaged.
        DataError: As `score_keras`, and if the inputs do not fit the file.
    """
    return _score(LiteRTRunner(path, threads).run, split, reference)


def outputs_of(model: Any, split: Split) -> list[np.ndarray]:
    """A network's outputs on all of a (small) split, one array (n, ...) each: what `reference` wants."""
    run = _keras_run(model)
    parts = [run(x) for x, _ in split.inputs_only().batches(_OUTPUT_ROWS)]
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def score_outputs(outputs: Sequence[np.ndarray], split: Split) -> Score:
    """Scores outputs that are there already as `score_keras` does a model.

    Args:
        outputs: What the network gave for `split.x`, one array (n, ...) per output.
        split: Inputs and labels.
    Raises:
        DataError: As `score_keras`.
    """
    start = 0

    def run(x: Any) -> Outputs:
        nonlocal start
        stop = start + len(x[0] if isinstance(x, tuple) else x)
        parts, start = [output[start:stop] for output in outputs], stop
        return parts

    return _score(run, split, None)


def _keras_run(model: Any) -> Run:
    from keras import ops, tree

    from paredown.network import Network

    pack = Network(model).pack_inputs

    def run(x: Any) -> Outputs:
        # A plain call: `predict` would build and keep a predict function in the user's model.
        columns = x if isinstance(x, tuple) else (x,)
        columns = [np.asarray(c, t.dtype) for c, t in zip(columns, model.inputs, strict=True)]
        return [ops.convert_to_numpy(o) for o in tree.flatten(model(pack(columns), training=False))]

    return run


def _score(run: Run, split: Split, reference: Sequence[Any] | None) -> Score:
    if split.y is None:
        return Score("output_error", _output_error(run, split, reference), False)
    labels = split.y[0] if isinstance(split.y, tuple) else split.y
    measure, total, count = None, 0.0, 0
    for (x, _), (y, _) in zip(_batches(split), Split(labels).batches(_rows(split)), strict=True):
        output = run(x)[0]
        measure = measure or _measure(labels, y, output)
        values = measure(output, y)
        total, count = total + float(values.sum(dtype="float64")), count + values.size
    squared = measure is _squared_errors
    return Score("mean_squared_error" if squared else "accuracy", total / count, not squared)


def _measure(labels: Any, y: np.ndarray, output: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """What labels mean to an output, told by the first batch of both; one value per label comes of it."""
    rows, out = y.shape[1:], output.shape[1:]
    integer = y.dtype.kind in "iub"
    if out and out[-1] > 1:
        if integer and rows in (out[:-1], (*out[:-1], 1)):
            return _class_hits
        if rows == out and _all_batches(labels, lambda b: np.isin(b, (0, 1)).all() and (b.sum(-1) == 1).all()):
            return _one_hot_hits
    elif integer and rows in (out, out[:-1]) and _all_batches(labels, lambda b: np.isin(b, (0, 1)).all()):
        return _binary_hits
    if y.size == output.size and rows in (out, out[:-1]):
        return _squared_errors
    raise DataError(
        f"Labels must fit the network's first output, (n, {', '.join(map(str, out))}). Received: "
        f"(n, {', '.join(map(str, rows))}) of {y.dtype}. Give one class index per score vector, or targets of the "
        "output's shape."
    )


def _class_hits(output: np.ndarray, y: np.ndarray) -> np.ndarray:
    # A score vector with NaN in it hits nothing.
    return (output.argmax(-1) == y.reshape(output.shape[:-1])) & np.isfinite(output).all(-1)


def _one_hot_hits(output: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _class_hits(output, y.argmax(-1))


def _binary_hits(output: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((output > 0.5) == (y.reshape(output.shape) > 0)) & np.isfinite(output)


def _squared_errors(output: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.square(output.astype("float64") - y.reshape(output.shape))


def _output_error(run: Run, split: Split, reference: Sequence[Any] | None) -> float:
    """Root of the mean over outputs of (mean square difference / variance of the reference output)."""
    if reference is None:
        return 0.0
    squares, sizes, start = np.zeros(len(reference)), np.zeros(len(reference)), 0
    for x, _ in _batches(split):
        outputs = run(x)
        stop = start + len(outputs[0])
        wanted = [np.asarray(r[start:stop]) for r in reference]
        if [o.shape for o in outputs] != [w.shape for w in wanted]:
            raise DataError(
                f"reference must hold one array per output, of its shape. Received: {[w.shape for w in wanted]} for "
                f"rows {start} to {stop}; the network gives {[o.shape for o in outputs]}."
            )
        squares += [np.square(o.astype("float64") - w).sum() for o, w in zip(outputs, wanted, strict=True)]
        sizes += [o.size for o in outputs]
        start = stop
    # A constant output has no spread to be held against: its own size stands in.
    spreads = [float(np.std(r, dtype="float64") or np.abs(r).max() or 1.0) for r in reference]
    return float(np.sqrt(np.mean(squares / sizes / np.square(spreads))))


def _all_batches(labels: Any, holds: Callable[[np.ndarray], Any]) -> bool:
    return all(holds(block) for block, _ in Split(labels).batches(1024))


def _rows(split: Split) -> int:
    columns = split.x if isinstance(split.x, tuple) else (split.x,)
    numbers = sum(int(np.prod(column.shape[1:])) for column in columns)
    return int(np.clip(NUMBERS_PER_BATCH // max(numbers, 1), 1, ROWS_PER_BATCH))


def _batches(split: Split) -> Iterator[tuple[Any, Any]]:
    with progress.task("Score", total=len(split)) as advance:
        for batch in split.inputs_only().batches(_rows(split)):
            yield batch
            advance(len(batch[0][0] if isinstance(batch[0], tuple) else batch[0]))
