"""The methods by name, and the policies that each has for a backbone.

`METHODS` has them; a package adds its own by an entry point `tinysearch.methods`.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...core.errors import InputError, TinySearchError
from ...core.registry import BUILT_IN, Entry, Registry, one_line
from ..policy import UpdatePolicy
from ..trace import Trace
from ._baselines import bias, full, last, last_conv, norm_last
from ._mobiletl import mobiletl
from ._sparse_update import SCHEMES, published_name, sparse_update
from ._tinytl import tinytl
from ._tinytrain import tinytrain


@dataclass(frozen=True, slots=True)
class Method:
    """A method: a family of policies.

    Attributes:
        name: What the family is called.
        summary: What it is, in a line.
        policies: The policies that a backbone can take, each with a `method` of its own; None where it needs data.
        with_data: Likewise of a method that needs data, from the trace, the network with a head that fits the labels,
            images (N, C, H, W), normalised, and their labels (N,).
        seeds: Whether every search begins with its policies.

    Example:
        >>> import tinysearch as ts
        >>> only_head = ts.methods.Method("only-head", "the head", lambda trace: [ts.methods.last(trace)])
        >>> only_head.needs_data
        False
    """

    name: str
    summary: str
    policies: Callable[[Trace], Iterable[UpdatePolicy]] | None = None
    with_data: Callable[[Trace, nn.Module, Tensor, Tensor], Iterable[UpdatePolicy]] | None = None
    seeds: bool = True

    def __post_init__(self) -> None:
        if (self.policies is None) == (self.with_data is None):
            raise ValueError(f"method {self.name!r}: either `policies` or `with_data` must be given")

    @property
    def needs_data(self) -> bool:
        """Whether its policies depend on images of the task."""
        return self.with_data is not None


def _tinytl(trace: Trace) -> Iterator[UpdatePolicy]:
    if any(block.lite for block in trace.blocks[1:]):
        yield tinytl(trace, "L")
        yield tinytl(trace, "L+B")


def _mobiletl(trace: Trace) -> Iterator[UpdatePolicy]:
    return (mobiletl(trace, blocks) for blocks in (1, 2, 3, 5) if blocks <= len(trace.blocks))


def _sparse_update(trace: Trace) -> Iterator[UpdatePolicy]:
    return (sparse_update(trace, number) for number in range(len(SCHEMES.get(published_name(trace), ()))))


def _last_conv(trace: Trace) -> Iterator[UpdatePolicy]:
    if any(layer.kind == "conv" for layer in trace.layers):
        yield last_conv(trace)


def _built_in() -> Iterator[Method]:
    yield Method("last", "The classifier alone", lambda trace: [last(trace)])
    yield Method("bias", "Every bias and norm shift, and the classifier", lambda trace: [bias(trace)])
    yield Method("norm+last", "Scale and shift of every norm, and the classifier", lambda trace: [norm_last(trace)])
    yield Method("full", "Everything, with the norms' statistics", lambda trace: [full(trace)])
    yield Method("tinytl", "Lite residual modules, with or without biases (Cai et al. 2020)", _tinytl)
    yield Method("mobiletl", "The top blocks, with sign masks (Chiang et al. 2023)", _mobiletl)
    yield Method("sparse-update", "The last biases, and channels of some weights (Lin et al. 2022)", _sparse_update)
    yield Method("last-conv", "The last convolution and the classifier: TinyTrain's LastLayer", _last_conv, seeds=False)
    yield Method(
        "tinytrain",
        "Output channels chosen by the Fisher information of the task (Kwon et al. 2024)",
        with_data=lambda trace, model, images, labels: [tinytrain(trace, model, images, labels)],
    )


def _check(thing: Any) -> None:
    if not isinstance(thing, Method):
        raise TypeError(f"a {type(thing).__name__}, where a Method is needed")


#: All methods, by name.
METHODS: Registry[Method] = Registry("method", [Entry.of(each.name, each) for each in _built_in()], _check)


def named(trace: Trace, *, seeds: bool = True) -> dict[str, UpdatePolicy]:
    """Every policy of a method that this backbone can take, by name; those that need data are `named_with_data`.

    Args:
        trace: The backbone.
        seeds: Whether to leave out the methods that no search begins with.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> list(ts.methods.named(trace))[:5]
        ['last', 'bias', 'norm+last', 'full', 'tinytl-L']
    """
    return _collect(trace, lambda method: method.policies and method.policies(trace), seeds)


def named_with_data(trace: Trace, model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, UpdatePolicy]:
    """Every policy of a method that needs data, by name.

    Args:
        trace: The backbone.
        model: The backbone with a head that fits the labels; left unchanged.
        images: Images of the task, (N, C, H, W), normalised.
        labels: Their labels, (N,).

    Example:
        >>> import torch
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> images, labels = torch.linspace(-1, 1, 8 * 3072).view(8, 3, 32, 32), torch.arange(8)
        >>> list(ts.methods.named_with_data(trace, backbone, images, labels))
        ['tinytrain']
    """
    return _collect(trace, lambda method: method.with_data and method.with_data(trace, model, images, labels), True)


def find(trace: Trace, name: str) -> UpdatePolicy:
    """The policy of a name.

    Raises:
        InputError: No method that needs no data has a policy of that name for this backbone.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> ts.methods.find(trace, "mobiletl-1").method
        'mobiletl-1'
    """
    policies = named(trace, seeds=False)
    if name not in policies:
        raise InputError(f"no method named {name!r:.60} for {trace.name}: there are {', '.join(policies)}")
    return policies[name]


def _collect(
    trace: Trace, policies_of: Callable[[Method], Iterable[UpdatePolicy] | None], seeds: bool
) -> dict[str, UpdatePolicy]:
    """The policies of all methods; a package's method that fails is left out with a warning."""
    found: dict[str, UpdatePolicy] = {}
    for name, method in METHODS.loaded().items():
        if seeds and not method.seeds:
            continue
        origin = METHODS[name].origin
        try:
            added = {policy.method or "": policy for policy in policies_of(method) or ()}
            _require_fit(trace, added, found)
        except Exception as error:  # whatever the package's own code raises
            if origin == BUILT_IN:
                raise
            reason = str(error) if isinstance(error, TinySearchError) else one_line(error)
            warnings.warn(f"the method {name!r} of {origin} is left out for {trace.name}: {reason}", stacklevel=3)
            continue
        found |= added
    return found


def _require_fit(trace: Trace, added: dict[str, UpdatePolicy], found: dict[str, UpdatePolicy]) -> None:
    for name, policy in added.items():
        if not name or name in found:
            raise InputError(f"one of its policies has {f'the name {name!r}, which is taken' if name else 'no name'}")
        if (policy.backbone, policy.input_shape) != (trace.name, trace.input_shape):
            raise InputError(f"its policy {name!r} is for {policy.backbone} at {policy.input_shape}")
