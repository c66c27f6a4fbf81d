"""Class folders in folders, tars and zips; and archives that mean harm."""

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinysearch.core import archives
from tinysearch.core.errors import InputError
from tinysearch.search.data import load_dataset


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (value,) * 3).save(buffer, "PNG")
    return buffer.getvalue()


def files_of(layout: dict[str, int], prefix: str = "") -> dict[str, bytes]:
    """`{"train/cat": 3}` -> three images in that folder; pixel values count up."""
    names = [f"{prefix}{folder}/{i}.png" for folder, count in layout.items() for i in range(count)]
    return {name: png(value) for value, name in enumerate(names)}


def pack(files: dict[str, bytes], kind: str, folder: Path) -> Path:
    """Write files as a folder or an archive of the kind."""
    if kind == "folder":
        root = folder / "pictures"
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        return root
    path = folder / f"pictures.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w" if kind == "tar" else "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


KINDS = ["folder", "tar", "tar.gz", "tgz", "zip"]
SPLITS = {"train/cat": 3, "train/dog": 2, "test/cat": 2, "test/dog": 1}


def values(split) -> list[int]:
    return split.load(range(len(split)), 4)[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["", "./", "set/"])
def test_splits_are_honoured_in_every_container(kind, prefix, tmp_path):
    dataset = load_dataset(str(pack(files_of(SPLITS, prefix), kind, tmp_path)))
    assert dataset.classes == ("cat", "dog")
    assert values(dataset.train) == [0, 1, 2, 3, 4]
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert values(dataset.test) == [5, 6, 7]
    assert dataset.test.labels.tolist() == [0, 0, 1]
    assert "its own train and test splits" in dataset.source


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_each_name_of_a_test_split_is_known(name, tmp_path):
    layout = {"train/cat": 2, "train/dog": 2, f"{name}/cat": 1, f"{name}/dog": 1}
    dataset = load_dataset(str(pack(files_of(layout), "tar", tmp_path)))
    assert (len(dataset.train), len(dataset.test)) == (4, 2)
    assert name in dataset.source


def test_of_test_and_val_the_former_is_used_and_the_rest_is_named(tmp_path):
    path = pack(files_of(SPLITS | {"val/cat": 1, "val/dog": 1}), "tar", tmp_path)
    with pytest.warns(UserWarning, match=r"2 files are in neither split and are left out: 'val/cat/0.png'"):
        dataset = load_dataset(str(path))
    assert values(dataset.test) == [5, 6, 7]


def test_files_deeper_in_a_class_folder_belong_to_the_class(tmp_path):
    layout = {"train/cat/young": 2, "train/cat/old": 1, "train/dog": 1, "test/cat": 1, "test/dog/old": 1}
    dataset = load_dataset(str(pack(files_of(layout), "folder", tmp_path)))
    assert dataset.train.labels.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_without_splits_a_fifth_of_each_class_is_held_out_the_same_everywhere(kind, tmp_path):
    dataset = load_dataset(str(pack(files_of({"cat": 20, "dog": 10}), kind, tmp_path)))
    assert np.bincount(dataset.train.labels).tolist() == [16, 8]
    assert np.bincount(dataset.test.labels).tolist() == [4, 2]
    # By name alone: this list must never change, or results of old runs could not be compared.
    assert sorted(values(dataset.test)) == [0, 6, 8, 18, 20, 26]
    assert sorted(values(dataset.train) + values(dataset.test)) == list(range(30))
    assert "80 : 20" in dataset.source


