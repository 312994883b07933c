"""Tiny files of each format, written byte by byte from the formats' descriptions."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from pathlib import Path
from typing import ClassVar

import numpy as np


def idx(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, train: int = 30, test: int = 10, packed: bool = False) -> None:
    """The four files of MNIST."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        images = generator.integers(0, 256, (count, 28, 28))
        for name, array in (("images-idx3", images), ("labels-idx1", np.arange(count) % 10)):
            path = folder / f"{prefix}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))


def cifar(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 3072) and labels of a batch."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 3072)).astype(np.uint8)
    return images, np.arange(count) % 10


def cifar_binary(count: int, seed: int) -> bytes:
    """A batch of the binary version."""
    images, labels = cifar(count, seed)
    return np.column_stack([labels.astype(np.uint8), images]).tobytes()


class _AsPython2(pickle._Pickler):
    """Writes bytes as the strings of Python 2, as the batches of the python version hold them."""

    def save_string(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, bytes: save_string}


def cifar_python(count: int, seed: int, **more: object) -> bytes:
    """A batch of the python version."""
    images, labels = cifar(count, seed)
    file = io.BytesIO()
    batch = {b"batch_label": b"a batch", b"labels": labels.tolist(), b"data": images}
    _AsPython2(file, protocol=2).dump({**batch, **{name.encode(): value for name, value in more.items()}})
    return file.getvalue()


def cinc_record(seed: int = 0) -> np.ndarray:
    """The numbers of a text record: sample, I II III aVR aVF aVL V1..V6, as the challenge's files have them."""
    generator = np.random.default_rng(seed)
    first, second = generator.integers(-200, 200, (2, 5000))
    chest = generator.integers(-200, 200, (6, 5000))
    third = second - first
    limb = (first, second, third, -(first + second) // 2, (second + third) // 2, (first - third) // 2)
    return np.column_stack([np.arange(5000), *limb, *chest])


def write_cinc(folder: Path, records: int, reference: bool = True) -> None:
    """A set A of the CinC Challenge 2011; every third record is unacceptable."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"10000{number:02d}" for number in range(records)]
    qualities = ["unacceptable" if number % 3 == 2 else "acceptable" for number in range(records)]
    for number, name in enumerate(names):
        np.savetxt(folder / f"{name}.txt", cinc_record(number), fmt="%d", delimiter=",")
    if reference:
        lines = ["record,quality", *(f"{name},{quality}" for name, quality in zip(names, qualities, strict=True))]
        (folder / "REFERENCE.csv").write_text("\n".join(lines) + "\n")
        return
    for wanted in ("acceptable", "unacceptable"):
        listed = [name for name, quality in zip(names, qualities, strict=True) if quality == wanted]
        (folder / f"RECORDS-{wanted}").write_text("\n".join(listed) + "\n")


def edf(
    signals: np.ndarray, rate_hz: int, annotations: list[tuple[float, float, str]], reserved: str = "EDF+C"
) -> bytes:
    """An EDF+ file of one-second records. ``signals``: (channels, seconds * rate_hz) whole numbers, 1 µV each."""
    channels, seconds = len(signals), signals.shape[1] // rate_hz
    notes_bytes = 120

    def field(text: object, width: int) -> bytes:
        return str(text).ljust(width).encode("ascii")

    count = channels + 1
    labels = [*(f"C{number}.." for number in range(channels)), "EDF Annotations"]
    header = b"".join(
        [
            field("0", 8),
            field("X X X X", 80),
            field("Startdate 01-JAN-2020 X X X", 80),
            field("01.01.20", 8),
            field("00.00.00", 8),
            field(256 * (count + 1), 8),
            field("EDF+C", 44),
            field(seconds, 8),
            field(1, 8),
            field(count, 4),
            *(field(label, 16) for label in labels),
            *(field("", 80) for _ in labels),
            *(field(unit, 8) for unit in [*("uV",) * channels, ""]),
            *(field(low, 8) for low in [*(-32768,) * channels, -1]),
            *(field(high, 8) for high in [*(32767,) * channels, 1]),
            *(field(-32768, 8) for _ in labels),
            *(field(32767, 8) for _ in labels),
            *(field("", 80) for _ in labels),
            *(field(samples, 8) for samples in [*(rate_hz,) * channels, notes_bytes // 2]),
            *(field("", 32) for _ in labels),
        ]
    )
    records = []
    for second in range(seconds):
        notes = f"+{second}\x14\x14\x00"
        for onset, duration, text in annotations:
            if int(onset) == second:
                notes += f"+{onset}\x15{duration}\x14{text}\x14\x00"
        part = signals[:, second * rate_hz : (second + 1) * rate_hz]
        records.append(part.astype("<i2").tobytes() + notes.encode("ascii").ljust(notes_bytes, b"\x00"))
    return header + b"".join(records)


def write_wfdb(folder: Path, name: str, millivolts: np.ndarray, rate_hz: int, **more: object) -> None:
    """A WFDB record in format 16, 1000 steps a mV. ``millivolts``: (channels, samples). ``more``: leads, comments,
    beats as (sample, symbol)."""
    import wfdb

    folder.mkdir(parents=True, exist_ok=True)
    leads = more.get("leads", [f"lead{number}" for number in range(len(millivolts))])
    lines = [f"{name} {len(millivolts)} {rate_hz} {millivolts.shape[1]}"]
    lines += [f"{name}.dat 16 1000 16 0 0 0 0 {lead}" for lead in leads]
    lines += [f"# {comment}" for comment in more.get("comments", [])]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    (folder / f"{name}.dat").write_bytes(np.rint(1000 * millivolts).T.astype("<i2").tobytes())
    beats = more.get("beats")
    if beats:
        samples, symbols = zip(*beats, strict=True)
        wfdb.wrann(name, "atr", np.array(samples), list(symbols), write_dir=str(folder))
