"""The study that a search is kept in: Optuna's storage, on this machine or shared by many."""

import contextlib
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from paredown.errors import OutputError, SettingError

#: A worker gives a sign of life so often (seconds); one that gave none for the second is taken to be dead, and its
#: trial is done again by another. Converting a large network holds the interpreter for some seconds.
HEARTBEAT_S, GRACE_S = 5, 60
#: How often a trial is done again whose worker died.
RETRIES = 3


def open_study(url: str, name: str, seed: int, grace_s: int = GRACE_S) -> optuna.Study:
    """The study of a name in a database, made where it is not there.

    Args:
        url: As SQLAlchemy takes it: `sqlite:////path/study.db`, `postgresql+psycopg://host/database`.
        name: Of the study.
        seed: Of the sampler.
        grace_s: Seconds without a sign of life after which a worker counts as dead.
    Raises:
        SettingError: If the database cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _quiet(), _reported(url):
        storage = RDBStorage(
            _with_driver(url),
            heartbeat_interval=min(HEARTBEAT_S, max(1, grace_s // 2)),
            grace_period=grace_s,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
        )
        study = optuna.create_study(
            storage=storage, study_name=name, directions=["minimize", "minimize"], load_if_exists=True
        )
        # A worker that joins draws other candidates than the first.
        drawn = len(study.get_trials(deepcopy=False))
        study.sampler = optuna.samplers.TPESampler(
            seed=seed + drawn, multivariate=True, group=True, constant_liar=True, n_startup_trials=8
        )
    return study


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path.resolve()}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna calls heartbeats experimental, at every turn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@contextlib.contextmanager
def storing(url: str) -> Iterator[None]:
    """Turns a database's failures (a full disk, a server that is gone) into one clear sentence."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError) as error:
        raise OutputError(
            f"The study must be kept in its database. Received: {_first_line(error)} ({_safe(url)}). What was finished "
            "before is kept: make room or bring the database back, and give the same command again."
        ) from error


def waiting(study: optuna.Study) -> int:
    """How many trials wait for a worker."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def running(study: optuna.Study) -> int:
    """How many trials workers are at."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def revive(study: optuna.Study) -> None:
    """Queues the trials of dead workers again."""
    with _quiet():
        optuna.storages.fail_stale_trials(study)


def _with_driver(url: str) -> str:
    """PostgreSQL through psycopg, the driver that the extra `postgresql` installs."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1).replace("postgres://", "postgresql+psycopg://", 1)


@contextlib.contextmanager
def _reported(url: str) -> Iterator[None]:
    try:
        yield
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError, ImportError, DBAPIError, SQLAlchemyError) as error:
        raise _unreachable(url, error) from error
    except optuna.exceptions.StorageInternalError as error:
        raise _unreachable(url, error.__cause__ or error) from error


def _unreachable(url: str, error: Any) -> SettingError:
    return SettingError(
        f"storage must be a database that can be reached. Received: {_safe(url)}: {_first_line(error)}. Use e.g. "
        'postgresql://user@host/database, with: pip install "paredown[postgresql]"; or leave it out.'
    )


def _safe(url: str) -> str:
    """The address without the password."""
    from sqlalchemy.engine import make_url

    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return repr(url.split("://")[0])


def _first_line(error: Any) -> str:
    text = str(getattr(error, "orig", None) or error)
    return next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
