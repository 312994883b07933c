"""Parameter recovery: chips with populations drawn at random, measured through the wire, fitted, and held to the truth.

``python -m benchmarks.recovery [--chips 200] [--fit weak-reset] [--write docs/calibration.md]``

Each chip is a device file with its own population parameters, a simulated bench that is reached over real wires, and
the procedures that a user would run. The table says of each parameter how often its 95 % interval contains the truth,
and how far the estimates lie from it on average. A chip that cannot be fitted is counted, not dropped. With ``--keep
FILE`` what came of each chip is on disk as soon as it is known, and a campaign that was cut off goes on from there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.tables import replace_between
from data.device_files import DeviceFile, default_device, load_device, save_device
from data.runs import Run
from models.device_model import DeviceModel
from models.exceptions import RramBenchError, UserMistake

STREAM = 0xCA1
"""Second word of the seed of a chip's parameters, apart from those of the chip's own draws."""

LOWEST, HIGHEST = 0.92, 0.98
MOST_BIAS = 0.1
"""Largest mean error that counts as none, in standard deviations of the drawn truths."""


@dataclass(frozen=True)
class Drawn:
    """Range of a population parameter: log-uniform, or uniform where it may be negative or zero."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        if self.low > 0.0:
            return float(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return float(rng.uniform(self.low, self.high))


def _as_drawn(base: DeviceModel, drawn: Mapping[str, float]) -> Mapping[str, float]:
    return drawn


def _nothing_else(hidden: DeviceModel, runs: Sequence[Run]) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True)
class Campaign:
    """What is done to each chip.

    Attributes:
        drawn: parameters with their ranges.
        procedures: names and settings, in order; the runs that the fit reads are fitted together.
        rows, cols: the selection of cells.
        hidden: device-file keys of a chip from the base file and what was drawn for it.
        further: truths that follow from the device, under the conditions of the runs.
    """

    drawn: Mapping[str, Drawn]
    procedures: Sequence[tuple[str, Mapping[str, object]]]
    rows: int
    cols: int
    hidden: Callable[[DeviceModel, Mapping[str, float]], Mapping[str, float]] = field(default=_as_drawn, repr=False)
    further: Callable[[DeviceModel, Sequence[Run]], Mapping[str, float]] = field(default=_nothing_else, repr=False)


def spread_and_shifted(base: DeviceModel, drawn: Mapping[str, float]) -> Mapping[str, float]:
    """Both populations wider, and the HRS further off, by the numbers that the error model finds.

    No device is broken: the truths are those of populations that switch, and broken devices add to the lowest rates.
    """
    spread = drawn["error_model.spread"]
    wider = {
        f"{section}.{name}": spread * getattr(getattr(base, section), name)
        for section in ("lrs", "hrs")
        for name in ("sigma_d2d", "sigma_c2c")
    }
    whole = dict.fromkeys(("defects.stuck_lrs", "defects.stuck_hrs", "defects.open"), 0.0)
    return {**wider, **whole, "hrs.median_ohm": base.hrs.median_ohm * math.exp(drawn["error_model.shift"])}


def error_rates(hidden: DeviceModel, runs: Sequence[Run]) -> Mapping[str, float]:
    """Rates of inverted signs at each condition; of senses that are wrong together, and by themselves, at the first."""
    from calibration.bit_error_runs import model_at, read_errors
    from models.errors import ternary

    (run,) = runs
    listed = read_errors(run).conditions
    models = [model_at(hidden, at) for at in listed]
    rates = [ternary(model, at["sense_vdd_v"], at["window_s"]).type1 for model, at in zip(models, listed, strict=True)]
    both, alone = wrong_senses(models[0], listed[0]["sense_vdd_v"])
    return {
        **{f"condition{index}.type1": rate for index, rate in enumerate(rates)},
        "read_error.random_rate": both,
        "read_error.transient_rate": alone,
    }


def wrong_senses(model: DeviceModel, vdd_v: float) -> tuple[float, float]:
    """Chance that two senses of a weight are both wrong, and that one is and the other is not, half of it.

    Two senses share the cell and the offset, and not the noise. For a given difference of the logarithms of the
    crossing times both are wrong with the chance of two correlated normal deviates, Phi(h) - 2 T(h, a) with Owen's
    function T (Annals of Mathematical Statistics 27, 1956), and 2 T(h, a) is half the chance that they differ. Near a
    tie the access transistor counts beside the device: times differ less than resistances, noise decides more often.
    """
    from scipy import special, stats

    from models.errors import Populations
    from models.sense import crossing_time_s, overdrive_ratio

    overdrive, populations = overdrive_ratio(model.sense, vdd_v), Populations.of(model)
    offset, noise = model.sense.offset_sigma / overdrive, model.sense.noise_sigma / overdrive
    deviate = np.arange(-7.0, 7.0, 0.01)
    share = stats.norm.pdf(deviate)
    share /= share.sum()
    lrs, hrs = (
        np.log(crossing_time_s(model.sense, np.exp(one.log_median + one.sigma * deviate), vdd_v))
        for one in (populations.lrs, populations.hrs)
    )
    limit = -(hrs - lrs[:, None]) / math.hypot(offset, noise)
    common = offset**2 / (offset**2 + noise**2)
    apart = 2.0 * special.owens_t(limit, math.sqrt((1.0 - common) / (1.0 + common)))
    alone = float(share @ apart @ share)
    return float(share @ special.ndtr(limit) @ share) - alone, alone


