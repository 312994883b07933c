"""Placement on chips with stuck cells: the loss of accuracy with and without it, and what it takes.

Accuracies are of the integer network with the weights that stuck cells read; nothing else errs.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import numpy as np

from bench.error_map import ErrorMap
from bench.mapping import plan_network
from bench.placement import harm, with_stuck
from bench.programming import ordered, programming_cost
from bench.source import bench_config
from benchmarks.rows import Row, row
from data.datasets import Dataset, load_dataset
from models.cells import Geometry
from models.integer import IntegerNetwork
from models.prediction import stuck_cells
from models.training import train

ARRAY = Geometry(32, 32)
FRACTIONS = (0.02, 0.1)
CHIPS = 20
NETWORKS = (("digits-bnn", "digits", 20), ("digits-tnn", "digits", 20), ("digits-conv", "digits", 20))
LARGER = ("mnist-bnn", "mnist", 3)
DATA_FOLDER = "RRAM_BENCH_DATA"


def placement() -> list[Row]:
    """Loss of accuracy on 20 chips with stuck cells, naive and placed; MNIST where its folder is known."""
    folder = os.environ.get(DATA_FOLDER)
    rows = []
    for name, data_name, epochs in (*NETWORKS, *([] if folder is None else [LARGER])):
        data = load_dataset(data_name, None if folder is None else Path(folder))
        network, _ = train(name, data, 0, epochs)
        rows += [each for fraction in FRACTIONS for each in _losses(network, data, fraction)]
        rows += _order(network)
    return rows


def _losses(network: IntegerNetwork, data: Dataset, fraction: float) -> list[Row]:
    plain, right = plan_network(network, ARRAY), network.accuracy(data.test_images, data.test_labels)
    losses: dict[str, list[float]] = {"naive": [], "placed": []}
    left, seconds = [], []
    for chip in range(CHIPS):
        known = _chip(fraction, chip)
        started = time.perf_counter()
        placed = plan_network(network, ARRAY, known)
        seconds.append(time.perf_counter() - started)
        for kind, plan in (("naive", plain), ("placed", placed)):
            read = with_stuck(network, plan, known)
            losses[kind].append(100.0 * (right - read.accuracy(data.test_images, data.test_labels)))
        left.append(harm(placed, network, known).wrong / max(1, harm(plain, network, known).wrong))
    about = f"{network.name}, {fraction:.0%} stuck"
    return [
        row(f"{about}: accuracy lost, naive (mean {np.mean(losses['naive']):.2f})", "points", losses["naive"]),
        row(f"{about}: accuracy lost, placed (mean {np.mean(losses['placed']):.2f})", "points", losses["placed"]),
        row(f"{about}: accuracy lost, placed over naive, means", "ratio", [_ratio_of_means(losses)]),
        row(f"{about}: wrong weights left, of those without placement", "", left),
        row(f"{about}: placing {len(plain.tiles)} tiles", "s", seconds),
    ]


def _ratio_of_means(losses: dict[str, list[float]]) -> float:
    """Mean loss with placement over that without; NaN where nothing was lost without it."""
    naive = float(np.mean(losses["naive"]))
    return float(np.mean(losses["placed"])) / naive if naive > 0.0 else math.nan


def _order(network: IntegerNetwork) -> list[Row]:
    """Pulses of the changed cells, over those of every cell, as the tiles come and in the order of least change."""
    config, plan = bench_config("simulated"), plan_network(network, ARRAY)
    rows = []
    for order, one in (("as the tiles come", plan), ("ordered", ordered(plan, network))):
        share = programming_cost(one, network, config, keep_right=True).pulses / plan.pulses
        rows.append(row(f"{network.name}: share of pulses, changed cells only, {order}", "", [share]))
    return rows


def _chip(fraction: float, seed: int) -> ErrorMap:
    value = stuck_cells(ARRAY, fraction, np.random.default_rng(seed))
    none = np.zeros((3, *ARRAY), dtype=np.int64)
    return ErrorMap(f"chip {seed}", ARRAY, value != 0, value, none, none, ())
