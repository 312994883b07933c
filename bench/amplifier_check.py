"""The part of a check that programs: the self-test of the sense amplifiers, as a recorded run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.console import Reporter
from bench.procedures.amplifiers import AMPLIFIERS, AmplifierParameters
from bench.procedures.forming import FORMING, QUICK
from bench.runner import run
from bench.session import Bench
from bench.stopping import StopToken


def check_amplifiers(
    bench: Bench, folder: Path, seed: int, fresh: bool, reporter: Reporter, stop: StopToken
) -> dict[str, Any]:
    """Program the patterns and judge the amplifiers; returns the run's result with its ``run_file``.

    Args:
        fresh: the chip is fresh from the wafer, as a simulated one is at every start, and is formed first.
    """
    seeds = {"seed": seed}
    if fresh:
        reporter.stage("forming the simulated chip")
        formed = run(FORMING, QUICK, bench, folder, seeds=seeds, stop=stop).result
        reporter.done(f"{formed['formed']} of {formed['cells']} cells formed")
    reporter.stage("programming test patterns")
    outcome = run(AMPLIFIERS, AmplifierParameters(), bench, folder, seeds=seeds, on_step=reporter.step, stop=stop)
    reporter.done(outcome.result["answer"])
    return {**outcome.result, "run_file": str(outcome.run_file)}
