"""What the methods of a scan look at: the network with its channels, statistics gathered once, and the trial copy."""

from functools import cached_property
from typing import Any

import keras
import numpy as np

from paredown.channels import Channels
from paredown.checkpoints import next_key
from paredown.data import Data, Split
from paredown.factors import FACTORIZATIONS, Problem
from paredown.least_squares import Fit
from paredown.moments import MOST_ROWS, Moments, Sums, input_sums
from paredown.network import Call
from paredown.patches import LinearLayer, why_not_linear
from paredown.profiling import MacCount, ParameterCount, Profile, Shapes, profile
from paredown.scan.kept import Kept
from paredown.scan.trial import Trial
from paredown.sparse import Kernel, kernels
from paredown.transforms.factor_fitting import Fitting

#: The share of a layer's variance that is lost to see how much of it reaches the outputs.
_PROBE = 0.03
#: Share of the inputs' mean square that one without a row of its own is taken to have.
_FEW = 1e-2


class Scope:
    """A network that is scanned. What is gathered is gathered when it is first asked for: a scan whose cases are all
    kept gathers nothing.

    Args:
        model: The network; it is not touched.
        data: Its calibration part is what statistics are of.
        judged: Examples to judge by.
        seed: Of everything random.
        kept: Where gains are kept.
        key: Of network, data and settings.
        latency: Whether time is looked at.
    """

    def __init__(self, model: Any, data: Data, judged: Split, seed: int, kept: Kept, key: str, latency: bool):
        self.model, self.data, self.judged, self.seed = model, data, judged, seed
        self.kept, self.key, self.latency = kept, key, latency
        self.split, self.input_shape = data.calibration, data.input_shape
        #: What methods keep from case to case.
        self.known: dict[Any, Any] = {}
        self.channels = Channels(model)
        self.network = self.channels.network
        self.shapes = Shapes(self.network, self.input_shape)
        self.calls: dict[str, list[Call]] = {}
        for call in self.network.all_calls():
            self.calls.setdefault(call.path, []).append(call)
        self.kernels: dict[str, list[Kernel]] = {}
        for kernel in kernels(self.network)[0]:
            self.kernels.setdefault(kernel.path, []).append(kernel)

    @property
    def examples(self) -> int:
        return len(self.split)

    def with_kernels(self) -> list[str]:
        """Paths of the layers that have weights of two axes or more, in order."""
        return [
            path
            for path, calls in self.calls.items()
            if any(len(w.shape) > 1 for w in getattr(calls[0].operation, "weights", []))
        ]

    @cached_property
    def fitting(self) -> Fitting:
        return Fitting(self.model, self.network)

    @cached_property
    def trial(self) -> Trial:
        return Trial(self.network, self.fitting.copy, self.judged)

    @cached_property
    def moments(self) -> Moments:
        return Moments(self.channels, self.split, self.seed)

    @cached_property
    def profile(self) -> Profile:
        return profile(self.model, self.input_shape)

    @cached_property
    def macs(self) -> MacCount:
        return MacCount(self.channels, self.input_shape)

    @cached_property
    def params(self) -> ParameterCount:
        return ParameterCount(self.channels)

    @cached_property
    def linear(self) -> dict[str, LinearLayer]:
        """The layers that are rows times a matrix, small enough to sum up."""
        found = {
            path: LinearLayer(calls[0].operation)
            for path, calls in self.calls.items()
            if why_not_linear(calls[0].operation) is None
        }
        return {path: linear for path, linear in found.items() if linear.shape[0] <= MOST_ROWS}

    @cached_property
    def sums(self) -> dict[str, Sums]:
        """Of what they read. Layers that can be factorized first see what `Factorize` sees."""
        return input_sums(self.network, self.linear, self.split, self.seed)

    def takes_shift(self, path: str) -> bool:
        """Whether a shift of a layer's mean output can be taken up."""
        return self.fitting.takes_shift(path)

    def unfitted(self, path: str) -> Problem:
        """Of a layer's kernel alone."""
        return Problem.plain(LinearLayer(self.calls[path][0].operation))

    def problem(self, path: str) -> Problem:
        """What factors of a layer are to give."""
        if path not in self.linear:
            return self.unfitted(path)
        return Problem.unchanged(self.linear[path], self.sums[path], self.takes_shift(path))

    def reasons(self, path: str, kinds: tuple[str, ...]) -> dict[str, str | None]:
        """Kind of factorization -> why a layer does not suit it."""
        return {kind: FACTORIZATIONS[kind].why_not(self.calls[path][0].operation) for kind in kinds}

    def lost(self, path: str, step: np.ndarray, shift: Any = 0.0) -> float:
        """Mean square change of a layer's outputs when its matrix changes by `step`, its mean by `shift`."""
        (inputs, outputs), sums = self.linear[path].shape, self.sums[path]
        lost = Fit(step, np.broadcast_to(shift, (outputs,))).left(sums)
        # What fewer rows than inputs have not shown was free for the fit to use, and is not free on others.
        unseen = _FEW * max(0.0, inputs / sums.count - 1) * np.trace(sums.gram) / sums.count / inputs
        return (lost + unseen * float(np.square(step).sum())) / outputs

    def predicted(self, path: str, lost: float) -> float:
        """The network's loss by the mean square change of one layer's outputs."""
        return float(lost * self.gain(path))

    def gain(self, path: str) -> float:
        """What a mean square change of 1 at a layer's outputs comes to at the network's: tried with a small random
        change of the layer's matrix."""
        key = next_key(self.key, "gain", {"layer": path})
        gain = self.kept.get(key)
        if gain is None:
            gain = self._probed(path)
            self.kept.keep(key, gain)
        return gain

    def _probed(self, path: str) -> float:
        linear = self.linear[path]
        matrix, generator = linear.read(), np.random.default_rng(self.seed)
        step = generator.normal(size=matrix.shape) * (matrix.std() or 1.0)
        # The bias takes the mean along, as it does when a layer is treated.
        shift = -(self.sums[path].row / self.sums[path].count) @ step if self.takes_shift(path) else 0.0
        problem = self.problem(path)
        share = self.lost(path, step, shift) * linear.shape[1] / max(problem.variance, 1e-30)
        step, shift = (x * np.sqrt(_PROBE / max(share, 1e-30)) for x in (step, shift))
        with self.trial.changed():
            self.fitting.put(path, matrix + step, np.broadcast_to(shift, (matrix.shape[1],)))
            change = self.trial.judge(self.trial.outputs())["measured"]
        return float(change / max(self.lost(path, step, shift), 1e-30))


def matrix_of(layer: Any) -> np.ndarray:
    """A layer's kernel as it is now, shape (n, o)."""
    return LinearLayer(layer).read()


def assign(variable: Any, value: Any) -> None:
    """Gives a variable a value of another type."""
    variable.assign(keras.ops.cast(value, variable.dtype))
