"""Number formats of a .tflite file, by ai-edge-quantizer; what stayed in another format is reported, never silent.

To add a format: one function that fills the quantizer's recipe, one row in FORMATS, one tolerance in parity.py.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paredown.errors import ModelError, ParedownError, SettingError
from paredown.export.convert import SIGNATURE
from paredown.export.float_outputs import with_float_outputs
from paredown.export.half_biases import with_half_biases
from paredown.export.inspect_types import Wanted, outputs_of_layers, stayed_behind
from paredown.export.samples import first_rows
from paredown.measure.quiet import one_line, quiet
from paredown.network import Network
from paredown.number_formats import FLOAT32, Plan
from paredown.progress import task
from paredown.transform import Skip

CALIBRATION_ROWS = 200

# Operations with weights that dynamic-range kernels exist for. Depthwise convolutions are left out: LiteRT has no
# fast one for them, and MobileNetV2 became twice as slow with them.
_DYNAMIC = ("CONV_2D", "CONV_2D_TRANSPOSE", "FULLY_CONNECTED", "BATCH_MATMUL", "EMBEDDING_LOOKUP")
_NO_DYNAMIC_DEPTHWISE = "dynamic-range depthwise convolutions are slower than float32 in LiteRT"
_NO_INT4_CONVOLUTION = "int4 convolutions are slower than float32 in LiteRT"


def _float16(quantizer: Any, scope: str) -> None:
    quantizer.add_weight_only_config(scope, "*", num_bits=16, algorithm_key="float_casting")


def _dynamic(quantizer: Any, scope: str) -> None:
    for operation in _DYNAMIC:
        quantizer.add_dynamic_config(scope, _operation(operation), num_bits=8)


def _int4(quantizer: Any, scope: str) -> None:
    for operation in _DYNAMIC:
        quantizer.add_dynamic_config(scope, _operation(operation), num_bits=4 if operation == "FULLY_CONNECTED" else 8)


def _int8(quantizer: Any, scope: str) -> None:
    quantizer.add_static_config(scope, _operation("*"), activation_num_bits=8, weight_num_bits=8)


def _float32(quantizer: Any, scope: str) -> None:
    quantizer.update_quantization_recipe(scope, _operation("*"), None, "no_quantize")


@dataclass(frozen=True)
class Format:
    """A row of FORMATS.

    Args:
        configure: `configure(quantizer, scope)` fills the recipe of an ai-edge-quantizer `Quantizer` for operations
            whose outputs' names the regular expression `scope` finds.
        wanted: The types that weights and activations have afterwards.
    """

    configure: Callable[[Any, str], None]
    wanted: Wanted


FORMATS = {
    "float16": Format(_float16, Wanted("FLOAT16")),
    "dynamic": Format(_dynamic, Wanted("INT8", kept={"DEPTHWISE_CONV_2D": _NO_DYNAMIC_DEPTHWISE})),
    "int8": Format(_int8, Wanted("INT8", activations=True)),
    "int4": Format(
        _int4,
        Wanted(
            "INT4",
            kept={
                "DEPTHWISE_CONV_2D": _NO_DYNAMIC_DEPTHWISE,
                "CONV_2D": _NO_INT4_CONVOLUTION,
                "TRANSPOSE_CONV": _NO_INT4_CONVOLUTION,
            },
        ),
    ),
}


def require(quantization: Any, data: Any) -> Plan:
    """The plan of a setting; raises SettingError where it is unknown or lacks the data that it needs."""
    plan = Plan.of(quantization)
    if "int8" in plan.formats and data is None:
        raise SettingError(
            "int8 needs calibration inputs, which set the range of every activation. Received: data=None. "
            "Give data= (a few dozen real inputs suffice), or use dynamic."
        )
    return plan


def quantize(content: bytes, plan: Plan, network: Network, data: Any) -> tuple[bytes, tuple[Skip, ...]]:
    """A float .tflite file in other number formats.

    Args:
        content: The file, with the signature that `convert` gives it.
        plan: The formats of its layers.
        network: What the file was made from; gives skips their layers' names.
        data: For int8, a `Data`.
    Returns:
        The new file, and one Skip per layer and operation that stayed in another format.
    Raises:
        SettingError: If the plan names a layer that the file has no operation of.
        ModelError: If the quantizer cannot treat the network.
    """
    from ai_edge_quantizer import quantizer as quantizers

    quantizer = quantizers.Quantizer(bytearray(content))
    _fill(quantizer, plan, content, network)
    try:
        ranges = _calibrate(content, quantizer, network, data) if quantizer.need_calibration else None
        with quiet():
            result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    except ParedownError:
        raise
    # The quantizer raises whatever its inner checks raise.
    except Exception as error:
        raise ModelError(
            f"The network must be one that ai-edge-quantizer can treat. Received: {network.model.name!r} with "
            f"quantization={str(plan)!r}: {one_line(error)}. Use another quantization."
        ) from error
    quantized = with_float_outputs(bytes(result.quantized_model or b""))
    if "float16" in plan.formats:
        quantized = with_half_biases(quantized)
    wanted = {name: row.wanted for name, row in FORMATS.items()}
    return quantized, stayed_behind(
        quantized, network, lambda path: (plan.of_layer(path), wanted.get(plan.of_layer(path)))
    )


def _fill(quantizer: Any, plan: Plan, content: bytes, network: Network) -> None:
    """The quantizer's recipe: of what fits an operation the last counts."""
    configure = {FLOAT32: _float32, **{name: row.configure for name, row in FORMATS.items()}}
    configure[plan.others](quantizer, ".*")
    made = outputs_of_layers(content, network) if plan.layers else {}
    missing = [layer for layer in plan.layers if layer not in made]
    if missing:
        raise SettingError(
            f"quantization must name layers that the file has operations of. Received: {', '.join(missing)}. "
            f"It has: {', '.join(list(made)[:8])}{', …' if len(made) > 8 else ''}."
        )
    for layer, name in plan.layers.items():
        for names in made[layer]:
            # How the quantizer writes an operation's scope.
            configure[name](quantizer, f"^{re.escape(';'.join(names) + ';')}$")
    # Inputs stay as they are; `with_float_outputs` sees to the outputs.
    quantizer.update_quantization_recipe(".*", _operation("INPUT"), None, "no_quantize")


def _calibrate(content: bytes, quantizer: Any, network: Network, data: Any) -> dict:
    """Ranges of all activations over the calibration inputs.

    The extremes themselves: the quantizer's own moving average of them cuts off what single inputs need, and left
    MobileNetV2 with four times the error.
    """
    from ai_edge_quantizer import calibrator
    from ai_edge_quantizer.recipe_manager import RecipeManager
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    columns = first_rows(network, data, CALIBRATION_ROWS)
    recipe = RecipeManager()
    recipe.load_quantization_recipe(quantizer.get_quantization_recipe())
    with quiet():
        runner = calibrator.Calibrator(content, num_threads=1, qsv_update_func=min_max_update)
    with task("Calibrate", total=len(columns[0])) as advance:
        for row in range(len(columns[0])):
            sample = {f"input_{i}": column[row : row + 1] for i, column in enumerate(columns)}
            with quiet():
                runner.calibrate({SIGNATURE: [sample]}, recipe)
            advance(1)
    return runner.get_model_qsvs()


def _operation(name: str) -> Any:
    from ai_edge_quantizer.qtyping import TFLOperationName

    return TFLOperationName(name)
