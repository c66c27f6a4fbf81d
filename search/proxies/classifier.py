"""The classifier of a network: what it reads of an image, and its values.

It is a linear layer, or a convolution that stands for one: with a kernel of one pixel, over positions that are averaged
before or behind it, or with a kernel as large as the map. All of these give W f + b for one vector f of an image.
"""

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, fx, nn

from ...core.errors import UnsupportedError
from ...spaces.engine.layers import MaskedActivation
from ...spaces.graph import node_name

Module = TypeVar("Module", bound=nn.Module)

#: Share of the logits that may be another's than the classifier's.
OTHERS = 0.02


class Head(NamedTuple):
    """A linear head: weight (classes, D) and bias (classes,)."""

    weight: Tensor
    bias: Tensor


def head_input(graph: fx.GraphModule, head: str) -> str | None:
    """Name of the operation whose output a classifier reads; None where it reads the network's input."""
    below = _node(graph, head).all_input_nodes[0]
    return None if below.op == "placeholder" else node_name(below)


def clipped(graph: fx.GraphModule, head: str) -> bool:
    """Whether a ReLU follows a classifier, as in SqueezeNet."""
    readers = [graph.get_submodule(str(user.target)) for user in _node(graph, head).users if user.op == "call_module"]
    return any(isinstance(reader, MaskedActivation) and reader.op == "relu" for reader in readers)


def _node(graph: fx.GraphModule, head: str) -> fx.Node:
    (node,) = graph.graph.find_nodes(op="call_module", target=head)
    assert isinstance(node, fx.Node)
    return node


def vectors(features: Tensor, count: int, classifier: nn.Module) -> Tensor:
    """What a classifier reads, as one vector for each image, (count, D).

    Args:
        features: What it reads.
        count: Number of images.
        classifier: The classifier.

    Raises:
        UnsupportedError: Its first axis is not that of the images, or it looks at parts of a map.
    """
    if len(features) == count:
        if isinstance(classifier, nn.Linear):
            return features.reshape(count, -1, features.shape[-1]).mean(1)
        if isinstance(classifier, nn.Conv2d) and classifier.kernel_size == (1, 1):
            return features.flatten(2).mean(2)
        if isinstance(classifier, nn.Conv2d) and classifier.kernel_size == features.shape[2:]:
            return features.flatten(1)
    raise UnsupportedError(
        f"the classifier, a {type(classifier).__name__}, reads {tuple(features.shape)} of {count} images, which is no "
        "vector of each: end the network in a pooling, a flattening and an nn.Linear"
    )


def set_head(model: Module, name: str, head: Head) -> Module:
    """Copy values into the classifier of a model, in place; gives the model back."""
    classifier = model.get_submodule(name)
    assert isinstance(classifier, nn.Linear | nn.Conv2d)
    with torch.no_grad():
        classifier.weight.copy_(head.weight.view_as(classifier.weight))
        if classifier.bias is not None:
            classifier.bias.copy_(head.bias)
    return model


@torch.no_grad()
def check_answers(model: nn.Module, name: str, images: Tensor, features: Tensor) -> None:
    """Refuse a network that does not answer with what its classifier gives, up to a factor and what all classes share.

    Args:
        model: The network in evaluation mode; its head is replaced.
        name: Qualified name of its classifier.
        images: Some images.
        features: What the classifier reads of them, a vector each.

    Raises:
        UnsupportedError: Something is added to the classifier's answers, or they are scaled or clipped, class by class.
    """
    classifier = model.get_submodule(name)
    generator = torch.Generator().manual_seed(0)
    classes = len(classifier.get_parameter("weight"))
    drawn = torch.randn(classes, features.shape[1] + 1, generator=generator).to(features)
    size = features.norm(dim=1).mean().clamp_min(1e-12)
    # Far above zero, where no ReLU clips.
    head = Head(drawn[:, 1:] / size, drawn[:, 0] + 100)
    bias = 0 if getattr(classifier, "bias", None) is None else head.bias
    expected = features @ head.weight.T + bias
    found = set_head(model, name, head)(images)
    expected, found = (values - values.mean(1, keepdim=True) for values in (expected, found))
    factor = (expected * found).sum() / expected.square().sum().clamp_min(1e-12)
    if (found - factor * expected).norm() > OTHERS * found.norm() or (classes > 1 and factor <= 0):
        raise UnsupportedError(
            f"the network's answers are not those of its classifier {name} alone, or of its mean over positions, so "
            "that it cannot start from class prototypes: let nothing but a mean stand behind it; where two classifiers "
            "are added up, set the weights and biases of the other one to zero"
        )
