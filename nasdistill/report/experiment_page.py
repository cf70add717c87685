"""The report of an experiment: the best values, the trials, and how important each setting is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nasdistill.ledger import Ledger
from nasdistill.report import tables, trial_plots, trial_tables, words
from nasdistill.report.chance import chance_in_words
from nasdistill.report.experiments import Experiment
from nasdistill.report.page import facts, render
from nasdistill.report.page_file import REPORT, write_page
from nasdistill.report.parts import Group, Part
from nasdistill.report.trial_axes import importance_of

MARKDOWN = "trials.md"
CSV = "trials.csv"
ENOUGH = 10
"""Trials that succeeded, from which on importance is estimated."""


def write_experiment(experiment: Experiment, folder: Path, page: Path | None = None) -> None:
    """Write the experiment's page, `report.html`, and its tables, `trials.md` and `trials.csv`.

    Args:
        page: where the page goes instead, without the tables; the folder stays as it is.
    """
    best, trials = _best(experiment), _trials(experiment)
    parts = [best, _front(experiment), _pictures(experiment), _importance(experiment), trials]
    write_page(
        page or folder / REPORT,
        render(
            "experiment.html.j2",
            experiment=experiment,
            figures=_key_figures(experiment),
            facts=facts(
                experiment,
                ("score", f"{experiment.metric}; the {_wanted(experiment)} is best"),
                ("tuner", experiment.tuner),
                *([("assessor", experiment.assessor)] if experiment.assessor else []),
                *([("beside it", f"{', '.join(experiment.objectives)}, low")] if experiment.objectives else []),
                *([("limits", ", ".join(experiment.constraints))] if experiment.constraints else []),
            ),
            parts=list(filter(None, parts)),
        ),
    )
    if page is None:
        ledger = Ledger(folder)
        ledger.write(MARKDOWN, _markdown(experiment.name, [best, *([trials] if trials else [])]))
        ledger.write(CSV, tables.to_csv(trial_tables.numbers(experiment)))


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
        figures.append((f"{best.accuracy[kind]:.1f} %", f"test accuracy of {words.with_weights('that trial', kind)}"))
    return [*figures, trials]


def _wanted(experiment: Experiment) -> str:
    return "highest" if experiment.higher_is_better else "lowest"


def _best(experiment: Experiment) -> Part:
    best, groups = experiment.best_trial, (Group("", table=trial_tables.settings(experiment)),)
    if best is None:
        kept = "No trial succeeded."
        if any(trial.violated for trial in experiment.trials):
            kept = f"No trial keeps {' and '.join(experiment.constraints)}."
        return Part("Settings", kept, groups)
    of = "keep the limits" if any(trial.violated for trial in experiment.trials) else "succeeded"
    lead = f"Trial {best.number} has the {_wanted(experiment)} score of the trials that {of}"
    lead += f"; its run is in {best.folder}." if best.folder else "."
    done = (trial for trial in experiment.trials if trial.state == "succeeded" and trial is not best)
    equals = [str(trial.number) for trial in done if trial.score == best.score]
    if equals:
        lead += (
            f" Of equal scores ({', '.join(equals)} {'have' if len(equals) > 1 else 'has'} it too) the first counts."
        )
    if experiment.constraints:
        lead += f" It keeps {' and '.join(experiment.constraints)}."
    lead = f"{lead} {chance_in_words(experiment.trials)}".rstrip()
    return Part("The trial with the best score" if experiment.front else "The best trial", lead, groups)


def _front(experiment: Experiment) -> Part | None:
    """The trials that no other beats in score and costs, over each of the costs."""
    if not experiment.front:
        return None
    lead = (
        f"No other trial beats one of these in score and {' and '.join(experiment.objectives)}: "
        f"{', '.join(map(str, experiment.front))}. The recipe of trial {experiment.front[0]} is "
        f"best-{experiment.front[0]}.yaml, and so on."
    )
    pictures = tuple(trial_plots.front(experiment, cost) for cost in experiment.objectives)
    return Part("The Pareto front", lead, (Group("", pictures),))


def _pictures(experiment: Experiment) -> Part | None:
    """From two trials on that have ended, one of them with a score, as one alone has nothing to stand beside."""
    trials = trial_plots.drawn(experiment)
    if len(trials) < 2 or all(trial.score is None for trial in trials):
        return None
    small = [trial_plots.progress(experiment)]
    small += [trial_plots.over(experiment, key) for key in experiment.varied]
    if any(len(trial.intermediate) > 1 for trial in trials):
        small.append(trial_plots.curves(experiment))
    lead = (
        "The stronger the colour, the better: each stands for a fifth of the scores. The best trial is the thick line "
        "and the star."
    )
    return Part(
        "Values and scores",
        lead,
        (Group("", (trial_plots.parallel(experiment),), wide=True), Group("", tuple(small))),
    )


def _importance(experiment: Experiment) -> Part | None:
    """Of two settings or more, as the only one explains all that is explained."""
    title = "Importance of settings"
    scored = [
        trial for trial in trial_plots.drawn(experiment) if trial.state == "succeeded" and trial.score is not None
    ]
    if len(experiment.varied) < 2 or not scored:
        return None
    if len(scored) < ENOUGH:
        lead = f"The importance of settings needs {ENOUGH} trials that succeeded; here are {len(scored)}."
        return Part(title, lead)
    found = importance_of(experiment, scored)
    if found is None:
        return Part(title, "All trials have the same score.")
    lead = (
        f"A random forest was fitted to the {len(scored)} trials that succeeded. The out-of-bag R² of the forest, on "
        f"trials that its trees have not seen, is {found.out_of_bag:.2f}: 1 where it predicts their scores, 0 where it "
        "is no better than their mean. "
    )
    if found.out_of_bag <= 0:
        return Part(title, lead + "So it does not predict how the score depends on the settings.")
    lead += (
        "Shown is how much of the variance of its score over the whole ranges each setting explains (functional "
        "analysis of variance, Hutter, Hoos and Leyton-Brown 2014)."
    )
    return Part(title, lead, (Group("", (trial_plots.bars(found, list(experiment.varied)),)),))


def _trials(experiment: Experiment) -> Part | None:
    if not experiment.trials:
        return None
    groups = [Group("", table=trial_tables.trials(experiment))]
    failures = trial_tables.failures(experiment)
    if failures is not None:
        groups.append(Group("Failed trials", table=failures))
    return Part("All trials", _lead(experiment), tuple(groups))


def _lead(experiment: Experiment) -> str:
    text = f"Best first. The score is the {experiment.metric}; test accuracy selects nothing."
    if any(trial.state == "stopped early" for trial in experiment.trials):
        text += " The score of a trial that was stopped early is the last that it reported."
    return text


def _markdown(title: str, shown: Sequence[Part]) -> str:
    parts = [f"# {tables.escaped(title)}\n"]
    for part in shown:
        parts.append(f"{tables.escaped(part.lead)}\n")
        parts += [tables.markdown(group.table) for group in part.groups if group.table is not None]
    return "\n".join(parts)
