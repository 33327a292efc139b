"""What happens beside a training run: epochs are counted, progress is shown, a loss that is no number ends it."""

import contextlib
import math
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import keras

from paredown.errors import ParedownError
from paredown.progress import task


class Epochs(keras.callbacks.Callback):
    """Tells the data which epoch begins."""

    def __init__(self, batches: Any):
        super().__init__()
        self._batches = batches

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._batches.epoch = epoch


class Progress(keras.callbacks.Callback):
    """One bar per epoch, labelled with the figures of the epoch before."""

    def __init__(self, label: str, epochs: int, steps: int):
        super().__init__()
        self._label, self._epochs, self._steps = label, epochs, steps
        self._figures = ""
        self._bar = contextlib.ExitStack()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        label = f"{self._label}, epoch {epoch + 1} of {self._epochs}{self._figures}"
        self._advance = self._bar.enter_context(task(label, total=self._steps))
        self._done = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # Told after every execution, which may be of several steps.
        self._advance(batch + 1 - self._done)
        self._done = batch + 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._bar.close()
        figures = ", ".join(f"{key} {value:.4g}" for key, value in (logs or {}).items() if key != "learning_rate")
        self._figures = f" ({figures})" if figures else ""

    def close(self) -> None:
        """Takes the bar away where an epoch was broken off."""
        self._bar.close()


class Pace(keras.callbacks.Callback):
    """How long a step takes, without the first ones, before which the step is compiled.

    Attributes:
        seconds_per_step: The mean; None where there was one execution only.
    """

    def __init__(self):
        super().__init__()
        self.seconds_per_step: float | None = None
        self._start: float | None = None
        self._seconds, self._steps = 0.0, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.monotonic()
        if self._start is not None:
            self._seconds += now - self._start
            self._steps += batch - self._batch
            self.seconds_per_step = self._seconds / self._steps
        self._start, self._batch = now, batch


_PACE: ContextVar[Pace | None] = ContextVar("pace", default=None)


@contextlib.contextmanager
def paced() -> Iterator[Pace]:
    """Gives the pace of the trainings within the block: no figure of their results, which are the same every time."""
    pace = Pace()
    token = _PACE.set(pace)
    try:
        yield pace
    finally:
        _PACE.reset(token)


def paces() -> list[Pace]:
    """What a training tells its pace, if anybody asks."""
    pace = _PACE.get()
    return [] if pace is None else [pace]


class FiniteLoss(keras.callbacks.Callback):
    """Ends a run whose loss is no longer a finite number."""

    def __init__(self, learning_rate: float):
        super().__init__()
        self._learning_rate = learning_rate
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise ParedownError(
                f"The loss of fine-tuning must stay a finite number. Received: {float(loss)} in epoch "
                f"{self._epoch + 1}, step {batch + 1}, with learning_rate={self._learning_rate:g} (FineTune). "
                f"Try learning_rate={self._learning_rate / 10:g}."
            )
