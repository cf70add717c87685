"""`nasdistill tune`: an experiment over a recipe, its options made from the settings of the recipe's `tune` section."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nasdistill.cli.consent import show_passed_over, trust_of
from nasdistill.cli.general import General, declare, with_parameters
from nasdistill.cli.names import complete_recipe
from nasdistill.cli.options import options_of
from nasdistill.cli.parameters import (
    CONTEXT,
    RECIPE,
    TRUST,
    dry_run_option,
    engine_parameters,
    given_in,
    optional,
    overrides_in,
    parameter,
    plain_value,
    seed_option,
)
from nasdistill.cli.runs import RUNS
from nasdistill.errors import UserError
from nasdistill.interrupts import polite_stops

if TYPE_CHECKING:
    from nasdistill.tuning.checking import Tuned


WHICH = declare(
    "recipe",
    str | None,
    None,
    typer.Argument(help="a YAML file, or the name of a built-in recipe", autocompletion=complete_recipe),
)
VARY = optional(
    "vary",
    list[str],
    "a key and what it may be, e.g. 'stages.student.epochs=quniform(4,20,2)'; may be repeated",
    metavar="<key=distribution>",
)
LISTS = {
    "objective": optional(
        "objective",
        list[str],
        "a cost to keep low beside the metric, e.g. latency_ms; may be repeated",
        "--objective",
        "--objectives",
        metavar="<cost>",
    ),
    "constraint": optional(
        "constraint",
        list[str],
        "a limit that the best trial keeps, e.g. 'parameters<=300k'; may be repeated",
        "--constraint",
        "--constraints",
        metavar="<cost<=limit>",
    ),
}
"""By the singular of a setting."""
PLACES = (
    TRUST,
    dry_run_option("check all, print what varies, and run nothing"),
    optional("worker", Path, "folder of an experiment, begun here or elsewhere: take trials of it till none is left"),
    optional("out", Path, "folder of the experiment; runs/<name>-tune if left out"),
    seed_option("instead of the recipe's; several as 0,1,2: every trial runs with each"),
    optional(
        "service", Path, "file that names one of nni's training services (SSH, Kubernetes, ...); here if left out"
    ),
    optional("portal", str, "address that nni's page listens on, 0.0.0.0 for all; this machine alone if left out"),
    optional("port", int, "port of nni's page; a free one if left out"),
)


def tune_command() -> Callable[..., None]:
    """The command, ready for typer."""
    from nasdistill.recipes.experiment import TuneSettings

    options = [
        option for option in options_of(TuneSettings) if option.name not in ("vary", "objectives", "constraints")
    ]

    def call(context: typer.Context, **values: Any) -> None:
        given = given_in(context, values)
        if "worker" in given:
            take_trials(given)
            return
        if "recipe" not in given:
            raise UserError("name a recipe; or with --worker the folder of an experiment")
        settings = {option.name: plain_value(option, given[option.name]) for option in options if option.name in given}
        if "vary" in given:
            settings["vary"] = _varied(given["vary"])
        settings |= {f"{name}s": given[name] for name in LISTS if name in given}
        tune(given, settings, context.obj)

    settings = [parameter(option, optional=True) for option in options]
    parameters = [
        CONTEXT,
        WHICH,
        *RECIPE[1:],
        VARY,
        *LISTS.values(),
        *settings,
        *PLACES,
        *engine_parameters(show_default=False),
    ]
    return with_parameters(call, parameters, tune.__doc__)


def tune(given: dict[str, Any], settings: dict[str, Any], general: General) -> None:
    """Run a recipe again and again with other values of some keys, and find the best.

    Every trial is a run of its own; stages that several of them need run once. Optuna chooses values, and ends trials
    that lag behind if asked to. An experiment that was stopped, in whatever way, goes on where it was when the same
    command is given again. Machines that see its folder join with --worker; with nni there are its training services.
    """
    from nasdistill.recipes import runner
    from nasdistill.recipes.loading import load_recipe
    from nasdistill.tuning import experiment as experiments
    from nasdistill.tuning.checking import load_tuned
    from nasdistill.tuning.service import Portal, read_service

    trust = trust_of(given)
    recipe = load_recipe(given["recipe"], overrides_in(given), general.plugins, tune=settings, trust=trust)
    if recipe.passed_over:
        show_passed_over(recipe)
        return
    tuned = load_tuned(given["recipe"], overrides_in(given), general.plugins, settings, trust)
    out = given.get("out") or RUNS / f"{tuned.recipe.settings.name}-tune"
    service = read_service(given["service"]) if "service" in given else None
    asked = "portal" in given or "port" in given
    portal = Portal(given.get("portal", Portal.host), given.get("port")) if asked else None
    if given.get("dry_run"):
        experiments.check_experiment(tuned, out)
        experiments.engine_of(tuned, service, portal)
        if service is None:  # else the data may lie where the trials run
            for recipe in (tuned.recipe, *tuned.examples):
                runner.plan(recipe, out)
        show_plan(tuned, out)
        return
    with polite_stops():
        experiment = experiments.tune(tuned, out, shlex.join(["nasdistill", *general.arguments]), service, portal)
    from nasdistill.cli.results import show_experiment
    from nasdistill.cli.tables import show

    show_experiment(experiment)
    show(f"report: {out / 'report.html'}")
    if experiment.best is None:
        if any(trial.violated for trial in experiment.trials):
            raise UserError(f"no trial keeps {' and '.join(experiment.constraints)}")
        problem = next((trial.problem for trial in experiment.trials if trial.problem), "none came to its end")
        raise UserError(f"no trial succeeded: {problem}")
    for name in [f"best-{number}.yaml" for number in experiment.front] or ["best.yaml"]:
        show(f"best: nasdistill run {out / name}")


def take_trials(given: dict[str, Any]) -> None:
    """Join an experiment as a worker."""
    from nasdistill.tuning.optuna_engine import join

    if others := given.keys() - {"worker", "concurrency", "trust"}:
        raise UserError(
            f"--worker takes the experiment as it is, without {min(others)}; only --concurrency goes with it"
        )
    with polite_stops():
        join(given["worker"], given.get("concurrency", 1), trust_of(given))


def show_plan(tuned: Tuned, out: Path) -> None:
    """Print what an experiment would do."""
    from nasdistill.cli.tables import show, show_table
    from nasdistill.report.points import value_in_words

    settings = tuned.settings
    show(
        f"{tuned.recipe.settings.name}, in {out}: up to {settings.trials} trials, {settings.concurrency} at a time, "
        f"tuner {value_in_words(settings.tuner)}; {settings.metric.replace('.', ' ')} of {tuned.stage} counts"
    )
    rows = [
        (key, str(varied), ", ".join(map(value_in_words, varied.examples()))) for key, varied in settings.vary.items()
    ]
    show_table(("varies", "drawn from", "checked at"), rows, words=3)


def _varied(texts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        key, equals, distribution = text.partition("=")
        if not equals or not key:
            raise UserError(f"--vary {text!r}: write it as key.path=distribution, e.g. stages.student.epochs=[10, 20]")
        if key in found:
            raise UserError(f"--vary {text!r}: the key {key!r} varies twice")
        found[key] = distribution
    return found
