"""What a plan takes, in one piece: the plan, its programming, an inference on it, and what known defects do to it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from bench.config import BenchFile
from bench.error_map import ErrorMap
from bench.mapping import Plan, plan_network
from bench.placement import Harm, harm
from bench.programming import Cost, ordered, programming_cost
from bench.source import bench_config
from models.cells import Geometry
from models.exceptions import UserMistake
from models.integer import IntegerNetwork


@dataclass(frozen=True)
class PlanFacts:
    """A plan, and what it takes on one bench.

    Attributes:
        costs: of one programming pass: "every_cell" pulsed, or only "changed_cells".
        inference: energy of one inference, with the names of :func:`inference_account`.
        harms: of the known defects with the weights as they come, and as the plan lays them; None where none is known.
    """

    plan: Plan
    costs: dict[str, Cost]
    inference: dict[str, Any]
    harms: tuple[Harm, Harm] | None


USUAL_BENCH = "kilobit_lab"


def usual_bench() -> BenchFile:
    """The packaged bench file whose operating points and pace count where none is given."""
    return bench_config(Path(str(files("data"))) / "benches" / f"{USUAL_BENCH}.toml")


def work_out(
    network: IntegerNetwork,
    config: BenchFile,
    known: ErrorMap | None = None,
    placed: bool = True,
    given: Plan | None = None,
) -> PlanFacts:
    """Lay a network on the array of a bench, and work out what that takes; nothing is opened and nothing moves.

    Args:
        known: cells of the chip.
        placed: lay the weights where the known cells do least harm; otherwise they lie as they come.
        given: a plan that was made before, for this network and array; it is taken as it is.

    Raises:
        UserMistake: the map is of another array, or the limits of the bench refuse what a tile needs.
    """
    plain = plan_network(network, config.geometry)
    better = known is not None and placed
    plan = given
    if plan is None:
        plan = ordered(plan_network(network, config.geometry, known) if better else plain, network)
    return PlanFacts(
        plan,
        programming_costs(plan, network, config),
        inference_account(network, plan.array),
        None if known is None else (harm(plain, network, known), harm(plan, network, known)),
    )


def programming_costs(plan: Plan, network: IntegerNetwork, config: BenchFile) -> dict[str, Cost]:
    """One programming pass with every cell pulsed, and with those only that change."""
    return {
        "every_cell": programming_cost(plan, network, config),
        "changed_cells": programming_cost(plan, network, config, keep_right=True),
    }


def inference_account(network: IntegerNetwork, array: Geometry) -> dict[str, Any]:
    """Energy of one inference with XNOR in the sense amplifiers, or a note on why there is no account of it."""
    from data.energy_files import packaged_circuits
    from models.accounts import Item
    from models.energy import InputWords, System, inference_energy

    circuits = packaged_circuits()
    system = System(words=InputWords.SERIAL, tile_rows=array.rows, tile_columns=array.cols)
    try:
        found = inference_energy(network, circuits.energy, system)
    except UserMistake as mistake:
        return {"total_j": None, "on_chip_j": None, "circuits": circuits.name, "note": str(mistake)}
    return {"total_j": found.total, "on_chip_j": found.without(Item.OFF_CHIP).total, "circuits": circuits.name}
