"""Every kind of layer answers on the array as the integer network does, bit by bit, where nothing errs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bench.inference import InferenceParameters, inference_procedure, inference_task
from bench.mapping import NONE, Plan, Tile, plan_network
from bench.session import Bench
from models.encodings import ThermometerEncoding
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork
from models.networks import fold
from models.prediction import InferenceMode
from tests.bench.flawless import carry_out, flawless_bench
from tests.models.random_networks import architectures, grey_levels, random_network

SAMPLES = 5
MOST_TILES = 24
ALL_WAYS = InferenceParameters(modes=tuple(InferenceMode))


@pytest.fixture(scope="module")
def ternary():
    with flawless_bench("ternary", arrays=4) as bench:
        yield bench


def check_exact(network: IntegerNetwork, bench: Bench, rng: np.random.Generator, plan: Plan | None = None) -> None:
    size = (SAMPLES, network.encoding.features)
    images = rng.integers(0, grey_levels(network.encoding), size=size).astype(np.uint8)
    labels = rng.integers(0, network.classes, size=SAMPLES)
    procedure = inference_procedure(inference_task(network, images, labels, plan), batch=2)
    result, records = carry_out(procedure, ALL_WAYS, bench.chip)
    assert result["cells"]["failed"] == 0
    for layer in result["layers"]:
        for way in layer["modes"].values():
            assert way == {"sums_wrong": 0.0, "sum_rms": 0.0, "outputs_wrong": 0.0}
    assert sum(result["errors"].values()) == 0
    [samples] = [record.values for record in records if record.table == "samples"]
    for mode in InferenceMode:
        assert samples[mode.value].tolist() == network.predict(images).tolist()


def shuffled(tile: Tile, array_rows: int, array_cols: int, rng: np.random.Generator) -> Tile:
    """The same block with its rows and columns in another order, with rows left out and columns that pad."""
    rows = np.concatenate([tile.rows, np.full(rng.integers(array_rows - len(tile.rows) + 1), NONE, dtype=np.int32)])
    cols = np.concatenate([tile.cols, np.full(rng.integers(array_cols - len(tile.cols) + 1), NONE, dtype=np.int32)])
    return Tile(tile.layer, rng.permutation(rows), rng.permutation(cols))


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(architectures(), st.integers(0, 2**32 - 1), st.booleans())
def test_all_ways_equal_the_integer_network(ternary, architecture, seed: int, placed: bool) -> None:
    network, rng = fold(random_network(architecture, seed)), np.random.default_rng(seed)
    plan = plan_network(network, ternary.chip.geometry)
    assume(len(plan.tiles) <= MOST_TILES)
    if placed:
        plan = replace(plan, tiles=tuple(shuffled(tile, *plan.array, rng) for tile in plan.tiles))
    check_exact(network, ternary, rng, plan)


def test_a_ternary_network_is_refused_where_zeros_cannot_be_told(bench: Bench) -> None:
    weights = np.array([[1, 0, -1], [1, 1, -1]], dtype=np.int8)
    layer = IntegerLayer(weights, np.ones(2, np.int8), np.zeros(2, np.int32))
    network = IntegerNetwork("zeros", ThermometerEncoding(3, (8,)), (layer,), 2)
    procedure = inference_procedure(inference_task(network, np.zeros((2, 3), np.uint8), np.zeros(2, np.int64)))
    before = bench.chip._board.status()
    with pytest.raises(UserMistake, match="zeros cannot be told"):
        carry_out(procedure, InferenceParameters(), bench.chip)
    assert bench.chip._board.status() == before
