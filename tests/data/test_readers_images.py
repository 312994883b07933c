from __future__ import annotations

import gzip
import pickle

import numpy as np
import pytest

from data.readers.cifar import read_binary, read_python
from data.readers.idx import read_idx
from data.readers.image_folder import open_image_folder
from models.exceptions import UserMistake
from tests.data import formats

CUBE = np.arange(24).reshape(2, 3, 4)


@pytest.mark.parametrize("packed", [False, True])
def test_idx_is_read_as_it_was_written(tmp_path, packed):
    path = tmp_path / "cube"
    path.write_bytes(gzip.compress(formats.idx(CUBE), mtime=0) if packed else formats.idx(CUBE))
    read = read_idx(path, 3)
    assert read.dtype == np.uint8
    assert np.array_equal(read, CUBE)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (formats.idx(CUBE)[:-1], r"has 39 bytes, its header \(2, 3, 4\) asks for 40"),
        (formats.idx(CUBE) + b"\0", "has 41 bytes"),
        (formats.idx(CUBE)[:9], "cut short inside its header, after 9 of 16 bytes"),
        (formats.idx(CUBE[0]), "begins with 00 00 08 02, an IDX file of bytes in 3"),
        (b"", "begins with nothing"),
        (gzip.compress(formats.idx(CUBE), mtime=0)[:-9], "gzip file is cut short or damaged"),
    ],
)
def test_a_bad_idx_file_is_refused_in_a_line_that_names_it(tmp_path, content, says):
    path = tmp_path / "cube"
    path.write_bytes(content)
    with pytest.raises(UserMistake, match=says) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_both_versions_of_cifar_hold_the_same(tmp_path):
    images, labels = formats.cifar(20, seed=3)
    (tmp_path / "data_batch_1.bin").write_bytes(formats.cifar_binary(20, seed=3))
    (tmp_path / "data_batch_1").write_bytes(formats.cifar_python(20, seed=3))
    for read in (read_binary(tmp_path / "data_batch_1.bin"), read_python(tmp_path / "data_batch_1")):
        assert np.array_equal(read[0], images)
        assert read[0].dtype == np.uint8
        assert np.array_equal(read[1], labels)


def test_a_truncated_or_mislabelled_binary_batch_is_refused(tmp_path):
    path = tmp_path / "test_batch.bin"
    content = bytearray(formats.cifar_binary(3, seed=0))
    path.write_bytes(content[:-5])
    with pytest.raises(UserMistake, match=r"test_batch.bin: has 9214 bytes, no whole number of images of 3073"):
        read_binary(path)
    content[3073] = 10
    path.write_bytes(content)
    with pytest.raises(UserMistake, match=r"label 10 of item 1, allowed are 0 to 9"):
        read_binary(path)


class Touch:
    """Pickled, it asks for a function to be called with the path of a file to make."""

    def __init__(self, how, path):
        self.how, self.path = how, path

    def __reduce__(self):
        return self.how, (str(self.path),)


def test_a_pickle_that_names_anything_else_is_refused_and_nothing_of_it_runs(tmp_path):
    import os

    path, trace = tmp_path / "data_batch_1", tmp_path / "trace"
    for how, asks in ((os.mkdir, "posix.mkdir|nt.mkdir"), (eval, "__builtin__.eval"), (np.load, "numpy.*load")):
        path.write_bytes(formats.cifar_python(2, 0, extra=Touch(how, trace)))
        with pytest.raises(UserMistake, match=f"refused, its pickle asks for ({asks})") as caught:
            read_python(path)
        assert "\n" not in str(caught.value)
        assert not trace.exists()


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (pickle.dumps({"data": [1, 2]}, 2), "holds no array b'data'"),
        (pickle.dumps([1, 2], 2), "holds no array b'data'"),
        (formats.cifar_python(3, 0)[:-4000], "is cut short"),
        (formats.cifar_python(3, 0, labels=[0, 1]), r"images are \(3, 3072\) for 2 labels"),
        (formats.cifar_python(3, 0, labels=[0, 1, 12]), "labels go from 0 to 12"),
        (formats.cifar_python(3, 0, data=np.zeros((3, 3072))), "no array of unsigned bytes"),
        (b"no pickle", "is no CIFAR-10 batch of the python version"),
    ],
)
def test_a_pickle_that_is_no_batch_is_refused(tmp_path, batch, says):
    path = tmp_path / "data_batch_1"
    path.write_bytes(batch)
    with pytest.raises(UserMistake, match=says):
        read_python(path)


def write_pictures(folder, classes=("cat", "dog")):
    from PIL import Image

    for part in ("train", "val"):
        for number, name in enumerate(classes):
            place = folder / part / name
            place.mkdir(parents=True)
            for one in range(2):
                Image.new("RGB", (60 + 20 * one, 40), (200 * number, 10, 250)).save(place / f"{one}.png")


def test_an_image_folder_gives_planes_of_the_size_asked_for(tmp_path):
    write_pictures(tmp_path)
    folder = open_image_folder(tmp_path, size=16)
    assert folder.classes == ("cat", "dog")
    assert folder.train_labels.tolist() == [0, 0, 1, 1]
    images = folder.read(folder.train).reshape(4, 3, 16, 16)
    assert np.array_equal(images[:, :, 7, 7], [[0, 10, 250]] * 2 + [[200, 10, 250]] * 2)


def test_what_is_wrong_with_an_image_folder_is_said(tmp_path):
    with pytest.raises(UserMistake, match="expected folders 'train' and 'val'"):
        open_image_folder(tmp_path)
    write_pictures(tmp_path)
    broken = tmp_path / "train" / "cat" / "0.png"
    broken.write_bytes(broken.read_bytes()[:40])
    folder = open_image_folder(tmp_path, size=16)
    with pytest.raises(UserMistake, match=r"cat.0\.png: cannot be read as an image"):
        folder.read(folder.train)
    (tmp_path / "val" / "cow").mkdir()
    with pytest.raises(UserMistake, match="the class 'cow' does not occur in"):
        open_image_folder(tmp_path)
