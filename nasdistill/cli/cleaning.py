"""`nasdistill clean`: the room on the disk that a run's folder takes for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def clean(
    run: Annotated[Path, typer.Argument(help="folder of a run or of an experiment", metavar="RUN", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="list what would go, and remove nothing")] = False,
) -> None:
    """Remove what no recipe in a run's folder needs.

    That is, of other values than the last: artifacts, checkpoints, teachers' outputs; and what killed processes left.
    Nothing that the run's page shows, and nothing that nasdistill did not write, is removed.
    """
    from nasdistill.cli.tables import show, show_table
    from nasdistill.recipes.cleaning import cleaning
    from nasdistill.words import size

    with cleaning(run, dry_run) as found:
        if found.removable:
            rows = [(each.what, str(each.path.relative_to(run)), size(each.bytes)) for each in found.removable]
            show_table(("what", "in the folder", "size"), rows, words=2)
        for sentence in found.staying:
            show(sentence)
    total = size(sum(each.bytes for each in found.removable))
    freed = f"{total} {'would be freed' if dry_run else 'freed'}"
    show(f"{run}: {freed if found.removable else 'nothing to remove'}")
