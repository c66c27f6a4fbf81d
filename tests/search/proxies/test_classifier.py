"""Prototype heads in all the shapes that classifiers have."""

import pytest
import torch
from torch import Tensor, nn

from tinysearch.core.errors import UnsupportedError
from tinysearch.search.proxies.classifier import set_head
from tinysearch.search.proxies.prototypes import FrozenBackbone
from tinysearch.spaces.graph import symbolic_trace
from tinysearch.spaces.trace import trace

POOL = nn.AdaptiveAvgPool2d(1)
MEAN = nn.Sequential(POOL, nn.Flatten())


class Two(nn.Module):
    """The mean of two classifiers, as in distilled networks."""

    def __init__(self, silent: bool) -> None:
        super().__init__()
        self.stem, self.first, self.second = (
            nn.Sequential(nn.Conv2d(3, 8, 4, 4), MEAN),
            nn.Linear(8, 4),
            nn.Linear(8, 4),
        )
        if silent:
            nn.init.zeros_(self.first.weight)
            nn.init.zeros_(self.first.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return (self.first(y) + self.second(y.relu())) / 2


class Tokens(nn.Module):
    """A classifier of positions that are averaged, or the largest taken, behind it."""

    def __init__(self, largest: bool = False) -> None:
        super().__init__()
        self.stem, self.head, self.largest = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 4), largest

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(self.stem(x).relu().flatten(2).transpose(1, 2))
        return y.amax(1) if self.largest else y.mean(1)


class Viewing(nn.Module):
    """Flattened by a view, which images with channels last do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).relu()
        return self.head(y.view(y.size(0), -1))


STEM = (nn.Conv2d(3, 8, 4, 4), nn.ReLU())
NETWORKS = {
    "linear": lambda: nn.Sequential(*STEM, MEAN, nn.Linear(8, 4)),
    "convolution of the mean": lambda: nn.Sequential(*STEM, POOL, nn.Conv2d(8, 4, 1), nn.Flatten()),
    "convolution of positions": lambda: nn.Sequential(*STEM, nn.Conv2d(8, 4, 1), MEAN),
    "convolution, then ReLU": lambda: nn.Sequential(*STEM, nn.Conv2d(8, 4, 1), nn.ReLU(), MEAN),
    "convolution of the whole map": lambda: nn.Sequential(*STEM, nn.Conv2d(8, 4, 4), nn.Flatten()),
    "one of two": lambda: Two(silent=True),
    "positions": Tokens,
    "a view": Viewing,
}
REFUSED = {
    "softmax": lambda: nn.Sequential(*STEM, MEAN, nn.Linear(8, 4), nn.Softmax(1)),
    "both of two": lambda: Two(silent=False),
    "the largest": lambda: Tokens(largest=True),
    "padded": lambda: nn.Sequential(*STEM, nn.Conv2d(8, 4, 3, 1, 1), MEAN),
}


def frozen(net: nn.Module) -> tuple[FrozenBackbone, str]:
    table = trace(net.eval(), (3, 16, 16))
    head = table.layers[table.head].name
    return FrozenBackbone(net, head, table.input_shape), head


def task() -> tuple[Tensor, Tensor]:
    """Images that the mean colour tells apart."""
    labels = torch.arange(24) % 4
    colours = torch.randn(4, 3, 1, 1, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    return 3 * colours[labels] + noise, labels


@pytest.mark.parametrize("name", NETWORKS)
def test_prototypes_answer_right_whatever_the_classifier(name: str) -> None:
    torch.manual_seed(0)
    net, head = frozen(NETWORKS[name]())
    images, labels = task()
    prototypes = net.prototypes(images, labels)
    model = set_head(symbolic_trace(net.module, (3, 16, 16)), head, prototypes)
    with torch.no_grad():
        assert (model(images).argmax(1) == labels).float().mean() > 0.95


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_answer_of_the_classifier_alone_is_refused_with_a_way_out(name: str) -> None:
    torch.manual_seed(0)
    net, _ = frozen(REFUSED[name]())
    with pytest.raises(UnsupportedError, match=r"set the weights and biases|end the network in a pooling"):
        net.prototypes(*task())


def test_positions_in_the_axis_of_the_images_are_refused() -> None:
    class Folded(Tokens):
        def forward(self, x: Tensor) -> Tensor:
            y = self.stem(x).relu().flatten(2).transpose(1, 2).reshape(-1, 8)
            return self.head(y).reshape(-1, 16, 4).mean(1)

    net, _ = frozen(Folded())
    with pytest.raises(UnsupportedError, match=r"reads \(384, 8\) of 24 images"):
        net.prototypes(*task())
