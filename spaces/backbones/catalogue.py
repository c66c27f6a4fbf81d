"""Backbones by name.

`BACKBONES` has the fixed ones, and MobileNets, which come at any width, at the usual ones. A package adds its own by an
entry point `tinysearch.backbones`.
"""

import difflib
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ...core.errors import InputError
from ...core.registry import BUILT_IN, Entry, Registry
from .blocktable import MCUNET_5FPS, MOBILENETV2_W035, PROXYLESSNAS_W03, BlockTableNet
from .checkpoint import load_into, most_bytes, read_checkpoint
from .custom import build_custom, call_builder, declared_info
from .info import IMAGENET, BackboneInfo
from .libraries import is_library, library_network
from .mobilenetv2 import MobileNetV2
from .mobilenetv3 import MobileNetV3
from .proxylessnas import ProxylessNASMobile
from .published import BUNDLED_BACKBONE, BUNDLED_INPUT_SIZE, TORCHVISION, bundled_weights, identify, imagenet_weights
from .unwrapping import without_prefixes

#: Makes a network with random weights for a number of classes.
Builder = Callable[[int], nn.Module]

#: Widths that are built; beyond them a name is more likely a slip than a wish.
MIN_WIDTH, MAX_WIDTH = 0.05, 4.0

_MOBILENET = re.compile(r"(mobilenetv2|mobilenetv3-small|mobilenetv3-large)(?:-w(\d+(?:\.\d+)?))?(-tf)?", re.ASCII)

#: Blocks, channels of the feature-mix convolution (0: none), summary.
_BLOCK_TABLES = {
    "mcunet-5fps": (MCUNET_5FPS, 0, "MCUNet-5FPS of the sparse-update study, norms folded"),
    "mobilenetv2-w0.35-mcu": (MOBILENETV2_W035, 0, "MobileNetV2 0.35 of the sparse-update study, norms folded"),
    "proxylessnas-w0.3": (PROXYLESSNAS_W03, 0, "ProxylessNAS 0.3 of the sparse-update study, norms folded"),
    "mobilenetv2-w0.35-mix": (MOBILENETV2_W035, 448, "The same with TinyTrain's feature-mix convolution, 112 to 448"),
    "proxylessnas-w0.3-mix": (PROXYLESSNAS_W03, 384, "The same with TinyTrain's feature-mix convolution, 96 to 384"),
}

#: Every fixed network, and MobileNets, which have any width, at the usual ones.
_SHOWN = (
    "mobilenetv2-w0.35",
    "mobilenetv2-w1.0",
    "mobilenetv2-w0.35-tf",
    "mobilenetv2-w1.0-tf",
    "mobilenetv3-small",
    "mobilenetv3-large",
    "proxylessnas-mobile",
    *_BLOCK_TABLES,
)


def _check(thing: object) -> None:
    if not callable(thing):
        raise TypeError(f"a {type(thing).__name__}, where a function from a number of classes to a module is needed")


def _built_in(name: str) -> Entry[Builder]:
    return Entry(name, BUILT_IN, lambda: _resolve_built_in(name)[1], _resolve_built_in(name)[0].summary)


def list_backbones() -> tuple[BackboneInfo, ...]:
    """The backbones that have a name; MobileNets come at any width, of which the usual ones are listed.

    Example:
        >>> import tinysearch as ts
        >>> [info.name for info in ts.list_backbones()][:2]
        ['mobilenetv2-w0.35', 'mobilenetv2-w1.0']
    """
    return tuple(_resolve(name)[0] for name in BACKBONES.loaded())


def backbone_info(name: str) -> BackboneInfo:
    """What is known of a backbone before it is built.

    Raises:
        InputError: There is no such backbone; the closest names are told.
    """
    return _resolve(name)[0]


def load_backbone(
    name: str, *, num_classes: int = 10, input_size: int | None = None, weights: str | Path | None = None
) -> nn.Module:
    """Build a backbone and load its weights.

    Random values, those of a new head included, are the same at every call. A head of the checkpoint is taken
    over only if it has `num_classes` outputs. The module carries three plain attributes: `backbone_name` (the
    canonical name), `input_size` (side of its images in pixels) and `normalisation` (a `Normalisation`:
    ImageNet's mean and standard deviation for torchvision's published weights and for MobileNetV3, else to
    [-1, 1]; set it anew if your own weights want another).

    Args:
        name: A name of `list_backbones`, a MobileNet at another width (`mobilenetv2-w0.5`,
            `mobilenetv3-small-w0.75`; `-tf` behind `mobilenetv2...` for TensorFlow's padding), `timm:NAME` or
            `torchvision:NAME` for a network of these libraries, or `package.module:function` for one of your own,
            which may set `input_size` and `normalisation` on what it returns.
        num_classes: Outputs of the head.
        input_size: Side of the images in pixels; by default what the weights were trained with.
        weights: None for random ones; `bundled`; `imagenet` (downloaded once; of a library's network what the library
            publishes for it); or a `.pth`, `.pt` or `.safetensors` file.

    Returns:
        A module that maps images (N, 3, H, W) to logits (N, num_classes), in training mode.

    Raises:
        InputError: The name, a number or the weights file is wrong.
        MissingDataError: The weights are not here and could not be fetched.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", num_classes=5, weights="bundled")
        >>> backbone.input_size, backbone.classifier[1].out_features
        (48, 5)
    """
    if num_classes < 1:
        raise InputError(f"num_classes is {num_classes}: it must be at least 1")
    if input_size is not None and input_size < 1:
        raise InputError(f"input_size is {input_size}: it must be at least 1 pixel")
    published = is_library(name) and weights == "imagenet"
    info, build = _resolve(name, input_size, published=published)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = build(num_classes)
    if not is_built_in(name) and not is_library(name):
        info = declared_info(model, info)
    if weights is not None and not published:
        info = _load_weights(model, info, weights, num_classes)
    # Plain attributes: nn.Module's own assignment is typed for parameters and modules only.
    vars(model).update(
        backbone_name=info.name, input_size=input_size or info.input_size, normalisation=info.normalisation
    )
    return model


