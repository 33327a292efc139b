"""How labels pass through TimeDistributed: as through the layer inside, at every time step alike."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from paredown.flows import constant_along
from paredown.labels import Flow, Trace
from paredown.network import Call

_TIME = 1
_REASON = "a removed channel would differ from one time step to the next"


def distributed(inner: Callable) -> Callable:
    """The flow of the layer inside, with the axis of time put back in front of its results."""

    def flow(call: Call, flows: list[Flow], trace: Trace) -> list[Flow]:
        step = call.within(call.operation.layer, *([_one_step(t) for t in ts] for ts in (call.inputs, call.outputs)))
        given = [_at_every_step(flow, trace) for flow in flows]
        return [Flow(*(np.expand_dims(array, _TIME) for array in result)) for result in inner(step, given, trace)]

    return flow


def _one_step(tensor: Any) -> Any:
    return keras.KerasTensor((tensor.shape[0], *tensor.shape[_TIME + 1 :]), tensor.dtype)


def _at_every_step(flow: Flow, trace: Trace) -> Flow:
    """The flow of one time step; a channel is one label at all of them."""
    labels = trace.unify_along((_TIME,), flow.labels, _REASON)
    return Flow(labels.squeeze(_TIME), constant_along((_TIME,), flow.rest).squeeze(_TIME))


def refit_inner(refit: Callable[[Call, dict, list[tuple]], dict]) -> Callable[[Call, dict, list[tuple]], dict]:
    """Mends sizes in the config of the layer inside, which sees one time step."""

    def refitted(call: Call, config: dict, sizes: list[tuple]) -> dict:
        step = call.within(call.operation.layer, *([_one_step(t) for t in ts] for ts in (call.inputs, call.outputs)))
        left = [(size[0], *size[_TIME + 1 :]) for size in sizes]
        return _with_inner(config, refit(step, config["layer"]["config"], left))

    return refitted


def resize_inner(width: str) -> Callable[[dict, Callable[[str], int | None]], dict]:
    """The config with as many output channels of the layer inside as are left."""

    def resized(config: dict, left: Callable[[str], int | None]) -> dict:
        return _with_inner(config, {**config["layer"]["config"], width: left("")})

    return resized


def _with_inner(config: dict, inner: dict) -> dict:
    return {**config, "layer": {**config["layer"], "config": inner}}
