"""Named weights, with a real local HTTP server in place of torchvision's."""

import hashlib
import socket
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from tinysearch.core.errors import InputError, MissingDataError
from tinysearch.spaces.backbones import load_backbone, published
from tinysearch.spaces.backbones.info import IMAGENET, SYMMETRIC


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.requests.append(self.path)
        super().do_GET()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves the folder `server.folder`; the cache is the empty folder `server.cache`."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as httpd:
        httpd.folder, httpd.cache, httpd.requests = folder, tmp_path / "cache", []
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setenv("TINYSEARCH_WEIGHTS_URL", f"http://127.0.0.1:{httpd.server_port}/")
        monkeypatch.setenv("TINYSEARCH_CACHE", str(httpd.cache))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield httpd
        httpd.shutdown()


def publish(server, monkeypatch, state) -> str:
    """Put a checkpoint on the server under a name that carries its checksum, as MobileNetV3-Small's."""
    temporary = server.folder / "new"
    torch.save(state, temporary)
    file = f"net-{hashlib.sha256(temporary.read_bytes()).hexdigest()[:8]}.pth"
    temporary.rename(server.folder / file)
    monkeypatch.setitem(published.TORCHVISION, "mobilenetv3-small", file)
    return file


def test_imagenet_weights_are_fetched_once_and_loaded(server, monkeypatch):
    state = load_backbone("mobilenetv3-small", num_classes=1000).state_dict()
    state["features.0.0.weight"] += 1
    file = publish(server, monkeypatch, state)
    for _ in range(2):
        model = load_backbone("mobilenetv3-small", weights="imagenet")
        assert torch.equal(model.features[0][0].weight, state["features.0.0.weight"])
    assert model.normalisation == IMAGENET
    assert server.requests == [f"/{file}"]
    assert [path.name for path in server.cache.rglob("*.pth")] == [file]


def test_a_damaged_cache_is_fetched_again(server, monkeypatch):
    file = publish(server, monkeypatch, {"a": torch.ones(3)})
    good = published.download(file).read_bytes()
    (server.cache / "weights" / file).write_bytes(good[:50])
    assert published.download(file).read_bytes() == good
    assert len(server.requests) == 2


def test_a_wrong_checksum_is_refused_and_not_kept(server):
    name = published.TORCHVISION["mobilenetv2-w1.0"]
    torch.save({"a": torch.ones(3)}, server.folder / name)
    with pytest.raises(MissingDataError, match=r"mobilenet_v2-b0353104\.pth is damaged: .* not b0353104") as error:
        load_backbone("mobilenetv2", weights="imagenet")
    assert "weights=FILE" in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(server.cache.rglob("*.pth"))


def test_a_file_that_is_not_there(server):
    with pytest.raises(MissingDataError, match=r"cannot download http://127.*small-047dcff4\.pth \(status 404\)"):
        load_backbone("mobilenetv3-small", weights="imagenet")
    assert not list(server.cache.rglob("*.*"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "http://name.invalid", "nonsense"])
def test_without_a_network_the_message_says_the_way_out(monkeypatch, tmp_path, url):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("TINYSEARCH_WEIGHTS_URL", url.format(port=port))
    monkeypatch.setenv("TINYSEARCH_CACHE", str(tmp_path))
    with pytest.raises(MissingDataError) as error:
        load_backbone("mobilenetv3-large", weights="imagenet")
    text = str(error.value)
    assert f"{url.format(port=port)}/mobilenet_v3_large-8738ca79.pth" in text
    assert "pass weights=FILE" in text
    # What the command line prints.
    assert "pass --weights FILE" in error.value.told(lambda option: f"--{option.replace('=', ' ')}")
    assert "\n" not in text


def test_an_unwritable_cache_is_a_clear_error(server, monkeypatch):
    file = publish(server, monkeypatch, {"a": torch.ones(3)})
    server.cache.write_text("a file where the folder should be")
    with pytest.raises(MissingDataError, match="cannot download"):
        published.download(file)


@pytest.mark.parametrize("name", ["mobilenetv2-w0.35", "mobilenetv2-w1.0-tf", "mobilenetv3-small-w0.75", "mcunet-5fps"])
def test_backbones_without_imagenet_weights_say_so(name):
    with pytest.raises(InputError, match=f"no ImageNet weights are published for {name} .*mobilenetv3-large"):
        load_backbone(name, weights="imagenet")


def test_torchvisions_file_is_known_by_its_checksum_wherever_it_lies(tmp_path, monkeypatch):
    path = tmp_path / "renamed.pth"
    torch.save(load_backbone("mobilenetv2", num_classes=1000).state_dict(), path)
    assert load_backbone("mobilenetv2", weights=path).normalisation == SYMMETRIC
    monkeypatch.setitem(published.KNOWN, published.sha256(path)[:8], published.Known("mobilenetv2-w1.0", IMAGENET))
    assert load_backbone("mobilenetv2", weights=path).normalisation == IMAGENET
    with pytest.warns(UserWarning, match="take the backbone mobilenetv2-w1.0$"):
        load_backbone("mobilenetv2-w1.0-tf", weights=path)


def test_every_published_name_carries_its_checksum():
    for backbone, file in published.TORCHVISION.items():
        prefix = file.removesuffix(".pth").rpartition("-")[2]
        assert len(prefix) == 8
        assert published.KNOWN[prefix] == published.Known(backbone, IMAGENET)


def test_bundled_weights_are_for_one_backbone_only():
    with pytest.raises(InputError, match=r"the bundled weights are for mobilenetv2-w0\.35, not mcunet-5fps"):
        load_backbone("mcunet-5fps", weights="bundled")


def test_missing_bundled_weights_say_so(monkeypatch):
    monkeypatch.setattr(published, "BUNDLED_FILE", "absent.safetensors")
    with pytest.raises(MissingDataError, match="reinstall tinysearch or pass weights=FILE"):
        load_backbone("mobilenetv2-w0.35", weights="bundled")


def test_bundled_weights_load():
    try:
        published.bundled_weights(published.BUNDLED_BACKBONE)
    except MissingDataError as error:
        pytest.skip(str(error))
    model = load_backbone("mobilenetv2-w0.35", weights="bundled")
    assert (model.input_size, model.normalisation) == (48, SYMMETRIC)
    fresh = load_backbone("mobilenetv2-w0.35")
    assert not torch.equal(model.features[0][0].weight, fresh.features[0][0].weight)
    assert torch.equal(model.classifier[1].weight, fresh.classifier[1].weight)
