"""ProxylessNAS-Mobile (Cai et al., ICLR 2019, arXiv 1812.00332) with the parameter names of its authors.

Both norms of the TinyTL study (arXiv 2007.11622) are there: batch norm, as the network was published, and
group norm with 8 channels a group, as TinyTL fine-tunes it with small batches. TinyTL also standardises the
weights of convolutions; that belongs to the training method and is not part of the backbone.
"""

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

Norm = Literal["batch", "group"]

#: (kernel, expansion, channels, repeats, stride of the first), in runs of equal blocks.
BLOCKS = (
    (3, 1, 16, 1, 1),
    (5, 3, 32, 1, 2),
    (3, 3, 32, 1, 1),
    (7, 3, 40, 1, 2),
    (3, 3, 40, 1, 1),
    (5, 3, 40, 2, 1),
    (7, 6, 80, 1, 2),
    (5, 3, 80, 3, 1),
    (5, 6, 96, 1, 1),
    (5, 3, 96, 3, 1),
    (7, 6, 192, 2, 2),
    (7, 3, 192, 2, 1),
    (7, 6, 320, 1, 1),
)
STEM, FEATURES = 32, 1280
GROUP_SIZE = 8


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    *,
    norm: Norm,
    activation: bool = True,
) -> nn.Sequential:
    """Convolution `conv`, norm `bn` (whichever norm it is: the authors' name) and ReLU6 `relu`."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        bn=nn.BatchNorm2d(out_channels, eps=1e-3)
        if norm == "batch"
        else nn.GroupNorm(out_channels // GROUP_SIZE, out_channels),
    )
    if activation:
        layers["relu"] = nn.ReLU6()
    return nn.Sequential(layers)


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; with a skip where stride is 1 and the channels agree."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int, norm: Norm
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.use_res_connect = stride == 1 and in_channels == out_channels
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion != 1:
            layers["inverted_bottleneck"] = conv_norm_act(in_channels, hidden, norm=norm)
        layers["depth_conv"] = conv_norm_act(hidden, hidden, kernel, stride, groups=hidden, norm=norm)
        layers["point_linear"] = conv_norm_act(hidden, out_channels, norm=norm, activation=False)
        self.mobile_inverted_conv = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        output: Tensor = self.mobile_inverted_conv(x)
        return x + output if self.use_res_connect else output


class ProxylessNASMobile(nn.Module):
    """ProxylessNAS-Mobile: 2,799,512 parameters and a classifier on 1280 features.

    Args:
        num_classes: Outputs of the classifier.
        norm: `batch`, or `group` with 8 channels a group.
    """

    def __init__(self, num_classes: int = 1000, *, norm: Norm = "batch") -> None:
        super().__init__()
        self.first_conv = conv_norm_act(3, STEM, 3, 2, norm=norm)
        channels, blocks = STEM, []
        for kernel, expansion, out, repeats, first_stride in BLOCKS:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                blocks.append(
                    InvertedResidual(channels, out, kernel=kernel, stride=stride, expansion=expansion, norm=norm)
                )
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.feature_mix_layer = conv_norm_act(channels, FEATURES, norm=norm)
        self.classifier = nn.Sequential(OrderedDict(linear=nn.Linear(FEATURES, num_classes)))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits (N, num_classes)."""
        x = self.feature_mix_layer(self.blocks(self.first_conv(x))).mean((2, 3))
        logits: Tensor = self.classifier(x)
        return logits
