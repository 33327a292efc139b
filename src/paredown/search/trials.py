"""A study's trials as a queue that any number of workers share: each is done by one of them, whoever dies."""

import contextlib
import os
import socket
import time
import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from paredown.errors import DeviceError, OutputError

#: How often a trial is begun again whose worker died, or that broke down.
RETRIES = 3
#: Attributes of a trial that are those of one attempt.
_OF_THE_ATTEMPT = ("worker", "judgement", "tries", "queued")
#: What Optuna raises where a trial's result comes that it has already.
_REFUSED = (UpdateFinishedTrialError, ValueError, AssertionError)


class VoidError(Exception):
    """Raised within a trial that need not be done: it fails in the study, and counts for nothing."""


def again(study: optuna.Study, trial: FrozenTrial, died: bool = True) -> None:
    """Queues a trial that was broken off, or gives it up.

    Args:
        died: Whether its worker died or broke down, as it may again: that is tried `RETRIES` times.
    """
    kept = {key: value for key, value in trial.user_attrs.items() if key not in _OF_THE_ATTEMPT}
    tries = trial.user_attrs.get("tries", 0) + died
    if tries > RETRIES:
        reason = f"{tries} times whoever judged it died or broke down"
        study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs={**kept, "reason": reason}))
        return
    parameters = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
    study.enqueue_trial(parameters, user_attrs={**kept, "tries": tries, "queued": True})


class Trials:
    """The queue.

    Args:
        study: Where it is kept; its storage asks for signs of life.
        grace_s: Seconds without one after which a worker counts as dead.
    """

    def __init__(self, study: optuna.Study, grace_s: float):
        self.study, self._grace_s = study, grace_s
        self._me = f"{socket.gethostname()} {os.getpid()}"
        self._silent: dict[int, float] = {}

    def all(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.study.get_trials(deepcopy=False)

    @property
    def waiting(self) -> bool:
        """Whether any waits for a worker."""
        return any(trial.state == TrialState.WAITING for trial in self.all())

    @property
    def running(self) -> bool:
        """Whether workers are at any."""
        return any(trial.state == TrialState.RUNNING for trial in self.all())

    def add(self, parameters: dict[str, Any], attributes: dict[str, Any]) -> None:
        """Queues a trial."""
        self.study.enqueue_trial(parameters, user_attrs={**attributes, "queued": True})

    def do(self, objective: Callable[[optuna.Trial], tuple[float, float]]) -> None:
        """Does the first trial that waits; a new one, without the attribute "queued", where none does."""
        begun: list[int] = []
        raised: list[BaseException] = []

        def whole(trial: optuna.Trial) -> tuple[float, float]:
            begun.append(trial.number)
            # Before anything else says who is at it: `revive` takes a trial without a worker for one without a sign.
            self.study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
            trial.set_user_attr("worker", self._me)
            try:
                return objective(trial)
            except BaseException as error:
                raised.append(error)
                if isinstance(error, VoidError):
                    trial.set_user_attr("void", str(error))
                raise

        try:
            self.study.optimize(whole, n_trials=1, catch=(VoidError,))
        except BaseException as error:
            if error in raised or not begun or not isinstance(error, _REFUSED):
                self._again(begun, error)
                raise
            # This process was silent for so long that another has begun the trial again: what came of it here is void.
            if raised and not isinstance(raised[-1], VoidError | optuna.TrialPruned | UpdateFinishedTrialError):
                raise raised[-1] from None

    def _again(self, begun: list[int], error: BaseException) -> None:
        """Queues the trial that this process has just broken off."""
        died = not isinstance(error, KeyboardInterrupt | OutputError | DeviceError)
        for trial in self.all():
            if trial.number in begun and trial.state == TrialState.FAIL:
                again(self.study, trial, died)

    def revive(self) -> None:
        """Queues the trials of dead workers again."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)
        # Optuna never takes for dead who died before the first sign of life.
        now, running = time.monotonic(), [t for t in self.all() if t.state == TrialState.RUNNING]
        silent = [trial for trial in running if "worker" not in trial.user_attrs]
        self._silent = {trial.number: self._silent.get(trial.number, now) for trial in silent}
        for trial in silent:
            if now - self._silent[trial.number] > self._grace_s:
                with contextlib.suppress(ValueError, UpdateFinishedTrialError):  # Another was faster.
                    self.study.tell(trial.number, state=TrialState.FAIL)
                    again(self.study, trial)
