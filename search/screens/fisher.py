"""Fisher information of tensors: the squared gradient of the support loss.

Fisher pruning (Theis et al. 2018) ranks what a network may lose by the square of its gradient, TinyTrain (Kwon et al.
2024) what is to be trained. Both sum the squares over single images; here the gradient of the mean loss is squared.
"""

from .base import AdditiveScore
from .collect import Values
from .loss import loss_gradients
from .parts import divide
from .probe import probe
from .task import ScreenTask

#: Most images that gradients are taken of.
IMAGES = 256


def fisher(task: ScreenTask) -> AdditiveScore:
    """Score tensors by the sum of the squares of their gradient.

    The head is that of class prototypes of all images (Snell et al. 2017), and the loss is that of the same images, at
    most `IMAGES` of them. Where that head fits them so well that the loss has no gradient, as it does where every class
    has one image, all values are 0. Lite residual modules have values as `probe` says.

    Args:
        task: The network and its images.
    """
    (support,) = divide(task.labels, 1, task.seed)
    network, seen = probe(task, support), support[:IMAGES]
    values = Values(task.trace)
    for (row, part), gradient in loss_gradients(network, task.trace, task.images[seen], task.labels[seen]).items():
        values.add(row, part, float(gradient.square().sum()))
    return values.score()
