"""What a phone is given: files, inputs for them, and what the outputs must be."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paredown.errors import ModelError
from paredown.measure import LiteRTRunner

# What LiteRT.js takes and gives.
_TYPES = ("float32", "int32", "uint8")
# Values of one output that are sent back, evenly spread over it: a bound on what a phone has to send.
MOST_VALUES = 2**16


@dataclass(frozen=True)
class Offer:
    """One file with inputs and what LiteRT on this computer makes of them.

    Args:
        path: The .tflite file, batch 1.
        inputs, outputs: Name in the file's signature -> array with the batch axis.
    """

    path: Path
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]

    def to_dict(self) -> dict:
        """What the page is told; the arrays of inputs come at addresses of their own."""
        return {
            "name": self.path.name,
            "size_bytes": self.path.stat().st_size,
            "inputs": [{"name": n, "shape": a.shape, "dtype": a.dtype.name} for n, a in self.inputs.items()],
            "outputs": [{"name": n, "stride": stride(a.size)} for n, a in self.outputs.items()],
        }


def stride(size: int) -> int:
    """Every how many-th value of an output of `size` values is sent back."""
    return math.ceil(size / MOST_VALUES) or 1


def prepare(files: Sequence[Path]) -> tuple[Offer, ...]:
    """Looks at each file, and runs it here once.

    Raises:
        ModelError: If a file is missing, damaged, or nothing that LiteRT.js can run.
    """
    return tuple(_offer(path) for path in files)


def _offer(path: Path) -> Offer:
    runner = LiteRTRunner(path)
    for detail in (*runner.inputs, *runner.outputs):
        _check(path, detail)
    inputs, names = runner.random_inputs(), _names(path.read_bytes())

    def named(details: Sequence[dict], arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return {names.get(d["index"], str(d["name"])): a for d, a in zip(details, arrays, strict=True)}

    return Offer(path, named(runner.inputs, inputs), named(runner.outputs, runner.run(inputs)))


def _check(path: Path, detail: dict) -> None:
    dtype = np.dtype(detail["dtype"]).name
    if dtype not in _TYPES:
        raise ModelError(
            f"In a browser, inputs and outputs must be {', '.join(_TYPES)}. Received: {path} with {dtype}. "
            "Export it with export_litert, which keeps them as the Keras network has them."
        )
    if -1 in detail["shape_signature"]:
        raise ModelError(
            f"In a browser, a file must have a fixed batch of 1. Received: {path} with the shape "
            f"{tuple(int(size) for size in detail['shape_signature'])}. Export it with export_litert."
        )


def _names(content: bytes) -> dict[int, str]:
    """Index of a tensor -> its name in the file's signature, by which LiteRT.js knows it; empty without one."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)  # pyright: ignore[reportAttributeAccessIssue]
    if model.SignatureDefsLength() != 1:
        return {}
    signature = model.SignatureDefs(0)
    tensors = [
        *(signature.Inputs(place) for place in range(signature.InputsLength())),
        *(signature.Outputs(place) for place in range(signature.OutputsLength())),
    ]
    return {tensor.TensorIndex(): tensor.Name().decode() for tensor in tensors}
