"""Channel labels: what flows through a network so that it is seen which channels stand or fall together.

Every output channel of a layer that makes channels gets an integer of its own. The labels flow as arrays that
have the tensor's own axes; an axis along which they do not change is kept at 1. Label 0 is no channel that
could go: a network input or a constant. Saying that two labels are one makes an edge; the connected components
of the edges are the sets of channels that can only be removed together.

Beside the labels flows the *rest*: the value that a removed channel (zero where its layer gave it) takes at this
place, such as 0.5 behind a sigmoid; NaN where that is not one value.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from paredown.parts import key


class Flow(NamedTuple):
    """Labels and rest of one tensor; both arrays have the tensor's rank, and size 1 where they do not change."""

    labels: np.ndarray
    rest: np.ndarray


def constant(rank: int) -> Flow:
    """The flow of a tensor that carries no removable channel."""
    return Flow(np.zeros((1,) * rank, "int32"), np.zeros((1,) * rank, "float32"))


def along(axis: int, rank: int, labels: np.ndarray, rest: np.ndarray | None = None) -> Flow:
    """A flow that changes along one axis only.

    Args:
        labels: Shape (channels,).
        rest: Shape (channels,) or None for zeros.
    """
    shape = [1] * rank
    shape[axis] = -1
    rest = np.zeros(1, "float32") if rest is None else rest
    return Flow(labels.reshape(shape), _compress(rest.reshape(shape)))


def compressed(flow: Flow) -> Flow:
    """The same flow with every axis along which nothing changes back at 1."""
    return Flow(_compress(flow.labels), _compress(flow.rest))


def _compress(array: np.ndarray) -> np.ndarray:
    for axis, size in enumerate(array.shape):
        if size > 1:
            first = array.take([0], axis)
            same = (array == first) | ((array != array) & (first != first))
            if same.all():
                array = first
    return array


class Labels:
    """Hands out labels and remembers which are one and which must stay, and why."""

    def __init__(self):
        self._count = 1
        self._edges: list[tuple[np.ndarray, np.ndarray]] = []
        self._pins: list[tuple[np.ndarray, str]] = []

    def fresh(self, size: int) -> np.ndarray:
        labels = np.arange(self._count, self._count + size, dtype="int32")
        self._count += size
        return labels

    def unify(self, a: np.ndarray, b: np.ndarray, reason: str) -> None:
        """Says that labels are pairwise one (broadcast); one that meets label 0 is pinned for `reason`."""
        if a is b:
            return
        a, b = (x.ravel() for x in np.broadcast_arrays(a, b))
        differ = a != b
        if not differ.any():
            return
        a, b = a[differ], b[differ]
        constant = (a == 0) | (b == 0)
        if constant.any():
            self.pin(np.maximum(a, b)[constant], reason)
        if not constant.all():
            self._edges.append((a[~constant], b[~constant]))

    def unify_along(self, axes: tuple[int, ...], labels: np.ndarray, reason: str) -> np.ndarray:
        """Says that labels are one along `axes`; returns them with these axes at 1."""
        for axis in axes:
            if labels.shape[axis] > 1:
                first = labels.take([0], axis)
                self.unify(labels, first, reason)
                labels = first
        return labels

    def pin(self, labels: np.ndarray, reason: str) -> None:
        """Says that channels must stay."""
        labels = np.unique(labels)
        labels = labels[labels > 0]
        if labels.size:
            self._pins.append((labels, reason))

    def components(self) -> tuple[np.ndarray, dict[int, str]]:
        """The component of each label, shape (labels,), and component -> why it must stay.

        Component numbers follow the order in which labels were handed out; label 0 is component 0.
        """
        a = np.concatenate([np.zeros(0, "int32"), *(edge[0] for edge in self._edges)])
        b = np.concatenate([np.zeros(0, "int32"), *(edge[1] for edge in self._edges)])
        graph = coo_array((np.ones(a.size, bool), (a, b)), shape=(self._count, self._count))
        _, component = connected_components(graph, directed=False)
        # scipy numbers components by their first member already, but does not promise it.
        _, first, component = np.unique(component, return_index=True, return_inverse=True)
        component = np.argsort(np.argsort(first))[component]
        reasons = {0: "network input or constant"}
        for labels, reason in self._pins:
            for c in np.unique(component[labels]).tolist():
                reasons[c] = reason
        return component, reasons


