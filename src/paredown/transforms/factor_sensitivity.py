"""What a loss in one layer costs the network's outputs, measured by factorizing each layer alone."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from paredown.data import Split
from paredown.factors import Candidate, Option
from paredown.moments import columns
from paredown.network import Network
from paredown.progress import task
from paredown.sensitivity import output_change, scored_outputs
from paredown.transforms.factor_fitting import Fitting

#: Shares of a layer's cost at which its factorization is tried, and how many examples the outputs are compared on.
_SHARES, _EXAMPLES = (0.6, 0.3), 256


def measured(
    model: Any, network: Network, candidates: Sequence[Candidate], split: Split
) -> list[Callable[[Option], float]]:
    """For each layer, what an option costs the network: mean square change of the outputs as a share of their variance.

    Between and beyond the measured options it follows the loss at the layer's own output, by a power.
    """
    fitting = Fitting(model, network)
    batches = [network.pack_inputs(inputs) for inputs in columns(split.take(_EXAMPLES), 64)]

    def outputs() -> list[np.ndarray]:
        parts = [keras.tree.flatten(fitting.copy.predict_on_batch(batch)) for batch in batches]
        joined = [np.concatenate(arrays).astype("float64") for arrays in zip(*parts, strict=True)]
        return scored_outputs(network, joined)

    reference, curves = outputs(), []
    with task("Sensitivity", total=len(candidates)) as advance:
        for candidate in candidates:
            points = []
            for option in _tried(candidate):
                kernel = candidate.solver(option.kind, option.rank).factors(option.rank)[1]
                points.append((option.loss, _change(fitting, candidate, kernel, reference, outputs)))
                candidate.forget()
            curves.append(_curve(points))
            advance(1)
    return curves


def _tried(candidate: Candidate) -> list[Option]:
    options = candidate.options()
    tried = [min(options, key=lambda o: abs(o.cost - s * candidate.own_cost)) for s in _SHARES if options]
    return list(dict.fromkeys(tried))


def _change(fitting: Fitting, candidate: Candidate, kernel: np.ndarray, reference: list, outputs: Callable) -> float:
    """How much the outputs change with this kernel in the layer alone."""
    before = fitting.values(candidate.path)
    fitting.put(candidate.path, kernel, candidate.problem.shift(kernel))
    change = output_change(reference, outputs())
    for variable, value in before:
        variable.assign(value)
    return change


def _curve(points: list[tuple[float, float]]) -> Callable[[Option], float]:
    """The network's loss for a layer's: a power through two points, proportional through one."""
    points = sorted((max(a, 1e-12), max(b, 1e-12)) for a, b in points)
    if not points:
        return lambda option: option.loss
    (a, b), (c, d) = points[0], points[-1]
    power = float(np.clip(np.log(d / b) / np.log(c / a), 0.5, 2)) if c > a * 1.01 else 1.0
    # Both points count alike: the curve goes through their middle.
    middle = np.sqrt(a * c), np.sqrt(b * d)
    return lambda option: float(middle[1] * (max(option.loss, 1e-12) / middle[0]) ** power)
