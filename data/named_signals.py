"""The named sets of signals from PhysioNet: electrocardiograms and electroencephalograms."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from data.datasets import Dataset
from data.electrodes import exchanged, leads_with_electrodes
from data.readers import cinc2011
from data.readers.edf import read_edf
from data.readers.opening import data_folder, need_folder
from data.readers.recordings import Recording
from data.readers.wfdb_records import read_wfdb
from data.splits import held_out, split
from models.exceptions import UserMistake

CINC2011_FOLDERS = ("ecg_cinc2011_set-a", "challenge-2011/set-a", "challenge-2011/1.0.0/set-a", "set-a")
MIT_BIH_FOLDERS = ("ecg_mitdb", "mitdb", "mitdb/1.0.0")
PTB_FOLDERS = ("ecg_ptbdb", "ptbdb", "ptbdb/1.0.0")
EEG_FOLDERS = ("eeg_eegmmidb", "eegmmidb", "eegmmidb/1.0.0", "files")
HELD_OUT_SHARE = 0.2

BEAT_CLASSES = MappingProxyType(
    {
        **dict.fromkeys("NLRej", 0),  # normal, bundle branch block, escape
        **dict.fromkeys("AaJS", 1),  # supraventricular ectopic
        **dict.fromkeys("VE", 2),  # ventricular ectopic
        "F": 3,  # fusion of a normal and a ventricular beat
    }
)
"""Class of each beat annotation after ANSI/AAMI EC57: N, S, V, F. Paced and unclassifiable beats are left out."""
# fmt: off
MIT_BIH_TRAIN = frozenset(
    {
        101,
        106,
        108,
        109,
        112,
        114,
        115,
        116,
        118,
        119,
        122,
        124,
        201,
        203,
        205,
        207,
        208,
        209,
        215,
        220,
        223,
        230,
    }
)
"""Records to learn from in the division by patients of de Chazal, O'Dwyer and Reilly, IEEE TBME 51, 1196 (2004)."""
MIT_BIH_TEST = frozenset(
    {
        100,
        103,
        105,
        111,
        113,
        117,
        121,
        123,
        200,
        202,
        210,
        212,
        213,
        214,
        219,
        221,
        222,
        228,
        231,
        232,
        233,
        234,
    }
)
"""Records held out in that division. Those with paced beats (102, 104, 107, 217) are in neither."""
# fmt: on
BEAT_SAMPLES = 256
BEAT_BEFORE_S = 0.3

PTB_SAMPLES = 10_000
PTB_HEALTHY, PTB_INFARCTION = "healthy control", "myocardial infarction"
PTB_LEADS = ("i", "ii", "iii", "avr", "avl", "avf", "v1", "v2", "v3", "v4", "v5", "v6")

EEG_RUNS = ("04", "08", "12")
"""Runs in which opening and closing the left or the right fist is imagined."""
EEG_CUES = MappingProxyType({"T1": 0, "T2": 1})
"""T1: left fist, T2: right fist."""
EEG_RATE_HZ = 160.0
EEG_CHANNELS = 64
EEG_SAMPLES = 960
EEG_BEFORE_S = 2.0
"""A trial of 6 s begins so long before its cue: 2 s of rest, then the 4 s for which the cue is shown."""


def load_ecg(folder: Path | None, seed: int) -> Dataset:
    """Electrode inversion: each acceptable record of the CinC 2011 set A as it is (0), and with the arms exchanged (1).

    ``(12, 5000)`` in mV at 500 Hz, each lead less its median. Both versions of a record are in one group; a fifth of
    the records is held out.
    """
    names, signals = _cinc2011("ecg", folder, acceptable_only=True)
    wrong = leads_with_electrodes(signals, exchanged("RA", "LA"))
    items = np.concatenate([leads_with_electrodes(signals), wrong]).reshape(2 * len(names), -1)
    labels = np.repeat(np.array([0, 1], np.int64), len(names))
    groups = np.tile(np.arange(len(names), dtype=np.int64), 2)
    return _split("ecg", items, labels, 2, signals.shape[1:], cinc2011.RATE_HZ, seed, groups)


def load_ecg_quality(folder: Path | None, seed: int) -> Dataset:
    """The labels of the CinC 2011 challenge itself: acceptable (0) or not (1). Signals as for ``ecg``."""
    names, signals = _cinc2011("ecg-quality", folder, acceptable_only=False)
    labels = np.array([0 if acceptable else 1 for acceptable in names.values()], np.int64)
    items = signals.reshape(len(names), -1)
    return _split("ecg-quality", items, labels, 2, signals.shape[1:], cinc2011.RATE_HZ, seed, None)


