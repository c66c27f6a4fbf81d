"""Fine-tuning on digits under a few update policies: does the backbone tell them apart?"""

import copy
import re

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tinysearch.spaces.backbones.mobilenetv2 import MobileNetV2

from .probe import Split, features, support

#: Which parameters train, as a pattern of their names; batch-norm statistics stay as they are.
POLICIES = {
    "head": r"classifier\.",
    "biases": r"classifier\.|\.bias$",
    "last 2 blocks": r"classifier\.|features\.1[678]\.",
    "last 6 blocks": r"classifier\.|features\.1[2-8]\.",
    "all": r"",
}
RATES = (1e-3, 3e-3)
BATCH = 100


def finetuned(
    backbone: MobileNetV2, split: Split, policy: str, rate: float, seed: int, *, shot: int, steps: int
) -> float:
    """Test accuracy after an episode: `shot` images a class, a head of class centroids, steps of Adam."""
    chosen = support(split[1], shot, seed)
    images, labels = split[0][chosen], torch.from_numpy(split[1][chosen])
    model = copy.deepcopy(backbone)
    model.classifier[1] = _centroid_head(features(model, images), split[1][chosen])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(re.search(POLICIES[policy], name) is not None)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = torch.randperm(len(labels), generator=generator)[:BATCH]
        loss = F.cross_entropy(_logits(model, images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.inference_mode():
        predicted = torch.cat([_logits(model, part).argmax(1) for part in torch.split(split[2], 250)])
    return float((predicted.numpy() == split[3]).mean())


def _logits(model: MobileNetV2, images: Tensor) -> Tensor:
    logits: Tensor = model(images.contiguous(memory_format=torch.channels_last))
    return logits


def _centroid_head(points: NDArray[np.float32], labels: NDArray[np.int64]) -> nn.Linear:
    """Nearest centroid as a linear layer, its logits scaled by the mean squared distance within classes."""
    centroids = np.stack([points[labels == c].mean(0) for c in range(10)])
    spread = ((points - centroids[labels]) ** 2).sum(1).mean()
    head = nn.Linear(centroids.shape[1], 10)
    head.weight.data = torch.from_numpy(2 * centroids / spread)
    head.bias.data = torch.from_numpy(-(centroids**2).sum(1) / spread)
    return head
