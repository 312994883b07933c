"""Run the fault campaign: ``python -m tests.faults [--scale 1.0] [--seed N] [--only NAME]``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from bench.lock import FOLDER_VARIABLE
from tests.faults import endings, framed_board, report, safe_off, scpi_wires, setters, two_threads
from tests.faults.campaign import Campaign

PAGE = Path("docs/reliability.md")
PARTS: Mapping[str, Callable[[Campaign], None]] = {
    "framed": framed_board.run,
    "scpi": scpi_wires.run,
    "endings": endings.run,
    "threads": two_threads.run,
    "setters": setters.run,
    "safe-off": safe_off.run,
}


def main() -> int:
    """Run, print the table, write the page of a whole campaign; exit status 1 if anything was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full number of faults")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument("--only", choices=PARTS, help="one part of the campaign")
    options = parser.parse_args()
    if not 0 < options.scale <= 100:
        parser.error("--scale must be above 0 and at most 100")
    campaign = Campaign(options.scale, options.seed)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as locks:
        os.environ[FOLDER_VARIABLE] = locks  # those of simulated benches are nobody else's business
        for name in PARTS if options.only is None else [options.only]:
            PARTS[name](campaign)
    report.print_table(campaign.rows, Console(width=report.TABLE_WIDTH))
    if options.only is None and options.scale == 1.0:
        command = f"python -m tests.faults --seed {options.seed}"
        report.write_page(PAGE, campaign.rows, command, time.monotonic() - started)
    print(report.json_line(campaign.rows))
    return 1 if campaign.lost else 0


if __name__ == "__main__":
    sys.exit(main())