def load_mit_bih(folder: Path | None, seed: int) -> Dataset:
    """Heart beats of the MIT-BIH arrhythmia database in the classes N, S, V, F, patients divided as is usual.

    ``(2, 256)`` in mV at 360 Hz, from 0.3 s before the beat's annotation, each channel less its median.
    """
    place = need_folder(data_folder(folder, "mit-bih"), MIT_BIH_FOLDERS, "*.atr", "data set mit-bih")
    parts: dict[bool, list[Recording]] = {False: [], True: []}
    for header in sorted(place.glob("*.hea")):
        number = int(header.stem) if header.stem.isdecimal() else None
        if number in MIT_BIH_TRAIN | MIT_BIH_TEST:
            parts[number in MIT_BIH_TEST].append(read_wfdb(header, "atr"))
    if not parts[False] or not parts[True]:
        lacking = MIT_BIH_TRAIN if not parts[False] else MIT_BIH_TEST
        raise UserMistake(f"data set mit-bih: {place} holds none of the records {', '.join(map(str, sorted(lacking)))}")
    (train, train_labels, train_groups), (test, test_labels, test_groups) = (_beats(parts[part]) for part in parts)
    count = len(parts[False]) + len(parts[True])
    wanted = len(MIT_BIH_TRAIN) + len(MIT_BIH_TEST)
    return Dataset(
        "mit-bih",
        train,
        train_labels,
        test,
        test_labels,
        4,
        (2, BEAT_SAMPLES),
        360.0,
        train_groups,
        test_groups,
        (f"{count} of {wanted} records found",) if count < wanted else (),
    )


def load_ptb(folder: Path | None, seed: int) -> Dataset:
    """The PTB diagnostic database: healthy control (0) or myocardial infarction (1), 10 s at a time.

    ``(12, 10000)`` in mV at 1000 Hz, each lead less its median. Records of a patient are one group; a fifth of the
    patients is held out. Patients with another diagnosis are left out.
    """
    root = data_folder(folder, "ptb")
    place = need_folder(root, PTB_FOLDERS, "**/s*_re.hea", "data set ptb")
    windows: list[NDArray[np.float32]] = []
    labels: list[int] = []
    groups: list[int] = []
    patients: dict[str, int] = {}
    for header in sorted(place.rglob("s*_re.hea")):
        recording = read_wfdb(header)
        label = _ptb_label(recording)
        if label is None:
            continue
        chosen = _leads(recording, PTB_LEADS, header)
        patient = header.parent.name if header.parent != place else header.stem
        for begin in range(0, chosen.signals.shape[1] - PTB_SAMPLES + 1, PTB_SAMPLES):
            window = chosen.window(begin / chosen.rate_hz, PTB_SAMPLES)
            if window is not None:
                windows.append(_centred(window))
                labels.append(label)
                groups.append(patients.setdefault(patient, len(patients)))
    if len(set(labels)) < 2:
        raise UserMistake(
            f"data set ptb: {place} needs records of both diagnoses, {PTB_HEALTHY} and {PTB_INFARCTION}; "
            f"{len(patients)} patient(s) with one of them found"
        )
    items = np.stack(windows).reshape(len(windows), -1)
    return _split(
        "ptb", items, np.array(labels, np.int64), 2, (12, PTB_SAMPLES), 1000.0, seed, np.array(groups, np.int64)
    )


