"""TinyTL (Cai et al., NeurIPS 2020, arXiv 2007.11622): biases, lite residual modules, or both."""

from typing import Literal

from ...core.errors import InputError
from ..policy import UpdatePolicy
from ..space import lite_update
from ..trace import Trace
from ._baselines import bias
from ._common import bias_updates, make_policy, norm_updates


def tinytl(trace: Trace, variant: Literal["B", "L", "L+B"] = "L+B") -> UpdatePolicy:
    """TinyTL (Cai et al. 2020): biases (B), lite residual modules (L), or both, and the classifier.

    Modules stand beside every block but the first, as in the authors' code. In L+B the shift of a module's last norm is
    frozen where the block's own last shift or bias trains.

    Raises:
        InputError: The variant is none of the three, or L is asked for of a backbone without blocks.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> ts.methods.tinytl(trace, "L").describe()
        'tinytl-L: trains the classifier and 16 lite residual modules'
    """
    if variant not in ("B", "L", "L+B"):
        raise InputError(f"TinyTL's variants are B, L and L+B, not {variant!r}")
    if variant == "B":
        return bias(trace).model_copy(update={"method": "tinytl-B"})
    both = variant == "L+B"
    shifted = range(len(trace)) if both else ()
    lite = [lite_update(trace, block, shifted) for block in trace.blocks[1:] if block.lite]
    if not lite:
        raise InputError(f"{trace.name} has no blocks that a lite residual module could stand beside")
    layers, norms = (bias_updates(trace.layers), norm_updates(trace.layers)) if both else ((), ())
    policy = make_policy(trace, f"tinytl-{variant}", layers, norms)
    return policy.model_copy(update={"lite_residuals": tuple(lite)})
