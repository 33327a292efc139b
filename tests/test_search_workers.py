"""Searches whose workers die, whose disk is full, whose device goes away: nothing lost, nothing counted twice."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from paredown.errors import OutputError, SettingError
from paredown.search.entries import entries_of
from paredown.search.study import open_study, sqlite_url
from paredown.search.trials import Trials

#: Seconds until a worker that should have ended counts as stuck; a busy machine is slow.
PATIENCE_S = 180

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PASSWORD = "se{cr}et"


# --- processes ---


@pytest.fixture(scope="module")
def workers():
    """Starts processes: `workers(do="search", folder=...)`; none outlives the tests."""
    tests = Path(__file__).parent
    with pytest.MonkeyPatch.context() as patched:
        # No network is computed: the backend that loads fastest will do.
        patched.setenv("KERAS_BACKEND", "numpy")
        patched.setenv("PYTHONPATH", os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")]))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["search_worker", "pytest"])
        started = []

        def start(**job):
            import search_worker_job

            process = context.Process(target=search_worker_job.run, args=(job,))
            process.start()
            started.append(process)
            return process

        yield start
        for process in started:
            if process.is_alive():
                process.kill()


def ended(*processes) -> list[int | None]:
    """Their exit statuses, once all have ended by themselves."""
    for process in processes:
        process.join(PATIENCE_S)
    return [process.exitcode for process in processes]


def calls(folder: Path, *words: str) -> list[str]:
    """Who was judged: the lines of `calls` that hold the words, without the process."""
    path = folder / "calls"
    lines = [line.split(maxsplit=1)[1] for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if line.startswith(" ".join(words))]


def until(condition, *processes) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        assert all(process.is_alive() for process in processes), "it ended"
        time.sleep(0.02)


def hanging(folder: Path, process) -> None:
    """Waits until the process is in the middle of the trial in which it stays."""
    until(lambda: calls(folder, "hangs"), process)


def words(folder: Path) -> str:
    """What processes said."""
    path = folder / "words"
    return path.read_text() if path.exists() else ""


def trials_of(url: str) -> list:
    study = open_study(url, "study", 0)
    return study.get_trials(deepcopy=False)


def each_once(trials, folder: Path, at_work: int = 0) -> None:
    """Nothing is lost, nothing counts twice, and the numbers add up."""
    entries = entries_of(trials)
    states = Counter(trial.state for trial in trials)
    assert states[TrialState.RUNNING] == states[TrialState.WAITING] == 0
    counted = [entry for entry in entries if entry.state != "failed"]
    assert len({entry.identity for entry in counted}) == len(counted)
    assert len({(entry.of, entry.stage) for entry in counted}) == len(counted)
    void = sum("void" in trial.user_attrs for trial in trials)
    assert len(trials) == len(counted) + at_work + void
    assert sorted(trial.number for trial in trials) == list(range(len(trials)))
    # Every candidate at every stage was judged to the end by one worker.
    finished = Counter(calls(folder, "end"))
    assert set(finished.values()) == {1}
    assert sum(finished.values()) == len(counted)


# --- PostgreSQL ---


@pytest.fixture(scope="module")
def server():
    """Makes databases of a PostgreSQL of our own: `server()` gives the address of a new, empty one."""
    if not PROGRAMS:
        pytest.skip("PostgreSQL is not installed: there is no /usr/lib/postgresql/*/bin")
    root = os.geteuid() == 0
    if root and (not shutil.which("setpriv") or subprocess.run(["id", "postgres"], capture_output=True).returncode):
        pytest.skip("PostgreSQL refuses to run as root, and there is no setpriv, or no user postgres")
    # As its own user the server reaches no folder of pytest's; and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="paredown-pg-") as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        if root:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        server = _Server(folder, ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if root else [])
        server.program(
            "initdb", "-E", "UTF8", "-D", "data", "-U", "postgres", "-A", "scram-sha-256", "--pwfile=password", "-N"
        )
        server.start()
        try:
            yield server
        finally:
            server.program("pg_ctl", "-D", "data", "-m", "immediate", "stop")


class _Server:
    def __init__(self, folder: Path, as_user: list[str]):
        self.folder, self._as_user, self._made = folder, as_user, 0

    def program(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as_user, str(PROGRAMS[-1] / name), *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            env={**os.environ, "PGPASSWORD": PASSWORD, "LC_ALL": "C"},
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        settings = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off"
        self.program("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", settings, "start")

    def restart(self) -> None:
        self.program("pg_ctl", "-D", "data", "-w", "-l", "log", "-m", "fast", "restart")

    def database(self) -> str:
        self._made += 1
        self.program("createdb", "-h", str(self.folder), "-U", "postgres", f"study{self._made}")
        return f"postgresql://postgres:{PASSWORD}@/study{self._made}?host={self.folder}"


def test_of_three_workers_one_is_killed(server, workers, tmp_path):
    url = server.database()
    job = {"folder": str(tmp_path), "url": url, "trials": 20}
    # All at once, on a database without tables.
    victim, *others = workers(**job, hangs_at=2), workers(**job), workers(**job)
    hanging(tmp_path, victim)
    victim.kill()
    assert ended(*others) == [0, 0], words(tmp_path)
    trials = trials_of(url)
    each_once(trials, tmp_path, at_work=1)
    (killed,) = [t for t in trials if t.state == TrialState.FAIL and "void" not in t.user_attrs]
    assert killed.user_attrs["worker"].endswith(f" {victim.pid}")
    (whose,) = calls(tmp_path, "hangs")
    assert whose.replace("hangs", "end") in calls(tmp_path, "end")
    first = [t.user_attrs["first"] for t in trials if t.state == TrialState.COMPLETE and "first" in t.user_attrs]
    assert sorted(first) == list(range(len(first)))
    assert len(first) > 5
    entries = entries_of(trials)
    assert sum(entry.stage == "cheap" and entry.state == "complete" for entry in entries) == 20
    assert {"short", "long"} <= {entry.stage for entry in entries if entry.judgement}
    workers_of = {t.user_attrs["worker"] for t in trials if t.state == TrialState.COMPLETE}
    assert len(workers_of) >= 2
    assert words(tmp_path) == ""


def test_of_two_that_promote_a_candidate_one_counts_even_if_it_dies(server, workers, tmp_path):
    url = server.database()
    job = {"folder": str(tmp_path), "url": url, "trials": 6}
    assert ended(workers(**job, do="begin")) == [0], words(tmp_path)
    victim = workers(**job, do="promote", hangs_at=1)
    hanging(tmp_path, victim)
    other = workers(**job, do="promote")
    until(lambda: any("void" in t.user_attrs for t in trials_of(url)), other)
    victim.kill()
    assert ended(other) == [0], words(tmp_path)
    trials = trials_of(url)
    each_once(trials, tmp_path, at_work=1)
    (void,) = [t for t in trials if "void" in t.user_attrs]
    (killed,) = [t for t in trials if t.state == TrialState.FAIL and "void" not in t.user_attrs]
    assert void.user_attrs["void"] == f"the same as trial {killed.number}"
    assert [t.user_attrs["of"] for t in trials if t.user_attrs.get("of") == void.user_attrs["of"]]


def test_a_worker_that_slept_gives_way(server, workers, tmp_path):
    url = server.database()
    job = {"folder": str(tmp_path), "url": url, "trials": 12}
    sleeper = workers(**job, hangs_at=3)
    hanging(tmp_path, sleeper)
    os.kill(sleeper.pid, signal.SIGSTOP)
    assert ended(workers(**job)) == [0], words(tmp_path)
    (tmp_path / "gate").touch()
    os.kill(sleeper.pid, signal.SIGCONT)
    assert ended(sleeper) == [0], words(tmp_path)
    trials = trials_of(url)
    entries = entries_of(trials)
    counted = [entry.identity for entry in entries if entry.state != "failed"]
    assert len(set(counted)) == len(counted)
    # Both judged it to the end; what came second was refused.
    (whose,) = calls(tmp_path, "hangs")
    assert Counter(calls(tmp_path, "end"))[whose.replace("hangs", "end")] == 2
    assert sum(entry.stage == "cheap" and entry.state == "complete" for entry in entries) == 12
    assert words(tmp_path) == ""


def test_a_server_that_starts_anew_is_found_again(server, workers, tmp_path):
    url = server.database()
    worker = workers(folder=str(tmp_path), url=url, trials=8, hangs_at=3, grace_s=60)
    hanging(tmp_path, worker)
    server.restart()
    (tmp_path / "gate").touch()
    assert ended(worker) == [0], words(tmp_path)
    each_once(trials_of(url), tmp_path)
    assert words(tmp_path) == ""


def test_a_recipe_that_another_judges_is_waited_for(server, workers, tmp_path):
    job = {"folder": str(tmp_path), "url": server.database(), "do": "greedy"}
    slow = workers(**job, hangs_at=1)
    hanging(tmp_path, slow)
    other = workers(**job)
    time.sleep(1)
    (tmp_path / "gate").touch()
    assert ended(slow, other) == [0, 0], words(tmp_path)
    figures = [json.loads((tmp_path / f"{process.pid}.json").read_text()) for process in (slow, other)]
    assert figures[0] == figures[1] == pytest.approx([0.3 * 0.25, 0.3 * 0.75])
    assert Counter(calls(tmp_path, "end")).most_common(1)[0][1] == 1


def test_a_password_is_not_told(server):
    url = server.database()
    with pytest.raises(SettingError, match="password authentication failed") as caught:
        open_study(url.replace(PASSWORD, "wr{on}g"), "study", 0)
    assert "wr{on}g" not in str(caught.value)
    assert "postgres:***@" in str(caught.value)
    open_study(url, "study", 0)


# --- addresses ---


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://me:hidden@127.0.0.1:1/db", r"me:\*\*\*@127\.0\.0\.1:1/db: .*refused"),
        ("postgresql://me@127.0.0.1:1/db?password=hidden", r"me@127\.0\.0\.1:1/db: "),
        ("postgresql://me:hidden@127.0.0.1:port/db", r"'postgresql://…'|'postgresql\+psycopg"),
        ("oracel://me:hidden@host/db", r"oracel://me:\*\*\*@host/db: Can't load plugin: .*oracel"),
        ("mysql+mysqldb://me:hidden@host/db", r"me:\*\*\*@host/db: Failed to import DB access module"),
        ("me:hidden@host/db", "an address without ://"),
        ("", "an address without ://"),
    ],
)
def test_an_address_that_leads_nowhere(url, told):
    with pytest.raises(SettingError, match=f"storage must be a database that can be reached. Received: .*{told}") as e:
        open_study(url, "study", 0)
    assert "hidden" not in str(e.value)
    assert 'pip install "paredown[postgresql]"' in str(e.value)


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "study.db").write_text("not SQLite at all, and longer than its header is" * 4)
    with pytest.raises(OutputError, match=r"must be kept in its database. Received: file is not a database .*study.db"):
        open_study(sqlite_url(tmp_path / "study.db"), "study", 0)
    with pytest.raises(OutputError, match=r"unable to open database file .*nowhere"):
        open_study(sqlite_url(tmp_path / "nowhere" / "study.db"), "study", 0)


def test_a_folder_may_have_braces_in_its_name(tmp_path):
    folder = tmp_path / "{0} {a}"
    folder.mkdir()
    open_study(sqlite_url(folder / "study.db"), "study", 0)
    assert (folder / "study.db").stat().st_size


# --- the queue ---


def _drawn(study, count: int) -> list[dict]:
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        return x, (x - 1) ** 2 + trial.suggest_categorical("y", [0, 1])

    for _ in range(count):
        Trials(study, 60).do(objective)
    return [trial.params for trial in study.get_trials()]


def test_an_interrupted_study_draws_what_a_whole_one_draws(tmp_path):
    whole = _drawn(open_study(sqlite_url(tmp_path / "whole.db"), "study", 7), 12)
    url = sqlite_url(tmp_path / "parts.db")
    for count in (5, 1, 6):
        parts = _drawn(open_study(url, "study", 7), count)
    assert parts == whole
    assert len({trial["x"] for trial in whole}) == 12


def test_who_dies_before_the_first_sign_of_life_is_missed(tmp_path):
    study = open_study(sqlite_url(tmp_path / "study.db"), "study", 0)
    # Trial 0 was begun and never heard of; trial 1 has a worker, whose signs of life are looked at elsewhere.
    study.enqueue_trial({"x": 0.5}, user_attrs={"first": 3})
    study.ask()
    study.ask().set_user_attr("worker", "another")
    trials = Trials(study, grace_s=0.2)
    trials.revive()
    assert [trial.state for trial in trials.all()] == [TrialState.RUNNING] * 2
    time.sleep(0.3)
    trials.revive()
    dead, living, again = trials.all()
    assert (dead.state, living.state, again.state) == (TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING)
    assert again.system_attrs["fixed_params"] == {"x": 0.5}
    assert again.user_attrs["first"] == 3


# --- the embedded study ---


@pytest.fixture(scope="module")
def revived(workers, tmp_path_factory):
    """A search killed in the middle, and started again: its folder and the seconds that it had used until then."""
    folder = tmp_path_factory.mktemp("revived")
    job = {"folder": str(folder), "trials": 12}
    victim = workers(**job, hangs_at=4)
    hanging(folder, victim)
    victim.kill()
    victim.join()
    before = json.loads((folder / "seconds.json").read_text())["seconds"]
    assert ended(workers(**job)) == [0], words(folder)
    return folder, before


def test_a_killed_search_goes_on(revived):
    folder, before = revived
    trials = trials_of(sqlite_url(folder / "study.db"))
    each_once(trials, folder, at_work=1)
    assert sum(entry.stage == "cheap" and entry.state == "complete" for entry in entries_of(trials)) == 12
    # What was used is remembered: the second process waited on top of it until the first counted as dead.
    assert before > 0
    assert json.loads((folder / "seconds.json").read_text())["seconds"] > before + 1
    assert words(folder) == ""


def test_a_search_that_was_killed_while_it_began_goes_on(workers, tmp_path):
    url = sqlite_url(tmp_path / "study.db")
    job = {"folder": str(tmp_path), "trials": 6}
    # As if it had been killed when the first two were queued.
    study = open_study(url, "study", 0)
    assert ended(workers(**{**job, "folder": str(_made(tmp_path / "other"))}, do="begin")) == [0]
    first = [t for t in trials_of(sqlite_url(tmp_path / "other" / "study.db")) if "first" in t.user_attrs]
    for trial in first[:2]:
        study.enqueue_trial(trial.params, user_attrs={"first": trial.user_attrs["first"], "queued": True})
    assert ended(workers(**job)) == [0], words(tmp_path)
    again = [t for t in study.get_trials() if "first" in t.user_attrs]
    assert [t.user_attrs["first"] for t in again] == [t.user_attrs["first"] for t in first]


def test_two_processes_share_a_file(workers, tmp_path):
    job = {"folder": str(tmp_path), "trials": 16}
    assert ended(workers(**job), workers(**job)) == [0, 0], words(tmp_path)
    each_once(trials_of(sqlite_url(tmp_path / "study.db")), tmp_path)


def test_a_trial_that_kills_its_workers_is_given_up(workers, tmp_path):
    job = {"folder": str(tmp_path), "trials": 6}
    url = sqlite_url(tmp_path / "study.db")
    assert ended(workers(**job, do="begin")) == [0], words(tmp_path)
    study = open_study(url, "study", 0)
    (judged, *_) = entries_of(study.get_trials())
    of_the_short = {"stage": "short", "of": judged.number, "epochs": 1, "tries": 3, "queued": True}
    study.enqueue_trial({}, user_attrs={**judged.attributes, **of_the_short})
    victim = workers(**job, do="begin", hangs_at=1)
    hanging(tmp_path, victim)
    victim.kill()
    assert ended(workers(**job)) == [0], words(tmp_path)
    (given_up,) = [entry for entry in entries_of(study.get_trials()) if entry.state == "pruned"]
    assert (given_up.of, given_up.stage) == (judged.number, "short")
    assert given_up.reason == "4 times whoever judged it died or broke down"


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


# --- the command ---


@pytest.fixture
def place(workers, tmp_path):
    """A folder with a network and data."""
    assert ended(workers(folder=str(tmp_path), do="make")) == [0], words(tmp_path)
    return tmp_path


def embedded(folder: Path) -> str:
    return sqlite_url(folder / "out" / ".paredown-search" / "study.db")


def kept(folder: Path) -> list:
    storage = embedded(folder)
    (summary,) = optuna.study.get_all_study_summaries(storage)
    return open_study(storage, summary.study_name, 0).get_trials()


def test_ctrl_c_queues_the_trial_again(workers, place):
    job = {"folder": str(place), "do": "command", "trials": 8}
    assert ended(workers(**job, interrupted_at=3)) == [130]
    assert words(place).splitlines()[-1] == "Interrupted."
    assert "Traceback" not in words(place)
    trials = kept(place)
    (broken_off,) = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert trials[-1].state == TrialState.WAITING
    assert trials[-1].user_attrs["first"] == broken_off.user_attrs["first"]
    assert ended(workers(**job)) == [0], words(place)
    each_once(kept(place), place, at_work=1)


def test_a_full_disk(workers, place):
    job = {"folder": str(place), "do": "command", "trials": 8}
    assert ended(workers(**job, fills_at=4)) == [2]
    *_, told = words(place).splitlines()
    assert told.startswith("Error: ")
    assert "Traceback" not in words(place)
    assert "make room" in told
    done = [trial for trial in kept(place) if trial.state == TrialState.COMPLETE]
    assert len(done) >= 3
    assert ended(workers(**job)) == [0], words(place)
    after = kept(place)
    assert [trial.values for trial in done] == [after[trial.number].values for trial in done]
    entries = entries_of(after)
    assert sum(entry.stage == "cheap" and entry.state == "complete" for entry in entries) == 8
    assert Counter(trial.state for trial in after)[TrialState.RUNNING] == 0


def test_a_device_that_goes_away_and_comes_back(workers, place):
    job = {"folder": str(place), "do": "command", "trials": 8}
    assert ended(workers(**job, device=False)) == [2]
    *_, told = words(place).splitlines()
    assert told.startswith("Error: The phone must be connected.")
    assert "All that was found is kept: when the device is there, give the same command again" in told
    assert len(calls(place, "measured")) == 1
    judged, before = calls(place, "begin"), kept(place)
    assert not (place / "out" / "run.json").exists()
    assert ended(workers(**job)) == [0], words(place)
    assert calls(place, "begin") == judged
    assert len(kept(place)) == len(before)
    told = json.loads((place / "out" / "run.json").read_text())["search"]
    assert told["met"], told["verdict"]
    assert len(told["finalists"]) == 3


# --- one measures at a time ---


def test_while_one_process_holds_the_device_others_estimate(workers, tmp_path):
    looking = workers(folder=str(tmp_path), do="look")
    until(lambda: calls(tmp_path, "ready"), looking)
    holder = workers(folder=str(tmp_path), do="hold")
    until(lambda: calls(tmp_path, "holds"), holder)
    (tmp_path / "held").touch()
    until(lambda: calls(tmp_path, "estimated"), looking, holder)
    holder.kill()
    holder.join()
    (tmp_path / "freed").touch()
    assert ended(looking) == [0], words(tmp_path)
    # Three times the work of what is known to take 1 ms; then what was measured.
    assert json.loads((tmp_path / "figures.json").read_text()) == [[3.0, "estimated"], [2.5, "tables"]]


# --- Optuna's own tools ---


def test_optunas_tools_open_the_study(revived):
    url = sqlite_url(revived[0] / "study.db")
    (summary,) = optuna.study.get_all_study_summaries(url)
    assert summary.study_name == "study"
    study = optuna.load_study(study_name="study", storage=url)
    assert study.best_trials
    figure = optuna.visualization.plot_pareto_front(study)
    assert sum(len(trace.x) for trace in figure.data) == sum(t.state == TrialState.COMPLETE for t in study.trials)
