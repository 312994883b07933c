"""The two kinds of error that a person at the bench meets, and nothing else.

Every error of ours says what was asked, what is allowed, which layer forbids it and what to do.
"""

from __future__ import annotations


class RramBenchError(Exception):
    """Base of all our errors; the command line prints its text as one line, without a traceback."""

    exit_status = 1


class UserMistake(RramBenchError):
    """What was asked cannot be done as asked (a wrong path, key, value or shape): exit status 2."""

    exit_status = 2


class BenchFailure(RramBenchError):
    """The bench did not do what it was asked (a lost link, a refused setting): exit status 1."""

    exit_status = 1
