"""What everyone compares with: the head, biases, norms, the last convolution, or everything."""

from ...core.errors import InputError
from ..policy import LayerUpdate, UpdatePolicy
from ..trace import Trace
from ._common import bias_updates, make_policy, norm_updates, weighted


def last(trace: Trace) -> UpdatePolicy:
    """The classifier alone."""
    return make_policy(trace, "last")


def last_conv(trace: Trace) -> UpdatePolicy:
    """The last convolution's weight, and the classifier: TinyTrain's baseline LastLayer.

    Raises:
        InputError: The backbone has no convolution.
    """
    convs = [layer for layer in trace.layers if layer.kind == "conv"]
    if not convs:
        raise InputError(f"{trace.name} has no convolution")
    return make_policy(trace, "last-conv", [LayerUpdate(name=convs[-1].name, weight="all")])


def bias(trace: Trace) -> UpdatePolicy:
    """Every bias and norm shift, and the classifier: TinyTL-B."""
    return make_policy(trace, "bias", bias_updates(trace.layers), norm_updates(trace.layers))


def norm_last(trace: Trace) -> UpdatePolicy:
    """Scale and shift of every norm, and the classifier: TinyTL's Norm+Last."""
    return make_policy(trace, "norm+last", (), norm_updates(trace.layers, scale=True))


def full(trace: Trace) -> UpdatePolicy:
    """Everything, with the norms' statistics: full fine-tuning."""
    layers = (LayerUpdate(name=layer.name, weight="all", bias=layer.bias) for layer in weighted(trace))
    return make_policy(trace, "full", layers, norm_updates(trace.layers, scale=True, statistics=True))