def test_a_class_may_be_called_like_a_split(tmp_path):
    # Vehicles: `train` has no class folders below it, so it is a class.
    dataset = load_dataset(str(pack(files_of({"plane": 5, "train": 5}), "folder", tmp_path)))
    assert dataset.classes == ("plane", "train")


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_other_files_are_counted_and_named_and_hidden_ones_are_not(kind, tmp_path):
    extra = {
        "README.md": b"x",
        "train/cat/notes.txt": b"x",
        "train/.DS_Store": b"x",
        "__MACOSX/._0.png": b"x",
    }
    path = pack(files_of(SPLITS) | extra, kind, tmp_path)
    with pytest.warns(UserWarning, match=r"2 files are no images and are left out: 'README.md', 'train/cat") as seen:
        dataset = load_dataset(str(path))
    assert len(seen) == 1
    assert len(dataset.train) == 5


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"train/cat": 2, "test/cat": 1}, "one class, 'cat'"),
        ({"cat": 5}, "one class, 'cat'"),
        ({"cat": 5, "dog": 1}, "class 'dog' of .* has one image"),
        ({"train/cat": 2, "train/dog": 2}, "split 'train' only: it needs 'train' and one of test, val"),
        ({"val/cat": 2, "val/dog": 2}, "split 'val' only"),
        (SPLITS | {"test/emu": 1}, "class 'emu' of .* has no train folder"),
        (SPLITS | {"train/emu": 1}, "class 'emu' of .* has no test folder"),
    ],
)
def test_layouts_that_cannot_be_used_are_refused(layout, message, kind, tmp_path):
    with pytest.raises(InputError, match=message):
        load_dataset(str(pack(files_of(layout), kind, tmp_path)))


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_nothing_to_read_is_said(kind, tmp_path):
    with pytest.raises(InputError, match="has no images in class folders"):
        load_dataset(str(pack({"cat/notes.txt": b"x"}, kind, tmp_path)))


@pytest.mark.filterwarnings("ignore:.*are no images")
def test_a_class_folder_without_images_is_refused(tmp_path):
    root = pack(files_of(SPLITS), "folder", tmp_path)
    (root / "train" / "emu").mkdir()
    with pytest.raises(InputError, match=r"class 'emu' .* has no test folder"):
        load_dataset(str(root))
    (root / "test" / "emu").mkdir()
    with pytest.raises(InputError, match=r"class 'emu' .* has no test images"):
        load_dataset(str(root))
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(root, "set")
    with pytest.raises(InputError, match=r"class 'emu' .* has no test images"):
        load_dataset(str(tmp_path / "set.tar"))


def test_a_loose_image_beside_the_class_folders_is_named(tmp_path):
    path = pack(files_of(SPLITS) | {"train/loose.png": png(9)}, "tar", tmp_path)
    with pytest.warns(UserWarning, match=r"1 files are in no class folder .*'loose.png'"):
        assert len(load_dataset(str(path)).train) == 5


def test_a_damaged_image_is_named_with_its_archive(tmp_path):
    path = pack(files_of(SPLITS) | {"train/dog/9.png": png(1)[:40]}, "tar", tmp_path)
    dataset = load_dataset(str(path))
    with pytest.raises(InputError, match=r"pictures.tar:train/dog/9.png"):
        dataset.train.load([5], 4)


