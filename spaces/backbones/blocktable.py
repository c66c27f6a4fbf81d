"""The three ImageNet networks of the sparse-update study (Lin et al., NeurIPS 2022, arXiv 2206.15472).

MCUNet-5FPS, MobileNetV2 at width 0.35 and ProxylessNAS at width 0.3 as they run on a microcontroller: batch
norm folded into convolutions with a bias, no feature-mix layer, and one table row per block. Parameter names
are those of the authors' quantised checkpoints; indices of convolutions, as in their schemes, count
`first_conv`, then the convolutions of the blocks in order. TinyTrain's study (arXiv 2307.09988) runs the latter two
with a feature-mix convolution behind the blocks.
"""

from typing import NamedTuple

from torch import Tensor, nn


class Row(NamedTuple):
    """One block: channels after the expansion and out; kernel and stride of the depthwise convolution."""

    hidden: int
    out: int
    kernel: int = 3
    stride: int = 1


#: Channels of the first convolution and of the input of the first block, in all three networks.
STEM = 16

MCUNET_5FPS = (
    Row(16, 8),
    Row(32, 16, stride=2),
    Row(48, 16),
    Row(48, 24, kernel=7, stride=2),
    Row(120, 24),
    Row(120, 40, stride=2),
    Row(160, 40, kernel=7),
    Row(160, 48, kernel=5),
    Row(144, 48),
    Row(192, 48),
    Row(240, 96, kernel=7, stride=2),
    Row(384, 96, kernel=5),
    Row(384, 96, kernel=5),
    Row(576, 160),
)
MOBILENETV2_W035 = (
    Row(16, 8),
    Row(48, 8, stride=2),
    Row(48, 8),
    Row(48, 16, stride=2),
    *[Row(96, 16)] * 2,
    Row(96, 24, stride=2),
    *[Row(144, 24)] * 3,
    Row(144, 32),
    *[Row(192, 32)] * 2,
    Row(192, 56, stride=2),
    *[Row(336, 56)] * 2,
    Row(336, 112),
)
PROXYLESSNAS_W03 = (
    Row(16, 8),
    Row(24, 16, kernel=5, stride=2),
    Row(48, 16),
    Row(48, 16, kernel=7, stride=2),
    Row(48, 16),
    *[Row(48, 16, kernel=5)] * 2,
    Row(96, 24, kernel=7, stride=2),
    *[Row(72, 24, kernel=5)] * 3,
    Row(144, 32, kernel=5),
    *[Row(96, 32, kernel=5)] * 3,
    Row(192, 64, kernel=7, stride=2),
    Row(384, 64, kernel=7),
    *[Row(192, 64, kernel=7)] * 2,
    Row(384, 96, kernel=7),
)


class InvertedResidual(nn.Module):
    """Expand, depthwise, project, without norms; with a skip where stride is 1 and the channels agree.

    The first block of a network has no expansion (`hidden` equals `in_channels`).
    """

    def __init__(self, in_channels: int, row: Row) -> None:
        super().__init__()
        self.use_res_connect = row.stride == 1 and in_channels == row.out
        self.pointwise1: nn.Conv2d | None = None
        if row.hidden != in_channels:
            self.pointwise1 = nn.Conv2d(in_channels, row.hidden, 1)
            self.act1 = nn.ReLU6()
        self.depthwise = nn.Conv2d(
            row.hidden, row.hidden, row.kernel, row.stride, (row.kernel - 1) // 2, groups=row.hidden
        )
        self.act2 = nn.ReLU6()
        self.pointwise2 = nn.Conv2d(row.hidden, row.out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        hidden = x if self.pointwise1 is None else self.act1(self.pointwise1(x))
        output: Tensor = self.pointwise2(self.act2(self.depthwise(hidden)))
        return x + output if self.use_res_connect else output


class BlockTableNet(nn.Module):
    """A first convolution, the blocks of a table, the mean over the map, and a linear classifier.

    Args:
        rows: The blocks, first to last.
        num_classes: Outputs of the classifier.
        features: Channels of a feature-mix convolution behind the blocks; 0 for none.
    """

    def __init__(self, rows: tuple[Row, ...], num_classes: int = 1000, features: int = 0) -> None:
        super().__init__()
        self.first_conv = nn.Conv2d(3, STEM, 3, 2, 1)
        self.first_act = nn.ReLU6()
        channels, blocks = STEM, []
        for row in rows:
            blocks.append(InvertedResidual(channels, row))
            channels = row.out
        self.blocks = nn.Sequential(*blocks)
        self.feature_mix: nn.Conv2d | None = None
        if features:
            self.feature_mix = nn.Conv2d(channels, features, 1)
            self.mix_act = nn.ReLU6()
        self.classifier = nn.Linear(features or channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Without norms PyTorch's default shrinks the signal in every layer: constant logits.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits (N, num_classes)."""
        x = self.blocks(self.first_act(self.first_conv(x)))
        if self.feature_mix is not None:
            x = self.mix_act(self.feature_mix(x))
        logits: Tensor = self.classifier(x.mean((2, 3)))
        return logits
