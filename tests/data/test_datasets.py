from __future__ import annotations

import dataclasses
import gzip
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from data.datasets import LOADERS, Dataset, load_dataset
from data.electrodes import LEADS
from data.named_images import load_image_folder
from data.readers.opening import FOLDER_VARIABLE
from models.exceptions import UserMistake
from tests.data import formats
from tests.data.test_readers_images import write_pictures

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:wfdb")
REAL = os.environ.get(FOLDER_VARIABLE, "")
needs_real_files = pytest.mark.skipif(not REAL, reason=f"{FOLDER_VARIABLE} names no folder of data sets")


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_digits_are_split_once_and_for_all(digits):
    assert digits.train_images.shape == (1347, 64)
    assert digits.test_images.shape == (450, 64)
    assert digits.train_images.dtype == np.uint8
    assert (digits.train_images.min(), digits.train_images.max()) == (0, 16)
    assert digits.checksum == load_dataset("digits").checksum
    assert digits.checksum.startswith("f3f3898f5adb8005")
    assert digits.shape == (1, 8, 8)


def test_every_class_is_held_out_in_proportion(digits):
    train = np.bincount(digits.train_labels, minlength=10)
    held_out = np.bincount(digits.test_labels, minlength=10)
    assert np.allclose(held_out / (train + held_out), 0.25, atol=0.006)


def test_no_image_is_lost_or_doubled(digits):
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    ours = np.concatenate([digits.train_images, digits.test_images])
    ours = np.column_stack([ours, np.concatenate([digits.train_labels, digits.test_labels])])
    theirs = np.column_stack([images, labels])
    assert np.array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])


def test_the_checksum_sees_every_label_and_the_split(digits):
    labels = digits.test_labels.copy()
    labels[7] = (labels[7] + 1) % 10
    changed = dataclasses.replace(digits, test_labels=labels)
    swapped = Dataset("digits", digits.test_images, digits.test_labels, digits.train_images, digits.train_labels, 10)
    assert len({digits.checksum, changed.checksum, swapped.checksum}) == 3


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(UserMistake, match="no data set is called 'mnits'; there are: digits"):
        load_dataset("mnits")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train_labels": np.array([0, 3])}, "train part: labels go from 0 to 3, expected 0 to 2"),
        ({"train_labels": np.array([-1, 2])}, "labels go from -1 to 2"),
        ({"train_labels": np.array([0.0, 1.0])}, "labels are float64"),
        ({"test_labels": np.array([0])}, r"test part: labels are int64 \(1,\), expected int64 \(2,\)"),
        ({"test_images": np.zeros((2, 5), np.uint8)}, r"test part: images are uint8 \(2, 5\)"),
        ({"train_images": np.zeros((2, 4))}, "images are float64"),
        ({"test_images": np.zeros((0, 4), np.uint8), "test_labels": np.zeros(0, np.int64)}, "no images"),
        ({"shape": (3, 2, 2)}, r"images are uint8 \(2, 4\), expected uint8 \(n, features = 12\)"),
        ({"shape": (2, 2)}, r"signals are uint8 \(2, 4\), expected float32"),
        ({"train_groups": np.array([1, 2]), "test_groups": np.array([2, 3])}, "group 2 is both in the train and in"),
        ({"train_groups": np.array([1])}, r"groups are int64 \(1,\), expected int64 \(2,\)"),
    ],
)
def test_data_that_do_not_fit_together_are_refused(change, says):
    images, labels = np.zeros((2, 4), np.uint8), np.array([0, 2])
    good = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    with pytest.raises(UserMistake, match=says):
        Dataset("mine", **{**good, **change}, classes=3)


def test_signals_must_be_finite():
    signals = np.zeros((2, 6), np.float32)
    signals[1, 4] = np.nan
    labels = np.array([0, 1])
    with pytest.raises(UserMistake, match="data set mine, train part: signal 1 is not finite"):
        Dataset("mine", signals, labels, signals, labels, 2, (2, 3))


@pytest.mark.parametrize(("layout", "packed"), [("mnist", True), ("MNIST/raw", False), (".", False)])
def test_mnist_is_found_in_the_usual_layouts(tmp_path, layout, packed):
    formats.write_mnist(tmp_path / layout, packed=packed)
    data = load_dataset("mnist", tmp_path)
    assert (data.shape, data.classes, data.is_signals) == ((1, 28, 28), 10, False)
    assert data.train_images.shape == (30, 784)
    assert data.test_labels.tolist() == list(range(10))


def test_the_folder_may_be_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with pytest.raises(UserMistake, match="mnist is read from a folder: name it with --data-dir or RRAM_BENCH_DATA"):
        load_dataset("mnist")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(UserMistake, match="folder of data sets .*none does not exist"):
        load_dataset("mnist")
    formats.write_mnist(tmp_path / "fashion-mnist")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert load_dataset("fashion-mnist").name == "fashion-mnist"
    with pytest.raises(UserMistake, match="data set mnist: there is no train-images-idx3-ubyte .*in .*mnist"):
        load_dataset("mnist")


