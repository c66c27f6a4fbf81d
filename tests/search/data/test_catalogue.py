"""Data sets by name and path: digits, array files, real images, and names that mean nothing."""

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from tinysearch.core.errors import InputError, MissingDataError
from tinysearch.search.data import list_datasets, load_dataset


def test_digits_has_a_fixed_stratified_split():
    first, again = load_dataset("digits"), load_dataset("digits")
    assert (len(first.train), len(first.test)) == (1297, 500)
    assert np.bincount(first.test.labels).min() >= 48
    images = first.test.load(range(500), 8)
    assert images.max() == 255
    assert images.shape == (500, 3, 8, 8)
    assert images.equal(again.test.load(range(500), 8))
    # The very images: results on other 500 could not be compared.
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == "b630e6569b731e44"
    assert "seed 0" in first.source


def test_digits_splits_share_no_image():
    dataset = load_dataset("digits")
    both = [dataset.train.load(range(1297), 8).numpy(), dataset.test.load(range(500), 8).numpy()]
    train, test = ({image.tobytes() for image in images} for images in both)
    assert not train & test


ARRAYS = {
    "x_train": np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3),
    "y_train": np.array([0, 1, 2, 0, 1, 2], np.uint8),
    "x_test": np.zeros((3, 4, 5, 3), np.uint8),
    "y_test": np.array([[2], [1], [0]]),
}


def save(path, **changes):
    np.savez(path, **{key: value for key, value in (ARRAYS | changes).items() if value is not None})
    return str(path)


def test_npz_is_read(tmp_path):
    dataset = load_dataset(save(tmp_path / "set.npz"))
    assert dataset.classes == ("0", "1", "2")
    assert dataset.test.labels.tolist() == [2, 1, 0]
    assert dataset.train.load([0], 4).shape == (1, 3, 4, 4)


@pytest.mark.parametrize("shape", [(6, 4, 4), (6, 4, 4, 1)])
def test_grey_arrays_become_rgb(shape, tmp_path):
    grey = np.arange(96, dtype=np.uint8).reshape(shape)
    images = load_dataset(save(tmp_path / "set.npz", x_train=grey)).train.load([5], 4)[0].numpy()
    assert all(np.array_equal(channel, grey[5].reshape(4, 4)) for channel in images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "lacks y_test"),
        ({"x_train": np.zeros((6, 4, 5, 3), np.float32)}, "x_train must be uint8"),
        ({"x_train": np.zeros((6, 3, 4, 5), np.uint8)}, "x_train must be uint8"),
        ({"x_train": np.zeros((0, 4, 4, 3), np.uint8)}, "x_train must be uint8"),
        ({"y_train": np.zeros(5, int)}, "y_train must be 6 integers"),
        ({"y_train": np.zeros(6)}, "y_train must be 6 integers, not float64"),
        ({"y_train": np.array([0, 1, 3, 0, 1, 3])}, "every class from 0 up"),
        ({"y_train": np.array([0, 1, -1, 0, 1, 2])}, "every class from 0 up"),
        ({"y_train": np.zeros(6, int)}, "two or more"),
        ({"y_test": np.array([0, 1, 1])}, "same classes as y_train"),
        ({"y_test": np.array([0, 1, 3])}, "same classes as y_train"),
        ({"x_train": np.array([object()])}, "cannot be read"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_dataset(save(tmp_path / "set.npz", **changes))


def test_an_npz_that_declares_more_than_it_holds_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 4, 5, 3)})
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        for key in ARRAYS:
            archive.writestr(f"{key}.npy", header.getvalue())
    with pytest.raises(InputError, match="cannot be read"):
        load_dataset(str(tmp_path / "set.npz"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"noise" * 100])
def test_a_damaged_npz_is_one_line(content, tmp_path):
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"set\.npz cannot be read"):
        load_dataset(str(tmp_path / "set.npz"))


@pytest.mark.parametrize("name", ["", "nonsense", "no/such/folder", "no-such.tar", "Digits"])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(InputError, match=r"digits, cifar10, gtsrb, dtd10, imagenette"):
        load_dataset(name)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "set.rar").write_bytes(b"x")
    with pytest.raises(InputError, match=r"give a folder, a .npz, or an archive"):
        load_dataset(str(tmp_path / "set.rar"))


def test_a_data_folder_that_does_not_exist_is_said(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_dataset("digits", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["gtsrb", "dtd10", "imagenette"])
def test_sets_that_are_not_downloaded_say_where_they_should_lie(name, tmp_path):
    with pytest.raises(MissingDataError, match="by data_dir"):
        load_dataset(name)
    with pytest.raises(MissingDataError, match=rf"is not downloaded: looked for .*{name}"):
        load_dataset(name, tmp_path)


def test_two_archives_of_one_name_are_not_guessed_between(tmp_path):
    for name in ("gtsrb_a.tar", "gtsrb_b.tar"):
        tarfile.open(tmp_path / name, "w").close()
    with pytest.raises(InputError, match=r"gtsrb_a.tar, .*gtsrb_b.tar: give the path"):
        load_dataset("gtsrb", tmp_path)


def test_listing_the_sets_waits_for_no_heavy_library():
    code = (
        "import sys; from tinysearch.search.data import list_datasets; list_datasets();"
        "print([m for m in ('torch', 'PIL', 'sklearn', 'pooch', 'requests') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    assert [info.name for info in list_datasets()] == ["digits", "cifar10", "gtsrb", "dtd10", "imagenette"]


@pytest.mark.parametrize(
    ("name", "classes", "train", "test"),
    [("cifar10", 10, 1000, 1000), ("gtsrb", 43, 60, 20), ("dtd10", 10, 80, 40), ("imagenette", 10, 120, 60)],
)
def test_real_images(name, classes, train, test, data_dir):
    dataset = load_dataset(name, data_dir, download=False)
    assert len(dataset.classes) == classes
    assert np.bincount(dataset.train.labels).tolist() == [train] * classes
    assert np.bincount(dataset.test.labels).tolist() == [test] * classes
    every_class = np.unique(dataset.test.labels, return_index=True)[1]
    images = dataset.test.load(every_class, 64).float()
    assert images.shape == (classes, 3, 64, 64)
    # Photographs, some at dusk: neither flat nor alike.
    assert images.std((1, 2, 3)).min() > 2
    assert len({image.numpy().tobytes() for image in images}) == classes


def test_real_archives_by_path_equal_those_by_name(data_dir):
    by_name = load_dataset("dtd10", data_dir)
    by_path = load_dataset(str(data_dir / "dtd10" / "dtd10_160.tar"))
    by_folder = load_dataset("dtd10", data_dir / "dtd10")
    for other in (by_path, by_folder):
        assert other.classes == by_name.classes
        assert other.train.load([7, 700], 32).equal(by_name.train.load([7, 700], 32))
