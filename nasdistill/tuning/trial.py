"""One trial: its values are worked on, its numbers told to whoever chose them; and as nni starts it.

The work is a process of its own. Where the system kills that (for memory, say), it is started again and goes on from
its last checkpoint, without the tuner's knowing; where its supervisor is killed, it saves and stops at its next step.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from nasdistill.errors import DamagedFile
from nasdistill.interrupts import STOPS
from nasdistill.storage import read_sealed, write_sealed
from nasdistill.training.launch import LOST
from nasdistill.tuning.plan import Plan, digest_of, read_plan

MARKER = "experiment.id"
"""Beside the trials of an experiment; a machine that finds the right one there sees the experiment's own folder."""
TOLD = "told.json"
NOTE = "trial.json"
POLL_SECONDS = 0.5


def main(plan_folder: Path) -> int:
    """The whole life of a trial.

    Returns:
        the exit status of its work; negative where nni stopped it by that signal.
    """
    from nasdistill.nni_bridge import require_nni

    require_nni("a trial")
    import nni

    plan = read_plan(plan_folder)
    given = nni.get_next_parameter()
    values = plan.values(given)
    place = place_of(plan)
    folder = place / "trials" / digest_of(values)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "trial.lock")
    # A tuner may suggest the same values twice, and a trial of an ended manager may still be saving.
    while not lock.is_locked:
        try:
            lock.acquire(timeout=POLL_SECONDS)
        except Timeout:
            if _deserted():
                return 128 + signal.SIGTERM
    run = TrialRun(plan, plan_folder, place, values)
    for number in STOPS:
        signal.signal(number, lambda number, _frame: run.stop(number))
    threading.Thread(target=_stop_with_manager, args=(run,), daemon=True).start()
    return run.run(nni)


def place_of(plan: Plan) -> Path:
    """The folder of the experiment if this machine sees it and may write there, else one of its own for all trials."""
    out = Path(plan.out)
    try:
        seen = (out / MARKER).read_text() == plan.experiment and os.access(out, os.W_OK)
    except OSError:
        seen = False
    return out if seen else Path.home() / plan.remote


class Hearer(Protocol):
    """Who chose a trial's values and hears its numbers: `default`, with the `values` that they are of."""

    def report_intermediate_result(self, metric: dict[str, Any]) -> None: ...

    def report_final_result(self, metric: dict[str, Any]) -> None:
        """The score, with the `record` of the trial; see `nasdistill.tuning.worker.summary`."""


