"""Who says yes to the code that a recipe brings: `--trust`, or whoever sits at the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasdistill.training.launch import was_started_by_the_first

if TYPE_CHECKING:
    from nasdistill.recipes.loading import Recipe
    from nasdistill.recipes.trust import Code, Trust, Verdict


def trust_of(given: Mapping[str, Any]) -> Trust:
    """Whom a command asks, by its options; a process that the first one started was said yes to with that."""
    from nasdistill.recipes.trust import pass_over, refuse, run_all

    if "trust" in given or was_started_by_the_first():
        return run_all
    if "dry_run" in given:
        return pass_over
    alone = "WORLD_SIZE" not in os.environ  # else all of torchrun's processes would ask
    return _ask if alone and sys.stdin.isatty() and sys.stderr.isatty() else refuse


def _ask(codes: Sequence[Code]) -> Verdict:
    from nasdistill.recipes.trust import Verdict

    print("this recipe brings code, which runs with your rights:", file=sys.stderr)
    for code in codes:
        print(f"  {code.where}: {code}", file=sys.stderr)
    print(
        "have you read it, and shall it run, now and whenever it is the same? [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    return Verdict.RUN if sys.stdin.readline().strip().lower() in ("y", "yes") else Verdict.REFUSE


def show_passed_over(recipe: Recipe) -> None:
    """Print which code a recipe would run."""
    from nasdistill.cli.tables import show

    for code in recipe.passed_over:
        show(f"not looked at: {code}, named in {code.where}; it is code, and runs once you say yes to it (--trust)")
