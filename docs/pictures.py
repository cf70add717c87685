"""Draw the pictures of the pages of results anew, from the same rows as their tables: `python -m docs.pictures`.

A picture stands between a comment that says what it shows and `<!-- end -->`:

    <!-- picture:
    file: ladder                    # docs/results/ladder.svg
    rows: few-epochs-ladder         # as of a table
    draw: in order                  # or `over time`, of transfers without data, or `over seconds`, of whole stages
    title: Test accuracy
    stages: {plain: cosine, cycle: triangular}      # as of a table
    -->

The file ends with a hash of what was asked and of the rows, by which a test sees that it is not of earlier ones: bytes
would differ with each version of matplotlib.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from docs import tables
from nasdistill.report import plots
from nasdistill.report.sections import without_data
from nasdistill.report.summaries import StageSummary

PICTURE = re.compile(r"(<!-- picture:\n(.*?)-->\n).*?(<!-- end -->)", re.DOTALL)
ACCURACY = "test accuracy, %"


def rendered(page: str) -> str:
    """The text of a page that shows its pictures."""

    def shown(found: re.Match[str]) -> str:
        asked = yaml.safe_load(found[2])
        return f"{found[1]}\n![{asked['title']}]({path_of(asked).name})\n\n{found[3]}"

    return PICTURE.sub(shown, page)


def asked_in(page: str) -> list[Mapping[str, Any]]:
    """What each picture of a page is to show."""
    return [yaml.safe_load(found[2]) for found in PICTURE.finditer(page)]


def path_of(asked: Mapping[str, Any]) -> Path:
    return tables.FOLDER / "results" / f"{asked['file']}.svg"


def ending(asked: Mapping[str, Any]) -> str:
    """Of the file of a picture that shows what is asked, from the rows that are there."""
    rows = (tables.FOLDER / "results" / f"{asked['rows']}.csv").read_bytes()
    return f"<!-- of {hashlib.sha256(json.dumps(asked).encode() + rows).hexdigest()[:12]} -->\n"


def drawn(asked: Mapping[str, Any]) -> str:
    """SVG that stands alone, on paper of its own."""
    found = tables.read(asked["rows"])
    stages = {name: found[stage] for stage, name in asked["stages"].items()}
    svg = {"in order": _in_order, "over time": _over_time, "over seconds": _over_seconds}[asked["draw"]](
        asked["title"], stages
    )
    return svg.replace("<svg ", f'<svg style="background: {plots.PAPER}" ', 1)


def _in_order(title: str, stages: Mapping[str, StageSummary]) -> str:
    of_seeds = zip(*(stage.accuracies(stage.counts).values() for stage in stages.values()), strict=True)
    return plots.in_order({ACCURACY: [list(enumerate(seed)) for seed in of_seeds]}, list(stages), title, ACCURACY)


def _over_time(title: str, stages: Mapping[str, StageSummary]) -> str:
    return plots.lines({name: without_data.curves(stage) for name, stage in stages.items()}, title, "seconds", ACCURACY)


def _over_seconds(title: str, stages: Mapping[str, StageSummary]) -> str:
    return plots.scatter({name: _places(stage) for name, stage in stages.items()}, title, "seconds", ACCURACY)


def _places(stage: StageSummary) -> list[tuple[float, float]]:
    accuracies = stage.accuracies(stage.counts)
    return [(row.seconds, accuracies[row.seed]) for row in stage.rows if row.seconds is not None]


def main() -> None:
    for page in tables.pages():
        text = page.read_text(encoding="utf-8")
        for asked in asked_in(text):
            path_of(asked).write_text(f"{drawn(asked)}\n{ending(asked)}", encoding="utf-8")
        page.write_text(rendered(text), encoding="utf-8")


if __name__ == "__main__":
    main()
