"""Does the accuracy that is predicted from a fit hold on the bench that was fitted?

Benches with hidden populations, drawn at random and much worse than the packaged one, are measured and fitted as a user
would: characterise, variability and bit-error, and the fits device, resistance and bit-error, each on the file of the
one before. Then a network is predicted from the fitted file and inferred on the same bench, programmed with and without
verify.

Errors cost accuracy in some samples and give it back in others, so that accuracy alone hardly tells a wrong prediction.
The share of samples that are answered as the software answers them is therefore compared as well: it is the accuracy on
data whose labels are the answers of the software.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.recovery import Drawn
from benchmarks.tables import replace_between
from data.datasets import Dataset, load_dataset
from data.device_files import DeviceFile, default_device
from models.errors import Populations, two_t2r
from models.exceptions import UserMistake
from models.integer import IntegerNetwork

STREAM = 0xC105
"""Second word of the seed of a bench's population, apart from those of the bench's own draws."""

DRAWN: Mapping[str, Drawn] = {
    "lrs.median_ohm": Drawn(5e3, 9e3),
    "lrs.sigma_d2d": Drawn(0.08, 0.3),
    "lrs.sigma_c2c": Drawn(0.12, 0.4),
    "hrs.median_ohm": Drawn(25e3, 90e3),
    "hrs.sigma_d2d": Drawn(0.2, 0.5),
    "hrs.sigma_c2c": Drawn(0.3, 0.8),
    "sense.offset_sigma": Drawn(0.02, 0.12),
    "sense.noise_sigma": Drawn(0.005, 0.04),
    "defects.stuck_lrs": Drawn(1e-4, 2e-3),
    "defects.stuck_hrs": Drawn(1e-4, 2e-3),
}
RAW_ERRORS = Drawn(0.002, 0.05)
"""Bit error rate of one programming pass, in closed form; populations are drawn until they have that of the bench."""

NETWORK, DATA = "digits-bnn", "digits"
TRAINING_SEED, EPOCHS = 1, 60
ATTEMPTS = (1, 3)
MODES = ("host", "xnor")


@dataclass(frozen=True)
class Outcome:
    """One number predicted and measured on one bench.

    Attributes:
        seed: of the bench.
        attempts: programming passes at most, of the characterisation and of the inference.
        what: "accuracy" or "agreement" with the software.
        mode: of inference.
        raw: bit error rate after one pass that the hidden population has.
        measured: on the bench.
        mean, low, high, sd: of the prediction.
    """

    seed: int
    attempts: int
    what: str
    mode: str
    raw: float
    measured: float
    mean: float
    low: float
    high: float
    sd: float

    @property
    def inside(self) -> bool:
        """Whether the measured number lies in the predicted interval."""
        return self.low <= self.measured <= self.high

    @property
    def deviation(self) -> float:
        """Measured less predicted mean, in standard deviations of the prediction; 0 where both are sure and equal."""
        return 0.0 if self.measured == self.mean else (self.measured - self.mean) / max(self.sd, 1e-9)


def hidden_population(seed: int) -> tuple[DeviceFile, float]:
    """The population of a bench, and the bit error rate that it has after one pass."""
    base, rng = default_device(), np.random.default_rng([seed, STREAM])
    wanted = RAW_ERRORS.draw(rng)
    while True:
        values = {key: drawn.draw(rng) for key, drawn in DRAWN.items()}
        device = base.updated(
            {key: replace(base.quantities[key], value=value, low=None, high=None) for key, value in values.items()}
        )
        sense = device.model.sense
        raw = two_t2r(Populations.of(device.model), sense.offset_sigma, sense.noise_sigma)
        if abs(math.log(raw / wanted)) < 0.1:
            return device, raw


@cache
def network_and_data() -> tuple[IntegerNetwork, Dataset]:
    """The network, trained once, and its data."""
    from models.training import train

    data = load_dataset(DATA)
    return train(NETWORK, data, TRAINING_SEED, EPOCHS)[0], data


def one_bench(seed: int, attempts: Sequence[int] = ATTEMPTS) -> Iterator[Outcome]:
    """Measure, fit, predict and infer one bench, with each number of passes."""
    from bench.config import parse_bench_file
    from bench.inference import inference_procedure, inference_task
    from bench.predicting import predict_silicon
    from bench.procedures import find_procedure
    from bench.procedures.forming import FORMING, QUICK
    from bench.runner import run
    from bench.session import connect
    from data.runs import open_run
    from drivers.simulated.bench import SimulatedBench

    population, raw = hidden_population(seed)
    network, data = network_and_data()
    software = network.predict(data.test_images)
    truths = {"accuracy": data, "agreement": replace(data, test_labels=software)}
    with tempfile.TemporaryDirectory(prefix="closed-loop-") as name, SimulatedBench(seed, population) as world:
        folder, text = Path(name), world.bench_file()
        with connect(parse_bench_file(text, "closed loop"), text) as bench:

            def measured(name: str, settings: Mapping[str, object], cells: int | None = None) -> Path:
                procedure = find_procedure(name)
                chosen = None
                if cells is not None:
                    chosen = np.zeros(bench.config.geometry, dtype=bool)
                    chosen[:cells, :cells] = True
                return run(procedure, procedure.parse(settings), bench, folder, cells=chosen).run_file

            run(FORMING, QUICK, bench, folder)
            others = {
                "resistance": measured("variability", {"cycles": 4}, 5),
                "bit-error": measured("bit-error", {"patterns": 4}, 16),
            }
            for most in attempts:
                characterised = measured("characterise", {"attempts": most, "seed": seed})
                device = fitted(characterised, others)
                procedure = inference_procedure(inference_task(network, data.test_images, data.test_labels))
                settings = {"attempts": most, "modes": MODES}
                answers = open_run(run(procedure, procedure.parse(settings), bench, folder).run_file).read("samples")
                for what, truth in truths.items():
                    predictions = predict_silicon(network, truth, device, bench.chip.geometry, seed)
                    for mode in MODES:
                        found = predictions[mode]
                        right = float((answers[mode] == truth.test_labels).mean())
                        bounds = found.mean, found.low, found.high, float(found.samples.std())
                        yield Outcome(seed, most, what, mode, raw, right, *bounds)


def fitted(characterised: Path, others: Mapping[str, Path]) -> DeviceFile:
    """The fits of a bench, each on the file of the one before."""
    from calibration.device_fit import fit_device
    from calibration.result import fitted_device
    from calibration.script import KINDS, fit_sources, open_sources
    from data.runs import open_run

    device = fit_device(open_run(characterised), default_device()).device
    for name, path in others.items():
        runs = open_sources(KINDS[name], [path], device)
        device = fitted_device(fit_sources(KINDS[name], runs, device), runs, device)
    return device


def table(outcomes: Sequence[Outcome], seconds: float) -> list[str]:
    """The table as Markdown, with the command that made it."""
    benches = sorted({one.seed for one in outcomes})
    rates = [one.raw for one in outcomes]
    lines = [
        f"`python -m benchmarks.closed_loop --benches {len(benches)} --seed {benches[0]}`, {date.today()}, "
        f"{seconds / 60:.0f} min: {len(benches)} benches with bit error rates of {min(rates):.2%} to {max(rates):.2%} "
        f"after one pass, {NETWORK} on {DATA}.",
        "",
        "| passes at most | inference | | inside the 95 % interval | measured less predicted | "
        "in s.d. of the prediction, mean ± s.e. | s.d. of it |",
        "|---:|---|---|---:|---:|---:|---:|",
    ]
    groups = list(dict.fromkeys((one.attempts, one.mode, one.what) for one in outcomes))
    for group in sorted(groups):
        chosen = [one for one in outcomes if (one.attempts, one.mode, one.what) == group]
        attempts, mode, what = group
        inside = sum(one.inside for one in chosen)
        difference = float(np.mean([one.measured - one.mean for one in chosen]))
        scores = np.array([one.deviation for one in chosen])
        spread = float(scores.std(ddof=1)) if len(scores) > 1 else math.nan
        lines.append(
            f"| {attempts} | {mode} | {what} | {inside} of {len(chosen)} | {difference:+.2%} | "
            f"{scores.mean():+.2f} ± {spread / math.sqrt(len(scores)):.2f} | {spread:.2f} |"
        )
    return lines


def main() -> int:
    """Run the benches; status 1 when fewer numbers than expected lie in their intervals."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.closed_loop", description=__doc__)
    parser.add_argument("--benches", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1, help="of the first bench; the others count up")
    parser.add_argument("--write", type=Path, help="page with markers to put the table between")
    options = parser.parse_args()
    started = time.monotonic()
    outcomes: list[Outcome] = []
    for seed in range(options.seed, options.seed + options.benches):
        outcomes += one_bench(seed)
        for one in outcomes:
            if one.seed == seed and not one.inside:
                said = f"{one.measured:.2%}, {one.low:.2%} to {one.high:.2%} predicted"
                print(f"bench {seed}, {one.attempts} passes, {one.mode}, {one.what}: {said}", file=sys.stderr)
        print(f"bench {seed}", file=sys.stderr, flush=True)
    lines = table(outcomes, time.monotonic() - started)
    print("\n".join(lines))
    if options.write is not None:
        try:
            replace_between(options.write, "closed loop", lines)
        except UserMistake as mistake:
            print(mistake, file=sys.stderr)
            return mistake.exit_status
    return 0 if too_few_inside(outcomes) == [] else 1


def too_few_inside(outcomes: Sequence[Outcome]) -> list[tuple[Any, ...]]:
    """Groups of outcomes of which so few lie inside that it happens to good intervals once in a hundred."""
    from scipy import stats

    groups: dict[tuple[Any, ...], list[bool]] = {}
    for one in outcomes:
        groups.setdefault((one.attempts, one.mode, one.what), []).append(one.inside)
    return [key for key, inside in groups.items() if stats.binom.cdf(sum(inside), len(inside), 0.95) < 0.01]


if __name__ == "__main__":
    sys.exit(main())
