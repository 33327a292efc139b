"""Which channels of a network stand or fall together."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from paredown.flows import pins
from paredown.labels import Flow, Trace, constant
from paredown.layer_rules import rule_for
from paredown.network import Call, Network


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Coupled layers, channel by channel: channel k of the group is one channel (or several) of each of them.

    Args:
        name: The first layer that makes these channels.
        components: Shape (size,), the numbers of the group's channels in the whole network.
        outputs: Layer -> output channels that fall with each of the group's, shape (size, n).
        inputs: Layer -> input channels of its weights that fall with each of the group's, shape (size, n).
    """

    name: str
    components: np.ndarray
    outputs: dict[str, np.ndarray]
    inputs: dict[str, np.ndarray]

    @property
    def size(self) -> int:
        return len(self.components)


@dataclass(frozen=True, eq=False)
class Move:
    """A call that only moves channels: the component at each place of its input and output tensors."""

    call: Call
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


class Channels:
    """The channels of a network as components: what can only be removed together has one number.

    Attributes:
        reads: Layer path -> component of each input channel of its weights, shape (in,).
        rest: Layer path -> value of each of them where it was removed, shape (in,).
        outputs: Layer path -> component of each output channel, for every layer with weights, shape (out,). What is
            inside a layer has a key of its own ("attention/heads").
        inside: Those keys of `outputs` -> the path of their layer.
        moves: The calls that only move channels.
        entered: Path of a custom layer that was looked into -> components of its input tensors.
        barriers: Path of a layer or operation that was not followed -> why; what it reads must stay.
        reasons: Component -> why it must stay. Component 0 stands for network inputs and constants.
        count: Number of components.
    """

    def __init__(self, model: Any):
        self.network = Network(model)
        trace = Trace()
        inputs = [constant(len(tensor.shape)) for tensor in self.network.inputs]
        results = self.network.walk(inputs, _step(trace), descend=False)
        for flow in results:
            trace.pin(flow.labels, "network output")
        component, reasons = trace.components()
        if _make_separable(trace, component):
            component, reasons = trace.components()
        self.reasons = reasons
        self.barriers = trace.barriers
        self.count = int(component.max()) + 1
        self.reads = {path: component[flow.labels] for path, flow in trace.reads.items()}
        self.rest = {path: flow.rest for path, flow in trace.reads.items()}
        self.outputs = {path: component[labels] for path, labels in trace.outputs.items()}
        self.inside = dict(trace.inside)
        self.entered = {path: [component[x] for x in arrays] for path, arrays in trace.entered.items()}
        self.moves = [Move(c, [component[x] for x in a], [component[x] for x in b]) for c, a, b in trace.moves]

    @property
    def prunable(self) -> np.ndarray:
        """Boolean, shape (count,): the components that may go."""
        result = np.ones(self.count, bool)
        result[list(self.reasons)] = False
        return result

    @cached_property
    def groups(self) -> list[ChannelGroup]:
        """The removable channels, those with the same layers in one group; the groups partition them."""
        slots = [*self.outputs.items(), *self.reads.items()]
        places = [components for _, components in slots]
        places += [array.ravel() for move in self.moves for array in move.outputs]
        group_of = _signatures(places, self.prunable)
        members = np.argsort(group_of, kind="stable")
        members = members[group_of[members] >= 0]
        if not members.size:
            return []
        sizes = np.bincount(group_of[members])
        found = [({}, {}) for _ in sizes]
        for number, (path, components) in enumerate(slots):
            for group, indices in _indices_by_group(components, group_of):
                side = 0 if number < len(self.outputs) else 1
                found[group][side][path] = indices.reshape(sizes[group], -1)
        parts = np.split(members, np.cumsum(sizes)[:-1])
        return [
            ChannelGroup(min(outputs, key=list(self.outputs).index), part, outputs, inputs)
            for part, (outputs, inputs) in zip(parts, found, strict=True)
        ]

    def why_pinned(self) -> dict[str, str]:
        """Layer path -> why none of its output channels can go, for layers of which none can."""
        return {
            path: self.reasons[int(components[0])]
            for path, components in self.outputs.items()
            if not self.prunable[components].any()
        }

    def removable(self) -> dict[str, tuple[int, str]]:
        """Layer path -> how many of its output channels can go, and why the others, or single ones, cannot.

        For every layer with weights, and for what was not followed. The reason is "" where any channel can go by
        itself.
        """
        result = {}
        for path, components in self.outputs.items():
            free = self.prunable[components]
            why = [self.reasons[c] for c in dict.fromkeys(components[~free].tolist())]
            if free.any() and len(np.unique(components[free])) == 1 < free.sum():
                why.append("its channels can only go all together")
            result[path] = int(free.sum()), "; ".join(dict.fromkeys(why))
        for path, reason in self.barriers.items():
            result.setdefault(path, (0, reason))
        for call in self.network.all_calls():
            if call.is_layer and call.operation.weights:
                result.setdefault(call.path, (0, "it makes no channels that can be removed"))
        return result


