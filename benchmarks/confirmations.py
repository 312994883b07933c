"""Confirmations: accuracies predicted for simulated chips, and whether the chips then show them.

``python -m benchmarks confirmations [--several] [--keep FILE] [--data-dir FOLDER] [--write docs/silicon.md]``

Each case is a chip that differs in every device from all others: it is formed, its cells are measured, the accuracy is
predicted with its 95 % interval, the network is programmed tile by tile, and the test samples are inferred, all through
the wire and as ``rram-bench confirm`` does it. Networks are trained on the spot, each with a seed of its own. A case
that fails is counted as outside. With ``--keep FILE`` what came of each case is on disk as soon as it is known, and a
campaign that was cut off goes on from there. ``--several`` spreads each network over two chips.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.tables import replace_between
from models.exceptions import RramBenchError, UserMistake

if TYPE_CHECKING:
    from data.datasets import Dataset
    from models.integer import IntegerNetwork

MODES = ("xnor", "host")

APART = 100_000
"""Between the seeds of the chips of one case."""

ASKED = 0.93
"""Share of the cases that must lie inside their interval, in each mode."""


@dataclass(frozen=True)
class Group:
    """Cases that differ in the chip alone.

    Attributes:
        network: architecture.
        data: name of the data set.
        chip: kind of chip; several kinds, joined by "+", share the network.
        cases: how many.
        samples: the first so many of the test set; None for all.
        epochs: that the network is trained for.
        training_seed: of that.
    """

    network: str
    data: str
    chip: str
    cases: int
    samples: int | None
    epochs: int
    training_seed: int = 1


GRID = (
    Group("digits-bnn", "digits", "kilobit", 10, None, 8),
    Group("digits-bnn", "digits", "array64", 10, None, 8),
    Group("digits-bnn", "digits", "ternary", 6, None, 8),
    Group("mnist-bnn", "mnist", "kilobit", 7, 500, 2),
    Group("mnist-bnn", "mnist", "array64", 7, 500, 2),
    Group("mnist-bnn", "fashion-mnist", "kilobit", 10, 500, 2),
    Group("mnist-bnn", "fashion-mnist", "array64", 10, 500, 2),
    Group("digits-tnn", "digits", "ternary", 14, None, 8),
    Group("mnist-tnn", "mnist", "ternary", 13, 300, 4),
    Group("mnist-tnn", "fashion-mnist", "ternary", 13, 300, 4),
)
"""A hundred cases: ternary networks on the chip that tells zeros, binary ones on all three (MNIST on the larger two,
since it takes 1600 tiles of the ternary chip)."""

SEVERAL = (
    Group("digits-bnn", "digits", "kilobit+kilobit", 6, None, 8),
    Group("digits-bnn", "digits", "kilobit+array64", 5, None, 8),
    Group("digits-tnn", "digits", "ternary+ternary", 5, None, 8),
)
"""Cases on two chips at the same time, of one size and of two."""


@dataclass
class Case:
    """What came of one chip.

    Attributes:
        group: index of its group.
        seed: of the chip and of all draws.
        software: accuracy of the integer network on the same samples.
        found: mode to measured accuracy and the mean, low and high of the prediction.
        problem: why there is none; empty where all went well.
        seconds: by the clock.
    """

    group: int
    seed: int
    software: float = 0.0
    found: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)
    problem: str = ""
    seconds: float = 0.0

    def inside(self, mode: str) -> bool:
        """The measured accuracy lies in the predicted interval."""
        if mode not in self.found:
            return False
        measured, _, low, high = self.found[mode]
        return low <= measured <= high


def one_case(network: IntegerNetwork, data: Dataset, group: Group, case: Case) -> None:
    """Confirm one chip, or several together; what came of it is put into ``case``."""
    from bench.confirming import Confirming, Wanted
    from bench.confirming_together import ConfirmingTogether
    from bench.session import open_bench
    from bench.stages import Quiet, StagedRuns
    from bench.stopping import StopToken
    from models.prediction import InferenceMode

    wanted = Wanted(network, data.first_tests(group.samples), tuple(InferenceMode(mode) for mode in MODES))
    kinds, stop = group.chip.split("+"), StopToken()
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="confirmations-")))
        seeds = [case.seed + number * APART for number in range(len(kinds))]
        benches = [
            opened.enter_context(open_bench("simulated", seed, chip=kind))
            for kind, seed in zip(kinds, seeds, strict=True)
        ]
        runs = tuple(StagedRuns(bench, seed, folder, Quiet(), stop) for bench, seed in zip(benches, seeds, strict=True))
        if len(runs) == 1:
            result = Confirming(runs[0], wanted).confirm(form_first=True)
        else:
            result = ConfirmingTogether(runs, wanted).confirm(Quiet(), [True] * len(runs))
    case.software = result["software_accuracy"]
    for mode, facts in result["modes"].items():
        predicted = facts["predicted"]
        case.found[mode] = facts["measured"], predicted["mean"], predicted["low"], predicted["high"]


def run_campaign(
    grid: Sequence[Group], first_seed: int, folder: Path | None = None, keep: Path | None = None
) -> list[Case]:
    """All cases one after the other; progress on standard error.

    Args:
        grid: of the cases.
        first_seed: of the first case; the others count up, through all groups.
        folder: of data sets; by default that of RRAM_BENCH_DATA.
        keep: where each case is written as soon as it is known; those that are there already are not done again.

    Raises:
        UserMistake: data sets that are not there, or a file of another campaign.
    """
    done = [] if keep is None else load_kept(keep, grid, first_seed)
    known = {case.seed for case in done}
    trained: dict[int, tuple[Dataset, IntegerNetwork]] = {}
    for seed, index in _order(grid, first_seed):
        if seed in known:
            continue
        group = grid[index]
        if index not in trained:
            trained[index] = _trained(group, folder)
        data, network = trained[index]
        case, started = Case(index, seed), time.monotonic()
        try:
            one_case(network, data, group, case)
        except RramBenchError as error:
            case.problem = str(error)
        case.seconds = time.monotonic() - started
        done.append(case)
        if keep is not None:
            with keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"case_of": _described(group), **asdict(case)}) + "\n")
        verdict = case.problem or ", ".join(f"{mode} {_verdict(case, mode)}" for mode in MODES)
        print(f"{group.network}, {group.data}, {group.chip}, seed {seed}: {verdict}", file=sys.stderr, flush=True)
    return sorted(done, key=lambda case: case.seed)


def _order(grid: Sequence[Group], first_seed: int) -> list[tuple[int, int]]:
    """Seeds with the index of their group, so that a campaign which is cut off has cases of all groups."""
    places = [(index, number) for index, group in enumerate(grid) for number in range(group.cases)]
    seeds = [(number / grid[index].cases, first_seed + at, index) for at, (index, number) in enumerate(places)]
    return [(seed, index) for _, seed, index in sorted(seeds)]


def _verdict(case: Case, mode: str) -> str:
    measured, _, low, high = case.found[mode]
    return f"{measured:.2%} {'in' if case.inside(mode) else 'NOT IN'} {low:.2%} to {high:.2%}"


def _trained(group: Group, folder: Path | None) -> tuple[Dataset, IntegerNetwork]:
    from data.datasets import load_dataset
    from models.training import train

    data = load_dataset(group.data, folder)
    return data, train(group.network, data, group.training_seed, group.epochs)[0]


def _described(group: Group) -> str:
    """A group in a line, but for how many cases it has: cases of another one must not be mixed in."""
    samples = "all" if group.samples is None else group.samples
    trained = f"{group.epochs} epochs, seed {group.training_seed}"
    return f"{group.network}, {group.data}, {group.chip}, {samples} samples, {trained}"


def load_kept(path: Path, grid: Sequence[Group], first_seed: int) -> list[Case]:
    """Cases of an earlier part of this campaign; a line that was cut off is left out.

    Raises:
        UserMistake: the file is of another campaign.
    """
    if not path.exists():
        return []
    groups = [index for index, group in enumerate(grid) for _ in range(group.cases)]
    kept = []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for line in lines:
        if not line.endswith("\n"):
            continue
        values = json.loads(line)
        described, case = values.pop("case_of"), Case(**values)
        place = case.seed - first_seed
        if not 0 <= place < len(groups) or described != _described(grid[groups[place]]):
            raise UserMistake(f"{path}: cases of another campaign; name another file with --keep")
        case.found = {mode: (facts[0], facts[1], facts[2], facts[3]) for mode, facts in case.found.items()}
        kept.append(case)
    if lines and not lines[-1].endswith("\n"):
        path.write_text("".join(lines[:-1]), encoding="utf-8")
    return kept


def table(grid: Sequence[Group], cases: Sequence[Case]) -> list[str]:
    """The table as Markdown, with the command that made it."""
    failed = [case for case in cases if case.problem]
    seeds = f"{cases[0].seed} to {cases[-1].seed}"
    minutes = sum(case.seconds for case in cases) / 60
    several = " --several" if "+" in grid[0].chip else ""
    totals = {mode: sum(case.inside(mode) for case in cases) for mode in MODES}
    lines = [
        f"`python -m benchmarks confirmations{several}`, {date.today()}, {minutes:.0f} min: "
        f"{len(cases)} cases, seeds {seeds}. Inside: "
        + ", ".join(f"{count} of {len(cases)} in `{mode}`" for mode, count in totals.items())
        + f". Cases that failed, counted as outside: {len(failed)}.",
        "",
        "| network, data, samples | software | chip | "
        + " | ".join(f"inside, `{mode}`" for mode in MODES)
        + " | measured less predicted, mean ± standard error, points: "
        + ", ".join(f"`{mode}`" for mode in MODES)
        + " |",
        "|---|---:|---|" + "---:|" * (len(MODES) + 1),
    ]
    for index, group in enumerate(grid):
        own = [case for case in cases if case.group == index]
        if not own:
            continue
        good = [case for case in own if not case.problem]
        samples = "all" if group.samples is None else str(group.samples)
        software = f"{good[0].software:.2%}" if good else ""
        inside = " | ".join(f"{sum(case.inside(mode) for case in own)} of {len(own)}" for mode in MODES)
        off = ", ".join(_off(good, mode) for mode in MODES)
        lines.append(f"| {group.network}, {group.data}, {samples} | {software} | {group.chip} | {inside} | {off} |")
    return lines


def _off(cases: Sequence[Case], mode: str) -> str:
    if not cases:
        return ""
    off = 100.0 * np.array([case.found[mode][0] - case.found[mode][1] for case in cases])
    return f"{off.mean():+.2f}" + (f" ± {off.std(ddof=1) / np.sqrt(len(off)):.2f}" if len(off) > 1 else "")


def main(arguments: Sequence[str]) -> int:
    """Run the campaign; status 1 where fewer lie inside than are asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks confirmations", description=__doc__)
    parser.add_argument("--seed", type=int, default=500, help="of the first case; the others count up")
    parser.add_argument("--keep", type=Path, help="file to keep each case in, and to go on from")
    parser.add_argument("--data-dir", type=Path, help="folder of data sets; by default that of RRAM_BENCH_DATA")
    parser.add_argument("--write", type=Path, help="page with markers to put the table between")
    parser.add_argument("--several", action="store_true", help="networks spread over two chips")
    options = parser.parse_args(arguments)
    grid, marker = (SEVERAL, "confirmations on two chips") if options.several else (GRID, "confirmations")
    try:
        cases = run_campaign(grid, options.seed, options.data_dir, options.keep)
        lines = table(grid, cases)
        print("\n".join(lines))
        if options.write is not None:
            replace_between(options.write, marker, lines)
    except UserMistake as mistake:
        print(mistake, file=sys.stderr)
        return mistake.exit_status
    return 0 if all(sum(case.inside(mode) for case in cases) >= ASKED * len(cases) for mode in MODES) else 1
