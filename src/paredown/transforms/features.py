"""Intermediate outputs of a network and of its teacher: which are compared, how they are seen, how far apart they are.

The distance of one feature is relative: [mean of (network - teacher)^2] / [variance of the teacher], both over all
values of a batch. 0: equal; 1: as far off as the teacher's mean would be. So layers of any scale count alike.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops, tree

from paredown.errors import ModelError
from paredown.network import Call, Network

AUTO = "auto"
#: Share of the mean square below which a variance is rounding: the teacher gives a constant.
_ROUNDING = 1e-10
#: Names that a message lists at most.
_LISTED = 20


class Seeing:
    """A network that is run so that the outputs of some of its layers are seen.

    Args:
        network: Its layers are called as they are; they and the network stay unchanged.
        tensors: Path -> the symbolic tensors to see, as `outputs_of` gives them.
    """

    def __init__(self, network: Network, tensors: dict[str, list[Any]]):
        self._network, self._tensors = network, tensors

    def run(self, x: Any, training: bool | None) -> tuple[list[Any], dict[str, list[Any]]]:
        """One pass.

        Args:
            x: Tensors in the structure that the network takes.
            training: As Keras hands it to `call`.
        Returns:
            (outputs, in order; path -> what its tensors held, tensor by tensor).
        """
        seen: dict[int, list[Any]] = {id(t): [] for tensors in self._tensors.values() for t in tensors}

        def step(call: Call, args: tuple, kwargs: dict) -> list[Any]:
            results = call.run(args, kwargs, training)
            for tensor, value in zip(call.outputs, results, strict=True):
                if id(tensor) in seen:
                    # More than one where the nested model around it is called again.
                    seen[id(tensor)].append(value)
            return results

        outputs = self._network.walk(self._network.cast_inputs(tree.flatten(x)), step)
        return outputs, {path: [v for t in tensors for v in seen[id(t)]] for path, tensors in self._tensors.items()}


class Features:
    """The features that a network in training shares with its teacher.

    Args:
        network: The network that is trained.
        teacher: Neither trained nor changed.
        wanted: Paths of the teacher's layers or nested models, or `"auto"`: every BatchNormalization, activation and
            Add of the teacher, inside nested models too, that has a counterpart of the same output shape; layers with
            an activation other than linear count as activations, the networks' own outputs do not count.
    Attributes:
        paths: Path in the teacher -> path of the counterpart in the network.
    Raises:
        ModelError: If a path is not in both, or not with the same shapes, or "auto" finds nothing.
    """

    def __init__(self, network: Network, teacher: Network, wanted: str | Sequence[str]):
        ours, theirs = outputs_of(network), outputs_of(teacher)
        places = counterparts(list(ours), list(theirs))
        alike = {path: o for path, o in places.items() if _shapes(ours[o]) == _shapes(theirs[path])}
        if wanted == AUTO:
            telling = set(_telling(teacher))
            self.paths = {path: alike[path] for path in theirs if path in telling and path in alike}
        else:
            for path in wanted:
                _see_alike(path, ours.get(places.get(path, path)), theirs.get(path), list(alike))
            self.paths = {path: alike[path] for path in wanted}
        if not self.paths:
            raise ModelError(
                "features='auto' needs BatchNormalization, activations or Add of the same names and output shapes in "
                f"the network and its teacher. Received: {network.model.name!r} and {teacher.model.name!r}, which "
                f"share none (FineTune). Name layers; of the same shape are: {_list(list(alike))}."
            )
        self.network = Seeing(network, {path: ours[o] for path, o in self.paths.items()})
        self.teacher = Seeing(teacher, {path: theirs[path] for path in self.paths})

    def distance(self, seen: dict[str, list[Any]], expected: dict[str, list[Any]]) -> Any:
        """The mean over the features of their relative distances, a scalar; see the top of this file.

        Args:
            seen: What `self.network` saw of a batch.
            expected: What `self.teacher` saw of it.
        """
        pairs = [list(zip(seen[path], expected[path], strict=True)) for path in self.paths]
        of_each = [sum(_relative(*pair) for pair in of_path) / len(of_path) for of_path in pairs]
        return sum(of_each) / len(of_each)


def counterparts(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """Path in the teacher -> path of the same in the network, in the order of the teacher.

    That is the same path; where it is gone, the last of the layers that are named after it, as `Factorize` leaves them
    (`conv` -> `conv_vertical`, `conv_horizontal`). Numbers are no such names: Keras gives them to any layer.

    Args:
        ours, theirs: Paths in the order of execution.
    """
    known, gone = set(theirs), sorted(set(theirs) - set(ours), key=len, reverse=True)
    found = {path: path for path in set(ours) & known}
    for path in ours:
        if path not in known:
            # The longest name comes first: conv1_1_vertical is of conv1_1, not of conv1.
            owner = next((name for name in gone if path.startswith(f"{name}_")), None)
            if owner is not None and not path[len(owner) + 1 : len(owner) + 2].isdigit():
                found[owner] = path
    return {path: found[path] for path in theirs if path in found}


def outputs_of(network: Network) -> dict[str, list[Any]]:
    """Path of each layer, operation and nested model -> the symbolic tensors that come out of it at all its calls.

    What comes out of a nested model is what the layers in it give, whichever of its calls they are run for.
    """
    found: dict[str, list[Any]] = {}
    for call in _calls(network):
        if call.inner is None:
            known = found.setdefault(call.path, [])
            # A nested model's calls come again at each call of it.
            known += [tensor for tensor in call.outputs if not any(tensor is other for other in known)]
        elif call.path not in found:
            made = {id(t): t for inner in _calls(call.inner) if inner.inner is None for t in inner.outputs}
            tensors = [made[i] for i in _ends(call.inner) if i in made]
            found.update({call.path: tensors} if tensors else {})
    return found


def _calls(network: Network) -> Iterator[Call]:
    """Every call, nested models before what is in them."""
    for call in network.calls:
        yield call
        if call.inner is not None:
            yield from _calls(call.inner)


def _ends(network: Network) -> list[int]:
    """`id` of the tensors that a network gives, for outputs of nested models those inside."""
    inside = {id(t): call.inner for call in network.calls if call.inner is not None for t in call.outputs}
    ends: list[int] = []
    for tensor in network.outputs:
        nested = inside.get(id(tensor))
        ends += _ends(nested) if nested is not None else [id(tensor)]
    return list(dict.fromkeys(ends))


def _telling(network: Network) -> Iterator[str]:
    """Paths of the layers at which networks are compared without being told where."""
    ends = set(_ends(network))
    for call in network.all_calls():
        if call.is_layer and _normalizes_or_activates(call.operation) and not ends & {id(t) for t in call.outputs}:
            yield call.path


def _normalizes_or_activates(layer: Any) -> bool:
    if isinstance(layer, keras.layers.BatchNormalization | keras.layers.Add):
        return True
    own = type(layer).__module__.startswith("keras.src.layers.activations")
    return own or getattr(layer, "activation", None) not in (None, keras.activations.linear)


def _see_alike(path: str, ours: list[Any] | None, theirs: list[Any] | None, alike: list[str]) -> None:
    places = [name for name, tensors in (("the network", ours), ("its teacher", theirs)) if tensors is None]
    if places:
        received = f"{path!r}, which is not in {' and not in '.join(places)}"
    elif path not in alike:
        received = f"{path!r}, of {_text(ours)} in the network and {_text(theirs)} in its teacher"
    else:
        return
    raise ModelError(
        "features must name layers that the network and its teacher both have, with the same output shape. Received: "
        f"{received} (FineTune). There are: {_list(alike)}."
    )


def _relative(value: Any, expected: Any) -> Any:
    value, expected = ops.cast(value, "float32"), ops.cast(expected, "float32")
    variance = ops.var(expected)
    # Where the teacher gives a constant, the difference stays as it is.
    varies = variance > _ROUNDING * ops.mean(ops.square(expected))
    return ops.mean(ops.square(value - expected)) / ops.where(varies, variance, ops.ones_like(variance))


def _shapes(tensors: list[Any]) -> list[tuple]:
    return [tuple(tensor.shape) for tensor in tensors]


def _text(tensors: list[Any] | None) -> str:
    return ", ".join(str(shape) for shape in dict.fromkeys(_shapes(tensors or [])))


def _list(paths: list[str]) -> str:
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    return ", ".join(paths[:_LISTED]) + more if paths else "none"
