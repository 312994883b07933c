"""Damaged run files are met by a process of their own first: HDF5 may read one for ever, or take its process with it.

While it does, no thread of that process runs: a window could not even switch the outputs off, and a command would not
hear Ctrl-C. Both look at each file through :class:`FirstLook`, which :func:`data.guards.guarded` puts before every
reading.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from typing import IO

from bench.children import module_command, same_imports
from models.exceptions import UserMistake

PATIENCE_S = 10.0
"""Opening a run file, of whatever size, takes some hundredths of a second."""

_START_S = 60.0
_SEEN = "seen\n"


class FirstLook:
    """Opens each file once, as long as it does not change, in a process of its own; threads may share it.

    Args:
        patience_s: how long that may take; a file that takes longer is refused.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._child: subprocess.Popen[str] | None = None
        self._answers: Queue[str] = Queue()
        self._known: dict[Path, tuple[tuple[int, int], str]] = {}
        self._lock = threading.Lock()

    def __call__(self, path: Path) -> None:
        """Look at a file.

        Raises:
            UserMistake: reading it does not come to an end, or is the end of the process that reads it.
        """
        try:
            status = path.stat()
        except OSError:
            return  # whoever reads it says what is wrong
        stamp, where = (status.st_mtime_ns, status.st_size), path.absolute()
        with self._lock:
            known = self._known.get(where)
            if known is None or known[0] != stamp:
                known = self._known[where] = stamp, self._look(where)
        if known[1]:
            raise UserMistake(f"{path} is damaged: {known[1]}")

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _look(self, path: Path) -> str:
        """What is wrong; empty where nothing is that another reader could not tell by itself."""
        child = self._started()
        assert child.stdin is not None
        with suppress(OSError):  # it died, which its reader tells
            child.stdin.write(json.dumps(str(path)) + "\n")
            child.stdin.flush()
        try:
            answer = self._answers.get(timeout=self._patience_s)
        except Empty:
            answer = "reading it does not come to an end"
        if answer == _SEEN:
            return ""
        self._end()
        return answer or "HDF5 breaks down over it"

    def _started(self) -> subprocess.Popen[str]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._end()
        self._child = subprocess.Popen(
            module_command(__name__),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=same_imports(),
            # Ctrl-C reaches the whole foreground group; the window decides what becomes of it
            start_new_session=os.name == "posix",
        )
        assert self._child.stdout is not None
        self._answers = Queue()
        threading.Thread(
            target=_pass_on, args=(self._child.stdout, self._answers), name="first look at runs", daemon=True
        ).start()
        with suppress(Empty):
            self._answers.get(timeout=_START_S)
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for stream in (self._child.stdin, self._child.stdout):
                with suppress(OSError):  # of what was never sent
                    if stream is not None:
                        stream.close()
            self._child = None


def _pass_on(stream: IO[str], answers: Queue[str]) -> None:
    """Pass on what the child says, and an empty text at its end."""
    with suppress(ValueError):  # the stream was closed
        for line in stream:
            answers.put(line)
    answers.put("")


def serve() -> None:
    """What the child does: paths come on standard input, and each is answered on standard output once it was read."""
    from data.runs import open_run

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not get among the answers
    answers.write(_SEEN)  # it is there
    answers.flush()
    for line in sys.stdin:
        # what can be told is told by whoever reads the file next
        with suppress(Exception):
            run = open_run(json.loads(line))
            str(run.ending)
            for table in run.tables:
                run.rows(table)
        answers.write(_SEEN)
        answers.flush()


if __name__ == "__main__":
    serve()
