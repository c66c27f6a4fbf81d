"""Networks of torchvision beside a torch that torchvision's compiled operators were not built for."""

import importlib.util
from pathlib import Path
from typing import Any

import torch

_declared: list[Any] = []
# Any: torch states no types for these.
_Library: Any = torch.library.Library
_ops: Any = torch.ops


def declare_operators() -> None:
    """Let torchvision, and timm which imports it, be imported although its own operators cannot be loaded.

    That is so where torch is without CUDA and torchvision with it. Networks need none of these operators: they are for
    detection. But torchvision describes two of them when it is imported, and fails where they do not exist.
    """
    if hasattr(_ops.torchvision, "nms"):
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    for path in Path(spec.origin).parent.glob("_C*"):
        try:
            _ops.load_library(path)
        except OSError:
            continue
        return
    fragment = _Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        fragment.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(fragment)  # the operators live as long as this does
