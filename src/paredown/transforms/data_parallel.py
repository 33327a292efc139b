"""Training on all accelerators of a machine at once, each with its part of every batch, by Keras's distribution API.

JAX alone: the API is a prototype on TensorFlow and missing on PyTorch (Keras 3.15).

Every device has all weights. Keras divides the batches of an epoch as it divides the first, and refuses a last one that
does not fit; so here every batch goes whole to every device, and the compiled step begins by taking each one's part of
it. JAX's compiler makes of the step what it would be on one device: means, losses and the statistics of
BatchNormalization are those of the whole batch. A batch that does not divide is computed whole on every device.
"""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree
from keras.distribution import DataParallel, TensorLayout

from paredown.rebuild import copy_weights, rebuild


def accelerators() -> list[str]:
    """Names of this machine's GPUs or TPUs that training can be shared among, as Keras gives them (`"gpu:0"`)."""
    if keras.backend.backend() != "jax":
        return []
    return [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]


@dataclass(frozen=True)
class Shared:
    """How training is shared among devices.

    Args:
        devices: How many take part of each batch; 1: nothing is shared.
        visiting: Whether what is made meanwhile must leave the devices afterwards.
    """

    devices: int = 1
    visiting: bool = False

    def home(self, model: Any) -> Any:
        """`model` as it would be had nothing been shared: where it visits, a copy on the default device."""
        return rebuild(model, carry=_carry_by_host) if self.visiting else model


@contextlib.contextmanager
def data_parallel(batch_size: int) -> Iterator[Shared]:
    """Within it, what is made has its weights on all devices, and what `Divided` trains takes part of each batch there.

    The distribution is the caller's (`keras.distribution.set_distribution`), where there is one, and the result stays
    in it; else it is over as many of the accelerators as divide the batch size. Afterwards all is as it was.

    Args:
        batch_size: Examples per step.
    Yields:
        Shared: on how many devices; its `home` is for what was made meanwhile.
    """
    own, devices = keras.distribution.distribution(), accelerators()
    count = max(n for n in range(1, max(len(devices), 1) + 1) if batch_size % n == 0)
    if keras.backend.backend() != "jax" or (own is None and count == 1):
        yield Shared()
        return
    wanted = DataParallel(devices=devices[:count]) if own is None else own
    with _whole(wanted).scope():
        yield Shared(_parts(wanted), own is None)


class Divided(keras.Model):
    """A network whose steps, within `data_parallel`, compute each device's part of the batch on that device."""

    def train_step(self, *arguments: Any) -> Any:
        *state, data = arguments
        return super().train_step(*state, divided(data))

    def test_step(self, *arguments: Any) -> Any:
        *state, data = arguments
        return super().test_step(*state, divided(data))


def divided(data: Any) -> Any:
    """A batch, inside a compiled step, along its first axis over the devices; as it is, where they do not divide it."""
    shared = keras.distribution.distribution()
    wanted = getattr(shared, "divides_like", None)
    return data if wanted is None else tree.map_structure(lambda tensor: _divided(tensor, wanted), data)


def _divided(tensor: Any, wanted: Any) -> Any:
    if tensor is None or not tensor.shape or tensor.shape[0] % _parts(wanted):
        return tensor
    return keras.distribution.distribute_tensor(tensor, wanted.get_data_layout(tensor.shape))


def _whole(wanted: Any) -> Any:
    """The distribution again, but that batches go whole to every device; `divides_like` is what it is of."""
    whole = copy.copy(wanted)
    whole.divides_like = wanted
    whole.get_data_layout = lambda data_shape: TensorLayout([None] * len(data_shape), wanted.device_mesh)
    return whole


def _parts(distribution: Any) -> int:
    """Along how many devices the distribution divides batches."""
    mesh = distribution.device_mesh
    return int(mesh.shape[list(mesh.axis_names).index(distribution.batch_dim_name)])


def _carry_by_host(call: Any, new: Any) -> None:
    copy_weights(call, new, {id(v): np.asarray(v) for v in call.operation.variables})
