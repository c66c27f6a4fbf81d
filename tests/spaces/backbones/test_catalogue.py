"""Names, attributes and random values of `load_backbone`; a user's own backbones."""

import copy
import sys
import textwrap

import pytest
import torch
from torch import nn

from tinysearch.core.errors import InputError
from tinysearch.spaces.backbones import BackboneInfo, list_backbones, load_backbone
from tinysearch.spaces.backbones.info import IMAGENET, SYMMETRIC


@pytest.mark.parametrize(
    ("name", "canonical", "size", "normalisation"),
    [
        ("mobilenetv2", "mobilenetv2-w1.0", 224, SYMMETRIC),
        ("mobilenetv2-w1", "mobilenetv2-w1.0", 224, SYMMETRIC),
        ("mobilenetv2-w0.350", "mobilenetv2-w0.35", 224, SYMMETRIC),
        ("mobilenetv2-tf", "mobilenetv2-w1.0-tf", 224, SYMMETRIC),
        ("mobilenetv2-w1.4-tf", "mobilenetv2-w1.4-tf", 224, SYMMETRIC),
        ("mobilenetv3-small-w1.0", "mobilenetv3-small", 224, IMAGENET),
        ("mobilenetv3-large-w0.75", "mobilenetv3-large-w0.75", 224, IMAGENET),
        ("proxylessnas-mobile", "proxylessnas-mobile", 224, SYMMETRIC),
        ("proxylessnas-w0.3", "proxylessnas-w0.3", 128, SYMMETRIC),
        ("mcunet-5fps", "mcunet-5fps", 128, SYMMETRIC),
        ("mobilenetv2-w0.35-mcu", "mobilenetv2-w0.35-mcu", 128, SYMMETRIC),
    ],
)
def test_names_and_attributes(name, canonical, size, normalisation):
    model = load_backbone(name)
    assert (model.backbone_name, model.input_size, model.normalisation) == (canonical, size, normalisation)
    assert load_backbone(canonical, input_size=80).input_size == 80
    assert copy.deepcopy(model).backbone_name == canonical
    assert "normalisation" not in model.state_dict()


def test_the_tensorflow_variant_differs_where_it_should():
    norms = [m for m in load_backbone("mobilenetv2-w0.35-tf").modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3}
    plain, tensorflow = load_backbone("mobilenetv2-w0.35"), load_backbone("mobilenetv2-w0.35-tf")
    assert plain.state_dict().keys() == tensorflow.state_dict().keys()


def test_listed_backbones_are_canonical_and_load():
    infos = list_backbones()
    assert len({info.name for info in infos}) == len(infos) == 12
    for info in infos:
        assert isinstance(info, BackboneInfo)
        assert load_backbone(info.name).backbone_name == info.name
    weights = {info.name: info.weights for info in infos if info.weights}
    assert weights == {
        "mobilenetv2-w0.35": ("bundled",),
        "mobilenetv2-w1.0": ("imagenet",),
        "mobilenetv3-small": ("imagenet",),
        "mobilenetv3-large": ("imagenet",),
    }


@pytest.mark.parametrize("name", ["mobilenetv2-w0.35", "mobilenetv3-small", "mcunet-5fps", "proxylessnas-mobile"])
def test_random_values_repeat_and_leave_the_callers_generator_alone(name):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = load_backbone(name)
    assert torch.equal(torch.rand(3), expected)
    second = load_backbone(name)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert first(images).std(0).min() > 1e-4  # the signal of the image reaches the logits


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mobilnetv2", "did you mean mobilenetv2"),
        ("mobilenetv2-0.35", r"mobilenetv2-w0\.35"),
        ("MobileNetV2", r"mobilenetv2"),
        ("mcunet", "mcunet-5fps"),
        ("mobilenetv3", "mobilenetv3-small|mobilenetv3-large"),
        ("mobilenetv3-small-tf", "mobilenetv3-small"),
        ("proxylessnas-w0.5", r"proxylessnas-w0\.3"),
        ("mobilenetv2-w-1", "mobilenetv2-w1"),
        ("mobilenetv2-w1e3", "mobilenetv2"),
        ("mobilenetv2-w\u0661", "unknown backbone"),
        ("", "there are mobilenetv2"),
        ("zzz", "there are mobilenetv2"),
    ],
)
def test_unknown_names_are_told_the_closest(name, hint):
    with pytest.raises(InputError, match=hint) as error:
        load_backbone(name)
    assert repr(name) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["mobilenetv2-w0", "mobilenetv2-w0.01", "mobilenetv3-small-w100"])
