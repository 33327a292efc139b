"""Does the file compute what the Keras network computes? Tried on a handful of inputs at every export.

float32 must equal the network: rounding in another order is all that may differ. The other formats round weights (and
int8 activations) on purpose, and what that does to one output value depends on the network, a softmax that is in doubt
most of all. So they are held to the root mean square of the difference, as a share of the outputs' own root mean
square. The tolerances are a choice, two to three times the largest figure seen on 8 to 2000 images with ResNet20
(CIFAR-10) and MobileNetV2 (ImageNet) for float16 (0.0005 to 0.013), dynamic (0.02 to 0.03) and int8 (0.03 to 0.08);
int4 was seen on small random networks only (0.04 to 0.07). They tell a broken file from a rounded one; what rounding
costs is told by the accuracy of the file itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from paredown.checks import Check, largest_difference, root_mean_square_difference
from paredown.errors import CheckError, ModelError
from paredown.measure.litert_runner import LiteRTRunner
from paredown.network import Network
from paredown.number_formats import Plan

FLOAT32_TOLERANCE = 1e-4
#: Format -> largest root mean square difference, as a share of the outputs' root mean square.
TOLERANCES = {"float16": 0.03, "dynamic": 0.1, "int8": 0.2, "int4": 0.3}


def keras_outputs(network: Network, columns: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The network's outputs on a batch, one array (n, ...) each.

    Raises:
        ModelError: If the network itself gives NaN or infinity.
    """
    from keras import ops, tree

    outputs = network.model(network.pack_inputs(list(columns)), training=False)
    arrays = [ops.convert_to_numpy(output) for output in tree.flatten(outputs)]
    if not all(np.isfinite(array).all() for array in arrays):
        raise ModelError(
            "The network must give finite numbers. "
            f"Received: NaN or infinity from {network.model.name!r} on {len(columns[0])} trial inputs. "
            "Look for diverged weights, or inputs outside the range that it was trained on."
        )
    return arrays


def check(content: bytes, plan: Plan, columns: Sequence[Any], reference: Sequence[np.ndarray]) -> Check:
    """Runs the file on the inputs that gave `reference` and compares.

    Args:
        content: The .tflite file.
        plan: Its formats; of several the most tolerant one's tolerance holds.
        columns: One array (n, ...) per input.
        reference: The Keras network's outputs.
    Raises:
        ModelError: If LiteRT refuses the file.
        CheckError: If the file gives NaN or infinity, or a float32 file does not equal the network.
    """
    try:
        outputs = LiteRTRunner(content).run(tuple(columns))
    except ModelError as error:
        raise ModelError(f"{error} (quantization={str(plan)!r}; another one may do.)") from error
    wrong = [i for i, output in enumerate(outputs) if not np.isfinite(output).all()]
    if wrong:
        raise CheckError(
            f"The exported network must give finite numbers. Received: NaN or infinity in output {wrong[0]} "
            f"(quantization={str(plan)!r}), where Keras gives none. Choose another quantization."
        )
    if plan.formats:
        value = root_mean_square_difference(reference, outputs)
        tolerance = max(TOLERANCES[name] for name in plan.formats)
        return Check(f"litert {plan} near keras, root mean square", value, tolerance)
    result = Check("litert equals keras", largest_difference(reference, outputs), FLOAT32_TOLERANCE)
    if not result.passed:
        raise CheckError(
            f"The exported network must equal the Keras network to {result.tolerance:g} of its outputs' range. "
            f"Received: {result.value:.3g} (float32). A layer converts wrongly; nothing was written."
        )
    return result