def _is_custom(name: str) -> bool:
    return ":" in name


def _load_weights(model: nn.Module, info: BackboneInfo, weights: str | Path, classes: int) -> BackboneInfo:
    """Fill the model and return its facts as these weights change them."""
    if weights == "bundled":
        path = bundled_weights(info.name)
        info = replace(info, input_size=BUNDLED_INPUT_SIZE)
    else:
        path = imagenet_weights(info.name) if weights == "imagenet" else Path(weights)
    state = read_checkpoint(path, most_bytes(model))
    network = library_network(info.name) if is_library(info.name) else None
    if network is not None:
        state = network.converted(model, without_prefixes(state, model.state_dict()))
    load_into(model, state, str(weights), classes)
    known = identify(path)
    if known is None:
        return info
    if network is not None and network.sizes != "any":
        return replace(info, normalisation=known.normalisation)  # the size is what it was built for
    if known.backbone != info.name and is_built_in(info.name):
        warnings.warn(
            f"weights {weights} were trained as {known.backbone}: as {info.name} they lose accuracy; "
            f"take the backbone {known.backbone}",
            stacklevel=3,
        )
    return replace(info, normalisation=known.normalisation, input_size=known.input_size or info.input_size)


def _resolve(name: str, size: int | None = None, *, published: bool = False) -> tuple[BackboneInfo, Builder]:
    """Facts and builder of a name; the facts hold its canonical form.

    Args:
        name: The backbone's name.
        size: Side of the images, which matters to a network that is built for one.
        published: Whether the builder of a library's network loads its weights.
    """
    if is_library(name):
        network = library_network(name)
        return network.info, lambda classes: network.load(classes, size, published=published)
    if _is_custom(name):
        return BackboneInfo(name, "a backbone of your own", None), lambda classes: build_custom(name, classes)
    if not is_built_in(name) and name in BACKBONES:
        entry = BACKBONES[name]
        function = entry.load()
        # Said by the function, so that a list need not build the network.
        size = getattr(function, "input_size", None)
        info = BackboneInfo(name, entry.summary, size if isinstance(size, int) else None)
        return info, lambda classes: call_builder(f"the backbone {name!r} of {entry.origin}", function, classes)
    return _resolve_built_in(name)


def is_built_in(name: str) -> bool:
    """Whether a network of this package has the name, at whatever width."""
    return name in _SHOWN or _MOBILENET.fullmatch(name) is not None


def _resolve_built_in(name: str) -> tuple[BackboneInfo, Builder]:
    if name in _BLOCK_TABLES:
        rows, features, summary = _BLOCK_TABLES[name]
        return BackboneInfo(name, summary, 128), lambda classes: BlockTableNet(rows, classes, features)
    if name == "proxylessnas-mobile":
        return BackboneInfo(name, "ProxylessNAS-Mobile", 224), ProxylessNASMobile
    match = _MOBILENET.fullmatch(name)
    if match is None or (match[3] and match[1] != "mobilenetv2"):
        close = difflib.get_close_matches(name.lower(), ["mobilenetv2", *BACKBONES], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else BACKBONES.names()
        raise InputError(
            f"unknown backbone {name!r}: {hint} (of a library: timm:NAME or torchvision:NAME; one of your own: "
            "package.module:function)"
        )
    width = float(match[2] or 1)
    if not MIN_WIDTH <= width <= MAX_WIDTH:
        raise InputError(f"backbone {name!r}: the width must lie between {MIN_WIDTH} and {MAX_WIDTH}")
    if match[1] == "mobilenetv2":
        return _mobilenetv2(width, tensorflow=match[3] is not None)
    return _mobilenetv3(match[1], width)


def _mobilenetv2(width: float, *, tensorflow: bool) -> tuple[BackboneInfo, Builder]:
    if tensorflow:
        info = BackboneInfo(f"mobilenetv2-w{width}-tf", f"MobileNetV2 {width}, TensorFlow's padding and norms", 224)
        return info, lambda classes: MobileNetV2(width, classes, tf_padding=True, eps=1e-3)
    name = f"mobilenetv2-w{width}"
    info = BackboneInfo(name, f"MobileNetV2 {width}, as in torchvision", 224, weights=_named_weights(name))
    return info, lambda classes: MobileNetV2(width, classes)


def _mobilenetv3(family: str, width: float) -> tuple[BackboneInfo, Builder]:
    name = family if width == 1 else f"{family}-w{width}"
    variant = family.rpartition("-")[2]
    summary = f"MobileNetV3-{variant.capitalize()} {width}, as in torchvision"
    info = BackboneInfo(name, summary, 224, IMAGENET, _named_weights(name))
    return info, lambda classes: MobileNetV3(large=variant == "large", width=width, num_classes=classes)


def _named_weights(name: str) -> tuple[str, ...]:
    sources = {"bundled": name == BUNDLED_BACKBONE, "imagenet": name in TORCHVISION}
    return tuple(source for source, there in sources.items() if there)


#: All backbones that have a name of their own; each entry makes a network with random weights for a number of classes.
BACKBONES: Registry[Builder] = Registry("backbone", [_built_in(name) for name in _SHOWN], _check, taken=is_built_in)
