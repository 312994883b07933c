"""Parameter recovery: a chip whose population is drawn at random, measured by the procedures of a user, and fitted.

Whether estimates and intervals hold is seen from many such chips: :mod:`benchmarks.recovery` draws up the table, and a
sweep with the experiment "recovery" has each chip as a point.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from data.device_files import DeviceFile, default_device, save_device
from data.runs import Run
from models.device_model import DeviceModel
from models.exceptions import RramBenchError

STREAM = 0xCA1
"""Second word of the seed of a chip's parameters, apart from those of the chip's own draws."""


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
        16,
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
        (("shmoo", {"vdd_v": (1.0, 1.2), "window_low_s": 1e-8, "window_high_s": 1e-6, "windows": 121}),),
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
            paths = _measure(campaign, kind.procedures, folder / "hidden.toml", seed, folder)
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


def _measure(campaign: Campaign, wanted: Sequence[str], device: Path, seed: int, folder: Path) -> list[Path]:
    """Run the procedures on a simulated bench; the run files that the fit reads."""
    from bench.procedures import find_procedure
    from bench.runner import run
    from bench.session import connect, simulated_bench

    paths = []
    with simulated_bench(seed, device) as (config, text), connect(config, text) as bench:
        cells = np.zeros(config.geometry, dtype=bool)
        cells[: campaign.rows, : campaign.cols] = True
        for name, settings in campaign.procedures:
            procedure = find_procedure(name)
            outcome = run(procedure, procedure.parse(settings), bench, folder, cells=cells)
            if name in wanted:
                paths.append(outcome.run_file)
    return paths