class TrialRun:
    """A trial at its values.

    Attributes:
        told: what the assessor was told, with the seed and step that it is of; on disk, so that a trial that starts
            anew under another manager tells it all again, and nothing twice.
        asked: the signal by which somebody asked it to stop.

    Args:
        place: the experiment's folder as this machine sees it, or what stands for it here.
        log: takes what the work writes beside its numbers; where this process writes if None.
    """

    def __init__(
        self, plan: Plan, plan_folder: Path, place: Path, values: Mapping[str, Any], log: Path | None = None
    ) -> None:
        self.plan = plan
        self.plan_folder = plan_folder
        self.place = place
        self.values = values
        self.log = log
        self.digest = digest_of(values)
        self.file = place / "trials" / self.digest / TOLD
        self.told: list[dict[str, Any]] = _told_in(self.file)
        self.record: dict[str, Any] | None = None
        self.problem: str | None = None
        self.asked: int | None = None
        self._work: subprocess.Popen[str] | None = None

    def stop(self, number: int) -> None:
        """Let the work save and stop, asked to by this signal; from a signal's handler or another thread."""
        self.asked = number
        if self._work is not None:
            self._work.send_signal(signal.SIGTERM)

    def run(self, hearer: Hearer) -> int:
        """Work until there is a result, the work fails, or somebody stops it.

        Returns:
            the exit status of the work; negative where it was asked to stop, by that signal.
        """
        self._note()
        for entry in self.told:
            hearer.report_intermediate_result(self._named(entry["value"]))
        status = 0
        for attempt in range(self.plan.attempts):
            if attempt:
                print(f"{_death(status)}; attempt {attempt + 1} goes on from the last checkpoint", flush=True)
            status = self._attempt(hearer)
            if not self._killed(status):
                break
        if self.record is not None:
            hearer.report_final_result(self._named(self.record["score"]) | {"record": self.record})
            return 0
        if self._killed(status):
            self.problem = f"{_death(status)} in each of {self.plan.attempts} attempts"
        self._note()
        if self.asked is not None:
            return -self.asked
        return status if status >= 0 else 128 - status

    def _killed(self, status: int) -> bool:
        """Whether the system ended the work, or one of its processes where it has several, or somebody asked the work
        to stop and not this process."""
        stopped = self.asked is None and status - 128 in STOPS
        return status < 0 or stopped or (status == LOST and self.problem is None)

    def _note(self) -> None:
        """Write down whose trial this is, and why it failed if it did, for who reads the folder later."""
        job = os.environ.get("NNI_TRIAL_JOB_ID")
        write_sealed(self.file.parent / NOTE, {"values": self.values, "job": job, "problem": self.problem})

    def _named(self, value: float) -> dict[str, Any]:
        """A metric as nni takes it, with the values that it belongs to: nni itself may mix up whose they were."""
        return {"default": value, "values": dict(self.values)}

    def _attempt(self, hearer: Hearer) -> int:
        """Start the work and listen; the exit status, negative where a signal that nobody here sent ended it."""
        command = [
            sys.executable,
            "-m",
            "nasdistill.tuning.worker",
            str(self.plan_folder),
            str(self.place),
            self.digest,
        ]
        environment = dict(os.environ)
        if self.plan.threads is not None:
            environment.setdefault("OMP_NUM_THREADS", str(self.plan.threads))
        with open(self.log, "a") if self.log else nullcontext() as log:
            self._work = work = subprocess.Popen(  # noqa: S603 - this very Python, with arguments that the plan has checked
                [*command, json.dumps(self.values)],
                stdin=subprocess.PIPE,  # whose end tells the work that this process is gone
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,
            )
        if self.asked is not None:  # while it started
            self.stop(self.asked)
        assert work.stdout is not None
        try:
            for line in work.stdout:
                self._hear(json.loads(line), hearer)
        except BaseException:  # nobody hears the numbers any more
            work.send_signal(signal.SIGTERM)
            raise
        finally:
            status = work.wait()
        return 128 + signal.SIGTERM if self.asked is not None and self._killed(status) else status

    def _hear(self, content: Mapping[str, Any], hearer: Hearer) -> None:
        if "at" in content and content["at"] not in [entry["at"] for entry in self.told]:
            self.told.append(dict(content))
            write_sealed(self.file, {"told": self.told})
            hearer.report_intermediate_result(self._named(content["value"]))
        self.record = content.get("record", self.record)
        self.problem = content.get("problem", self.problem)


def _told_in(file: Path) -> list[dict[str, Any]]:
    """What an earlier start of the trial told; where that is lost, it tells all again."""
    try:
        told: list[dict[str, Any]] = read_sealed(file)["told"] if file.is_file() else []
    except DamagedFile:
        return []
    return told


def _death(status: int) -> str:
    if status == LOST:
        return "left by one of its processes"
    return f"killed by signal {-status}" if status < 0 else f"stopped by signal {status - 128}"


_parent = os.getppid()


def _deserted() -> bool:
    """Whether the process that started this one is gone."""
    return os.getppid() != _parent


def _stop_with_manager(run: TrialRun) -> None:
    """Ask the work to save and stop when the manager that started the trial is gone."""
    while not _deserted():
        time.sleep(POLL_SECONDS)
    run.stop(signal.SIGTERM)


def leave(status: int) -> None:
    """End this process; where nni stopped it, by the signal itself, as nni takes any exit status for a failure."""
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    leave(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
