"""From the file of a delta to the file of a plain network's weights."""

from dataclasses import dataclass
from pathlib import Path

from ...core.files import check_output, write_atomically
from ..backbones import load_backbone
from ..backbones.choice import find_weights, named_backbone
from ..policy import UpdatePolicy
from .file import read_delta
from .merging import merge


@dataclass(frozen=True)
class MergedWeights:
    """Weights that were written.

    Attributes:
        path: The .safetensors file.
        policy: What was trained.
        classes: Outputs of the head.
    """

    path: Path
    policy: UpdatePolicy
    classes: int

    @property
    def plain(self) -> bool:
        """Whether `load_backbone` takes them: a network with lite residual modules is another than its backbone."""
        return not self.policy.lite_residuals


def merge_file(
    delta: str | Path, out: str | Path, *, backbone: str | None = None, weights: str | None = None
) -> MergedWeights:
    """Write the weights of the plain network that a delta gives with the backbone that it was trained on.

    Args:
        delta: The delta's file.
        out: The .safetensors file to write.
        backbone: The backbone's name; None takes the one that the delta names, unless that is
            someone's own code.
        weights: `bundled`, `imagenet`, `none` or a file; None takes what is published for the backbone.

    Raises:
        InputError: The delta or a name is wrong, or `out` cannot be written.
        MissingDataError: The backbone's weights are missing.
        ConflictError: The delta was trained on other weights.

    Example:
        >>> import tinysearch as ts
        >>> tuned = ts.finetune("runs/digits", steps=1, test_images=10, delta="step.safetensors")
        >>> ts.merge_file("step.safetensors", "merged.safetensors").classes
        10
    """
    from safetensors.torch import save

    path = Path(out)
    check_output(path, ".safetensors")
    change = read_delta(delta)
    name = named_backbone(backbone, change.policy.backbone, str(delta))
    network = load_backbone(
        name,
        num_classes=change.classes,
        input_size=change.policy.side,
        weights=find_weights(name, weights),
    )
    state = merge(network, change).state_dict()
    # Clones, since tensors that share memory are refused.
    write_atomically(path, save({key: tensor.contiguous().clone() for key, tensor in state.items()}))
    return MergedWeights(path, change.policy, change.classes)
