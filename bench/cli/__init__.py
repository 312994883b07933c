"""The command line: ``rram-bench``. Exit status 0, 2 for a mistake of the user's, 1 for a failure of the bench."""

from __future__ import annotations

import os
import sys
from contextlib import closing, suppress
from typing import Any, cast

from bench.cli.processes import first_to_fail, leave_to_first, one_voice, refuse_others
from bench.stopping import INTERRUPTED_STATUS
from models.exceptions import RramBenchError, UserMistake
from models.processes import launched


def main() -> None:
    """Run the command line and exit with its status; errors are one line on standard error."""
    sys.exit(status_of_command())


def status_of_command() -> int:
    """Run the command line of ``sys.argv`` and return its exit status."""
    place = launched()
    try:
        refuse_others(sys.argv[1:])
        with one_voice(place):
            status = _parsed_and_run()
        if status and place.size > 1:
            leave_to_first(place)
        return status
    except KeyboardInterrupt:
        if first_to_fail(place):
            print("rram-bench: interrupted", file=sys.stderr)
        return INTERRUPTED_STATUS
    except OSError as error:
        # Standard output or error is gone (a closed pipe, a full disk): the bench itself was left safe on the way here.
        with suppress(OSError):
            print(f"rram-bench: the result could not be written: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return RramBenchError.exit_status
    except RramBenchError as error:
        if first_to_fail(place):
            for line in (str(error), *getattr(error, "__notes__", ())):
                print(f"rram-bench: {line}", file=sys.stderr)
        return error.exit_status


def _parsed_and_run() -> int:
    """Run the command that the words name; what the parser has to say of them is one line as well."""
    import typer

    from bench.cli.app import app
    from bench.first_look import FirstLook
    from data.guards import guarded

    # typer gives no name to the class of all complaints of its parser, which is click's in older versions of typer
    complaints = cast(type[Exception], typer.BadParameter.__mro__[1])
    try:
        # a command that returns has nothing to tell; a status comes from typer.Exit, which Ctrl-C is turned into
        with closing(FirstLook()) as first_look, guarded(first_look):
            status = app(prog_name="rram-bench", standalone_mode=False)
    except typer.Abort as error:  # Ctrl-C in older versions of typer
        raise KeyboardInterrupt from error
    except SystemError as error:  # Ctrl-C while a compiled function was being called
        if not _came_of_ctrl_c(error):
            raise
        raise KeyboardInterrupt from error
    except complaints as error:
        _say_what_the_parser_found(error)
        return UserMistake.exit_status
    if status == INTERRUPTED_STATUS:
        raise KeyboardInterrupt
    return status if isinstance(status, int) else 0


def _came_of_ctrl_c(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error is not None


def _say_what_the_parser_found(error: Any) -> None:
    """One line; or the whole help, where a group of commands was named alone."""
    message, context = error.format_message(), error.ctx
    if context is None:
        print(f"rram-bench: {message}", file=sys.stderr)
    elif message == context.get_help():
        print(message, file=sys.stderr)
    else:
        said = " ".join(message.split()).rstrip(".")
        print(f"rram-bench: {said} (see {context.command_path} --help)", file=sys.stderr)


__all__ = ["main", "status_of_command"]
