"""The figures that belong to a run.

Each maker takes a run's records and yields the figures of one kind, or none where the run lacks the records for them. A
procedure that is not named here gets every figure that its tables allow, and its first numbers against time otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.figures.ageing import endurance_curves, read_disturb_curves, retention_curves
from bench.figures.curves import against_time, current_voltage, short_staircases, staircases
from bench.figures.maps import forming_maps, pattern_maps, resistance_maps, sense_maps, tile_maps
from bench.figures.rates import bit_error_rates, shmoos, xnor_tables
from bench.figures.records import Maker, Records, TitledFigure
from bench.figures.statistics import accuracies, forming_distributions, resistance_distributions
from data.runs import Run

MAKERS: Mapping[str, tuple[Maker, ...]] = {
    "forming": (forming_distributions, forming_maps),
    "program": (pattern_maps,),
    "read": (sense_maps,),
    "pulse": (sense_maps, resistance_maps),
    "resistance": (resistance_maps, resistance_distributions),
    "variability": (resistance_distributions, resistance_maps),
    "characterise": (resistance_distributions, short_staircases, pattern_maps, sense_maps),
    "amplifiers": (sense_maps, pattern_maps),
    "inference": (accuracies, tile_maps),
    "iv": (current_voltage,),
    "weak-reset": (staircases,),
    "endurance": (endurance_curves,),
    "retention": (retention_curves,),
    "read-disturb": (read_disturb_curves,),
    "bit-error": (bit_error_rates,),
    "shmoo": (shmoos,),
    "xnor": (xnor_tables,),
}
"""Figures of each procedure of ours, the one to look at first in front."""

KNOWN: tuple[Maker, ...] = tuple(dict.fromkeys(maker for makers in MAKERS.values() for maker in makers))


def figures(run: Run) -> list[TitledFigure]:
    """The figures of a run and the earlier runs that it goes on with; empty where it recorded nothing to draw."""
    records = Records(run)
    made = [figure for maker in MAKERS.get(run.procedure, KNOWN) for figure in maker(records)]
    return made if made else list(against_time(records))


__all__ = ["KNOWN", "MAKERS", "TitledFigure", "figures"]
