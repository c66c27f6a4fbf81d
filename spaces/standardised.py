"""Weight standardisation (Qiao et al. 2019): convolutions that group norms follow (TinyTL, section 4.1)."""

from torch import Tensor, nn

#: Added to the deviation of a standardised weight (TinyTL, section 4.1, and its authors' code).
STANDARDISATION_EPS = 1e-5


def standardise(weight: Tensor) -> Tensor:
    """Each output channel's weights with mean 0 and deviation 1: (w - mean) / (deviation + eps)."""
    flat = weight.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    standard: Tensor = flat / (flat.std(1, keepdim=True) + STANDARDISATION_EPS)
    return standard.view(weight.shape)


class StandardisedConv2d(nn.Conv2d):
    """`nn.Conv2d` that computes with its weight standardised: per output channel, mean 0 and deviation 1."""

    def __init__(self, conv: nn.Conv2d) -> None:
        geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
        # On the meta device, so that no weights are drawn that are replaced at once.
        super().__init__(conv.in_channels, conv.out_channels, conv.kernel_size, *geometry, device="meta")  # type: ignore[arg-type]
        self.padding_mode = conv.padding_mode
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, C, H, W)."""
        output: Tensor = self._conv_forward(input, standardise(self.weight), self.bias)
        return output
