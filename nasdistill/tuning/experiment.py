"""An experiment from beginning to end, whichever engine chooses the values and has the trials run."""

from __future__ import annotations

from pathlib import Path

from nasdistill.errors import UserError
from nasdistill.ledger import Ledger, not_ours
from nasdistill.recipes.lock import run_lock
from nasdistill.recipes.place import UNFINISHED, check_folder, others_in
from nasdistill.report.experiment_page import CSV, MARKDOWN
from nasdistill.report.experiments import EXPERIMENT, Experiment
from nasdistill.storage import remove_leftovers
from nasdistill.tuning.checking import Tuned
from nasdistill.tuning.outcome import BEST
from nasdistill.tuning.plan import PLAN, PLAN_FOLDER, RECIPE
from nasdistill.tuning.remembered import FILE
from nasdistill.tuning.run import Engine, Run
from nasdistill.tuning.service import Portal, Service
from nasdistill.tuning.study import JOURNAL
from nasdistill.tuning.trial import MARKER
from nasdistill.tuning.worker import SHARED


def engine_of(tuned: Tuned, service: Service | None = None, portal: Portal | None = None) -> Engine:
    """The engine that the settings name, which has checked that it can do what they say.

    Raises:
        UserError: it cannot, or is not installed.
    """
    if tuned.settings.engine == "nni":
        from nasdistill.tuning.nni_engine import Nni

        return Nni(tuned, service or Service(), portal or Portal())
    if service is not None or portal is not None:
        raise UserError("--service, --portal and --port are nni's; add --engine nni, or leave them out")
    from nasdistill.tuning.optuna_engine import Optuna

    return Optuna(tuned)


def tune(
    tuned: Tuned, out: Path, command: str, service: Service | None = None, portal: Portal | None = None
) -> Experiment:
    """Run an experiment, or go on with the one in `out`, and write its page, tables and best recipe there.

    Args:
        command: what the user typed, for the report.
        service, portal: of nni.

    Raises:
        UserError: the engine refuses the experiment; `out` holds another one.
        Interrupted: a stop was asked for; the same call goes on from there.
    """
    engine = engine_of(tuned, service, portal)
    check_experiment(tuned, out)  # before a lock lies in a folder that is none of ours
    with run_lock(out):
        for folder in (out, out / "artifacts"):
            remove_leftovers(folder)
        return Run(tuned, out, command, service or Service()).to_the_end(engine)


def check_experiment(tuned: Tuned, out: Path) -> None:
    """Find what keeps an experiment out of a folder; nothing is written.

    Raises:
        UserError: it would replace what nasdistill did not write, or lie inside data, an artifact or a run.
    """
    check_folder(out, tuned.recipe.settings.data, (*SHARED, PLAN_FOLDER, "trials", "tensorboard"))
    if (out / JOURNAL).exists() and not (out / FILE).is_file():
        raise not_ours(out, [JOURNAL])
    files = (FILE, UNFINISHED, MARKER, EXPERIMENT, MARKDOWN, CSV, BEST)
    others = Ledger(out).others(dict.fromkeys(files)) + others_in(out, ())
    planned = Ledger(out / PLAN_FOLDER).others(dict.fromkeys((RECIPE, PLAN, *tuned.files)))
    if others or planned:
        raise not_ours(out, [*others, *(f"{PLAN_FOLDER}/{name}" for name in planned)])
