"""CIFAR-10 in every layout, downloads against a local server, and pickles that mean harm."""

import functools
import hashlib
import http.server
import io
import os
import pickle
import struct
import tarfile
import threading

import numpy as np
import pytest

from tinysearch.core.errors import InputError, MissingDataError
from tinysearch.search.data import cifar, load_dataset
from tinysearch.search.data.cifar_batch import read_python_batch
from tinysearch.search.data.download import RemoteFile

BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("TINYSEARCH_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def batches():
    """Rows and labels of six small batches, by file name."""
    rng = np.random.default_rng(0)
    return {
        name: (
            rng.integers(0, 256, (20, 3072), dtype=np.uint8),
            rng.permutation(np.repeat(np.arange(10), 2)).tolist(),
        )
        for name in BATCHES
    }


def python2_pickle(rows, labels) -> bytes:
    """The opcodes that Python 2's cPickle wrote into the original files (protocol 2), one by one."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    raw = rows.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x08cnumpy\nndarray\nq\tK\x00\x85U\x01b\x87Rq\n(K\x01"
        + b"M" + struct.pack("<H", len(rows)) + b"M" + struct.pack("<H", 3072) + b"\x86"
        + b"cnumpy\ndtype\nq\x0bU\x02u1K\x00K\x01\x87Rq\x0c"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    )  # fmt: skip
    numbers = b"]q\x05(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    names = b"]q\x0d(" + b"".join(text(b"a_s_%06d.png" % i) for i in range(len(labels))) + b"e"
    return (
        b"\x80\x02}q\x01(" + text(b"batch_label") + b"q\x02" + text(b"training batch 1 of 5")
        + text(b"labels") + b"q\x04" + numbers + text(b"data") + b"q\x06" + array
        + text(b"filenames") + names + b"u."
    )  # fmt: skip


def python3_pickle(rows, labels, protocol=4) -> bytes:
    return pickle.dumps({b"batch_label": b"x", b"labels": labels, b"data": rows, b"filenames": []}, protocol)


def binary(rows, labels) -> bytes:
    return np.column_stack([np.array(labels, np.uint8), rows]).tobytes()


def write_layout(folder, batches, layout):
    """Write one of the original layouts, as a folder or as its archive; returns what was written."""
    name = "cifar-10-batches-bin" if "binary" in layout else "cifar-10-batches-py"
    encode, suffix = (binary, ".bin") if "binary" in layout else (python2_pickle, "")
    files = {f"{name}/{batch}{suffix}": encode(*content) for batch, content in batches.items()}
    folder.mkdir(parents=True, exist_ok=True)
    if layout.endswith(".tar.gz"):
        with tarfile.open(folder / layout, "w:gz") as archive:
            for file, content in files.items():
                info = tarfile.TarInfo(file)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return folder / layout
    for file, content in files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(content)
    return folder / name


def check(dataset, batches):
    assert dataset.classes[3] == "cat"
    for split, names in ((dataset.train, BATCHES[:5]), (dataset.test, BATCHES[5:])):
        rows = np.concatenate([batches[name][0] for name in names])
        assert np.array_equal(split.load(range(len(split)), 32).numpy(), rows.reshape(-1, 3, 32, 32))
        assert split.labels.tolist() == [label for name in names for label in batches[name][1]]


LAYOUTS = ["binary", "python", "cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"]


@pytest.mark.parametrize("below", ["", "cifar10"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_original_layouts_are_found_and_read(layout, below, batches, tmp_path):
    written = write_layout(tmp_path / "data" / below, batches, layout)
    dataset = load_dataset("cifar10", tmp_path / "data", download=False)
    check(dataset, batches)
    assert str(written) in dataset.source


def test_the_folder_of_batches_may_be_the_data_folder_itself(batches, tmp_path):
    check(load_dataset("cifar10", write_layout(tmp_path, batches, "python"), download=False), batches)


def test_npz_is_read_and_the_originals_come_first(batches, tmp_path):
    images = np.zeros((10, 32, 32, 3), np.uint8)
    arrays = {"x_train": images, "y_train": np.arange(10), "x_test": images, "y_test": np.arange(10)}
    np.savez(tmp_path / "cifar10.npz", **arrays)
    dataset = load_dataset("cifar10", tmp_path, download=False)
    assert (len(dataset.train), dataset.classes[0]) == (10, "airplane")
    write_layout(tmp_path, batches, "binary")
    check(load_dataset("cifar10", tmp_path, download=False), batches)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["list", "array", "scalars"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_batches_saved_again_by_python_3_are_read(protocol, kind, order, batches):
    rows, labels = batches["test_batch"]
    saved = {"list": labels, "array": np.array(labels), "scalars": list(np.array(labels))}[kind]
    images, read = read_python_batch(python3_pickle(np.asarray(rows, order=order), saved, protocol), "batch")
    assert np.array_equal(images.transpose(0, 3, 1, 2).reshape(-1, 3072), rows)
    assert read.tolist() == labels


class Harm:
    """Unpickling one of these calls its function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("function", [os.mkdir, eval, np.load])
def test_a_pickle_that_calls_anything_is_refused_and_runs_nothing(protocol, function, batches, tmp_path):
    rows, labels = batches["test_batch"]
    trap = tmp_path / "trap"
    argument = f"__import__('os').mkdir({str(trap)!r})" if function is eval else str(trap)
    content = pickle.dumps({"data": rows, "labels": labels, "x": Harm(function, argument)}, protocol)
    with pytest.raises(InputError, match="is no CIFAR-10 batch"):
        read_python_batch(content, "batch")
    assert not trap.exists()
    if function is os.mkdir:
        pickle.loads(content)
        assert trap.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"not a pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"data": 1}),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}),
        pickle.dumps({"data": np.zeros((1, 3072), np.float32), "labels": [1]}),
        pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [0.5]}),
        pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10**30]}),
        pickle.dumps({"data": np.zeros((1, 3072), object), "labels": [1]}),
        pickle.dumps({"data": np.zeros((1, 3072), ">u2"), "labels": [1]}),
        # A key nested so deeply that hashing it would overflow the stack.
        b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s.",
        # A call of something that is no stand-in, and a state for something that takes none.
        b"\x80\x02K\x01)R.",
        b"\x80\x02]}b.",
        # A memo position that would need 16 GiB if it were an index.
        b"\x80\x02}r\xff\xff\xff\x7f.",
    ],
)
def test_anything_but_a_batch_is_one_line(content):
    with pytest.raises(InputError, match=r"^batch is no CIFAR-10 batch \(.*\): fetch it again"):
        read_python_batch(content, "batch")


