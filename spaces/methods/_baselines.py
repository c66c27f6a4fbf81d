"""What everyone compares with: the head, biases, norms, the last convolution, or everything."""

from ...core.errors import InputError
from ..policy import LayerUpdate, UpdatePolicy
from ..trace import Trace
from ._common import bias_updates, make_policy, norm_updates, parameter_updates, weighted


def last(trace: Trace) -> UpdatePolicy:
    """The classifier alone.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> ts.methods.last(trace).describe()
        'last: trains the classifier'
    """
    return make_policy(trace, "last")


def last_conv(trace: Trace) -> UpdatePolicy:
    """The last convolution's weight, and the classifier: TinyTrain's baseline LastLayer.

    Raises:
        InputError: The backbone has no convolution.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> ts.methods.last_conv(trace).describe()
        'last-conv: trains the classifier and 1 whole weight'
    """
    convs = [layer for layer in weighted(trace) if layer.kind == "conv"]
    if not convs:
        raise InputError(f"{trace.name} has no convolution")
    return make_policy(trace, "last-conv", [LayerUpdate(name=convs[-1].name, weight="all")])


def bias(trace: Trace) -> UpdatePolicy:
    """Every bias and norm shift, and the classifier: TinyTL-B.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> ts.methods.bias(trace).describe()
        'bias: trains the classifier and 52 norm shifts'
    """
    return make_policy(trace, "bias", bias_updates(trace.layers), norm_updates(trace.layers))


def norm_last(trace: Trace) -> UpdatePolicy:
    """Scale and shift of every norm, and the classifier: TinyTL's Norm+Last.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> ts.methods.norm_last(trace).describe()
        'norm+last: trains the classifier, 52 norm shifts and 52 norm scales'
    """
    return make_policy(trace, "norm+last", (), norm_updates(trace.layers, scale=True))


def full(trace: Trace) -> UpdatePolicy:
    """Everything, with the norms' statistics: full fine-tuning.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> policy = ts.methods.full(trace)
        >>> len(policy.layers), len(policy.norms)
        (52, 52)
    """
    layers = (LayerUpdate(name=layer.name, weight="all", bias=layer.bias) for layer in weighted(trace))
    norms = norm_updates(trace.layers, scale=True, statistics=True)
    return make_policy(trace, "full", layers, norms, parameter_updates(trace.layers))
