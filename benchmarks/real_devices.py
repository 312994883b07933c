"""RESET trains of 14 real devices: converted to the plain table, compared with four curves, and predicted.

``python -m benchmarks.real_devices FOLDER [--table FILE.csv]``, FOLDER with the JSON files of the valence-change
devices of ztill/TD_learning_on_memristors (MIT licence), gzipped or not. With ``--table`` the plain table is written
as well, for ``rram-bench fit weak-reset FILE.csv``.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.curve_models import HeldOut, Suited, compare_curves, predict_cycles
from models.exceptions import UserMistake


class Trains(NamedTuple):
    """RESET trains of several devices.

    Attributes:
        names: of the devices.
        pulses: ``(readings,)``.
        resistance_ohm: ``(devices, cycles, readings)``.
        pulse_v: amplitude of the pulses, absolute.
        width_s: of the pulses.
    """

    names: tuple[str, ...]
    pulses: NDArray[np.int64]
    resistance_ohm: NDArray[np.float64]
    pulse_v: float
    width_s: float


def read_folder(folder: Path) -> Trains:
    """All devices of a folder.

    The files hold each RESET train backwards, so that it runs along the SET train: the last value of a train equals the
    last of the SET train before it, exactly. That is checked here and undone.

    Raises:
        UserMistake: no files, or one whose trains do not join.
    """
    paths = sorted(folder.glob("*.json*"))
    if not paths:
        raise UserMistake(f"{folder}: there are no JSON files of devices")
    names, resistances, conditions = [], [], set()
    for path in paths:
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        content = json.loads(text)
        cycles = int(content["repeats"])
        reset, put = (np.array(content[key]).reshape(cycles, -1) for key in ("Greset", "Gset"))
        if not np.array_equal(reset[:, -1], put[:, -1]):
            raise UserMistake(f"{path}: the RESET trains do not begin where the SET trains end")
        names.append(path.name.partition(".")[0].split("SetReset_")[-1].split("SETRESET_")[-1])
        resistances.append(1.0 / reset[:, ::-1])
        conditions.add((abs(float(content["V"][1])), float(content["W"][1])))
    if len(conditions) != 1:
        raise UserMistake(f"{folder}: the devices were pulsed in {len(conditions)} ways")
    (pulse_v, width_s) = conditions.pop()
    trains = np.array(resistances)
    return Trains(tuple(names), np.arange(trains.shape[2]), trains, pulse_v, width_s)


def write_table(path: Path, trains: Trains) -> None:
    """Write the plain table of RESET trains; the amplitude is left out, since no voltage of ours compares with it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("device", "cycle", "pulse", "resistance_ohm"))
        for name, of_device in zip(trains.names, trains.resistance_ohm, strict=True):
            for cycle, train in enumerate(of_device):
                for pulse, ohm in zip(trains.pulses, train, strict=True):
                    writer.writerow((name, cycle, pulse, repr(float(ohm))))


class Judged(NamedTuple):
    """What the trains say.

    Attributes:
        single, mean: curves compared on every train, and on the mean train of each device.
        left_out: each cycle predicted from all others: ``(cycles,)`` predictions.
        later: the later half of the cycles predicted from the earlier half.
    """

    single: Suited
    mean: Suited
    left_out: tuple[HeldOut, ...]
    later: HeldOut


def judge(trains: Trains) -> Judged:
    """Compare the curves, and predict cycles that were not fitted."""
    w, t = np.log(trains.resistance_ohm), trains.pulses.astype(np.float64)
    cycles = w.shape[1]
    return Judged(
        compare_curves(t, w.reshape(-1, len(t))),
        compare_curves(t, w.mean(axis=1)),
        tuple(predict_cycles(t, np.delete(w, cycle, axis=1), w[:, [cycle]]) for cycle in range(cycles)),
        predict_cycles(t, w[:, : cycles // 2], w[:, cycles // 2 :]),
    )


def report(trains: Trains, judged: Judged) -> list[str]:
    """What came of it, for a person."""
    devices, cycles, readings = trains.resistance_ohm.shape
    pulses = f"{trains.pulse_v:g} V, {trains.width_s * 1e6:g} us"
    lines = [f"{devices} devices, {cycles} RESET trains of {readings} readings each, pulses of {pulses}"]
    for what, suited in (("single trains", judged.single), ("mean trains", judged.mean)):
        best = min(suited.bic.values())
        lines += [
            f"{what:<14} {name:<12} BIC {value - best:8.1f} above the best; suits {suited.trains[name]} trains best"
            for name, value in suited.bic.items()
        ]
    by_device = np.mean([held_out.devices for held_out in judged.left_out], axis=0)
    inside = float(np.mean([held_out.inside for held_out in judged.left_out]))
    for what, share, each in (
        ("each cycle from the others", inside, by_device),
        ("later half from the earlier", judged.later.inside, judged.later.devices),
    ):
        lines.append(
            f"{what:<28} {share:.1%} of the readings inside their 95 % interval, {each.min():.0%} to {each.max():.0%} "
            "by device"
        )
    return lines


def main() -> int:
    """Print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_devices", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", type=Path, help="plain table to write")
    options = parser.parse_args()
    try:
        trains = read_folder(options.folder)
    except UserMistake as mistake:
        print(mistake, file=sys.stderr)
        return mistake.exit_status
    if options.table is not None:
        write_table(options.table, trains)
    print("\n".join(report(trains, judge(trains))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