CAMPAIGNS: Mapping[str, Campaign] = {
    "weak-reset": Campaign(
        {
            "weak_reset.slope1_scale": Drawn(3e-4, 1.2e-3),
            "weak_reset.knee_scale": Drawn(350.0, 800.0),
            "weak_reset.knee_shape": Drawn(0.5, 1.0),
            "weak_reset.slope2_scale": Drawn(1.5e-5, 5e-5),
            "weak_reset.offset_mean": Drawn(-0.02, 0.03),
            "weak_reset.offset_sd": Drawn(0.03, 0.08),
            "weak_reset.rtn_p_low_high": Drawn(4e-4, 1.6e-3),
            "weak_reset.rtn_p_high_low": Drawn(1e-3, 4e-3),
            "weak_reset.rtn_amplitude_high": Drawn(0.3, 0.7),
            "weak_reset.pink_alpha": Drawn(0.015, 0.04),
        },
        (("weak-reset", {"pulses": 4000, "log_points": 30}),),
        8,
        16,
    ),
    "resistance": Campaign(
        {
            "lrs.median_ohm": Drawn(5e3, 9e3),
            "lrs.sigma_d2d": Drawn(0.06, 0.2),
            "lrs.sigma_c2c": Drawn(0.1, 0.3),
            "hrs.median_ohm": Drawn(5e4, 1.6e5),
            "hrs.sigma_d2d": Drawn(0.2, 0.5),
            "hrs.sigma_c2c": Drawn(0.3, 0.7),
        },
        (("endurance", {"cycles": 100, "points_per_decade": 3}),),
        8,
        16,
    ),
    "bit-error": Campaign(
        {"error_model.spread": Drawn(1.4, 2.2), "error_model.shift": Drawn(-0.3, 0.3)},
        (("bit-error", {"reset_vddc_v": (3.9, 4.45, 5.0), "patterns": 8}),),
        32,
        32,
        spread_and_shifted,
        error_rates,
    ),
    "sense": Campaign(
        {
            "sense.offset_sigma": Drawn(0.02, 0.08),
            "sense.noise_sigma": Drawn(0.005, 0.02),
            "sense.node_capacitance_f": Drawn(7e-13, 1.4e-12),
        },
        (("shmoo", {"vdd_v": (1.0, 1.2), "window_low_s": 1e-8, "window_high_s": 1e-6, "windows": 31}),),
        12,
        16,
    ),
}


@dataclass
class Chip:
    """What came of one chip.

    Attributes:
        seed: of everything about it.
        found: key to truth, value, low and high.
        problem: why there is no fit, or why it did not converge; empty for a good one.
        seconds: that measurement and fit took, in the processor.
    """

    seed: int
    found: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)
    problem: str = ""
    seconds: float = 0.0


def hidden_device(campaign: Campaign, base: DeviceFile, drawn: Mapping[str, float]) -> DeviceFile:
    """The device file of a chip for which these parameters were drawn."""
    changed = campaign.hidden(base.model, drawn).items()
    return base.updated(
        {key: replace(base.quantities[key], value=value, low=None, high=None) for key, value in changed}
    )


def one_chip(fit_name: str, seed: int, campaign: Campaign | None = None) -> Chip:
    """Draw, measure and fit one chip; as the campaign called ``fit_name`` does it, or as another of that fit."""
    from calibration.script import KINDS, fit_sources, open_sources

    campaign = CAMPAIGNS[fit_name] if campaign is None else campaign
    kind, base = KINDS[fit_name], default_device()
    rng = np.random.default_rng([seed, STREAM])
    truth = {key: drawn.draw(rng) for key, drawn in campaign.drawn.items()}
    hidden = hidden_device(campaign, base, truth)
    chip = Chip(seed)
    with tempfile.TemporaryDirectory(prefix="recovery-") as name:
        folder = Path(name)
        save_device(folder / "hidden.toml", hidden)
        try:
            paths = _measure(campaign, kind.procedures, load_device(folder / "hidden.toml"), seed, folder)
            runs = open_sources(kind, paths, base)
            truth |= campaign.further(hidden.model, runs)
            fit = fit_sources(kind, runs, base)
        except RramBenchError as error:
            chip.problem = str(error)
            return chip
    if not fit.converged:
        chip.problem = "; ".join(fit.problems)
    chip.found = {
        key: (truth[key], found.value, found.low, found.high) for key, found in fit.parameters.items() if key in truth
    }
    return chip


def _measure(campaign: Campaign, wanted: Sequence[str], device: object, seed: int, folder: Path) -> list[Path]:
    """Run the procedures through the wire; the run files that the fit reads."""
    from bench.config import parse_bench_file
    from bench.procedures import find_procedure
    from bench.runner import run
    from bench.session import connect
    from drivers.simulated.bench import SimulatedBench

    paths = []
    with SimulatedBench(seed, device) as world:  # type: ignore[arg-type]
        text = world.bench_file()
        with connect(parse_bench_file(text, "recovery"), text) as bench:
            cells = np.zeros(bench.config.geometry, dtype=bool)
            cells[: campaign.rows, : campaign.cols] = True
            for name, settings in campaign.procedures:
                procedure = find_procedure(name)
                outcome = run(procedure, procedure.parse(settings), bench, folder, cells=cells)
                if name in wanted:
                    paths.append(outcome.run_file)
    return paths


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
    started = time.process_time()
    try:
        chip = one_chip(fit_name, seed)
    except Exception as error:  # a campaign of an hour must not end with its last chip
        chip = Chip(seed, problem=f"{type(error).__name__}: {error}")
    chip.seconds = time.process_time() - started
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
