"""SubstituteConv: puts efficient structures in the place of trained convolutions, and trains them to give the same."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from paredown.checks import Check
from paredown.errors import DataError
from paredown.network import Call, Network
from paredown.profiling import Shapes
from paredown.reconstruct import in_memory
from paredown.structures import STRUCTURES, Seat
from paredown.transform import Change, Skip, Transform, TransformResult, is_number, is_whole
from paredown.transforms.chains import equal_to_rounding
from paredown.transforms.layer_training import Course
from paredown.transforms.named import check_names, names
from paredown.transforms.substituting import Substituting


@dataclass(frozen=True)
class SubstituteConv(Transform):
    """Replaces Conv2D layers by efficient structures, started from their weights and trained layer by layer.

    Each structure starts from the weights that it replaces, as near as the algebra allows: fitted to what the layer
    gives on calibration data, from what its substituted predecessors give now. Then it is trained to give what the
    layer gave in the network as it was, before the activation (mean squared error, Adam). Where that is no better on
    the fifth of the examples that is held out, the first weights stay. `FineTune` trains the network as a whole.

    Without data structures start from the kernels and are not trained; `result.skips` says so. A layer that the
    structure would not make cheaper, or does not suit, stays, with that reason. Names of the new layers are the old
    name and what the layer does (`conv_vertical`, `conv_horizontal`); the last of them has the activation, and a bias
    where there are data.

    `result.log["losses"]`: per layer its loss before and after training, mean square of what is wrong at the output of
    held-out examples as a share of its variance (without data: of the kernel). `result.log["widths"]`: the widths.

    Args:
        structure: Row of `structures.STRUCTURES`. "one_dimensional": k×1 then 1×k. "separable": depthwise k×k, 1×1.
            "bottleneck": 1×1, k×k, 1×1. "grouped": k×k in groups, and a 1×1 that mixes them. "stacked": two 3×3 for a
            5×5; beyond the edge of a padded image the first gives what the 5×5 saw there, so that both are the same.
        layers: Names of the layers to replace; none: every Conv2D.
        exclude: Names of layers that stay as they are.
        width: Channels between the layers of a structure, of "separable" the outputs per channel. None: the usual one
            (all outputs; of "bottleneck" a quarter of them; of "separable" 1), or the largest that is cheaper.
        layer_macs: The largest width that keeps this share of the layer's MACs, in (0, 1); instead of `width`.
        groups: Of "grouped", at least 2; they must divide the input channels, and `width`.
        relu: Put a bias and a ReLU behind each layer but the last. The structure then only approximates the layer,
            whatever its width: a starting point for training, and needs data.
        epochs: Passes over the examples per layer; 0: first weights alone.
        batch_size: Examples per step.
        learning_rate: At the start; it falls to 0 along half a cosine. All layers are brought to one scale for it.
        examples: At most so many of the calibration data, drawn at random, are used; fewer where they would not fit
            into memory.
    Source:
        Alvarez & Petersson 2016, arXiv:1606.05426 (one_dimensional, relu); Howard et al. 2017, arXiv:1704.04861
        (separable); He et al. 2016, arXiv:1512.03385, section 4.1 (bottleneck); Xie et al. 2017, arXiv:1611.05431
        (grouped); Szegedy et al. 2016, arXiv:1512.00567, section 3.1 (stacked).
    """

    name: ClassVar[str] = "substitute_conv"

    structure: str
    layers: str | tuple[str, ...] = ()
    exclude: str | tuple[str, ...] = ()
    width: int | None = None
    layer_macs: float | None = None
    groups: int | None = None
    relu: bool = False
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.002
    examples: int = 512

    def __post_init__(self):
        for name in ("layers", "exclude"):
            object.__setattr__(self, name, names(getattr(self, name)))
        self._require("structure", self.structure in STRUCTURES, f"one of {', '.join(STRUCTURES)}")
        self._require("width", self.width is None or is_whole(self.width, 1), "a whole number of at least 1")
        share = self.layer_macs
        self._require(
            "layer_macs", share is None or (is_number(share) and 0 < share < 1), "in (0, 1)", "e.g. 0.5 for half"
        )
        self._require("layer_macs", share is None or self.width is None, f"left out with width={self.width}")
        if self.structure == "grouped":
            self._require("groups", is_whole(self.groups, 2), "a whole number of at least 2 for 'grouped'", "e.g. 4")
            divides = self.width is None or self.width % (self.groups or 1) == 0
            self._require("width", divides, f"a multiple of groups={self.groups}")
        else:
            self._require("groups", self.groups is None, f"left out with structure={self.structure!r}")
        self._require("relu", isinstance(self.relu, bool), "true or false")
        self._require("epochs", is_whole(self.epochs, 0), "a whole number of at least 0")
        for name in ("batch_size", "examples"):
            self._require(name, is_whole(getattr(self, name), 1), "a whole number of at least 1")
        rate = self.learning_rate
        self._require("learning_rate", is_number(rate) and 0 < rate < np.inf, "above 0", "e.g. 0.002")

    def apply(self, model: Any, data: Any, seed: int, teacher: Any) -> TransformResult:
        network = Network(model)
        check_names(self, network)
        if self.relu and data is None:
            raise DataError(
                "relu=True needs data to place the biases and to train on: no ReLU stood there before. Received: none "
                "(SubstituteConv). Give Data(calibration=inputs), or leave relu out."
            )
        seats, skips = self._seats(network, data)
        often = {path for path in seats if sum(call.path == path for call in network.all_calls()) > 1}
        if self.relu:
            skips += [Skip(path, "it is called more than once: no ReLU can be trained into it") for path in often]
            seats = {path: seat for path, seat in seats.items() if path not in often}
        work = Substituting(model, network, seats)
        alone = [path for path in seats if data is None or path in often]
        work.from_kernels(alone)
        reason = "there are no data" if data is None else "it is called more than once"
        skips += [Skip(path, f"started from its kernel, not trained: {reason}") for path in alone]
        trained = [path for path in seats if path not in alone]
        if trained and data is not None:
            split = in_memory(data.calibration.sample(self.examples, seed), model, data.input_shape, copies=3)
            work.from_data(trained, split, Course(self.epochs, self.batch_size, self.learning_rate), seed)
        changes = tuple(self._change(seat, width) for seat, width in seats.values())
        log = {
            "widths": {path: width for path, (_, width) in seats.items()},
            "losses": {path: dict(zip(("before", "after"), work.done[path].losses, strict=True)) for path in seats},
        }
        return TransformResult(work.built(), changes, tuple(skips), log=log, reference=work.reference())

    def prove(self, model: Any, result: TransformResult, inputs: Any) -> tuple[Check, ...]:
        """The structures give what the one kernel gives that they stand for, where no ReLU is in between; else what
        the layers gave that were trained."""
        name = "structures equal the layers that were trained" if self.relu else "structures equal their kernels"
        return (equal_to_rounding(name, result.reference, result.model, inputs),)

    def _seats(self, network: Network, data: Any) -> tuple[dict[str, tuple[Seat, int]], list[Skip]]:
        """Path -> (the layer, the width of its structure); and why others are left alone."""
        found: dict[str, tuple[Seat, int]] = {}
        skips: dict[str, Skip] = {}
        shapes = Shapes(network, data.input_shape if data else None)
        for path, calls in _convolutions(network, self.layers).items():
            chosen = "excluded" if path in self.exclude else self._seat(path, calls, shapes)
            if isinstance(chosen, str):
                skips[path] = Skip(path, chosen)
            else:
                found[path] = chosen
        return found, list(skips.values())

    def _seat(self, path: str, calls: list[Call], shapes: Shapes) -> tuple[Seat, int] | str:
        """A layer and its width, or why it stays."""
        layer, open_shape = calls[0].operation, _common_shape(calls)
        if type(layer) is not keras.layers.Conv2D:
            return "it is no Conv2D"
        why = STRUCTURES[self.structure].why_not(layer, self.groups or 1, open_shape)
        if why:
            return f"it {why}"
        shape = shapes.of(calls[0].inputs[0])
        seat = Seat(path, layer, shape, open_shape, self.structure, self.groups or 1, self.relu)
        width = seat.width(self.width, self.layer_macs)
        return width if isinstance(width, str) else (seat, width)

    def _change(self, seat: Seat, width: int) -> Change:
        what = f"substituted ({self.structure}, width {width}{', ReLU' if self.relu else ''}), MACs"
        return Change(seat.path, what, seat.macs_now, seat.macs(width))


def _convolutions(network: Network, named: Collection[str]) -> dict[str, list[Call]]:
    """Path -> its calls, for the named layers, or all that have a kernel over two axes."""
    found: dict[str, list[Call]] = {}
    for call in network.all_calls():
        kernels = any(len(w.shape) == 4 for w in getattr(call.operation, "weights", []))
        if call.path in named or (kernels and not named):
            found.setdefault(call.path, []).append(call)
    return found


def _common_shape(calls: list[Call]) -> tuple[int | None, ...]:
    """The shape of what a layer reads, None where it is open or differs between calls."""
    shapes = [tuple(call.inputs[0].shape) for call in calls]
    return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True))
