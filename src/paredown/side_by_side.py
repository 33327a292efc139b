"""A network and a changed copy of it, run side by side, layer by layer over all examples.

At each layer everything before it has been run on every example in both networks, so that the layer can be changed
in the light of what it will read. What no layer reads any more is let go at once.
"""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree

from paredown.narrow import masked_results
from paredown.network import Call, Network
from paredown.progress import task


def twins(network: Network, copy: Network) -> dict[str, Any]:
    """Path in a network -> the operation in a copy of it.

    Operations inside custom layers get new names at every look, so that the order counts, not the paths.
    """
    pairs = zip(network.all_calls(), copy.all_calls(), strict=True)
    return {call.path: twin.operation for call, twin in pairs}


def twin_layers(network: Network, copy: Network) -> dict[int, Any]:
    """id of an operation of a network -> that of a copy; nested models and custom layers themselves, too."""
    found: dict[int, Any] = {}
    for call, twin in zip(network.calls, copy.calls, strict=True):
        found[id(call.operation)] = twin.operation
        if call.inner is not None and twin.inner is not None:
            found |= twin_layers(call.inner, twin.inner)
    return found


class Pair:
    """One tensor in both networks, batch by batch; `after is before` as long as nothing differs."""

    def __init__(self, before: list, after: list):
        self.before, self.after = before, after

    @property
    def same(self) -> bool:
        return self.after is self.before

    def let_go(self) -> None:
        self.before = self.after = []


class SideBySide:
    """Runs both networks.

    Args:
        network: The network as it was.
        changed: Path -> the copy's operation, for every call of `network`.
        removed: What is zero in the copy, as `narrow.removed_channels` and `removed_inside` give it.
        differ: Paths of layers whose weights are not those of `network`, or will not be once they have been met.
    """

    def __init__(
        self, network: Network, changed: dict[str, Any], removed: dict[str, np.ndarray], differ: Collection[str] = ()
    ):
        self._network, self._changed, self._removed, self._differ = network, changed, removed, differ
        self._pairs: dict[int, Pair] = {}
        self._made: dict[int, list[Pair]] = {}
        self._number = 0

    def pair(self, tensor: Any) -> Pair | None:
        """The values of a symbolic tensor of `network`; None where it was not reached yet."""
        return self._pairs.get(id(tensor))

    def run(self, batches: Sequence[list], meet: Callable[[Call, Pair], None], label: str) -> None:
        """Runs both networks once.

        Args:
            batches: One list of tensors per batch, one tensor per network input.
            meet: `meet(call, pair)` is told of each call whose input or weights differ, before the copy runs it; it
                may change the copy's weights.
            label: What progress displays call the work.
        """
        ends = _last_reads(self._network)
        columns = [list(column) for column in zip(*batches, strict=True)]
        self._made[-1] = [Pair(column, column) for column in columns]
        with task(label, total=len(ends)) as advance:

            def step(call: Call, args: tuple, kwargs: dict) -> list[Pair]:
                results = self._step(call, args, kwargs, len(batches), meet)
                self._made[self._number] = results
                self._pairs.update((id(t), pair) for t, pair in zip(call.outputs, results, strict=True))
                for number, place in ends[self._number]:
                    self._made[number][place].let_go()
                self._number += 1
                advance(1)
                return results

            self._network.walk(self._made[-1], step)

    def _step(self, call: Call, args: tuple, kwargs: dict, count: int, meet: Callable) -> list[Pair]:
        given = [leaf for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, Pair)]
        differs = call.path in self._differ or any(not pair.same for pair in given)
        before = _by_output(call.infer(*_batch(args, kwargs, i, "before")) for i in range(count))
        if differs:
            meet(call, given[0])
        after = before
        if differs or self._touched(call):
            twin = dataclasses.replace(call, operation=self._changed[call.path])
            runs = (_batch(args, kwargs, i, "after") for i in range(count))
            after = _by_output(masked_results(twin, self._removed, *run) for run in runs)
        return [Pair(b, a) for b, a in zip(before, after, strict=True)]

    def _touched(self, call: Call) -> bool:
        return any(path == call.path or path.startswith(f"{call.path}/") for path in self._removed)


def _batch(args: tuple, kwargs: dict, i: int, side: str) -> tuple[tuple, dict]:
    return tree.map_structure(lambda leaf: getattr(leaf, side)[i] if isinstance(leaf, Pair) else leaf, (args, kwargs))


def _by_output(results: Any) -> list[list]:
    """[batches][outputs] -> [outputs][batches]."""
    return [list(column) for column in zip(*results, strict=True)]


@dataclass(frozen=True)
class _Made:
    """Stands for a tensor: the step that made it (-1: an input), and its number there."""

    step: int
    number: int


def _last_reads(network: Network) -> list[list[tuple[int, int]]]:
    """For each step the tensors, as (step that made it, its number there), that nothing reads after it."""
    last: dict[_Made, int] = {}
    count = 0

    def step(call: Call, args: tuple, kwargs: dict) -> list[_Made]:
        nonlocal count
        last.update((leaf, count) for leaf in tree.flatten((args, kwargs)) if isinstance(leaf, _Made))
        made = [_Made(count, i) for i in range(len(call.outputs))]
        last.update((tensor, count) for tensor in made)
        count += 1
        return made

    outputs = network.walk([_Made(-1, i) for i in range(len(network.inputs))], step)
    ends: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for tensor, at in last.items():
        if tensor not in outputs:
            ends[at].append((tensor.step, tensor.number))
    return ends
