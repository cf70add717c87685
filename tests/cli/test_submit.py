"""`nasdistill submit`: what SLURM is given, what its script does with signals, and what comes of an array of jobs."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from nasdistill.recipes.slurm import ALL, ClusterSettings, script_of
from tests.cli.conftest import Command

RECIPE = """\
name: echoes
data: digits
plugins: [echo_stage.py]
stages:
  - {name: first, uses: echo, with: {model: mlp-8}}
  - {name: second, uses: echo, with: {model: mlp-8}}
"""
SWEEP = ("submit", "echoes.yaml", "--trust", "--sweep", "stages.second.how=up,down", "--out", "out")

SBATCH = """\
#!/bin/bash
echo "$*" >> {folder}/asked
cat > {folder}/script
echo "7;cluster"
"""


def program(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is found before all others."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.fixture(autouse=True)
def recipe(plugin: Path, tmp_path: Path) -> None:
    (tmp_path / "echoes.yaml").write_text(RECIPE)


def test_an_array_is_joined_into_one_table_and_a_failed_task_leaves_the_others(
    nasdistill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = tmp_path / "slurm"
    program(slurm, "sbatch", SBATCH.format(folder=slurm), monkeypatch)
    done = nasdistill(*SWEEP)
    assert done.returncode == 0, done.stderr
    assert "array 7, 2 tasks" in done.stdout
    array, last = (slurm / "asked").read_text().splitlines()
    assert array == f"--parsable --array=0-1 --output={tmp_path}/out/logs/%A_%a.log"
    assert last == f"--parsable --output={tmp_path}/out/logs/%j.log --dependency=afterany:7"
    commands = re.findall(r"command=\((.*)\) ;;", (slurm / "script").read_text())
    up, down, both = (shlex.split(command)[3:] for command in commands)  # without `python -m nasdistill`
    assert [nasdistill(*command).returncode for command in (up, down, both)] == [0, 2, 2]
    joined = nasdistill(*(word.replace("how=up,down", "how=up") for word in both))
    assert joined.returncode == 0, joined.stderr
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(row["stage"], row["cached"]) for row in rows] == [("first", True), ("second", True)]
    assert (tmp_path / "out" / "report.html").is_file()


def test_the_dry_form_prints_a_script_that_bash_reads(nasdistill: Command, tmp_path: Path) -> None:
    asked = ("--partition", "gpu", "--time", "4:00:00", "--gpus", "2", "--cpus", "8", "--memory", "16G")
    done = nasdistill(*SWEEP, "--seeds", "0,1", *asked, "--sbatch", "account=vision", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0
    lines = done.stdout.splitlines()
    options = [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]
    assert options[4:] == [
        *("partition=gpu", "time=4:00:00", "gpus=2", "cpus-per-task=8", "mem=16G"),
        "account=vision",
    ]
    tasks = [line for line in lines if "command=(" in line]
    assert [line.partition(")")[0] for line in tasks] == ["0", "1", "2", "3", ALL]
    assert tasks[2].endswith(
        """'stages.second.how="down"' seed=null 'seeds=[0]' """
        f"--out={tmp_path}/out/trials/seed-0-second.how=down) ;;"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("--sbatch", "array=0-3"), "--sbatch: array, dependency and output are set here"),
        (("--gpus", "0"), "--gpus: must be greater than 0"),
        (("--sweep", "stages.first.times=0"), "stages.first.times"),
        ((), "SLURM's command sbatch is not here"),
        (("--partition", "none"), "sbatch refuses the job: error: invalid partition specified: none"),
    ],
)
def test_a_mistake_is_one_sentence(
    given: tuple[str, ...], sentence: str, nasdistill: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "slurm"))
    if "--partition" in given:
        refuses = "#!/bin/sh\necho 'error: invalid partition specified: none' >&2\nexit 1\n"
        program(tmp_path / "slurm", "sbatch", refuses, monkeypatch)
    done = nasdistill("submit", "echoes.yaml", "--trust", *given)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("sent", "status", "told"),
    [(signal.SIGUSR1, 138, "saved\nrequeue 12\n"), (signal.SIGTERM, 143, "saved\n"), (None, 3, "")],
)
def test_a_job_whose_time_is_nearly_over_queues_again_once_its_work_is_saved(
    sent: int | None, status: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = tmp_path / "done"
    done.touch()
    program(tmp_path / "slurm", "scontrol", f'#!/bin/sh\necho "$*" >> {done}\n', monkeypatch)
    saving = f"sleep 0.2; echo saved >> {done}; exit"
    work = f"trap '{saving} 138' USR1; trap '{saving} 143' TERM; echo ready; while :; do sleep 0.05; done"
    script = script_of("work", {ALL: ["bash", "-c", work if sent else "exit 3"]}, ClusterSettings(), tmp_path)
    job = subprocess.Popen(
        ["bash", "-c", script], env={**os.environ, "SLURM_JOB_ID": "12"}, stdout=subprocess.PIPE, text=True
    )
    assert job.stdout is not None
    if sent is not None:
        assert job.stdout.readline() == "ready\n"
        job.send_signal(sent)
    assert job.wait(20) == status
    assert done.read_text() == told
