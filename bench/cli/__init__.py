"""The command line: ``rram-bench``. Exit status 0, 2 for a mistake of the user's, 1 for a failure of the bench."""

from __future__ import annotations

import contextlib
import os
import sys

from bench.cli.processes import first_to_fail, leave_to_first, one_voice, refuse_others
from bench.stopping import INTERRUPTED_STATUS
from models.exceptions import RramBenchError
from models.processes import launched


def main() -> None:
    """Run the command line and exit with its status; errors are one line on standard error."""
    sys.exit(status_of_command())


def status_of_command() -> int:
    """Run the command line of ``sys.argv`` and return its exit status."""
    place = launched()
    try:
        refuse_others(sys.argv[1:])
        from bench.cli.app import app

        # Usage errors are printed and turned into SystemExit(2) by the parser itself.
        with one_voice(place):
            app(prog_name="rram-bench")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        if code and place.size > 1:
            leave_to_first(place)
        return code
    except KeyboardInterrupt:
        if first_to_fail(place):
            print("rram-bench: interrupted", file=sys.stderr)
        return INTERRUPTED_STATUS
    except OSError as error:
        # Standard output or error is gone (a closed pipe, a full disk): the bench itself was left safe on the way here.
        with contextlib.suppress(OSError):
            print(f"rram-bench: the result could not be written: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return RramBenchError.exit_status
    except RramBenchError as error:
        if first_to_fail(place):
            for line in (str(error), *getattr(error, "__notes__", ())):
                print(f"rram-bench: {line}", file=sys.stderr)
        return error.exit_status
    return 0


__all__ = ["main", "status_of_command"]
