"""MobileNetV2 (Sandler et al., CVPR 2018, arXiv 1801.04381) with torchvision's parameter names.

Two variants share the code: torchvision's own (symmetric padding, batch-norm eps 1e-5) and that of
TensorFlow and Keras (stride-2 convolutions pad even sizes right and below only, eps 1e-3), so that
checkpoints of either origin give the accuracies that they were published with.
"""

from collections.abc import Iterator

from torch import Tensor, nn

#: (expansion, channels at width 1, repeats, stride of the first) of each stage: table 2 of the paper.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round `value` to a multiple of `divisor`, never below 90 % of it, as the MobileNet authors do."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
    *,
    tf_padding: bool = False,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Convolution, batch norm and ReLU6, numbered 0, 1, 2 as in torchvision."""
    asymmetric = tf_padding and stride == 2
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel,
        stride,
        padding=0 if asymmetric else (kernel - 1) // 2,
        groups=groups,
        bias=False,
    )
    norm = nn.BatchNorm2d(out_channels, eps=eps)
    if asymmetric:
        return PaddedSequential(conv, norm, nn.ReLU6())
    return nn.Sequential(conv, norm, nn.ReLU6())


class PaddedSequential(nn.Sequential):
    """A conv-norm-activation whose 3x3 stride-2 convolution pads as TensorFlow's SAME does."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C_out, ceil(H / 2), ceil(W / 2))."""
        conv, norm, act = self
        # SAME padding of a 3x3 window at stride 2: one zero behind, and one before where the size is odd.
        padded = nn.functional.pad(x, (x.shape[-1] % 2, 1, x.shape[-2] % 2, 1))
        output: Tensor = act(norm(conv(padded)))
        return output


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; with a skip where stride is 1 and the channels agree."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        expansion: int,
        *,
        tf_padding: bool,
        eps: float,
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.use_res_connect = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(conv_norm_act(in_channels, hidden, 1, eps=eps))
        layers += [
            conv_norm_act(hidden, hidden, 3, stride, groups=hidden, tf_padding=tf_padding, eps=eps),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels, eps=eps),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        output: Tensor = self.conv(x)
        return x + output if self.use_res_connect else output


class MobileNetV2(nn.Module):
    """MobileNetV2 at any width.

    Args:
        width: Multiplier of all channel counts; the last feature layer stays at 1280 below width 1.
        num_classes: Outputs of the classifier.
        tf_padding: Pad as TensorFlow does (see the module's text).
        eps: Epsilon of every batch norm.
    """

    def __init__(
        self, width: float = 1.0, num_classes: int = 1000, *, tf_padding: bool = False, eps: float = 1e-5
    ) -> None:
        super().__init__()
        stem = make_divisible(32 * width)
        last = make_divisible(1280 * max(1.0, width))
        blocks = list(self._blocks(stem, width, tf_padding, eps))
        self.features = nn.Sequential(
            conv_norm_act(3, stem, 3, 2, tf_padding=tf_padding, eps=eps),
            *blocks,
            conv_norm_act(make_divisible(STAGES[-1][1] * width), last, 1, eps=eps),
        )
        # torchvision drops 20 % here; on-device fine-tuning runs are short and this keeps them repeatable.
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(last, num_classes))

    @staticmethod
    def _blocks(channels: int, width: float, tf_padding: bool, eps: float) -> Iterator[InvertedResidual]:
        for expansion, base, repeats, first_stride in STAGES:
            for repeat in range(repeats):
                out = make_divisible(base * width)
                stride = first_stride if repeat == 0 else 1
                yield InvertedResidual(channels, out, stride, expansion, tf_padding=tf_padding, eps=eps)
                channels = out

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits (N, num_classes)."""
        x = self.features(x).mean((2, 3))
        logits: Tensor = self.classifier(x)
        return logits
