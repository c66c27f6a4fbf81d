"""MobileNetV3 (Howard et al., ICCV 2019, arXiv 1905.02244) with torchvision's parameter names.

Activations are modules and never in place, so that a tracer sees each of them and a policy can replace it.
"""

from torch import Tensor, nn

from .mobilenetv2 import make_divisible

#: (kernel, expanded channels, channels, squeeze and excite, hard swish, stride) of each block at width 1:
#: tables 1 and 2 of the paper.
LARGE_BLOCKS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
SMALL_BLOCKS = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)


def conv_norm_act(
    in_channels: int,
    out_channels: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = None,
) -> nn.Sequential:
    """Convolution, batch norm and, where given, an activation, numbered 0, 1, 2 as in torchvision."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate computed from the means of all channels (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        gate: Tensor = self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))
        return gate * x


class InvertedResidual(nn.Module):
    """Expand, depthwise, squeeze and excite, project; with a skip where shapes agree (stride 1)."""

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int,
        squeeze: bool,
        hard_swish: bool,
    ) -> None:
        super().__init__()
        self.use_res_connect = stride == 1 and in_channels == out_channels
        activation: type[nn.Module] = nn.Hardswish if hard_swish else nn.ReLU
        layers: list[nn.Module] = []
        if hidden != in_channels:
            layers.append(conv_norm_act(in_channels, hidden, activation=activation))
        layers.append(conv_norm_act(hidden, hidden, kernel, stride, groups=hidden, activation=activation))
        if squeeze:
            layers.append(SqueezeExcitation(hidden, make_divisible(hidden // 4)))
        layers.append(conv_norm_act(hidden, out_channels))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, ceil(H / stride), ceil(W / stride))."""
        output: Tensor = self.block(x)
        return x + output if self.use_res_connect else output


class MobileNetV3(nn.Module):
    """MobileNetV3-Large or -Small at any width.

    Args:
        large: The large variant; otherwise the small one.
        width: Multiplier of all channel counts, the classifier's hidden layer included.
        num_classes: Outputs of the classifier.
    """

    def __init__(self, *, large: bool, width: float = 1.0, num_classes: int = 1000) -> None:
        super().__init__()
        channels = make_divisible(16 * width)
        layers: list[nn.Module] = [conv_norm_act(3, channels, 3, 2, activation=nn.Hardswish)]
        for kernel, hidden, out, squeeze, hard_swish, stride in LARGE_BLOCKS if large else SMALL_BLOCKS:
            layers.append(
                InvertedResidual(
                    channels,
                    make_divisible(hidden * width),
                    channels := make_divisible(out * width),
                    kernel=kernel,
                    stride=stride,
                    squeeze=squeeze,
                    hard_swish=hard_swish,
                )
            )
        last = 6 * channels
        layers.append(conv_norm_act(channels, last, activation=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        classifier_hidden = make_divisible((1280 if large else 1024) * width)
        self.classifier = nn.Sequential(
            nn.Linear(last, classifier_hidden),
            nn.Hardswish(),
            # Kept, at rate 0, only so that the last layer is classifier.3 as in torchvision.
            nn.Dropout(0.0),
            nn.Linear(classifier_hidden, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits (N, num_classes)."""
        x = self.features(x).mean((2, 3))
        logits: Tensor = self.classifier(x)
        return logits