def test_absurd_widths_are_refused(name):
    with pytest.raises(InputError, match=r"the width must lie between 0\.05 and 4"):
        load_backbone(name)


@pytest.mark.parametrize(("argument", "value"), [("num_classes", 0), ("num_classes", -3), ("input_size", 0)])
def test_numbers_out_of_range_are_refused(argument, value):
    with pytest.raises(InputError, match=f"{argument} is {value}: it must be at least 1"):
        load_backbone("mobilenetv2-w0.1", **{argument: value})


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A user's module `my_nets` on the path."""
    (tmp_path / "my_nets.py").write_text(
        textwrap.dedent("""
        import torch
        from torch import nn

        def net(num_classes=2):
            pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            return nn.Sequential(nn.Conv2d(3, 4, 3), pool, nn.Linear(4, num_classes))

        def fixed():
            model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
            model.input_size, model.normalisation = 32, ((0, 0, 0), [1.0, 1.0, 1.0])
            return model

        def odd(num_classes):
            model = nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))
            model.normalisation = (0.5, 0.5)
            return model

        def number():
            return 3

        def broken(num_classes):
            raise ValueError("two\\nlines")

        constant = 7
        """)
    )
    (tmp_path / "my_broken.py").write_text("import no_such_dependency\n")
    (tmp_path / "my_syntax.py").write_text("def (\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("my_nets", "my_broken", "my_syntax"):
        sys.modules.pop(name, None)


def test_a_users_backbone(own_module):
    model = load_backbone("my_nets:net", num_classes=6)
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 6)
    assert (model.backbone_name, model.input_size) == ("my_nets:net", 224)
    assert torch.equal(model[0].weight, load_backbone("my_nets:net")[0].weight)
    torch.save(model.state_dict(), own_module / "w.pth")
    assert torch.equal(load_backbone("my_nets:net", weights=own_module / "w.pth")[0].weight, model[0].weight)


def test_a_users_backbone_declares_its_input(own_module):
    model = load_backbone("my_nets:fixed", num_classes=5)
    assert model.input_size == 32
    assert model.normalisation.mean == (0, 0, 0)
    assert model.normalisation.std == (1, 1, 1)
    assert load_backbone("my_nets:fixed", num_classes=5, input_size=48).input_size == 48


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_such_module:net", "there is no module no_such_module; add its folder to PYTHONPATH"),
        ("my_nets.inner:net", "importing my_nets.inner failed|there is no module my_nets.inner"),
        ("my_broken:net", "importing my_broken failed: No module named 'no_such_dependency'"),
        ("my_syntax:net", "importing my_syntax failed: SyntaxError"),
        ("my_nets:missing", "my_nets has no function missing"),
        ("my_nets:constant", "my_nets has no function constant"),
        ("my_nets:number", "number returned int, no nn.Module"),
        ("my_nets:broken", "broken failed: ValueError: two lines"),
        ("my_nets:fixed", r"gives no 10 logits \(1 has 5 outputs\): let its function take num_classes"),
        ("my_nets:odd", "normalisation is .* not three means"),
        (":net", "package.module:function"),
        ("my_nets:", "package.module:function"),
        ("..up:net", "failed"),
    ],
)
def test_mistakes_in_a_users_backbone_are_one_line(own_module, name, expected):
    with pytest.raises(InputError, match=expected) as error:
        load_backbone(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("weights", ["imagenet", "bundled"])
def test_a_users_backbone_has_no_named_weights(own_module, weights):
    with pytest.raises(InputError, match="my_nets:net"):
        load_backbone("my_nets:net", weights=weights)


def test_importing_the_backbones_imports_nothing_heavy_but_torch(imported):
    assert imported("import tinysearch.spaces.backbones", {"pooch", "requests", "sklearn"}) == []
