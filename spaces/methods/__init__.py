"""The published methods as points of the space: functions that return update policies.

Each seeds every search and is what a front is judged against. Citations are in README.md; the rules were read in the
papers and, where a paper is silent, in its authors' public code.
"""

from ..policy import UpdatePolicy
from ..trace import Trace
from ._baselines import bias, full, last, last_conv, norm_last
from ._mobiletl import mobiletl
from ._sparse_update import SCHEMES, Scheme, published_name, sparse_update
from ._tinytl import tinytl
from ._tinytrain import tinytrain

__all__ = [
    "SCHEMES",
    "Scheme",
    "bias",
    "full",
    "last",
    "last_conv",
    "mobiletl",
    "named",
    "norm_last",
    "sparse_update",
    "tinytl",
    "tinytrain",
]


def named(trace: Trace) -> dict[str, UpdatePolicy]:
    """Every published method that this backbone can take, by name; TinyTrain, which needs data, is `tinytrain`.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> list(ts.methods.named(trace))[:5]
        ['last', 'bias', 'norm+last', 'full', 'tinytl-L']
    """
    policies = [last(trace), bias(trace), norm_last(trace), full(trace)]
    if any(block.lite for block in trace.blocks[1:]):
        policies += [tinytl(trace, "L"), tinytl(trace, "L+B")]
    policies += [mobiletl(trace, k) for k in (1, 2, 3, 5) if k <= len(trace.blocks)]
    policies += [sparse_update(trace, n) for n in range(len(SCHEMES.get(published_name(trace), ())))]
    return {policy.method or policy.hash: policy for policy in policies}
