"""nni's manager of one experiment: started, continued, asked, stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasdistill.errors import UserError

log = logging.getLogger(__name__)

PRELOADED = Path(__file__).parent / "preloaded.js"
FOLDER = Path("~/nni-experiments")
"""Where nni keeps its experiments; its `nnictl` looks there."""
SECONDS_TO_START = 60.0
SECONDS_TO_STOP = 30.0
ENDED = ("DONE", "ERROR", "STOPPED")
EXHAUSTED = "TUNER_NO_MORE_TRIAL"
CHANGEABLE = {
    "maxTrialNumber": "MAX_TRIAL_NUM",
    "trialConcurrency": "TRIAL_CONCURRENCY",
    "maxExperimentDuration": "MAX_EXEC_DURATION",
}
"""What may change in the config of a running experiment, with nni's name for the change."""


class ManagerGone(UserError):
    """The manager's process does not answer any more."""


@dataclass(frozen=True)
class Job:
    """A trial as nni sees it; its metrics alone tell which values it had, as nni may note those of another trial.

    Attributes:
        status: nni's word.
        started, ended: in seconds since 1970, None where it has not.
        suggested: the values that nni noted.
        log: where nni says that its output lies.
        metrics: what it told, in order, each with `type` (`PERIODICAL` or `FINAL`) and `data`.
    """

    id: str
    status: str
    started: float | None
    ended: float | None
    suggested: Mapping[str, Any]
    log: str
    metrics: tuple[Mapping[str, Any], ...]


