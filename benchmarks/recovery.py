"""Parameter recovery: chips with populations drawn at random, measured through the wire, fitted, and held to the truth.

``python -m benchmarks.recovery [--chips 200] [--fit weak-reset] [--write docs/calibration.md]``

Each chip is one of :mod:`bench.recovery`. The table says of each parameter how often its 95 % interval contains the
truth, and how far the estimates lie from it on average. A chip that cannot be fitted is counted, not dropped. With
``--keep FILE`` what came of each chip is on disk as soon as it is known, and a campaign that was cut off goes on from
there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np

from bench.recovery import CAMPAIGNS, Campaign, Chip, one_chip
from bench.sweeping.points import processor_s
from benchmarks.tables import replace_between
from models.exceptions import UserMistake

LOWEST, HIGHEST = 0.92, 0.98
MOST_BIAS = 0.1
"""Largest mean error that counts as none, in standard deviations of the drawn truths."""


@dataclass(frozen=True)
class Recovered:
    """How one parameter was recovered.

    Attributes:
        chips: with an estimate.
        coverage: share of the intervals that contain the truth.
        bias: mean of estimate less truth, in standard deviations of the drawn truths.
        error_bias: the same mean in standard deviations of the errors themselves; its own s.d. is 1 / sqrt(chips).
        error: standard deviation of the errors over that of the truths.
    """

    key: str
    chips: int
    coverage: float
    bias: float
    error_bias: float
    error: float

    @property
    def good(self) -> bool:
        """Inside of what is asked."""
        return LOWEST <= self.coverage <= HIGHEST and abs(self.bias) < MOST_BIAS


def summarise(chips: Sequence[Chip]) -> list[Recovered]:
    """One row per parameter, in the order of the fits."""
    keys = list(dict.fromkeys(key for chip in chips for key in chip.found))
    rows = []
    for key in keys:
        truth, value, low, high = np.array([chip.found[key] for chip in chips if key in chip.found]).T
        error = value - truth
        several = len(truth) > 1
        spread, noise = (float(np.std(values, ddof=1)) if several else math.nan for values in (truth, error))
        covered = float(np.mean((low <= truth) & (truth <= high)))
        rows.append(Recovered(key, len(truth), covered, error.mean() / spread, error.mean() / noise, noise / spread))
    return rows


def table(fit_name: str, chips: Sequence[Chip]) -> list[str]:
    """The table as Markdown, with the command that made it."""
    campaign = CAMPAIGNS[fit_name]
    runs = ", ".join(
        " ".join((name, *(f"{key}={value}" for key, value in settings.items())))
        for name, settings in campaign.procedures
    )
    failed = [chip for chip in chips if chip.problem]
    lines = [
        f"`python -m benchmarks.recovery --fit {fit_name} --chips {len(chips)}`, {date.today()}, "
        f"{sum(chip.seconds for chip in chips) / 60:.1f} min of one core: {len(chips)} chips, "
        f"{2 * campaign.rows * campaign.cols} devices each, {runs}. "
        f"Fits that did not converge: {len(failed)}.",
        "",
        "| parameter | true values | coverage of 95 % | bias / spread of truths | bias / s.d. of errors | "
        "s.d. of errors / spread | |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in summarise(chips):
        lines.append(
            f"| `{row.key}` | {_range(campaign, row.key, chips)} | {row.coverage:.1%} | {row.bias:+.3f} | "
            f"{row.error_bias:+.2f} | {row.error:.2f} | {'ok' if row.good else 'outside'} |"
        )
    return lines


def _range(campaign: Campaign, key: str, chips: Sequence[Chip]) -> str:
    """Where a parameter was drawn; of what follows from others, where the truths lie."""
    drawn = campaign.drawn.get(key)
    if drawn is not None:
        return f"{drawn.low:g} to {drawn.high:g}"
    truths = [chip.found[key][0] for chip in chips if key in chip.found]
    return f"{min(truths):.2g} to {max(truths):.2g}"


def _safely(fit_name: str, seed: int) -> Chip:
    """One chip; whatever goes wrong with it is told and costs no other chip."""
    started = processor_s()
    try:
        chip = one_chip(fit_name, seed)
    except Exception as error:  # a campaign of an hour must not end with its last chip
        chip = Chip(seed, problem=f"{type(error).__name__}: {error}")
    chip.seconds = processor_s() - started
    return chip


def load_kept(path: Path, fit_name: str, first_seed: int, chips: int) -> list[Chip]:
    """Chips of an earlier part of this campaign; a line that was cut off is left out.

    Raises:
        UserMistake: the file is of another campaign.
    """
    if not path.exists():
        return []
    kept = {}
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for line in lines:
        if not line.endswith("\n"):
            continue
        values = json.loads(line)
        if values.pop("campaign") != _described(fit_name):
            raise UserMistake(f"{path}: chips of another campaign; name another file with --keep")
        chip = Chip(**values)
        chip.found = {key: (truth, value, low, high) for key, (truth, value, low, high) in chip.found.items()}
        if first_seed <= chip.seed < first_seed + chips:
            kept[chip.seed] = chip
    if lines and not lines[-1].endswith("\n"):
        path.write_text("".join(lines[:-1]), encoding="utf-8")
    return list(kept.values())


def _described(fit_name: str) -> str:
    """A campaign in a line: chips of another one must not be mixed in."""
    return f"{fit_name}: {CAMPAIGNS[fit_name]!r}"


def run_campaign(fit_name: str, chips: int, first_seed: int, workers: int, keep: Path | None = None) -> list[Chip]:
    """Chips side by side in processes of their own; progress on standard error.

    Args:
        fit_name: key of :data:`CAMPAIGNS`.
        chips, first_seed: how many, and the seed of the first.
        workers: processes.
        keep: where each chip is written as soon as it is known; those that are there already are not done again.
    """
    done = [] if keep is None else load_kept(keep, fit_name, first_seed, chips)
    known = {chip.seed for chip in done}
    with ProcessPoolExecutor(workers) as pool:
        seeds = [seed for seed in range(first_seed, first_seed + chips) if seed not in known]
        waiting = [pool.submit(_safely, fit_name, seed) for seed in seeds]
        for future in as_completed(waiting):
            chip = future.result()
            done.append(chip)
            if keep is not None:
                with keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"campaign": _described(fit_name), **asdict(chip)}) + "\n")
            said = f": {chip.problem}" if chip.problem else ""
            print(f"chip {chip.seed}, {len(done)} of {chips}{said}", file=sys.stderr, flush=True)
    return sorted(done, key=lambda chip: chip.seed)


def main() -> int:
    """Run a campaign; status 1 when a parameter is outside of what is asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__)
    parser.add_argument("--chips", type=int, default=200)
    parser.add_argument("--fit", choices=list(CAMPAIGNS), default="weak-reset")
    parser.add_argument("--seed", type=int, default=1, help="of the first chip; the others count up")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--keep", type=Path, help="file to keep each chip in, and to go on from")
    parser.add_argument("--write", type=Path, help="page with markers to put the table between")
    options = parser.parse_args()
    try:
        chips = run_campaign(options.fit, options.chips, options.seed, options.workers, options.keep)
        lines = table(options.fit, chips)
        print("\n".join(lines))
        if options.write is not None:
            replace_between(options.write, f"recovery {options.fit}", lines)
    except UserMistake as mistake:
        print(mistake, file=sys.stderr)
        return mistake.exit_status
    rows = summarise(chips)
    return 0 if rows and all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
