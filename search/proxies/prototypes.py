"""Class prototypes: the head that a network starts a new task with (Snell et al. 2017)."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from ...spaces.engine.apply import assemble
from ...spaces.engine.split import prefix
from ...spaces.policy import UpdatePolicy
from .classifier import Head, check_answers, clipped, head_input, set_head, vectors

#: Logits of the prototype head for a squared distance as large as the mean within a class.
SHARPNESS = 10.0
#: A distance within classes that is so small a share of that between them is rounding.
TOO_CLOSE = 1e-6
#: Images run at once where no gradient is needed.
CHUNK = 100
#: Images that a network is seen to answer by its classifier.
CHECKED = 4


class FrozenBackbone:
    """A backbone of which nothing trains, computed as the frozen part of every applied model is, to the last bit.

    Args:
        backbone: The pretrained network, unchanged by this.
        head: Qualified name of its classifier.
        input_shape: Shape of its images, (C, H, W).

    Attributes:
        module: A copy in evaluation mode. Its memory format is channels last, the order that convolutions on a CPU
            compute in: no time is lost to reordering.
    """

    def __init__(self, backbone: nn.Module, head: str, input_shape: tuple[int, ...]) -> None:
        self.module = deepcopy(backbone).eval()
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stubs
        self._head = head
        self._checked = False
        self._graph = assemble(self.module, UpdatePolicy(backbone="frozen", input_shape=input_shape, head=head))

    def features(self, boundary: str, parts: Sequence[Tensor]) -> list[Tensor]:
        """What comes out of the operation `boundary`, for several sets of images (N, C, H, W)."""
        until = prefix(self._graph, boundary)
        return [_run_chunks(until, images) for images in parts]

    def prototypes(self, images: Tensor, labels: Tensor) -> Head:
        """The head of class prototypes for images (N, C, H, W) and their labels (N,).

        Raises:
            UnsupportedError: The network's answers are not those of its classifier on one vector of an image.
        """
        classifier = self.module.get_submodule(self._head)
        below = head_input(self._graph, self._head)
        read = images if below is None else self.features(below, [images])[0]
        features = vectors(read, len(images), classifier)
        if not self._checked:
            check_answers(self._graph.eval(), self._head, images[:CHECKED], features[:CHECKED])
            self._checked = True
        head = prototype_head(features, labels, len(classifier.get_parameter("weight")))
        if clipped(self._graph, self._head):
            # What all classes share changes no answer; so much of it that nothing of these images is clipped.
            set_head(self._graph, self._head, head)
            (logits,) = self.features(self._head, [images])
            head = Head(head.weight, head.bias - logits.min().clamp_max(0))
        return head


def prototype_head(features: Tensor, labels: Tensor, classes: int) -> Head:
    """The linear head whose logits are the negative squared distances to the class means, up to a constant.

    -|f - c|^2 = 2 c.f - |c|^2 - |f|^2, and the last term is the same for every class (Snell et al. 2017, section 2.4).
    Distances are in units of the mean squared distance of a sample to its own prototype, so that the scale of the
    features does not decide how sure the head starts. Where no class has two samples that differ, they are in units of
    the mean squared distance of a prototype to the mean of all.

    Args:
        features: (N, D).
        labels: (N,) integers.
        classes: How many there are. One without a sample stands at the mean of all.

    Returns:
        Weight (classes, D) and bias (classes,).
    """
    groups = (features[labels == c] for c in range(classes))
    means = torch.stack([(group if len(group) else features).mean(0) for group in groups])
    within = (features - means[labels]).square().sum(1).mean()
    between = (means - means.mean(0)).square().sum(1).mean()
    unit = within if within > TOO_CLOSE * between else between
    temperature = SHARPNESS / unit.clamp_min(1e-12)
    return Head(2 * temperature * means, -temperature * means.square().sum(1))


@torch.no_grad()
def _run_chunks(model: nn.Module, images: Tensor) -> Tensor:
    model.eval()
    return torch.cat([model(chunk) for chunk in torch.split(images, CHUNK)])
