"""The way from a Keras network to a checked .tflite file under its final name."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paredown.checks import Check
from paredown.errors import OutputError, SettingError
from paredown.export import parity, samples
from paredown.export.convert import convert
from paredown.export.layer_names import layers_of_tensors
from paredown.export.quantization import quantize, require
from paredown.files import replacing
from paredown.measure.size import deflated_bytes
from paredown.model_file import check_model
from paredown.network import Network
from paredown.number_formats import Plan
from paredown.packed import Packing, check_form, packed_content
from paredown.profiling import Shapes
from paredown.progress import task
from paredown.transform import Skip


@dataclass(frozen=True)
class Export:
    """A written .tflite file.

    Args:
        path: The file.
        quantization: Its format, or formats by layer; None is float32.
        size_bytes: Of the file.
        zipped_bytes: Of the file after deflate at level 9.
        checks: The equality with the Keras network, with its figure.
        skips: Layers that stayed in another format than the one asked for, or unpacked, with the reason.
        packing: What packing did; None where it was not asked for.
    """

    path: Path
    quantization: Any
    size_bytes: int
    zipped_bytes: int
    checks: tuple[Check, ...]
    skips: tuple[Skip, ...]
    packing: Packing | None = None

    def to_dict(self) -> dict:
        """Plain data, as in run.json."""
        return {
            "quantization": self.quantization,
            "checks": [check.to_dict() for check in self.checks],
            "skips": [dataclasses.asdict(skip) for skip in self.skips],
            **({} if self.packing is None else {"packing": self.packing.to_dict()}),
        }


def export_litert(
    model: Any,
    path: str | os.PathLike,
    quantization: Any = None,
    data: Any = None,
    sparse: bool = False,
    pack: str | None = None,
) -> Export:
    """Writes a Keras network as a .tflite file of batch 1 and checks it against the network.

    Inputs and outputs keep the network's order and types (float32 outside whatever the format inside: browsers take
    no int8 input).

    Args:
        model: A built Keras Functional or Sequential model; not changed.
        path: Where to write; its folder must exist. Written aside first, so the name never holds half a file.
        quantization: None (float32), "float16" (weights), "dynamic" (int8 weights, activations quantized while
            running, depthwise convolutions left in float32), "int8" (weights and activations; needs `data`), "int4"
            (fully-connected weights in int4, the others in int8); or formats by layer, `{"*": "int8", "scores":
            "float32"}`, "*" being all that are not named.
        data: A `Data`; its calibration inputs give int8 its ranges, the check its inputs, and a network of free
            height and width its size.
        sparse: Store kernels of which about a third or more is zero (see `PruneWeights`) without their zeros: a
            smaller file, float32 only. LiteRT writes the zeros back when it loads the file, save where it has a
            kernel for the pattern; that kernel can be slower than the dense one, so measure it.
        pack: Store kernels of few different values (see `ShareWeights`) as indices and codebooks, float32 only: "ship"
            (the smallest file), "run" (full speed) or "auto" (the better of both, measured here), as `pack_litert`
            explains. Kernels that cannot be packed are in `skips`.
    Returns:
        Export. A check of a quantized file that does not pass is in `checks`, not raised: its formats promise
        nearness, not equality.
    Raises:
        SettingError: If `quantization` is unknown, needs data that are missing, or is asked for with `sparse` or
            `pack`; if `pack` is unknown.
        ModelError: If the network cannot be read or converted, or its weights hold NaN.
        DataError: If the calibration inputs do not fit the network.
        OutputError: If `path` cannot be written.
        CheckError: If the float32 file does not equal the network, or a file gives NaN.
    """
    plan = require(quantization, data)
    _only_float(sparse, pack, plan)
    path = _writable(Path(path))
    network = Network(model)
    check_model(model)
    sizes = samples.shapes(network, data)
    inputs = samples.trial_inputs(network, data, sizes)
    with task(f"Export {plan}", total=None) as advance:
        reference = parity.keras_outputs(network, inputs)
        content = convert(network, sizes, sparse)
        skips: tuple[Skip, ...] = ()
        if plan.formats:
            # The float file first: what is wrong there is not the quantization's doing.
            parity.check(content, Plan(), inputs, reference)
            content, skips = quantize(content, plan, network, data)
        checked = (parity.check(content, plan, inputs, reference),)
        packing = None
        if pack is not None:
            content, packing = packed_content(content, pack, layers=layers_of_tensors(content, network), columns=inputs)
            checked, skips = (*checked, *packing.checks), (*skips, *packing.skips)
        with replacing(path) as aside:
            aside.write_bytes(content)
        advance(1)
    return Export(path, quantization, len(content), deflated_bytes(content), checked, skips, packing)


def float_content(model: Any, input_shape: tuple[int, ...] | None = None) -> bytes:
    """The content of a network's float32 .tflite file, to be looked at or timed: it is not held against the network.

    Args:
        model: A built Keras Functional or Sequential model; not changed.
        input_shape: The first input's without the batch, for networks that leave sizes open.
    Raises:
        SettingError: If sizes are open and not given.
        ModelError: If the network cannot be read or converted.
    """
    network = Network(model)
    shapes = Shapes(network, input_shape)
    return convert(network, [shapes.of(tensor)[1:] for tensor in network.inputs])


def _only_float(sparse: bool, pack: Any, plan: Plan) -> None:
    if sparse and plan.formats:
        raise SettingError(
            "sparse storage is for float32: quantized files with it do not load, or silently compute wrong numbers. "
            f"Received: sparse=True with quantization={str(plan)!r}. Leave one of them out."
        )
    if pack is not None and check_form(pack) and plan.formats:
        raise SettingError(
            "pack is for float32 files, whose kernels it stores in fewer bits itself. "
            f"Received: pack={pack!r} with quantization={str(plan)!r}. Leave one of them out."
        )


def _writable(path: Path) -> Path:
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"The folder of the .tflite file must exist. Received: {path}. Create {folder} first.")
    if path.is_dir():
        raise OutputError(f"The .tflite file needs a name of its own. Received: {path}, which is a folder.")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"The folder of the .tflite file must be writable. Received: {path}. Choose another.")
    return path
