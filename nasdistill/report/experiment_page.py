"""The report of an experiment: which values were best, how the search for them went, and what mattered."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from nasdistill.report import tables, trial_tables, words
from nasdistill.report.experiments import Experiment
from nasdistill.report.page import moment, render
from nasdistill.report.sections import Group, Section
from nasdistill.storage import write_text

MARKDOWN = "trials.md"
CSV = "trials.csv"


def write(experiment: Experiment, folder: Path, page: Path) -> None:
    """Write the page, and `trials.md` and `trials.csv` into `folder`."""
    write_text(
        page,
        render(
            "experiment.html.j2",
            experiment=experiment,
            figures=_key_figures(experiment),
            facts=_facts(experiment),
            sections=[section for section in _sections(experiment) if section.groups],
        ),
    )
    write_text(folder / MARKDOWN, _markdown(experiment))
    write_text(folder / CSV, tables.to_csv(trial_tables.numbers(experiment)))


def _key_figures(experiment: Experiment) -> list[tuple[str, str]]:
    states = Counter(trial.state for trial in experiment.trials)
    others = ", ".join(f"{states[state]} {state}" for state in trial_tables.ORDER[1:] if states[state])
    trials = (
        f"{states['succeeded']} of {len(experiment.trials)}",
        "trials succeeded" + (f"; {others}" if others else ""),
    )
    best = experiment.best_trial
    if best is None:
        return [trials]
    figures = [(trial_tables.number(best.score), f"{experiment.metric}, trial {best.number}")]
    kind = next((kind for kind in tables.SHOWN if kind in best.accuracy), None)
    if kind is not None:
        figures.append((f"{best.accuracy[kind]:.1f} %", f"test accuracy of {words.judged('that trial', kind)}"))
    return [*figures, trials]


def _facts(experiment: Experiment) -> list[tuple[str, str]]:
    return [
        ("started", moment(experiment.started)),
        ("took", words.duration(experiment.seconds)),
        ("machine", experiment.device),
        ("score", f"{experiment.metric}; the {_wanted(experiment)} is best"),
        ("tuner", experiment.tuner),
        *([("assessor", experiment.assessor)] if experiment.assessor else []),
        *(("varied", f"{key}: {drawn_from}") for key, drawn_from in experiment.varied.items()),
        ("versions", ", ".join(f"{name} {version}" for name, version in experiment.versions.items())),
    ]


def _wanted(experiment: Experiment) -> str:
    return "highest" if experiment.higher_is_better else "lowest"


def _sections(experiment: Experiment) -> list[Section]:
    return [_best(experiment), _trials(experiment)]


def _best(experiment: Experiment) -> Section:
    best, table = experiment.best_trial, trial_tables.best_values(experiment)
    if best is None:
        return Section("", "")
    lead = f"Trial {best.number} has the {_wanted(experiment)} score of the trials that succeeded"
    lead += f"; its run is in {best.folder}." if best.folder else "."
    return Section("The best trial", lead, (Group("", table=table),))


def _trials(experiment: Experiment) -> Section:
    groups = []
    if experiment.trials:
        groups.append(Group("", table=trial_tables.trials(experiment)))
    failures = trial_tables.failures(experiment)
    if failures is not None:
        groups.append(Group("Why trials failed", table=failures))
    return Section("All trials", _lead(experiment), tuple(groups))


def _lead(experiment: Experiment) -> str:
    text = f"Best first. The score is the {experiment.metric}; test accuracy selects nothing."
    if any(trial.state == "stopped early" for trial in experiment.trials):
        text += " The score of a trial that was stopped early is the last that it told."
    return text


def _markdown(experiment: Experiment) -> str:
    parts = [f"# {experiment.name}\n"]
    best = trial_tables.best_values(experiment)
    if best is not None:
        parts.append(f"The best is trial {experiment.best}:\n\n{tables.markdown(best)}")
    if experiment.trials:
        parts.append(f"{_lead(experiment)}\n\n{tables.markdown(trial_tables.trials(experiment))}")
    return "\n".join(parts)