def test_damaged_pickles_never_raise_anything_else(batches):
    rows, labels = batches["test_batch"]
    rng = np.random.default_rng(0)
    for content in (python2_pickle(rows[:3], labels[:3]), python3_pickle(rows[:3], labels[:3])):
        for _ in range(300):
            damaged = np.frombuffer(content, np.uint8).copy()
            damaged[rng.integers(0, 250, 3)] = rng.integers(0, 256, 3)
            try:
                read_python_batch(damaged.tobytes()[: rng.integers(1, 2 * len(damaged))], "batch")
            except InputError as error:
                assert "batch is no CIFAR-10 batch" in str(error)  # noqa: PT017


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_missing_batch_is_named(layout, batches, tmp_path):
    write_layout(tmp_path, {name: batches[name] for name in BATCHES if name != "data_batch_4"}, layout)
    with pytest.raises(InputError, match="lacks data_batch_4"):
        load_dataset("cifar10", tmp_path, download=False)


def test_a_cut_binary_batch_is_refused(batches, tmp_path):
    folder = write_layout(tmp_path, batches, "binary")
    (folder / "data_batch_2.bin").write_bytes(bytes(3072))
    with pytest.raises(InputError, match=r"data_batch_2.bin has 3,072 bytes, no multiple of 3073"):
        load_dataset("cifar10", tmp_path, download=False)


def test_labels_of_another_set_are_refused(batches, tmp_path):
    rows, labels = batches["test_batch"]
    write_layout(tmp_path, batches | {"test_batch": (rows, [label + 1 for label in labels])}, "binary")
    with pytest.raises(InputError, match="not those of CIFAR-10"):
        load_dataset("cifar10", tmp_path, download=False)


@pytest.fixture
def server(tmp_path):
    """A local web server; `requests` lists what was asked of it."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            httpd.asked.append(self.path)

    root = tmp_path / "served"
    root.mkdir()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=root))
    httpd.root, httpd.asked = root, []
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def published(server, batches, monkeypatch):
    """CIFAR-10 on the local server in place of the official address."""
    archive = write_layout(server.root, batches, "cifar-10-binary.tar.gz")
    url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
    remote = RemoteFile(url, "md5:" + hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(cifar, "OFFICIAL", remote)
    return remote


def test_a_missing_set_is_downloaded_once_and_kept(published, server, batches, cache):
    for _ in range(2):
        check(load_dataset("cifar10"), batches)
    assert server.asked == ["/cifar-10-binary.tar.gz"]
    assert [file.name for file in cache.iterdir()] == ["cifar-10-binary.tar.gz"]


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(published, cache, monkeypatch):
    monkeypatch.setattr(cifar, "OFFICIAL", RemoteFile(published.url, "md5:" + "0" * 32))
    with pytest.raises(MissingDataError, match=r"checksum differs.*by data_dir"):
        load_dataset("cifar10")
    assert list(cache.iterdir()) == []


def test_a_file_that_the_server_lacks_is_said(published, server):
    (server.root / "cifar-10-binary.tar.gz").unlink()
    with pytest.raises(MissingDataError, match=r"could not be downloaded \(HTTPError\)"):
        load_dataset("cifar10")


def test_without_a_network_the_way_out_is_named(published, server, cache, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(MissingDataError) as caught:
        load_dataset("cifar10", tmp_path)
    line = str(caught.value)
    assert "\n" not in line
    for part in (
        "ConnectionError",
        "cifar-10-batches-py",
        "cifar10.npz",
        str(tmp_path),
        str(cache),
        "data_dir",
    ):
        assert part in line


def test_nothing_is_asked_of_the_network_where_downloads_are_off(published, server, tmp_path):
    with pytest.raises(MissingDataError, match=r"looked for cifar-10-batches-bin.*by data_dir"):
        load_dataset("cifar10", tmp_path, download=False)
    assert server.asked == []


def test_a_cache_that_cannot_be_written_is_said(published, cache):
    cache.write_text("a file where a folder should be")
    with pytest.raises(MissingDataError, match="could not be kept"):
        load_dataset("cifar10")


def test_the_official_download_is_the_layout_without_pickles():
    assert cifar.OFFICIAL.file_name == cifar.LAYOUTS[0].archive == "cifar-10-binary.tar.gz"
    assert cifar.OFFICIAL.checksum == "md5:c32a1d4ab5d03f1284b67883e8d87530"