def load_eeg(folder: Path | None, seed: int) -> Dataset:
    """Motor imagery: the left (0) or the right fist (1), runs 4, 8 and 12 of the PhysioNet EEG set.

    ``(64, 960)`` in µV at 160 Hz, 2 s before the cue and 4 s after it, each channel less its median. A fifth is held
    out: of the subjects where there are five or more, else of the trials, and then the notes say so. The few
    subjects recorded at another rate are left out, and noted.
    """
    place = need_folder(data_folder(folder, "eeg"), EEG_FOLDERS, "S*/S*R*.edf", "data set eeg")
    trials: list[NDArray[np.float32]] = []
    labels: list[int] = []
    subjects: list[int] = []
    other_rates: set[str] = set()
    for path in sorted(place.glob("S*/S*R*.edf")):
        named = re.fullmatch(r"S(\d{3})R(\d{2})", path.stem)
        if named is None or named[2] not in EEG_RUNS:
            continue
        recording = read_edf(path)
        if len(recording.channels) != EEG_CHANNELS:
            raise UserMistake(f"{path}: has {len(recording.channels)} channels, expected {EEG_CHANNELS}")
        if recording.rate_hz != EEG_RATE_HZ:
            other_rates.add(path.parent.name)
            continue
        for mark in recording.marks:
            trial = recording.window(mark.onset_s - EEG_BEFORE_S, EEG_SAMPLES) if mark.text in EEG_CUES else None
            if trial is not None:
                trials.append(_centred(trial))
                labels.append(EEG_CUES[mark.text])
                subjects.append(int(named[1]))
    if len(set(labels)) < 2:
        raise UserMistake(f"data set eeg: runs {', '.join(EEG_RUNS)} in {place} hold no trials of both fists")
    by_subject = len(set(subjects)) >= 5
    notes = [f"{', '.join(sorted(other_rates))} left out, recorded at another rate"] if other_rates else []
    if not by_subject:
        notes.append(f"trials of {len(set(subjects))} subject(s), held out trial by trial")
    groups = np.array(subjects, np.int64) if by_subject else None
    items = np.stack(trials).reshape(len(trials), -1)
    shape = (EEG_CHANNELS, EEG_SAMPLES)
    return _split("eeg", items, np.array(labels, np.int64), 2, shape, EEG_RATE_HZ, seed, groups, tuple(notes))


def _cinc2011(name: str, folder: Path | None, acceptable_only: bool) -> tuple[dict[str, bool], NDArray[np.float32]]:
    place = need_folder(data_folder(folder, name), CINC2011_FOLDERS, "*.txt", f"data set {name}")
    qualities = cinc2011.read_qualities(place)
    names = {record: good for record, good in qualities.items() if good or not acceptable_only}
    if not names:
        raise UserMistake(f"data set {name}: no record in {place} is acceptable")
    return names, np.stack([_centred(cinc2011.read_record(place / f"{record}.txt")) for record in names])


def _beats(
    recordings: list[Recording],
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    windows, labels, groups = [], [], []
    for recording in recordings:
        for mark in recording.marks:
            label = BEAT_CLASSES.get(mark.text)
            window = None if label is None else recording.window(mark.onset_s - BEAT_BEFORE_S, BEAT_SAMPLES)
            if label is not None and window is not None:
                windows.append(_centred(window))
                labels.append(label)
                groups.append(int(recording.name))
    if not windows:
        raise UserMistake(f"data set mit-bih: record {recordings[0].name} and those with it hold no beat of a class")
    items = np.stack(windows).reshape(len(windows), -1)
    return items, np.array(labels, np.int64), np.array(groups, np.int64)


def _ptb_label(recording: Recording) -> int | None:
    reasons = [line.partition(":")[2].strip().lower() for line in recording.comments if "Reason for admission" in line]
    return {PTB_HEALTHY: 0, PTB_INFARCTION: 1}.get(reasons[0]) if reasons else None


def _leads(recording: Recording, wanted: tuple[str, ...], path: Path) -> Recording:
    names = [name.lower() for name in recording.channels]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise UserMistake(f"{path}: has no lead {missing[0]}, only {', '.join(recording.channels)}")
    signals = recording.signals[[names.index(name) for name in wanted]]
    return Recording(recording.name, signals, recording.rate_hz, wanted, ("mV",) * len(wanted))


def _centred(signals: NDArray[np.float32]) -> NDArray[np.float32]:
    return signals - np.median(signals, axis=-1, keepdims=True)


def _split(
    name: str,
    items: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    shape: tuple[int, ...],
    rate_hz: float,
    seed: int,
    groups: NDArray[np.int64] | None,
    notes: tuple[str, ...] = (),
) -> Dataset:
    chosen = held_out(labels, HELD_OUT_SHARE, np.random.default_rng(seed), groups)
    return split(name, items, labels, classes, shape, chosen, groups, rate_hz, notes)


LOADERS: Mapping[str, Callable[[Path | None, int], Dataset]] = MappingProxyType(
    {
        "ecg": load_ecg,
        "ecg-quality": load_ecg_quality,
        "mit-bih": load_mit_bih,
        "ptb": load_ptb,
        "eeg": load_eeg,
    }
)
"""How each set of signals is loaded from the folder of data sets, with the seed of its split."""
