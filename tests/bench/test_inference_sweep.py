"""Inference under several conditions: accuracy follows the device, and a run goes on where it ended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.inference import inference_task
from bench.inference_sweep import sweep_procedure
from bench.procedure import Record, Step
from bench.runner import run
from bench.session import Bench
from bench.stopping import Stopped, StopToken
from data.datasets import load_dataset
from data.runs import open_run
from models.exceptions import UserMistake
from tests.bench.test_cli import assert_one_line_mistake, rram_bench
from tests.bench.test_inference import random_network


def test_a_weaker_reset_is_seen_in_the_wrong_weights(bench: Bench, tmp_path: Path) -> None:
    network = random_network((64, 32, 10), 3)
    images = load_dataset("digits").test_images[:80]
    task = inference_task(network, images, network.predict(images))
    bench.chip.form(~bench.chip.no_devices(), 3)
    procedure = sweep_procedure(task)
    parameters = procedure.parse({"reset_vddc_v": (4.5, 3.9), "attempts": 1})
    outcome = run(procedure, parameters, bench, tmp_path)
    strong, weak = outcome.result["conditions"]
    assert (strong["reset_vddc_v"], weak["reset_vddc_v"]) == (4.5, 3.9)
    assert outcome.result["software_accuracy"] == 1.0
    assert sum(weak["errors"].values()) > 1.5 * sum(strong["errors"].values())
    rows = open_run(outcome.run_file).read("condition_samples")
    for index, facts in enumerate((strong, weak)):
        chosen = rows["condition"] == index
        assert (rows["host"][chosen] == rows["label"][chosen]).mean() == pytest.approx(facts["accuracy"]["host"])
        assert (rows["xnor"][chosen] == -1).all()


def test_a_sweep_goes_on_with_the_conditions_that_are_left(bench: Bench, tmp_path: Path) -> None:
    network = random_network((20, 5), 3)
    images = np.random.default_rng(1).integers(0, 17, size=(9, 20)).astype(np.uint8)
    bench.chip.form(~bench.chip.no_devices(), 3)
    procedure = sweep_procedure(inference_task(network, images, np.zeros(9, dtype=np.int64)))
    parameters = procedure.parse({"sense_vdd_v": (1.0, 1.1, 1.2)})
    stop = StopToken()

    def after_two(step: Step) -> None:
        if isinstance(step, Record) and step.table == "accuracies" and step.values["condition"] == 1:
            stop.request("for the test")

    with pytest.raises(Stopped):
        run(procedure, parameters, bench, tmp_path, on_step=after_two, stop=stop)
    [first] = tmp_path.glob("*.h5")
    outcome = run(procedure, parameters, bench, tmp_path, resume=open_run(first))
    assert open_run(outcome.run_file).read("conditions")["condition"].tolist() == [2]
    assert [facts["sense_vdd_v"] for facts in outcome.result["conditions"]] == [1.0, 1.1, 1.2]


def test_a_condition_beyond_the_limits_is_refused_before_the_first_pulse(bench: Bench, tmp_path: Path) -> None:
    network = random_network((20, 5), 3)
    procedure = sweep_procedure(inference_task(network, np.zeros((2, 20), np.uint8), np.zeros(2, dtype=np.int64)))
    before = bench.chip._board.status().pulses
    with pytest.raises(UserMistake, match="vddc"):
        run(procedure, procedure.parse({"reset_vddc_v": (4.5, 9.0)}), bench, tmp_path)
    assert bench.chip._board.status().pulses == before


def test_the_command_refuses_conditions_beyond_the_limits_before_it_forms(tmp_path: Path) -> None:
    assert rram_bench("train", "digits-bnn", "--epochs", "1", "--out", "n.safetensors", cwd=tmp_path).returncode == 0
    infer = ("infer", "n.safetensors", "--sweep", "--samples", "40", "--out", "runs", "--form")
    for setting, says in (("temperature_c=25,130", "130"), ("reset_vddc_v=4.5,9", "9")):
        assert_one_line_mistake(rram_bench(*infer, "--set", setting, cwd=tmp_path), says)
        assert not list(tmp_path.glob("runs/*"))
