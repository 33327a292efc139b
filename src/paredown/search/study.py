"""The study that a search is kept in: Optuna's storage, on this machine or shared by many."""

import contextlib
import random
import sqlite3
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from paredown.errors import OutputError, SettingError
from paredown.search.sampling import NumberedSampler
from paredown.search.trials import again

#: What a database says when it fails.
DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError)
#: A worker gives a sign of life so often (seconds); one that gave none for the second is taken to be dead, and its
#: trial is done again by another. Converting a large network holds the interpreter for some seconds.
HEARTBEAT_S, GRACE_S = 5, 60
#: How often a database is opened while other workers are just making its tables.
_OPENINGS = 6
#: Seconds to wait for another worker's transaction, and for a server's answer.
_LOCKED_S, _CONNECT_S = 60, 15


def open_study(url: str, name: str, seed: int, grace_s: int = GRACE_S) -> optuna.Study:
    """The study of a name in a database, made where it is not there.

    Args:
        url: As SQLAlchemy takes it: `sqlite:////path/study.db`, `postgresql+psycopg://host/database`.
        name: Of the study.
        seed: Of the sampler.
        grace_s: Seconds without a sign of life after which a worker counts as dead.
    Raises:
        SettingError: If the database cannot be reached.
        OutputError: If a file is to be the database and cannot be written.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _quiet(), _reported(url):
        return optuna.create_study(
            storage=_opened(_with_driver(url), grace_s),
            sampler=NumberedSampler(seed),
            study_name=name,
            directions=["minimize", "minimize"],
            load_if_exists=True,
        )


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path.resolve()}"


class _Storage(RDBStorage):
    """Optuna's storage, whose signs of life come from a thread of their own."""

    def record_heartbeat(self, trial_id: int) -> None:
        """A sign that cannot be written is left out: the next may be; one lost must not end all that follow."""
        with contextlib.suppress(*DATABASE_ERRORS):
            super().record_heartbeat(trial_id)


def _opened(url: str, grace_s: int) -> RDBStorage:
    """The storage; workers that start together make its tables together, and all but one of them must look again."""
    for left in reversed(range(_OPENINGS)):
        try:
            return _connected(url, grace_s)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, AssertionError) as error:
            if not left or not _being_made(error):
                raise
        time.sleep(random.uniform(0.1, 0.5))
    raise AssertionError


def _connected(url: str, grace_s: int) -> RDBStorage:
    storage = _Storage(
        # Optuna fills in braces of its own.
        url.replace("{", "{{").replace("}", "}}"),
        engine_kwargs=_engine_settings(url),
        heartbeat_interval=min(HEARTBEAT_S, max(1, grace_s // 3)),
        grace_period=grace_s,
        heartbeat_stale_trial_callback=again,
    )
    if url.startswith("sqlite"):
        _lock_from_the_start(storage.engine)
    return storage


def _engine_settings(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": _LOCKED_S}}
    # A connection that stood idle during a long training may have been closed by whoever is between.
    waiting = {"connect_args": {"connect_timeout": _CONNECT_S}} if url.startswith("postgresql+psycopg:") else {}
    return {"pool_pre_ping": True, **waiting}


def _lock_from_the_start(engine: Any) -> None:
    """SQLite knows no lock on a row: without one on the file two processes could take the same trial.

    Source:
        SQLAlchemy's documentation, "Serializable isolation / Savepoints / Transactional DDL" of its SQLite dialect.
    """

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    # Connections that were opened before know nothing of it.
    engine.dispose()


def _being_made(error: BaseException) -> bool:
    """Whether a failure is that of tables which another process makes at the same time."""
    causes = (error, error.__cause__)
    return any(isinstance(e, IntegrityError | AssertionError) or "already exists" in str(e) for e in causes)


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
    except DATABASE_ERRORS as error:
        raise _lost(url, error) from error


def _lost(url: str, error: Any) -> OutputError:
    return OutputError(
        f"The study must be kept in its database. Received: {_first_line(error)} ({_safe(url)}). What was finished "
        "before is kept: make room or bring the database back, and give the same command again."
    )


def _with_driver(url: str) -> str:
    """PostgreSQL through psycopg, the driver that the extra `postgresql` installs."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1).replace("postgres://", "postgresql+psycopg://", 1)


@contextlib.contextmanager
def _reported(url: str) -> Iterator[None]:
    try:
        yield
    except (
        *(ArgumentError, NoSuchModuleError, ImportError, DBAPIError, SQLAlchemyError, sqlite3.Error),
        # Optuna's own, for tables of another version (RuntimeError) and an address without a port that is a number.
        *(optuna.exceptions.StorageInternalError, RuntimeError, ValueError),
    ) as error:
        made = _lost if url.startswith("sqlite:") else _unreachable
        raise made(url, error) from error


def _unreachable(url: str, error: Any) -> SettingError:
    return SettingError(
        f"storage must be a database that can be reached. Received: {_safe(url)}: {_first_line(error)}. Use e.g. "
        'postgresql://user@host/database, with: pip install "paredown[postgresql]"; or leave it out.'
    )


def _safe(url: str) -> str:
    """The address without what may hold a password."""
    try:
        return make_url(url).set(query={}).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return repr(f"{url.split('://')[0]}://…" if "://" in url else "an address without ://")


def _first_line(error: Any) -> str:
    if isinstance(error, optuna.exceptions.StorageInternalError):
        # What Optuna says of it is a guess; what the database said is behind it.
        error = error.__cause__ or error
    text = str(getattr(error, "orig", None) or error)
    return next((line.strip().rstrip(".") for line in text.splitlines() if line.strip()), type(error).__name__)
