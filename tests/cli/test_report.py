"""`nasdistill report` on the folder of an experiment."""

from __future__ import annotations

import csv
from pathlib import Path

from nasdistill.report.experiments import save_experiment
from nasdistill.report.results import save_run
from tests.cli.conftest import Command
from tests.report.fake_experiments import fake_experiment
from tests.report.fakes import fake_run


def test_an_experiments_page_and_tables_are_written_again(nasdistill: Command, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "beta"
    folder.mkdir(parents=True)
    save_experiment(fake_experiment(5, keys=1), folder)
    done = nasdistill("report", str(folder))
    assert done.returncode == 0, done.stderr
    assert "2, best" in done.stdout
    assert "training diverged" in done.stdout
    assert "The best trial" in (folder / "report.html").read_text()
    assert "| 2, best |" in (folder / "trials.md").read_text()
    assert (folder / "trials.csv").read_text().count("\n") == 1 + 5

    elsewhere = tmp_path / "page.html"
    assert nasdistill("report", str(folder), "--out", str(elsewhere)).returncode == 0
    assert elsewhere.read_text() == (folder / "report.html").read_text()


def test_a_run_named_twice_is_no_comparison(nasdistill: Command, tmp_path: Path) -> None:
    save_run(fake_run(tmp_path), tmp_path)
    done = nasdistill("report", str(tmp_path), f"{tmp_path}/../{tmp_path.name}", "--out", str(tmp_path / "page.html"))
    assert (done.returncode, done.stdout.count("quickstart, in")) == (0, 1), done.stderr
    assert "named twice" in done.stderr


def test_experiments_are_compared_with_nothing(nasdistill: Command, tmp_path: Path) -> None:
    save_experiment(fake_experiment(1), tmp_path)
    done = nasdistill("report", str(tmp_path), "elsewhere")
    assert done.returncode == 2
    assert "is an experiment, which has a report of its own" in done.stderr


def test_results_are_rows_with_their_origin(nasdistill: Command, tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run")
    save_run(run, tmp_path / "run")
    table = tmp_path / "rows.csv"
    command = ("report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html"), "--csv", str(table))
    for _ in range(2):  # such a table is replaced
        done = nasdistill(*command)
        assert done.returncode == 0, done.stderr
    with table.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["stage"], int(line["seed"])) for line in lines] == [(row.stage, row.seed) for row in run.rows]
    line, row = next((line, row) for line, row in zip(lines, run.rows, strict=True) if row.accuracy and row.latency_ms)
    assert row.accuracy is not None
    measured = (row.accuracy["selected"], row.parameters, row.latency_ms, row.seconds)
    assert tuple(float(line[name]) for name in ("selected", "parameters", "latency_ms", "seconds")) == measured
    assert (line["recipe"], line["uses"], bool(line["machine"])) == (run.name, row.uses, True)
    table.write_text("of the user")
    done = nasdistill(*command)
    assert (done.returncode, table.read_text()) == (2, "of the user")
    assert "holds no rows of runs" in done.stderr
