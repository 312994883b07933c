"""What several characterisations of one chip say together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.error_map import error_map
from bench.measured_map import KnownChip, known_chip
from bench.procedures.characterise import CHARACTERISE, CharacteriseParameters
from bench.session import Bench
from bench.stages import Quiet, StagedRuns
from bench.stopping import StopToken
from data.runs import Run, open_run
from tests.bench.flawless import flawless_bench


def test_a_run_named_twice_counts_once_and_binary_patterns_add_to_ternary_ones(tmp_path: Path) -> None:
    def characterised(bench: Bench, weights: str) -> Run:
        settings = CharacteriseParameters(weights=weights, resistance_cells=4, staircase_cells=4, repeats=3)
        runs = StagedRuns(bench, 1, tmp_path, Quiet(), StopToken())
        return open_run(runs.run("measuring the cells", CHARACTERISE, settings).run_file)

    def known(*runs: Run) -> KnownChip:
        return known_chip(runs, error_map(runs))

    def senses(chip: KnownChip) -> np.ndarray:
        return chip.cells.transient.inverted.senses

    with flawless_bench("ternary") as bench:
        ternary, binary = (characterised(bench, weights) for weights in ("ternary", "binary"))
    assert np.array_equal(senses(known(ternary, ternary)), senses(known(ternary)))
    for both in (known(ternary, binary), known(binary, ternary)):
        assert np.array_equal(senses(both), senses(known(ternary)) + senses(known(binary)))
        # what zeros do in XNOR is known of the ternary patterns alone
        assert np.array_equal(both.cells.turned.gained.senses, known(ternary).cells.turned.gained.senses)
    assert not known(binary).cells.tells_zeros
