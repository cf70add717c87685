"""`nasdistill submit`: a recipe as jobs of SLURM, its options made from what a job may ask for."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from nasdistill.cli.consent import trust_of
from nasdistill.cli.general import General, with_parameters
from nasdistill.cli.options import options_of
from nasdistill.cli.parameters import (
    CONTEXT,
    RECIPE,
    TRUST,
    dry_run_option,
    engine_parameters,
    given_in,
    overrides_in,
    parameter,
    plain_value,
    seed_option,
)
from nasdistill.cli.runs import ONLY, OUT, SWEEP, default_folder
from nasdistill.errors import UserError


def submit_command() -> Callable[..., None]:
    """The command, ready for typer."""
    from nasdistill.recipes.slurm import ClusterSettings

    options = options_of(ClusterSettings)

    def call(context: typer.Context, **values: Any) -> None:
        given = given_in(context, values)
        asked = {option.name: plain_value(option, given[option.name]) for option in options if option.name in given}
        submit(given, asked, context.obj)

    asked = [parameter(option, optional=True) for option in options]
    places = [TRUST, dry_run_option("print the script, and submit nothing"), OUT, seed_option(OF_SEEDS), SWEEP, ONLY]
    return with_parameters(call, [CONTEXT, *RECIPE, *asked, *places, *engine_parameters(False)], submit.__doc__)


OF_SEEDS = "instead of the recipe's; several as 0,1,2: a task for each"


def submit(given: dict[str, Any], asked: dict[str, Any], general: General) -> None:
    """Run a recipe as a job of SLURM, which saves before its time is over, queues again, and goes on.

    Each point of a sweep, and each seed, is a task of its own in an array of jobs. They share what several of them
    need; one that fails leaves the others alone. A last job joins them into one page.
    """
    from nasdistill.cli.tables import show
    from nasdistill.errors import SpecError
    from nasdistill.recipes.place import check_run
    from nasdistill.recipes.slurm import ALL, ClusterSettings, script_of, tasks_of
    from nasdistill.recipes.sweep import load_sweep
    from nasdistill.tuning.worker import trial_folder
    from nasdistill.validation import build

    try:
        settings = build(ClusterSettings, asked)
    except SpecError as error:
        raise UserError(f"--{error.path[0]}: {error.problem}") from None
    overrides = overrides_in(given)
    swept, only = given.get("sweep", ()), given.get("only", ())
    sweep = load_sweep(given["recipe"], overrides, general.plugins, swept, trust_of(given), only)
    out: Path = (given.get("out") or default_folder(sweep.recipe)).absolute()
    check_run(sweep, out)

    program = [sys.executable, "-m", "nasdistill", *(f"--plugin={plugin}" for plugin in general.plugins), "run"]
    program += [given["recipe"], *(["--trust"] if "trust" in given else []), *overrides]
    again = [*(f"--sweep={text}" for text in swept), *(f"--only={text}" for text in only)]
    tasks = tasks_of(sweep) if len(sweep.points) * len(sweep.recipe.seeds) > 1 else {}
    commands = {
        str(number): [*program, *values, f"--out={out / 'trials' / name}"]
        for number, (name, values) in enumerate(tasks.items())
    }
    commands[ALL] = [*program, *again, f"--out={out}"]
    script = script_of(sweep.recipe.settings.name, commands, settings, Path.cwd())
    array = [f"--array=0-{len(tasks) - 1}", f"--output={out}/logs/%A_%a.log"]
    last = [f"--output={out}/logs/%j.log"]
    if "dry_run" in given:
        show(script)
        for options in (array, ["--dependency=afterany:ARRAY", *last]) if tasks else (last,):
            show(f"# sbatch --parsable {shlex.join(options)}")
        return
    (out / "logs").mkdir(parents=True, exist_ok=True)
    if tasks:
        for name in tasks:
            trial_folder(out, name)
        job = _sbatch(script, array)
        show(f"submitted: array {job}, {len(tasks)} tasks")
        last.append(f"--dependency=afterany:{job}")
    show(f"submitted: job {_sbatch(script, last)}{', which joins them' if tasks else ''}; logs in {out / 'logs'}")


def _sbatch(script: str, options: Sequence[str]) -> str:
    """Submit a script; the number of the job."""
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise UserError("SLURM's command sbatch is not here; submit on a machine that has it, or see --dry-run")
    done = subprocess.run(  # noqa: S603 - the program that the path of the user names
        [sbatch, "--parsable", *options], input=script, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"sbatch refuses the job: {' '.join(done.stderr.split())}")
    return done.stdout.strip().partition(";")[0]
