"""A recipe as jobs of SLURM: a script that saves before the time is over, and goes on when it is its turn again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from nasdistill.component import Options
from nasdistill.recipes.sweep import Sweep
from nasdistill.report.points import folder_name

OURS = ("array", "dependency", "output")
ALL = "all"
"""The task that runs the whole recipe; those of an array have numbers."""

SCRIPT = """\
#!/bin/bash
{options}
cd {directory} || exit
case "${{SLURM_ARRAY_TASK_ID-{all}}}" in
{cases}
esac
trap 'kill -USR1 $!' USR1  # the time is nearly over
trap 'kill -TERM $!' TERM  # scancel, or a job of higher priority, after which SLURM itself brings this one back
"${{command[@]}}" &
while kill -0 $! 2> /dev/null; do wait $!; done
wait $!
status=$?
[ $status = 138 ] && scontrol requeue "$SLURM_JOB_ID"  # what is done is saved, and there is more to do
exit $status
"""


def _no_option_of_ours(given: str) -> str:
    if given.partition("=")[0] in OURS:
        raise ValueError(f"{', '.join(OURS[:-1])} and {OURS[-1]} are set here")
    return given


class ClusterSettings(Options):
    """What each job asks of SLURM; where nothing is said, the cluster's own defaults hold."""

    partition: str | None = Field(None, description="SLURM's partition to run in")
    time: str | None = Field(
        None, description="how long a job may take until it saves and queues again, e.g. 4:00:00 or 1-00:00:00"
    )
    gpus: int | None = Field(None, gt=0, description="GPUs of a job; with --devices N a run computes on several")
    cpus: int | None = Field(None, gt=0, description="processor cores of a job")
    memory: str | None = Field(None, description="memory of a job, e.g. 16G")
    sbatch: tuple[
        Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*(=.+)?$"), AfterValidator(_no_option_of_ours)], ...
    ] = Field((), description="another option of sbatch, e.g. account=vision or exclusive")

    def lines(self) -> Iterator[str]:
        """The options as sbatch reads them, its own names without `--`."""
        named = {
            "partition": self.partition,
            "time": self.time,
            "gpus": self.gpus,
            "cpus-per-task": self.cpus,
            "mem": self.memory,
        }
        yield from (f"{name}={value}" for name, value in named.items() if value is not None)
        yield from self.sbatch


def tasks_of(sweep: Sweep) -> dict[str, list[str]]:
    """What each task of an array runs, by a name for its folder, as arguments: a point of the sweep with a seed."""
    return {
        folder_name(f"seed-{seed}", point.values): [
            *point.arguments,
            "seed=null",
            f"seeds=[{seed}]",
        ]
        for point in sweep.points
        for seed in point.recipe.seeds
    }


def script_of(name: str, commands: Mapping[str, Sequence[str]], settings: ClusterSettings, directory: Path) -> str:
    """The script for sbatch.

    Args:
        name: of the job.
        commands: by number of an array's task, or `ALL`.
        directory: to run in.
    """
    # A later line holds where two say different things, so that a user's own stand last.
    options = [f"job-name={name}", "requeue", "open-mode=append", "signal=B:USR1@120", *settings.lines()]
    return SCRIPT.format(
        options="\n".join(f"#SBATCH --{option}" for option in options),
        directory=shlex.quote(str(directory)),
        all=ALL,
        cases="\n".join(f"{number}) command=({shlex.join(command)}) ;;" for number, command in commands.items()),
    )