def test_links_to_class_folders_are_followed_and_loops_end(tmp_path):
    root = pack(files_of(SPLITS), "folder", tmp_path)
    elsewhere = pack(files_of({"emu": 2}), "folder", tmp_path / "more") / "emu"
    for split in ("train", "test"):
        (root / split / "emu").symlink_to(elsewhere)
    (root / "train" / "emu" / "loop").symlink_to(root)
    dataset = load_dataset(str(root))
    assert dataset.classes == ("cat", "dog", "emu")
    assert np.bincount(dataset.train.labels).tolist() == [3, 2, 2]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_climb_are_refused_and_absolute_ones_stay_inside(kind, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    before = set(tmp_path.rglob("*"))
    path = pack(files_of(SPLITS) | {"../escaped.png": png(1)}, kind, inside)
    with pytest.raises(InputError, match=r"climbs out of the archive, '../escaped.png'"):
        load_dataset(str(path))
    path = pack(files_of(SPLITS, "/x/"), kind, inside)
    assert len(load_dataset(str(path)).train) == 5
    assert set(tmp_path.rglob("*")) == before | {path}


def test_links_inside_an_archive_are_not_followed(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(99))
    path = pack(files_of(SPLITS), "tar", tmp_path)
    with tarfile.open(path, "a") as archive:
        for link_type in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            info = tarfile.TarInfo(f"train/cat/link{link_type.decode()}.png")
            info.type, info.linkname = link_type, str(secret)
            archive.addfile(info)
    assert 99 not in values(load_dataset(str(path)).train)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_member_over_the_limit_is_refused(kind, tmp_path):
    path = pack(files_of(SPLITS) | {"train/cat/big.png": bytes(50_000_001)}, kind, tmp_path)
    with pytest.raises(InputError, match=r"unpacks to|50,000,001 bytes, 'train/cat/big.png'; the limit is 50,000,000"):
        load_dataset(str(path))


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_an_archive_over_the_limit_is_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 400_000)
    blanks = {f"train/cat/{i}.png": bytes(50_000) for i in range(10, 20)}
    with pytest.raises(InputError, match=r"bytes: unpack it|the limit is 400,000"):
        load_dataset(str(pack(files_of(SPLITS) | blanks, kind, tmp_path)))


def test_the_limit_holds_for_what_is_between_the_members_too(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 400_000)
    info = tarfile.TarInfo("train/cat/0.png")
    info.pax_headers = {"comment": "x" * 1_000_000}
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.PAX_FORMAT)))
    with pytest.raises(InputError, match=r"more than 400,000 bytes|a header of"):
        load_dataset(str(path))


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_archive_is_one_line(kind, damage, tmp_path):
    path = pack(files_of({f"train/{i}": 20 for i in range(5)}), kind, tmp_path)
    content = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, len(content), dtype=np.uint8).tobytes()
    path.write_bytes({"cut": content[: len(content) // 2 + 100], "noise": noise, "empty": b""}[damage])
    with pytest.raises(InputError, match=r"pictures\.\S+ cannot be read as an archive"):
        load_dataset(str(path))


def test_an_encrypted_zip_is_one_line(tmp_path):
    path = pack(files_of(SPLITS), "zip", tmp_path)
    content = bytearray(path.read_bytes())
    # The flag of encryption, in the local and in the central header of every member.
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(signature, at + 4)
    path.write_bytes(content)
    with pytest.raises(InputError, match="encrypted"):
        load_dataset(str(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_archive_is_one_line(tmp_path):
    path = pack(files_of(SPLITS), "tar", tmp_path)
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        load_dataset(str(path))


@pytest.mark.parametrize("kind", KINDS)
def test_images_without_class_folders_are_refused(kind, tmp_path):
    path = pack({f"{number}.png": png(number) for number in range(3)}, kind, tmp_path)
    with pytest.raises(InputError, match="has images, but no class folders"):
        load_dataset(str(path))


def test_what_is_no_file_is_no_image(tmp_path):
    path = pack(files_of({"cat": 3, "dog": 3}), "folder", tmp_path)
    (path / "cat" / "0.png").unlink()
    os.mkfifo(path / "cat" / "0.png")  # which would be waited for
    (path / "cat" / "1.png").unlink()
    (path / "cat" / "1.png").symlink_to("/dev/zero")
    split = load_dataset(str(path)).train
    with pytest.raises(InputError, match="is a FIFO, a device or the like"):
        split.load(range(len(split)), 4)


def test_links_may_not_multiply_folders_without_end(tmp_path):
    for level in range(20):
        (tmp_path / f"a{level}").mkdir()
    for level in range(19):
        for name in "xy":
            (tmp_path / f"a{level}" / name).symlink_to(tmp_path / f"a{level + 1}")
    with pytest.raises(InputError, match="is linked to too often"):
        load_dataset(str(tmp_path))
    deep = tmp_path / "deep" / "/".join(["a"] * 30)
    deep.mkdir(parents=True)
    with pytest.raises(InputError, match="lies more than 20 folders deep"):
        load_dataset(str(tmp_path / "deep"))
