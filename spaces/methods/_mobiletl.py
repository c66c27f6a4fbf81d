"""MobileTL (Chiang et al., AAAI 2023, arXiv 2212.03246): the top blocks, with sign masks."""

from ...core.errors import InputError
from ..operations import SIGN_MASK
from ..policy import LayerUpdate, NormUpdate, UpdatePolicy
from ..trace import Trace
from ._common import make_policy, norm_updates, parameter_updates


def mobiletl(trace: Trace, blocks: int = 3) -> UpdatePolicy:
    """MobileTL (Chiang et al. 2023): the top blocks and the classifier.

    In a trained block all weights train, the norms train their shift alone except the last, which trains all and its
    statistics, and activations keep a sign mask.

    Args:
        trace: The backbone.
        blocks: How many of the top blocks train; 1 to 5 in the paper.

    Raises:
        InputError: The backbone has not that many blocks.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> policy = ts.methods.mobiletl(trace, 2)
        >>> len(policy.layers), len(policy.sign_masks)
        (6, 4)
    """
    if not 1 <= blocks <= len(trace.blocks):
        raise InputError(f"{trace.name} has {len(trace.blocks)} blocks: mobiletl can train 1 to {len(trace.blocks)}")
    first = len(trace.blocks) - blocks
    inside = [layer for layer in trace.layers if layer.block >= first]
    layers = [
        LayerUpdate(name=layer.name, weight="all", bias=layer.bias)
        for layer in inside
        if layer.kind in ("conv", "linear")
    ]
    norms: list[NormUpdate] = []
    for index in range(first, len(trace.blocks)):
        found = [layer for layer in inside if layer.block == index and layer.kind == "norm"]
        norms += norm_updates(found[:-1])
        norms += norm_updates(found[-1:], scale=True, statistics=True)
    masks = [layer.name for layer in inside if layer.kind == "act" and layer.op in SIGN_MASK]
    policy = make_policy(trace, f"mobiletl-{blocks}", layers, norms, parameter_updates(inside))
    return policy.model_copy(update={"sign_masks": tuple(masks)})
