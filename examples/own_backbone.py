"""A backbone of one's own, searched like a built-in one.

    cd examples
    tinysearch inspect --backbone own_backbone:build --weights none --policy bias --classes 10
    tinysearch run --backbone own_backbone:build --weights own.safetensors --dataset digits

The file of weights holds the module's `state_dict`: `safetensors.torch.save_file(model.state_dict(), path)`, or
`torch.save(model.state_dict(), path)` with the ending .pth. `--weights none` takes random ones.

What a backbone needs: no branches on values of tensors (on shapes is fine), images (N, 3, H, W) enter, and its last
layer with a weight gives the logits; docs/your-model.md says the rest. What makes it searched well: repeated units are
classes of their own in an `nn.Sequential`, so that they are found as blocks, and each activation is a module that is
called once.
"""

from torch import Tensor, nn


class Unit(nn.Module):
    """A depthwise separable convolution with a skip: one block of the search."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.act = nn.ReLU6()
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to the same shape."""
        return x + self.norm2(self.pointwise(self.act(self.norm1(self.depthwise(x)))))


class OwnNet(nn.Module):
    """A stem, three units and a classifier."""

    #: Side of its images in pixels, unless --input-size says otherwise.
    input_size = 32
    #: Means and deviations of the images it was trained on, as (mean, std) of pixels scaled to [0, 1].
    normalisation = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.units = nn.Sequential(Unit(16), Unit(16), Unit(16))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(16, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images (N, 3, H, W) to logits (N, classes)."""
        return self.classifier(self.pool(self.units(self.stem(x))).flatten(1))


def build(num_classes: int) -> nn.Module:
    """What `--backbone own_backbone:build` calls, with the number of classes of the data set."""
    return OwnNet(num_classes)
