"""The contract of every transform: `transform(model, data)` gives a new model and says what it did.

A transform is a frozen dataclass; its fields are its settings, stored as given. repr, equality, YAML and
search spaces follow from the fields. The input model is never touched; a layer that could not be treated is
a `Skip` with the reason, never silence.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from paredown.checks import Check
from paredown.errors import CheckError, SettingError

#: Examples that each change proves itself on.
_PROOF_EXAMPLES = 4


@dataclass(frozen=True)
class Change:
    """What happened to one layer, e.g. `Change("conv", "output channels", 64, 32)`."""

    layer: str
    what: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Skip:
    """A layer that was left alone, and why."""

    layer: str
    reason: str


@dataclass(frozen=True)
class TransformResult:
    """What a transform gave.

    Args:
        model: The new network; the input network is untouched.
        changes: One entry per changed layer.
        skips: One entry per layer that was left alone though the transform treats its kind.
        removed: Layer name -> sorted indices of its removed output channels, for every layer with weights
            whose output lost channels. Empty for transforms that remove none.
        inside: Key such as "attention/heads" or "bidirectional/units" -> sorted indices of what a layer lost inside,
            which are no output channels of it.
        log: Plain figures worth keeping, e.g. a training history.
        reference: What the new network must equal once `removed` is set to zero in it, where that is not the network
            that was given: the same network with refitted weights. None: the network that was given.
    """

    model: Any
    changes: tuple[Change, ...] = ()
    skips: tuple[Skip, ...] = ()
    removed: dict[str, np.ndarray] = field(default_factory=dict)
    inside: dict[str, np.ndarray] = field(default_factory=dict)
    log: dict[str, Any] = field(default_factory=dict)
    reference: Any = None


@dataclass(frozen=True)
class Transform:
    """Base of all transforms: subclasses are frozen dataclasses that define `apply`."""

    #: What recipes call it.
    name: ClassVar[str]

    def __call__(self, model: Any, data: Any = None, *, seed: int = 0, teacher: Any = None) -> TransformResult:
        """Applies the transform.

        Args:
            model: A built Keras Functional or Sequential model.
            data: A `Data`, or None where the settings need none.
            seed: Of everything random in the transform.
            teacher: The original network, for transforms that learn from its outputs; None: `model` itself.
        Returns:
            TransformResult; `model` itself is not changed.
        Raises:
            ParedownError: If settings, model or data do not allow it.
        """
        return self.apply(model, data, seed, model if teacher is None else teacher)

    def apply(self, model: Any, data: Any, seed: int, teacher: Any) -> TransformResult:
        """What a subclass does; arguments as for `__call__`."""
        raise NotImplementedError(f"{type(self).__name__} defines no apply()")

    def prove(self, model: Any, result: TransformResult, inputs: Sequence[np.ndarray]) -> tuple[Check, ...]:
        """Tries, on a handful of inputs, the equality that the transform promises; none by default.

        Args:
            model: The network that was transformed into `result.model`.
            inputs: One array per network input, shape (a few, ...).
        """
        return ()

    def _require(self, name: str, holds: bool, rule: str, instead: str = "") -> None:
        """Raises SettingError naming a field, unless its rule holds; `instead` says what to use."""
        if not holds:
            raise SettingError(
                f"{name} must be {rule}. Received: {name}={getattr(self, name)!r} ({type(self).__name__})."
                + (f" Use {instead}." if instead else "")
            )

    def settings(self) -> dict[str, Any]:
        """The fields that differ from their defaults, as plain data; a transform within this one is its settings."""
        values = {f.name: (getattr(self, f.name), f.default) for f in dataclasses.fields(self)}
        return {
            name: value.settings() if isinstance(value, Transform) else value
            for name, (value, default) in values.items()
            if default is dataclasses.MISSING or value != default
        }

    def identity(self) -> dict[str, Any]:
        """What a finished step is known by again: its settings, with the content of files that they name."""
        return self.settings()


def proof_inputs(data: Any) -> list[np.ndarray]:
    """The handful of calibration inputs that changes prove themselves on, one array per network input."""
    x, _ = data.calibration.rows(np.arange(min(_PROOF_EXAMPLES, len(data.calibration))))
    return list(x) if isinstance(x, tuple) else [x]


def proven(transform: Transform, model: Any, result: TransformResult, data: Any, where: str = "") -> tuple[Check, ...]:
    """What a transform promises, tried on a handful of calibration inputs.

    Args:
        model: The network that was transformed into `result.model`.
        data: A `Data`.
        where: For the message, before the transform's name.
    Returns:
        The checks, all of which passed.
    Raises:
        CheckError: At the first that did not.
    """
    checks = transform.prove(model, result, proof_inputs(data))
    failed = [check for check in checks if not check.passed]
    if failed:
        raise CheckError(
            f"A change must prove itself. Received: {failed[0].name} to {failed[0].value:.3g} of the range, "
            f"tolerance {failed[0].tolerance:g} ({where}{type(transform).__name__}). "
            "Leave this transform out, and report the network that shows it."
        )
    return checks


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether a setting is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
