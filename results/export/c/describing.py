"""What an operation does, in words, for the comment in front of its call."""

from .network import Network

#: Operations in words.
_WORDS = {
    "batch": "batch norm",
    "group": "group norm",
    "relu": "ReLU",
    "relu6": "ReLU6",
    "hardswish": "hard swish",
    "silu": "SiLU",
    "hardsigmoid": "hard sigmoid",
    "sigmoid": "sigmoid",
    "add": "sum",
    "mul": "squeeze and excite",
    "mean": "mean over the map",
    "adaptiveavgpool2d": "mean over the map",
    "avgpool2d": "average pooling",
    "interpolate": "bilinear interpolation",
}


def describe(network: Network, row: int) -> str:
    """A row in words, with its shapes.

    Example: `features.1.conv.0.0: depthwise 3x3 convolution, 8x48x48`.
    """
    layer = network.layer(row)
    sizes = "x".join(map(str, layer.out_shape))
    if layer.kind == "linear":
        return f"{layer.name}: linear layer, {layer.in_channels} to {layer.out_channels}"
    if layer.in_shape != layer.out_shape and layer.kind in ("conv", "other") and layer.op != "mul":
        sizes = f"{'x'.join(map(str, layer.in_shape))} to {sizes}"
    if layer.kind == "conv":
        kernel = f"{layer.kernel[0]}x{layer.kernel[1]}"
        kind = "depthwise " if layer.depthwise else "grouped " if layer.groups > 1 else ""
        return f"{layer.name}: {kind}{kernel} convolution, {sizes}"
    return f"{layer.name}: {_WORDS.get(layer.op, layer.op)}, {sizes}"