class Manager:
    """The manager's process and the port that it answers on."""

    def __init__(self, experiment: str, port: int, process: int) -> None:
        self.experiment = experiment
        self.port = port
        self.process = process

    @classmethod
    def start(cls, experiment: str, config: Mapping[str, Any], host: str, port: int | None) -> Manager:
        """Start a manager that creates the experiment, or goes on with it where nni knows it.

        Args:
            config: in nni's own terms, see nni's `ExperimentConfig`.
            host: the address that the portal listens on.
            port: of the portal; a free one if None.

        Raises:
            UserError: the address is taken, or none of this machine's; nni refuses the config, or does not start.
        """
        from nni.experiment import ExperimentConfig, RunMode, launcher

        port = port or free_port()
        _refuse_taken(host, port)
        folder = FOLDER.expanduser() / experiment
        (folder / "log").mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # its database holds the training service's settings as they are, passwords too
        try:
            checked = ExperimentConfig(**config).canonical_copy()
        except Exception as error:  # nni checks with asserts, ValueError, TypeError, AttributeError, ...
            raise UserError(f"nni refuses the experiment: {error or type(error).__name__}") from None
        preload = f"--require {PRELOADED}"
        before = os.environ.get("NODE_OPTIONS", "")
        settings = {
            "NODE_OPTIONS": f"{before} {preload}".strip(),
            "NASDISTILL_PORTAL_HOST": host,
            "NASDISTILL_PORTAL_PORT": str(port),
        }
        action = "resume" if _recovered(folder / "db" / "nni.sqlite") else "create"
        arguments = launcher.NniManagerArgs(action, experiment, checked, port, False, False, None, None)
        with _environment(settings):
            process = launcher._start_rest_server(arguments, RunMode.Detach)
        manager = cls(experiment, port, process.pid)
        try:
            manager._wait_until_it_answers()  # nni's own start waits for three seconds, too few on a busy machine
            _list_for_nnictl(manager, checked)
            manager._ask("post", "/experiment", checked.json())
        except ManagerGone as error:
            if manager.alive():
                os.kill(process.pid, signal.SIGKILL)
            raise UserError(f"nni's manager did not start: {error}; its log is in {folder / 'log'}") from None
        return manager

    @classmethod
    def find(cls, experiment: str, port: int, process: int) -> Manager | None:
        """The manager that an earlier call started, if it still runs this experiment."""
        manager = cls(experiment, port, process)
        try:
            return manager if manager._get("/experiment").get("id") == experiment else None
        except ManagerGone:
            return None

    def status(self) -> str:
        """nni's word for the state of the experiment; `ERROR` comes with `problem`."""
        return str(self._get("/check-status")["status"])

    def problem(self) -> str:
        return "; ".join(map(str, self._get("/check-status").get("errors", []))) or "no reason given"

    def jobs(self) -> list[Job]:
        """All trials, in the order in which they first started."""
        metrics: dict[str, list[Mapping[str, Any]]] = {}
        for metric in self._get("/metric-data"):
            metrics.setdefault(metric["trialJobId"], []).append(
                {
                    "type": metric["type"],
                    "sequence": metric["sequence"],
                    "data": _decoded(metric["data"]),
                    "at": metric["timestamp"],
                }
            )
        found = []
        for job in self._get("/trial-jobs"):
            noted = _decoded(job["hyperParameters"][0])["parameters"] if job.get("hyperParameters") else {}
            told = sorted(metrics.get(job["trialJobId"], []), key=lambda metric: metric["at"])
            found.append(
                Job(
                    id=job["trialJobId"],
                    status=job["status"],
                    started=job["startTime"] / 1000 if "startTime" in job else None,
                    ended=job["endTime"] / 1000 if "endTime" in job else None,
                    suggested=noted,
                    log=str(job.get("logPath", "")),
                    metrics=tuple(told),
                )
            )
        return sorted(found, key=lambda job: job.started or float("inf"))

    def change(self, **limits: int | str) -> None:
        """Change limits of a running experiment, of those in `CHANGEABLE`."""
        for name, value in limits.items():
            profile = self._get("/experiment")
            profile["params"][name] = value
            self._ask("put", f"/experiment?update_type={CHANGEABLE[name]}", profile)

    def stop(self) -> None:
        """Stop all trials, which save first, and the manager."""
        with contextlib.suppress(ManagerGone):
            self._ask("delete", "/experiment")
        deadline = time.monotonic() + SECONDS_TO_STOP
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.2)
        if self.alive():
            os.kill(self.process, signal.SIGKILL)

    def alive(self) -> bool:
        """Whether the manager's process runs; its end is noted if it is a child of this process."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.process, os.WNOHANG)
        try:
            os.kill(self.process, 0)
        except OSError:
            return False
        return True

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + SECONDS_TO_START
        while True:
            try:
                self._get("/check-status")
                return
            except ManagerGone:
                if not self.alive() or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _get(self, what: str) -> Any:
        return self._ask("get", what)

    def _ask(self, method: str, what: str, content: Any = None) -> Any:
        from nni.experiment import rest

        try:
            return rest.request(method, self.port, what, content)
        except OSError as error:  # requests' errors are OSErrors
            log.debug("%s %s: %s", method, what, error)
            raise ManagerGone("it does not answer") from None


def _recovered(database: Path) -> bool:
    """Whether nni knows the experiment of this database; it will then go on with all trials that were not finished.

    It recovers the trials whose last event says that they waited or ran. `ADD_RESUMED`, which it writes when it
    recovers one, is neither: a second kill before the trial ran would lose it, so these events go.

    The tuner starts anew and is told the results so far, but with its old seed it would draw its first values again; so
    the seed moves on.
    """
    if not database.is_file():
        return False
    seed = "$.tuner.classArgs.seed"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        try:
            connection.execute("DELETE FROM TrialJobEvent WHERE event = 'ADD_RESUMED'")
            connection.execute(
                "UPDATE ExperimentProfile SET params = json_replace(params, ?1, json_extract(params, ?1) + 1)", (seed,)
            )
            return connection.execute("SELECT id FROM ExperimentProfile").fetchone() is not None
        except sqlite3.OperationalError:  # killed before it had made its tables
            return False


def _list_for_nnictl(manager: Manager, config: Any) -> None:
    """Enter an experiment into the list that nni's own command line looks at."""
    from nni.tools.nnictl.config_utils import Experiments

    Experiments().add_experiment(
        manager.experiment,
        manager.port,
        int(1000 * time.time()),
        config.training_service.platform,
        config.experiment_name,
        pid=manager.process,
        logDir=str(config.experiment_working_directory),
    )


def _refuse_taken(host: str, port: int) -> None:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else "ports end at 65535"
            raise UserError(f"nni's page cannot listen on --portal {host}, --port {port}: {reason}") from None


def free_port() -> int:
    """A port that nobody uses, whose follower is free as well: nni takes that one for trials on other machines."""
    while True:
        with socket.socket() as one, socket.socket() as next_one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                next_one.bind(("127.0.0.1", port + 1))
                return port


def _decoded(data: Any) -> Any:
    """nni wraps JSON into JSON, once or twice."""
    import nni

    while isinstance(data, str):
        data = nni.load(data)
    return data


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
