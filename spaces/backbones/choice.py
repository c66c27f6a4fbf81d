"""Which backbone to build and which weights to give it: what was asked for, or what is published."""

from ...core.errors import InputError
from .catalogue import backbone_info
from .libraries import is_library
from .published import BUNDLED_BACKBONE

#: What asks for random weights.
NO_WEIGHTS = "none"


def default_weights(backbone: str) -> str | None:
    """What is published for a backbone: `bundled`, `imagenet`, or None.

    Raises:
        InputError: There is no such backbone.
    """
    published = backbone_info(backbone).weights
    return next((name for name in ("bundled", "imagenet") if name in published), None)


def find_weights(backbone: str, stated: str | None = None, *, for_costs: bool = False) -> str | None:
    """The weights to load: those that were asked for, or those that are published for the backbone.

    Args:
        backbone: The backbone's name.
        stated: What was asked for: `bundled`, `imagenet`, `none` or a file; None leaves the choice to this.
        for_costs: Whether nothing but costs will be asked of the network. Costs do not depend on the values of the
            weights, so without a statement nothing is downloaded and random weights will do.

    Returns:
        What `load_backbone` takes: None for random weights.

    Raises:
        InputError: There is no such backbone; or nothing is published for it, nothing was asked for, and values count.
    """
    if stated == NO_WEIGHTS:
        return None
    if stated is not None:
        return stated
    published = default_weights(backbone)
    if for_costs:
        return published if published == "bundled" else None
    if published is None:
        raise InputError(
            f"no weights are published for {backbone}: give weights=FILE, or weights=none for random ones "
            f"(the default backbone, {BUNDLED_BACKBONE}, brings its own)",
            "weights=FILE",
            "weights=none",
        )
    return published


def named_backbone(stated: str | None, named: str, source: str) -> str:
    """The backbone to build for a policy that someone may have handed on.

    Args:
        stated: The backbone that the user named, if any.
        named: The one that the policy names.
        source: Where the policy is from, for the message.

    Raises:
        InputError: The policy alone names code to run, module:function.
    """
    if stated is None and ":" in named and not is_library(named):
        option = f"backbone={named}"
        raise InputError(f"{source} is of a backbone of someone's own: say that its code may run, by {option}", option)
    return stated or named