def channel_groups(model: Any) -> list[ChannelGroup]:
    """The channels of a Keras network that can be removed, those that stand or fall together side by side.

    Args:
        model: A built Functional or Sequential model.
    Returns:
        Groups that partition the removable channels; a channel that nothing allows to remove is in none.
    Raises:
        ModelError: For a subclassed or unbuilt model.
    """
    return Channels(model).groups


def _step(trace: Trace):
    def step(call: Call, args: tuple, kwargs: dict) -> list[Flow]:
        flows = list(_flows(args, kwargs))
        if call.inner is not None:
            if call.is_composite:
                trace.entered.setdefault(call.path, []).extend(flow.labels for flow in flows)
            trace.same_at_every_call(call, [flow.labels for flow in flows])
            return call.inner.walk(flows, step, descend=False)
        rule = rule_for(call.operation)
        if rule is None:
            unknown = f"no rule for {type(call.operation).__name__}"
            not_seen = f", and {call.not_seen}" if call.not_seen else ""
            return pins(f"{unknown}{not_seen}: its neighbours must stay")(call, flows, trace)
        return rule.flow(call, flows, trace)

    return step


def _flows(*values: Any):
    """The flows among a call's arguments, in order."""
    for value in values:
        if isinstance(value, Flow):
            yield value
        elif isinstance(value, list | tuple):
            yield from _flows(*value)
        elif isinstance(value, dict):
            yield from _flows(*(value[key] for key in sorted(value)))


def _make_separable(trace: Trace, component: np.ndarray) -> bool:
    """Makes what is left of every moved tensor rectangular: channels may vary along one axis only."""
    changed = False
    for _, _, outputs in trace.moves:
        for labels in outputs:
            here = component[labels]
            varying = [a for a in range(here.ndim) if here.shape[a] > 1 and (here != here.take([0], a)).any()]
            if len(varying) > 1:
                largest = max(varying, key=lambda a: (here.shape[a], a))
                others = tuple(a for a in range(here.ndim) if a != largest)
                trace.unify_along(others, labels, "it is reshaped together with a constant")
                changed = True
    return changed


def _signatures(places: list[np.ndarray], prunable: np.ndarray) -> np.ndarray:
    """The group of each component, shape (count,): equal where they have equally many channels in the same places.

    Groups are numbered by their first component; what must stay has -1.
    """
    slot = np.repeat(np.arange(len(places)), [array.size for array in places])
    component = np.concatenate([np.zeros(0, int), *places])
    pair, times = np.unique(component * len(places) + slot, return_counts=True)
    # One random 64-bit number per place: a component's sum over its places, wrapping round, is its signature.
    random = np.random.default_rng(0).integers(1, 2**63, max(1, len(places)), dtype="uint64")
    signature = np.zeros(len(prunable), "uint64")
    if pair.size:
        np.add.at(signature, pair // len(places), random[pair % len(places)] * times.astype("uint64"))
    group = np.full(len(prunable), -1)
    if prunable.any():
        _, first, inverse = np.unique(signature[prunable], return_index=True, return_inverse=True)
        group[prunable] = np.argsort(np.argsort(first))[inverse]
    return group


def _indices_by_group(components: np.ndarray, group_of: np.ndarray):
    """Pairs of a group and the places of its components in `components`, in the order of the components."""
    groups = group_of[components]
    order = np.lexsort((np.arange(components.size), components, groups))
    order = order[groups[order] >= 0]
    if order.size:
        cuts = np.flatnonzero(np.diff(groups[order])) + 1
        for indices in np.split(order, cuts):
            yield int(groups[indices[0]]), indices
