"""The entry point; it imports next to nothing, so that a stop while all else is imported is a sentence too."""

from __future__ import annotations

import atexit
import gc
import shlex
import signal
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `nasdistill` with `arguments` (by default those of the process).

    Returns:
        the exit status: 0; 2 for a mistake of the user; 128 plus the signal where one stopped it; 1 otherwise.
    """
    atexit.register(gc.freeze)  # else Python looks through all that torch made once more, which takes seconds
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        from nasdistill.cli.command_line import run_command

        return run_command(given)
    except KeyboardInterrupt:
        again = shlex.join(["nasdistill", *given])
        print(f"nasdistill: stopped before anything began; the same command begins it: {again}", file=sys.stderr)
        return 128 + signal.SIGINT
