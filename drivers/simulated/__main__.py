"""Serve a simulated bench until standard input closes: how another process of ours starts one for its own length.

The bench file's text goes to standard output, closed by a line that holds a NUL. The server ends when its parent does,
however the parent ends, because the pipe to its standard input closes with it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data.device_files import load_device
from drivers.simulated.bench import DEFAULT_CHIP, SimulatedBench
from models.exceptions import RramBenchError


def main() -> int:
    """Parse the arguments, serve, and return an exit status."""
    parser = argparse.ArgumentParser(prog="python -m drivers.simulated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", type=Path)
    parser.add_argument("--transport", choices=("pty", "tcp"), default="pty")
    parser.add_argument("--baud", type=int)
    parser.add_argument("--chip", default=DEFAULT_CHIP)
    parser.add_argument("--arrays", type=int, default=1)
    parser.add_argument("--wafer", type=int, default=0)
    options = parser.parse_args()
    try:
        device = None if options.device is None else load_device(options.device)
        with SimulatedBench(
            options.seed,
            device,
            options.transport,
            options.baud,
            options.chip,
            options.arrays,
            wafer=options.wafer,
        ) as bench:
            print(bench.bench_file(), end="\n\0\n", flush=True)
            sys.stdin.read()
    except RramBenchError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
