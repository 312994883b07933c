"""The whole loop in one go: form, characterise, fit, train, predict, infer on silicon, compare.

It calls the same functions as the single commands, and leaves what each of them leaves.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bench.inference import InferenceParameters, inference_procedure, inference_task
from bench.loop import fit_characterisation, train_network
from bench.pictures import array_picture
from bench.predicting import STAGE, predict_silicon
from bench.procedures.characterise import CHARACTERISE, CharacteriseParameters
from bench.runner import prepare_folder
from bench.session import open_bench
from bench.stages import StagedRuns, Stages
from bench.stopping import StopToken

NETWORK = "digits-bnn"
DATA = "digits"


def run_demo(seed: int, source: str, folder: Path, stages: Stages, stop: StopToken) -> dict[str, Any]:
    """Run the loop on the bench that ``source`` names.

    Returns:
        The result as plain data: accuracies, prediction with its interval, cells, bit errors, files, seconds.

    Raises:
        Stopped: a stop was asked for; the bench is in its safe state.
        RramBenchError: something failed; the bench is in its safe state.
    """
    started = time.monotonic()
    prepare_folder(folder)
    stages.stage("connecting")
    with open_bench(source, seed) as bench:
        stages.done(f"{bench.config.name}, chip {bench.chip.chip_id}")
        result = _run_loop(StagedRuns(bench, seed, folder, stages, stop))
    return {"seed": seed, **result, "folder": str(folder), "seconds": round(time.monotonic() - started, 2)}


def _run_loop(loop: StagedRuns) -> dict[str, Any]:
    from data.datasets import load_dataset

    stages, seed = loop.stages, loop.seed
    device_file, network_file, picture = (
        loop.folder / name for name in ("device.toml", f"{NETWORK}.safetensors", "array.png")
    )
    formed = loop.form()

    measured = loop.run("characterising", CHARACTERISE, CharacteriseParameters(seed=seed))
    stages.done(f"{measured.records} records in {measured.run_file.name}")

    stages.stage("fitting the device")
    fitted = fit_characterisation(measured.run_file, device_file)
    stages.done("; ".join(fitted.headlines))

    stages.stage(f"training {NETWORK} on {DATA}")
    data = load_dataset(DATA)
    network = train_network(NETWORK, data, seed, network_file, stages.step, loop.stop)
    stages.done(
        f"{network.accuracy(data.test_images, data.test_labels):.2%} on {len(data.test_labels)} held-out samples"
    )

    stages.stage(STAGE)
    predictions = predict_silicon(network, data, fitted.device, loop.bench.chip.geometry, seed)
    # One interval for both ways of inferring: it holds the 95 % interval of each.
    predicted = {
        "mean": sum(prediction.mean for prediction in predictions.values()) / len(predictions),
        "low": min(prediction.low for prediction in predictions.values()),
        "high": max(prediction.high for prediction in predictions.values()),
    }
    stages.done(
        f"{predicted['mean']:.2%}, 95 % intervals of both ways within {predicted['low']:.2%} to {predicted['high']:.2%}"
    )

    inference = inference_procedure(inference_task(network, data.test_images, data.test_labels))
    silicon = loop.run("programming tiles and inferring on silicon", inference, InferenceParameters())
    answer = silicon.result
    stages.done(f"{answer['tiles']} tiles, {silicon.records} records in {silicon.run_file.name}")
    array_picture(silicon.run_file, picture, f"{network.name} on chip {loop.bench.chip.chip_id}")
    return {
        "software_accuracy": answer["software_accuracy"],
        "predicted_accuracy": predicted,
        "silicon_accuracy": answer["accuracy"],
        "cells": {"total": formed["cells"], "formed": formed["formed"], **answer["cells"]},
        "bit_errors": answer["bit_errors"],
        "run_file": str(silicon.run_file),
        "picture": str(picture),
        "device_file": str(device_file),
        "network_file": str(network_file),
        "runs": [str(path) for path in sorted(loop.folder.glob("*.h5"))],
    }
