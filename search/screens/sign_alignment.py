"""Sign alignment of tensors: how far a first step on some images would lower the loss on others.

Adam's first step moves every value against the sign of its gradient (Kingma and Ba 2015). To first order, and for a
rate of 1, the loss on other images falls by the sum of sign(support gradient) times query gradient.
"""

from .base import AdditiveScore
from .collect import Values
from .loss import loss_gradients
from .parts import divide
from .probe import probe
from .task import ScreenTask

#: Most images of each part that gradients are taken of.
IMAGES = 128


def sign_alignment(task: ScreenTask) -> AdditiveScore:
    """Score tensors by the square root of their alignment, or 0 where it is negative.

    The images are divided into three parts. The head is that of class prototypes of the first (Snell et al. 2017),
    support gradients are taken on the second and query gradients on the third: a head leaves little gradient on images
    that it was fitted to, and of a random sign. Lite residual modules have values as `probe` says.

    Args:
        task: The network and its images.
    """
    fitted, *others = divide(task.labels, 3, task.seed)
    network = probe(task, fitted)
    support, query = (
        loss_gradients(network, task.trace, task.images[part[:IMAGES]], task.labels[part[:IMAGES]]) for part in others
    )
    values = Values(task.trace)
    for (row, part), gradient in support.items():
        alignment = (gradient.sign() * query[row, part]).sum()
        values.add(row, part, float(alignment.clamp_min(0).sqrt()))
    return values.score()
