"""A local Dask cluster in a process of its own, one of whose workers is killed every so often.

``python dying_dask.py WORKERS SECONDS`` prints the scheduler's address, then a line for each kill, until standard input
closes. Killed workers are started again by their nannies, as on a cluster that looks after itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys


def main() -> None:
    from distributed import LocalCluster

    workers, seconds = int(sys.argv[1]), float(sys.argv[2])
    with LocalCluster(
        workers, threads_per_worker=1, dashboard_address=None, memory_limit=None, silence_logs=logging.CRITICAL
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        turn = 0
        while not select.select([sys.stdin], [], [], seconds)[0]:
            nanny = list(cluster.workers.values())[turn % workers]
            turn += 1
            if nanny.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(nanny.pid, signal.SIGKILL)
                    print(nanny.pid, flush=True)


if __name__ == "__main__":
    main()
