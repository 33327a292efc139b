"""QuantizeAware: trains a network while it computes as its quantized file will."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from paredown.errors import DataError, SettingError
from paredown.export.quantization import CALIBRATION_ROWS
from paredown.export.samples import first_rows
from paredown.network import Network
from paredown.transform import Skip, Transform, TransformResult
from paredown.transforms.fine_tune import FineTune
from paredown.transforms.rounding import FORMATS, Calibrate, Rounding
from paredown.transforms.twin import Twin, for_training


@dataclass(frozen=True)
class QuantizeAware(Transform):
    """Fine-tunes a network that computes meanwhile with the weights and activations of its quantized file.

    The result is a plain network of the same layers: what it learned are weights that lose less when `export_litert`
    rounds them. Rounded is what the export rounds, with the same steps: kernels per output channel, activations by the
    tensor, between the extremes that the export's own calibration inputs (the first of `data.calibration`) give in the
    unrounded network, taken anew at the beginning of every epoch as the weights move. Gradients pass as if nothing were
    rounded, and not at all where an activation lies outside of its range.

    BatchNormalization keeps its statistics, whatever `tune` says, for the file has these and no batch's. Its folding
    into a kernel needs no imitation: the step of an output channel scales with it.

    Args:
        tune: How it trains: epochs, learning rate, teacher, ...; see `FineTune`. Small rates do: the weights are to
            move by fractions of a step.
        quantization: What will be exported: "int8", or "dynamic" or "int4", of which the weights alone count (their
            activations are rounded while running, by what comes).
    Source:
        Jacob et al. 2018, arXiv:1712.05877, section 3.
    """

    name: ClassVar[str] = "quantize_aware"

    tune: FineTune = FineTune(learning_rate=1e-4, schedule="cosine")
    quantization: str = "int8"

    def __post_init__(self):
        if not isinstance(self.tune, FineTune):
            raise SettingError(f"tune must be a FineTune. Received: tune={self.tune!r} (QuantizeAware).")
        self._require("quantization", self.quantization in FORMATS, f"one of {', '.join(FORMATS)}", "e.g. int8")

    def apply(self, model: Any, data: Any, seed: int, teacher: Any) -> TransformResult:
        if data is None:
            raise DataError(
                "QuantizeAware learns from data.train. Received: data=None. Give some; inputs without labels are "
                "enough."
            )
        result = self.tune.train(model, data, seed, teacher, lambda copy: self.twin(copy, data))
        skips = Rounding(Network(model), FORMATS[self.quantization]).places.skipped
        return dataclasses.replace(
            result,
            skips=tuple(Skip(path, f"{reason}: trained unrounded") for path, reason in skips.items()),
            log={"quantization": self.quantization, **result.log},
        )

    def twin(self, model: Any, data: Any) -> Twin:
        """What is trained in the place of `model`, calibrated: it computes as the quantized file of `model` does."""
        number_format = FORMATS[self.quantization]
        tune = self.tune
        twin = for_training(model, tune.regularization, tune.strength, True, Rounding(Network(model), number_format))
        if not number_format.activations:
            return twin
        calibration = Calibrate(twin.model, first_rows(Network(model), data, CALIBRATION_ROWS))
        calibration.now()
        return dataclasses.replace(twin, callbacks=(calibration,))