class Trace(Labels):
    """Labels, and where they were seen: what `layer_rules` writes down while labels flow.

    Keys are the paths of layers. A layer that is called twice reads and gives the same channels both times.
    """

    def __init__(self):
        super().__init__()
        #: path -> labels (in,) of the channels that the layer's weights read, and the rest (in,) they have there.
        self.reads: dict[str, Flow] = {}
        #: path -> labels (out,) of the channels of a layer with weights, and of what is inside one ("attention/heads").
        self.outputs: dict[str, np.ndarray] = {}
        #: Those keys of `outputs` that are inside a layer -> the layer's path.
        self.inside: dict[str, str] = {}
        #: Calls that only move channels, with the labels of their input and output tensors.
        self.moves: list[tuple[Any, list[np.ndarray], list[np.ndarray]]] = []
        #: path of a custom layer that was looked into -> labels of the tensors that it is given.
        self.entered: dict[str, list[np.ndarray]] = {}
        #: path -> why a layer or operation was not followed; what it reads is pinned.
        self.barriers: dict[str, str] = {}
        self._seen: dict[int, list[np.ndarray]] = {}

    def read(self, path: str, labels: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """A layer's weights read these channels, shape (in,); returns the rest over all its calls, shape (in,)."""
        if path in self.reads:
            known = self.reads[path]
            self.unify(known.labels, labels, "shared layer reads a network input or constant")
            rest = np.where(known.rest == rest, rest, np.nan)
        self.reads[path] = Flow(labels, np.broadcast_to(rest, labels.shape))
        return self.reads[path].rest

    def make(self, path: str, size: int) -> np.ndarray:
        """The labels of a layer's own output channels, shape (size,): fresh at its first call."""
        if path not in self.outputs:
            self.outputs[path] = self.fresh(size)
        return self.outputs[path]

    def carry(self, path: str, labels: np.ndarray) -> None:
        """A layer with weights hands these channels on, shape (out,)."""
        if path in self.outputs:
            self.unify(self.outputs[path], labels, "shared layer carries a network input or constant")
        self.outputs[path] = labels

    def make_inside(self, path: str, name: str, size: int) -> np.ndarray:
        """The labels of channels that a layer makes and reads itself, shape (size,): fresh at its first call."""
        self.inside[key(path, name)] = path
        return self.make(key(path, name), size)

    def carry_inside(self, path: str, name: str, labels: np.ndarray) -> None:
        """A layer hands these channels on to itself, shape (size,)."""
        self.inside[key(path, name)] = path
        self.carry(key(path, name), labels)

    def move(self, call: Any, given: list[Flow], results: list[Flow]) -> None:
        """A call moved channels to these places."""
        inputs, outputs = [flow.labels for flow in given], [flow.labels for flow in results]
        self.moves.append((call, inputs, outputs))
        self.same_at_every_call(call, inputs + outputs)

    def same_at_every_call(self, call: Any, labels: list[np.ndarray]) -> None:
        """What is made for certain sizes (a nested model, a reshape) keeps the same channels at each of its calls."""
        known = self._seen.setdefault(id(call.operation), labels)
        reason = f"{call.path} is called twice, once on a network input, on a constant or on another shape"
        for before, now in zip(known, labels, strict=True):
            if before.shape == now.shape:
                self.unify(before, now, reason)
            elif before.any() or now.any():
                self.pin(before, reason)
                self.pin(now, reason)
