"""SubstituteAdditive: puts layers of the ef-operator in the place of trained Dense and Conv2D layers."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras

from paredown.blocks.additive import AdditiveConv2D, AdditiveDense
from paredown.checks import Check
from paredown.errors import DataError
from paredown.moments import columns
from paredown.network import Call, Network
from paredown.patches import why_not_linear
from paredown.profiling import profile
from paredown.rebuild import copied, copy_weights, from_config, rebuild
from paredown.reconstruct import in_memory
from paredown.side_by_side import Pair, SideBySide
from paredown.transform import Change, Skip, Transform, TransformResult, is_whole
from paredown.transforms.additive_fit import AdditiveFit
from paredown.transforms.additive_proof import proofs
from paredown.transforms.chains import holds
from paredown.transforms.named import check_names, names

#: What takes the place of which class, and the settings that it takes over.
_SHARED = ("name", "trainable", "activation", "kernel_regularizer")
_PLACES = {
    keras.layers.Dense: (AdditiveDense, ("units",)),
    keras.layers.Conv2D: (
        AdditiveConv2D,
        ("filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate"),
    ),
}


@dataclass(frozen=True)
class SubstituteAdditive(Transform):
    """Replaces Dense and Conv2D layers by `AdditiveDense` and `AdditiveConv2D` of the same names and weights.

    In order, each in the light of what its substituted predecessors give: per output a scale, a bias and one size for
    its weights are fitted by least squares to what the layer gave, before the activation. No sum of this kind is near a
    product, so that the network must be trained afterwards (`FineTune`); it starts from there sooner than from scratch.

    Such a network is not faster in LiteRT, where each layer costs two ordinary ones: docs/additive.md.

    `result.log["losses"]`: per layer what is wrong at its output, mean square as a share of its variance.

    Args:
        layers: Names of the layers to replace; none: every Dense and Conv2D.
        exclude: Names of layers that stay as they are; the first and the last layer are worth it.
        examples: At most so many of the calibration data, drawn at random, are used; fewer where they would not fit
            into memory.
    Source:
        Afrasiyabi et al. 2017, arXiv:1702.02676 (the operator and its scale); the fit is this project's own.
    """

    name: ClassVar[str] = "substitute_additive"

    layers: str | tuple[str, ...] = ()
    exclude: str | tuple[str, ...] = ()
    examples: int = 512

    def __post_init__(self):
        for name in ("layers", "exclude"):
            object.__setattr__(self, name, names(getattr(self, name)))
        self._require("examples", is_whole(self.examples, 1), "a whole number of at least 1")

    def apply(self, model: Any, data: Any, seed: int, teacher: Any) -> TransformResult:
        if data is None:
            raise DataError(
                "SubstituteAdditive fits scales on data.calibration. Received: no data. Give Data(calibration=inputs)."
            )
        network = Network(model)
        check_names(self, network)
        paths, skips = self._chosen(network)
        split = in_memory(data.calibration.sample(self.examples, seed), model, data.input_shape, copies=3)
        fitted, losses = _fitted(network, paths, split)
        result = _built(model, {id(call.operation): fitted[path] for path, call in paths.items()})
        before, after = ({x.name: x.macs for x in profile(m, data.input_shape).layers} for m in (model, result))
        changes = tuple(Change(path, "substituted (additive), MACs", before[path], after[path]) for path in paths)
        return TransformResult(result, changes, tuple(skips), log={"losses": losses})

    def prove(self, model: Any, result: TransformResult, inputs: Sequence[Any]) -> tuple[Check, ...]:
        """Each new layer gives what its definition gives, written out, on what it reads; its weights are the trained
        ones but for one size per output; all others are as they were. How near it comes to the layer in whose place
        it stands is no equality: `result.log["losses"]` says it."""
        return proofs(model, result.model, [change.layer for change in result.changes], inputs)

    def _chosen(self, network: Network) -> tuple[dict[str, Call], list[Skip]]:
        """The layers to replace, and why others are left alone."""
        calls: dict[str, list[Call]] = {}
        for call in network.all_calls():
            if call.path in self.layers or (not self.layers and type(call.operation) in _PLACES):
                calls.setdefault(call.path, []).append(call)
        why = {path: self._why_not(path, found) for path, found in calls.items()}
        skips = [Skip(path, reason) for path, reason in why.items() if reason]
        return {path: found[0] for path, found in calls.items() if not why[path]}, skips

    def _why_not(self, path: str, calls: list[Call]) -> str | None:
        layer = calls[0].operation
        if path in self.exclude:
            return "excluded"
        if type(layer) not in _PLACES:
            return "it is no Dense or Conv2D"
        if len(calls) > 1:
            return "it is called more than once: no one scale fits what it reads"
        why = why_not_linear(layer)
        if why is None and layer.kernel_constraint is not None:
            why = "has a constraint on its kernel, which its signs and sizes would not keep"
        if why is None and (
            getattr(layer.activation, "weights", None) or isinstance(layer.activation, keras.layers.PReLU)
        ):
            why = "has an activation with weights of its own"  # PReLU's are not there before it is first run.
        return f"it {why}" if why else None


def _fitted(network: Network, paths: dict[str, Call], split: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """Path -> the new layer, in float32; and its loss."""
    operations = {call.path: call.operation for call in network.all_calls()}
    losses: dict[str, float] = {}

    def meet(call: Call, x: Pair) -> None:
        if call.path not in paths:
            return
        layer = _additive(call.operation)
        layer.build(tuple(call.inputs[0].shape))
        layer.kernel.assign(keras.ops.cast(call.operation.kernel, "float32"))
        fit = AdditiveFit(layer, call.operation.bias if call.operation.use_bias else None)
        for before, after in zip(x.before, x.after, strict=True):
            fit.add(before, after)
        losses[call.path] = fit.assign()
        operations[call.path] = layer

    batches = [network.cast_inputs(inputs) for inputs in columns(split, 16)]
    SideBySide(network, operations, {}, paths).run(batches, meet, "Substitute")
    return {path: operations[path] for path in paths}, losses


def _additive(layer: Any) -> Any:
    """The additive layer in a layer's place, in float32 and without its weights."""
    kind, own = _PLACES[type(layer)]
    config = layer.get_config()
    return kind(**{name: config[name] for name in (*_SHARED, *own)}, dtype="float32")


def _built(model: Any, by_layer: dict[int, Any]) -> Any:
    """The network with the new layers, in the number format of the old ones."""

    def remake(call: Call) -> Any:
        new = by_layer.get(id(call.operation))
        if new is None:
            return copied(call)
        return from_config(new, {**new.get_config(), "dtype": call.operation.get_config()["dtype"]})

    def carry(call: Call, new: Any) -> None:
        fitted = by_layer.get(id(call.operation))
        copy_weights(call if fitted is None else dataclasses.replace(call, operation=fitted), new)

    return rebuild(model, remake, carry, opened=lambda call: holds(call, by_layer))
