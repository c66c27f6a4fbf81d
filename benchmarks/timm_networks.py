"""Networks of timm: the bytes that policies keep against those predicted, and gradients against PyTorch's.

Run: OMP_NUM_THREADS=1 python benchmarks/timm_networks.py [NAME ...] (needs timm)

Random weights, 64 px, batches of 2. Bytes are those of `last`, `bias`, `full` and two random policies. Gradients are
those of `full` on frozen statistics, in double precision: the largest difference of any parameter, as a share of its
largest gradient. A network that is refused is printed with the reason.
"""

import sys
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import nn

import tinysearch as ts
from tinysearch.core.errors import TinySearchError

#: Those that are accepted, and four that are not yet.
NAMES = (
    *("mobilenetv3_small_050", "mnasnet_050", "regnetx_002", "mobilenetv4_conv_small", "tinynet_e", "mobileone_s0"),
    *("efficientnet_lite0", "convnext_atto", "ghostnet_050", "vit_tiny_patch16_224", "poolformer_s12"),
)
SIZE, BATCH = 64, 2


def compare(network: nn.Module) -> str:
    """What is to be said of a network."""
    images, labels = torch.randn(BATCH, 3, SIZE, SIZE), torch.arange(BATCH)
    trace = ts.trace(network, (3, SIZE, SIZE))
    space = ts.UpdateSpace(trace)
    policies = [ts.methods.last(trace), ts.methods.bias(trace), ts.methods.full(trace)]
    policies += [space.decode(row) for row in space.sample(2, 3)]
    measured = [ts.measure(ts.apply(network, policy), images, labels) for policy in policies]
    off = [result.saved_bytes - (result.predicted_bytes or 0) for result in measured]
    return f"bytes kept less those predicted {off}, gradients {gradients(network, trace, images, labels):.0e}"


def gradients(network: nn.Module, trace: ts.Trace, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The largest relative difference of a gradient from the network's own."""
    full = ts.methods.full(trace)
    frozen = tuple(norm.model_copy(update={"statistics": False}) for norm in full.norms)
    double = deepcopy(network).double()
    model = ts.apply(double, full.model_copy(update={"norms": frozen}))
    for each in (model, double):
        F.cross_entropy(each(images.double()), labels).backward()
    own = dict(model.named_parameters())
    return max(
        float((own[name].grad - theirs.grad).abs().max() / theirs.grad.abs().max().clamp_min(1e-12))
        for name, theirs in double.named_parameters()
    )


def main() -> None:
    """Print a line for each network."""
    import timm

    torch.manual_seed(0)
    for name in sys.argv[1:] or NAMES:
        network = timm.create_model(name, pretrained=False, num_classes=10).eval()
        try:
            said = compare(network)
        except TinySearchError as error:
            said = f"refused: {error}"
        print(f"{name:24} {said}", flush=True)


if __name__ == "__main__":
    main()
