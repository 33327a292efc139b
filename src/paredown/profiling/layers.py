"""What costs what: MACs, parameters, bytes and the memory peak, layer by layer."""

import dataclasses
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras import tree

from paredown import flows
from paredown.channels import Channels
from paredown.layer_rules import rule_for
from paredown.network import Call, Network
from paredown.profiling.cost import Shapes, mac_terms

#: Bytes of one activation: profiles are of the float32 network.
_ACTIVATION_BYTES = 4
_IN_PLACE = (flows.elementwise, flows.keep, flows.scale)


@dataclass(frozen=True)
class LayerProfile:
    """One layer's cost for one example.

    Args:
        name: Path of the layer.
        kind: Its class.
        output_shape: Without the batch.
        macs: Multiply-adds, over all its calls; None where unknown.
        params: Number of weights.
        weight_bytes: Bytes of the weights as they are stored in the model.
        activation_bytes: Bytes of its outputs in float32.
        intensity_macs_per_byte: MACs per byte of weights, inputs and outputs; None where MACs are unknown.
        note: Why something is unknown.
        channels: Output channels of a layer with weights; None for other layers.
        removable: How many of them `PruneChannels` can remove, but for the one that stays; None for other layers.
        why: Why the others stay, "" where none does.
        additions, sign_changes: What is done in place of multiply-adds, which no MAC counts (`AdditiveDense`).
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    macs: int | None
    params: int
    weight_bytes: int
    activation_bytes: int
    intensity_macs_per_byte: float | None
    note: str = ""
    channels: int | None = None
    removable: int | None = None
    why: str = ""
    additions: int = 0
    sign_changes: int = 0


@dataclass(frozen=True)
class Profile:
    """A network's cost for one example.

    Args:
        name: The model's name.
        layers: In order of execution, each layer once.
        peak_activation_bytes: Most bytes of float32 activations alive at once, executed in this order, element-wise
            layers in place.
    """

    name: str
    layers: Sequence[LayerProfile]
    peak_activation_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-adds of all layers whose MACs are known; `unknown` lists the others."""
        return sum(layer.macs or 0 for layer in self.layers)

    @property
    def unknown(self) -> list[str]:
        """Names of the layers whose MACs are not known."""
        return [layer.name for layer in self.layers if layer.macs is None]

    @property
    def params(self) -> int:
        return sum(layer.params for layer in self.layers)

    @property
    def additions(self) -> int:
        """Additions in place of multiply-adds."""
        return sum(layer.additions for layer in self.layers)

    @property
    def sign_changes(self) -> int:
        return sum(layer.sign_changes for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        return sum(layer.activation_bytes for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: totals and one entry per layer."""
        totals = ("macs", "params", "weight_bytes", "activation_bytes", "peak_activation_bytes", "unknown")
        totals += ("additions", "sign_changes")
        return {
            "name": self.name,
            **{key: getattr(self, key) for key in totals},
            "layers": [
                {**dataclasses.asdict(layer), "output_shape": list(layer.output_shape)} for layer in self.layers
            ],
        }


def profile(model: Any, input_shape: tuple[int, ...] | None = None) -> Profile:
    """Counts what a network costs for one example.

    Args:
        model: A built Functional or Sequential model.
        input_shape: Without the batch; needed where the network leaves sizes open, e.g. (224, 224, 3).
    Raises:
        ModelError: For a subclassed or unbuilt model.
        SettingError: If sizes are open and `input_shape` does not fill them.
    """
    channels = Channels(model)
    network = channels.network
    shapes = Shapes(network, input_shape)
    calls: dict[str, list[Call]] = {}
    for call in network.all_calls():
        calls.setdefault(call.path, []).append(call)
    removable = channels.removable()
    rows = [
        dataclasses.replace(_layer(path, group, shapes), **_removal(path, group[0], channels, removable))
        for path, group in calls.items()
    ]
    return Profile(model.name, rows, _peak_bytes(network, shapes))


def compared(before: Profile, after: Profile) -> list[dict[str, Any]]:
    """Layers with weights, before and after, side by side by name; new ones behind those whose place they take."""
    old, new = ({layer.name: layer for layer in p.layers} for p in (before, after))
    rows = []
    for name in _merged(list(old), list(new)):
        a, b = old.get(name), new.get(name)
        if not (a and a.params) and not (b and b.params):
            continue
        rows.append(
            {
                "name": name,
                "kind": (a or new[name]).kind,
                **{f"{figure}_before": getattr(a, figure, None) for figure in ("macs", "params")},
                **{f"{figure}_after": getattr(b, figure, None) for figure in ("macs", "params")},
                "channels_before": a.output_shape[-1] if a else None,
                "channels_after": b.output_shape[-1] if b else None,
                "removable": (a or new[name]).removable,
                "why": (a or new[name]).why,
            }
        )
    return rows


def _merged(old: list[str], new: list[str]) -> list[str]:
    """All names once; where the two differ first the old ones."""
    found = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    parts = [old[a:b] if tag == "equal" else [*old[a:b], *new[c:d]] for tag, a, b, c, d in found]
    return list(dict.fromkeys(name for part in parts for name in part))


def _removal(path: str, call: Call, channels: Channels, removable: dict[str, tuple[int, str]]) -> dict[str, Any]:
    """What can be removed of a layer that makes or carries channels, or was not followed."""
    if path not in removable:
        return {}
    count, why = removable[path]
    made = len(channels.outputs[path]) if path in channels.outputs else (1, *call.outputs[0].shape)[-1]
    return {"channels": made, "removable": count, "why": why}


def _layer(path: str, calls: list[Call], shapes: Shapes) -> LayerProfile:
    operation = calls[0].operation
    weights = getattr(operation, "weights", [])
    terms = [mac_terms(call, shapes) for call in calls]
    weight_bytes = sum(math.prod(w.shape) * _item_bytes(w.dtype) for w in weights)
    written = sum(_bytes(t, shapes) for call in calls for t in call.outputs)
    moved = weight_bytes + written + sum(_bytes(t, shapes) for call in calls for t in call.inputs)
    macs, note = None, f"no rule for {type(operation).__name__}"
    if None not in terms:
        # Every channel counts: the number of channels is the kernel's own.
        macs, note = sum(_macs(call, shapes) for call in calls), ""
    additions, sign_changes = _instead(calls, shapes)
    return LayerProfile(
        path,
        type(operation).__name__,
        shapes.of(calls[0].outputs[0])[1:],
        macs,
        sum(math.prod(w.shape) for w in weights),
        weight_bytes,
        written,
        None if macs is None else macs / max(1, moved),
        note,
        additions=additions,
        sign_changes=sign_changes,
    )


def _instead(calls: list[Call], shapes: Shapes) -> tuple[int, int]:
    """Additions and sign changes in the place of multiply-adds, over all calls."""
    rule = rule_for(calls[0].operation)
    counts = [rule.sums(call, shapes.of) for call in calls] if rule and rule.sums else []
    return sum(additions for additions, _ in counts), sum(signs for _, signs in counts)


def _macs(call: Call, shapes: Shapes) -> int:
    """[positions · kernel size], summed over the layer's kernels."""
    return sum(term.factor * term.channels for term in mac_terms(call, shapes) or [])


def _item_bytes(dtype: str) -> int:
    digits = "".join(c for c in str(dtype).removeprefix("b") if c.isdigit())
    return max(1, int(digits or 8) // 8)


def _bytes(tensor: Any, shapes: Shapes) -> int:
    return math.prod(shapes.of(tensor)) * _ACTIVATION_BYTES


@dataclass(frozen=True, eq=False)
class _Activations:
    """What one call gives, wherever in nested models it is read."""

    size_bytes: int


def _peak_bytes(network: Network, shapes: Shapes) -> int:
    """The most activations alive at once: a tensor lives from where it is made to where it is last read."""
    steps: list[tuple[Call, list[_Activations], list[_Activations]]] = []

    def step(call: Call, args: tuple, kwargs: dict) -> list[_Activations]:
        read = [leaf for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, _Activations)]
        made = [_Activations(_bytes(tensor, shapes)) for tensor in call.outputs]
        steps.append((call, read, made))
        return made

    inputs = [_Activations(_bytes(tensor, shapes)) for tensor in network.inputs]
    outputs = network.walk(inputs, step)
    last_read = {tensor: i for i, (_, read, _) in enumerate(steps) for tensor in read}
    last_read |= dict.fromkeys(outputs, len(steps))
    alive = set(inputs)
    peak = sum(tensor.size_bytes for tensor in alive)
    for i, (call, read, made) in enumerate(steps):
        ends = {tensor for tensor in read if last_read[tensor] == i}
        rule = rule_for(call.operation)
        if rule and rule.flow in _IN_PLACE:
            alive -= ends
        alive |= set(made)
        peak = max(peak, sum(tensor.size_bytes for tensor in alive))
        alive -= ends
    return peak