@pytest.mark.parametrize(
    ("file", "array", "says"),
    [
        ("train-images-idx3-ubyte", np.zeros((30, 28, 27)), "holds images of 28 x 27 pixels, expected 28 x 28"),
        ("t10k-labels-idx1-ubyte", np.zeros(9), "holds 9 labels for the 10 images of t10k-images-idx3-ubyte"),
        ("train-labels-idx1-ubyte", np.arange(30) // 2, "label 10 of item 20, allowed are 0 to 9"),
    ],
)
def test_images_and_labels_that_cannot_be_mnist_are_refused_by_file(tmp_path, file, array, says):
    formats.write_mnist(tmp_path / "mnist")
    path = tmp_path / "mnist" / file
    path.write_bytes(formats.idx(array))
    with pytest.raises(UserMistake, match=f"{re.escape(str(path))}: {says}"):
        load_dataset("mnist", tmp_path)


def test_files_without_any_image_are_refused(tmp_path):
    formats.write_mnist(tmp_path / "mnist", train=0)
    with pytest.raises(UserMistake, match="data set mnist, train part: there are no images"):
        load_dataset("mnist", tmp_path)


def test_cifar10_takes_the_batches_there_are_and_says_what_is_missing(tmp_path):
    place = tmp_path / "cifar-10-batches-bin"
    place.mkdir()
    (place / "data_batch_1.bin").write_bytes(formats.cifar_binary(20, 1))
    (place / "data_batch_4.bin.gz").write_bytes(gzip.compress(formats.cifar_binary(10, 4)))
    with pytest.raises(UserMistake, match=r"cifar10: there is no test_batch\.bin or test_batch \(or \.gz\) in"):
        load_dataset("cifar10", tmp_path)
    (place / "test_batch.bin").write_bytes(formats.cifar_binary(10, 9))
    data = load_dataset("cifar10", tmp_path)
    assert np.array_equal(data.train_images, np.concatenate([formats.cifar(20, 1)[0], formats.cifar(10, 4)[0]]))
    assert data.shape == (3, 32, 32)
    assert data.notes == ("30 training images only: data_batch_2, data_batch_3, data_batch_5 not found",)


def test_the_python_version_of_cifar10_loads_as_the_binary_one(tmp_path):
    for version, write in (("bin", formats.cifar_binary), ("py", formats.cifar_python)):
        place = tmp_path / version / f"cifar-10-batches-{version}"
        place.mkdir(parents=True)
        for number, name in enumerate([*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch"]):
            (place / (f"{name}.bin" if version == "bin" else name)).write_bytes(write(10, number))
    binary, python = (load_dataset("cifar10", tmp_path / version) for version in ("bin", "py"))
    assert binary.checksum == python.checksum
    assert binary.notes == ()


def test_a_folder_of_images_becomes_a_data_set(tmp_path):
    write_pictures(tmp_path / "imagenet")
    data = load_dataset("image-folder", tmp_path)
    assert (data.shape, data.classes) == ((3, 64, 64), 2)
    assert load_image_folder(tmp_path / "imagenet", size=8).train_images.shape == (4, 192)
    with pytest.raises(UserMistake, match="8 images of 20000 x 20000 pixels take 9 GiB, at most 4 are read at once"):
        load_image_folder(tmp_path / "imagenet", size=20_000)


def test_both_versions_of_an_ecg_record_stay_on_one_side(tmp_path):
    formats.write_cinc(tmp_path / "ecg_cinc2011_set-a", records=15)
    data = load_dataset("ecg", tmp_path)
    assert (data.shape, data.rate_hz, data.classes) == ((12, 5000), 500.0, 2)
    assert (len(data.train_labels), len(data.test_labels)) == (16, 4)  # 10 of 15 records are acceptable
    assert sorted(data.test_labels.tolist()) == [0, 0, 1, 1]
    as_it_is, wrong = data.train_images.reshape(-1, *data.shape)[[0, 8]]
    assert data.train_groups[0] == data.train_groups[8]
    assert np.allclose(wrong[LEADS.index("I")], -as_it_is[LEADS.index("I")], atol=1e-4)


def test_the_seed_decides_who_is_held_out(tmp_path):
    formats.write_cinc(tmp_path / "set-a", records=15, reference=False)
    same, again, other = (load_dataset("ecg-quality", tmp_path, seed) for seed in (0, 0, 1))
    assert same.checksum == again.checksum != other.checksum
    assert np.bincount(same.train_labels).tolist() == [8, 4]


def test_an_ecg_record_that_is_listed_but_missing_is_named(tmp_path):
    formats.write_cinc(tmp_path / "set-a", records=6)
    (tmp_path / "set-a" / "1000003.txt").unlink()
    with pytest.raises(UserMistake, match=r"cannot read the record .*1000003\.txt"):
        load_dataset("ecg", tmp_path)


def test_beats_are_divided_by_patient_and_centred_on_their_annotation(tmp_path):
    signals = np.zeros((2, 4000))
    beats = [(20, "N"), (1000, "N"), (2000, "V"), (3000, "/"), (3500, "A")]
    for sample, _ in beats:
        signals[:, sample] = 1.5
    for name in ("101", "100", "102"):
        formats.write_wfdb(tmp_path / "mitdb", name, signals, 360, beats=beats)
    data = load_dataset("mit-bih", tmp_path)
    assert data.train_labels.tolist() == data.test_labels.tolist() == [0, 2, 1]  # too early, and paced: left out
    assert data.train_groups.tolist() == [101] * 3
    assert data.test_groups.tolist() == [100] * 3
    assert np.array_equal(np.argmax(data.train_images.reshape(3, 2, 256), axis=2), np.full((3, 2), 108))
    assert data.notes == ("2 of 44 records found",)


def test_a_division_by_patient_needs_both_sides(tmp_path):
    formats.write_wfdb(tmp_path / "mitdb", "100", np.zeros((2, 900)), 360, beats=[(500, "N")])
    with pytest.raises(UserMistake, match="holds none of the records 101, 106,"):
        load_dataset("mit-bih", tmp_path)


def test_records_of_a_ptb_patient_stay_together(tmp_path):
    leads = ("i", "ii", "iii", "avr", "avl", "avf", "v1", "v2", "v3", "v4", "v5", "v6", "vx")
    for patient in range(10):
        reason = ("Healthy control", "Myocardial infarction")[patient % 2]
        for record in range(2):
            signals = np.random.default_rng(patient).uniform(-1, 1, (13, 21_000))
            place = tmp_path / "ptbdb" / f"patient{patient:03d}"
            comments = [f"Reason for admission: {reason}"]
            formats.write_wfdb(place, f"s{patient:03d}{record}_re", signals, 1000, leads=leads, comments=comments)
    data = load_dataset("ptb", tmp_path)
    assert data.shape == (12, 10_000)
    assert len(data.train_labels) + len(data.test_labels) == 10 * 2 * 2
    assert np.bincount(data.test_labels).tolist() == [4, 4]
    assert len(np.unique(data.test_groups)) == 2
    shutil.rmtree(tmp_path / "ptbdb" / "patient001")
    for patient in range(3, 10, 2):
        shutil.rmtree(tmp_path / "ptbdb" / f"patient{patient:03d}")
    with pytest.raises(UserMistake, match="needs records of both diagnoses"):
        load_dataset("ptb", tmp_path)


def write_eeg(folder: Path, subjects: int) -> None:
    generator = np.random.default_rng(1)
    cues = [(0.5, 4.0, "T0"), (2.0, 4.0, "T1"), (7.0, 4.0, "T2"), (18.0, 4.0, "T1")]
    for subject in range(1, subjects + 1):
        place = folder / f"S{subject:03d}"
        place.mkdir(parents=True)
        for run in ("03", "04"):
            signals = generator.integers(-100, 100, (64, 20 * 160))
            (place / f"S{subject:03d}R{run}.edf").write_bytes(formats.edf(signals, 160, cues))


def test_eeg_trials_are_cut_around_the_cues_of_the_imagery_runs(tmp_path):
    write_eeg(tmp_path / "eegmmidb", subjects=5)
    data = load_dataset("eeg", tmp_path)
    assert (data.shape, data.rate_hz) == ((64, 960), 160.0)
    assert np.bincount(data.train_labels).tolist() == [4, 4]  # the third cue comes too late for a whole trial
    assert np.bincount(data.test_labels).tolist() == [1, 1]
    assert len(np.unique(data.test_groups)) == 1
    assert data.notes == ()


def test_with_few_subjects_eeg_trials_are_held_out_and_the_notes_say_so(tmp_path):
    write_eeg(tmp_path / "eegmmidb", subjects=3)
    data = load_dataset("eeg", tmp_path)
    assert data.train_groups is None
    assert data.notes == ("trials of 3 subject(s), held out trial by trial",)


@needs_real_files
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "ecg", "ecg-quality", "mit-bih", "eeg"])
def test_the_real_files_load(name):
    data = load_dataset(name)
    assert data.train_images.shape[1] == np.prod(data.shape)
    if name in ("mnist", "fashion-mnist"):
        assert (len(data.train_labels), len(data.test_labels)) == (60_000, 10_000)
    if name == "cifar10":
        assert np.bincount(data.test_labels).tolist() == [1000] * 10
    if data.is_signals:
        assert 0.01 < np.abs(data.train_images).mean() < 100.0  # mV and µV, and no raw steps


@needs_real_files
def test_one_patient_is_no_ptb_data_set():
    with pytest.raises(UserMistake, match="needs records of both diagnoses"):
        load_dataset("ptb")


def test_every_name_is_described():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    assert [name for name in LOADERS if f"`{name}`" not in page] == []
