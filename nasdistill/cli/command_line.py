"""The command line from its words to an exit status: what went wrong becomes one sentence."""

from __future__ import annotations

import itertools
import logging
import shlex
import signal
import time
import traceback
from collections.abc import Sequence
from typing import cast

import typer

from nasdistill.cli import streams
from nasdistill.cli.app import build_app
from nasdistill.cli.general import General, general_in
from nasdistill.cli.machine import lacked
from nasdistill.errors import Interrupted, ProcessLost, SpecError, UserError, found_at
from nasdistill.training.launch import is_first_process, process_number

MISTAKE = 2
UNEXPECTED = 1
SECONDS_TO_BE_ENDED = 3.0
"""Where the first of several processes fails too, it says so and ends the others."""

# The common base of what a wrong command line raises; releases of typer keep it in different modules.
UsageError = cast(type[Exception], typer.BadParameter.__base__)


def run_command(arguments: Sequence[str]) -> int:
    """Run a command; see `nasdistill.cli.main.main`."""
    streams.prepare()
    general = general_in(list(arguments) or ["--help"])
    if is_first_process():
        _log_to_stderr(logging.WARNING if general.quiet else logging.INFO)
    else:
        _log_to_stderr(logging.ERROR)  # the first one says the same
    try:
        return _run(general)
    except (Exception, KeyboardInterrupt) as error:
        if general.debug:
            traceback.print_exc()
        if is_first_process():
            return _tell(error, general)
        return _tell_beside_the_first(error, general)


def _run(general: General) -> int:
    if general.plugins:
        from nasdistill.plugins import load_plugin, require

        for plugin in general.plugins:
            with found_at("--plugin"):
                require(plugin)
            load_plugin(plugin)
    command = typer.main.get_command(build_app(general))
    try:
        # outside its standalone mode typer returns the status of `typer.Exit`, or what the command returned: nothing
        status = command.main(args=list(general.arguments), prog_name="nasdistill", standalone_mode=False, obj=general)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):
            raise error.__context__ from None
        raise
    if status == 128 + signal.SIGINT:  # what newer releases of typer make of it
        raise KeyboardInterrupt
    return status or 0


def _tell(error: BaseException, general: General) -> int:
    if isinstance(error, SpecError) and error.path:
        _say(f"{'.'.join(str(part) for part in error.path)}: {error}")
        return MISTAKE
    if isinstance(error, UserError):
        _say(str(error))
        return MISTAKE
    if isinstance(error, UsageError):
        command = getattr(getattr(error, "ctx", None), "command_path", "nasdistill")
        _say(f"{_usage(error, general.arguments)} (see '{command} --help')")
        return MISTAKE
    if lacking := lacked(error):
        _say(lacking)
        return MISTAKE
    if isinstance(error, Interrupted):
        again = shlex.join(["nasdistill", *general.arguments])
        where = f" in {error.where}" if error.where else ""
        _say(f"stopped{where}; what is done is saved, and the same command goes on from there: {again}")
        return 128 + error.signal_number
    if isinstance(error, ProcessLost):
        _say(str(error))
        return UNEXPECTED
    if isinstance(error, BrokenPipeError):
        streams.abandon_output()
        return 128 + signal.SIGPIPE
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return _tell(Interrupted(signal.SIGINT), general)
    hint = "" if general.debug else "; --debug shows the traceback"
    _say(f"unexpected {type(error).__name__}: {error}{hint}")
    return UNEXPECTED


def _tell_beside_the_first(error: BaseException, general: General) -> int:
    """As `_tell`, in one of the other processes: nothing that the first one says too."""
    if isinstance(error, Interrupted):
        return 128 + error.signal_number
    if isinstance(error, ProcessLost):
        return _tell(error, general) if process_number() == 1 else UNEXPECTED  # the first may be the one that is gone
    time.sleep(SECONDS_TO_BE_ENDED)
    _say(f"process {process_number()}:")
    return _tell(error, general)


def _usage(error: Exception, arguments: Sequence[str]) -> str:
    """What is wrong with the options, and the value where it is one."""
    from pydantic import ValidationError

    from nasdistill.validation import sentence

    if isinstance(error.__cause__, ValidationError):  # newer versions of typer read values with pydantic
        error.message = sentence(error.__cause__.errors()[0])  # type: ignore[attr-defined]
    told = error.format_message()  # type: ignore[attr-defined]
    flags = getattr(getattr(error, "param", None), "opts", ())
    given = [value for flag, value in itertools.pairwise(arguments) if flag in flags]
    given += [word.partition("=")[2] for word in arguments if word.partition("=")[0] in flags and "=" in word]
    return f"{told}, got {given[-1]!r}" if given and repr(given[-1]) not in told else told


def _say(sentence: str) -> None:
    streams.tell(f"nasdistill: {sentence}")


class _ToStderr(logging.Handler):
    """Looks up `sys.stderr` for each line, so that lines appear above a progress bar, which replaces it."""

    def emit(self, record: logging.LogRecord) -> None:
        streams.tell(self.format(record))


def _log_to_stderr(level: int) -> None:
    log = logging.getLogger("nasdistill")
    log.handlers = [_ToStderr()]
    log.setLevel(level)
    log.propagate = False
