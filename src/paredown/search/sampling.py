"""Optuna's sampler, seeded by the trial's number."""

import warnings
from typing import Any

import optuna
from optuna.samplers import BaseSampler, TPESampler


class NumberedSampler(BaseSampler):
    """Tree-structured Parzen estimators that draw a trial by its number and by what is judged so far, by nothing else:
    a search that was interrupted draws what it would have drawn, and workers that start together draw apart.

    Args:
        seed: Of all trials.
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._sampler = self._of(0)

    def _of(self, number: int) -> TPESampler:
        with warnings.catch_warnings():
            # Drawing parameters together, in groups that occur together, is called experimental at every turn.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(
                seed=self._seed + number, multivariate=True, group=True, constant_liar=True, n_startup_trials=8
            )

    def before_trial(self, study: optuna.Study, trial: Any) -> None:
        self._sampler = self._of(trial.number)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: Any) -> dict[str, Any]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: optuna.Study, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(self, study: optuna.Study, trial: Any, param_name: str, param_distribution: Any) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: optuna.Study, trial: Any, state: Any, values: Any) -> None:
        self._sampler.after_trial(study, trial, state, values)
