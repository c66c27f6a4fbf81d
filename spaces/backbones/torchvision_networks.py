"""Classification networks of torchvision, `torchvision:NAME`."""

import re
from typing import Any, ClassVar

from torch import Tensor, nn

from .checkpoint import fits, load_into
from .info import IMAGENET, SYMMETRIC, Normalisation
from .library import Facts, Library

#: Second classifiers in the middle of a network, which only its training from scratch looks at.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
#: Those networks that have them. Their published weights want images in [-1, 1]: torchvision maps there from ImageNet's
#: normalisation inside the network, which is the same function with more to compute.
_WITH_AUXILIARY = ("googlenet", "inception_v3")
#: The size of the images is a parameter of these alone.
_IMAGE_SIZE = "vit_"
#: Windows that divide its own size, and hardly another.
_OWN_SIZE = ("maxvit_t",)
#: DenseNet's first files name their layers otherwise.
_DENSE_LAYER = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)")


class Torchvision(Library):
    """The registry of torchvision."""

    package: ClassVar[str] = "torchvision"

    def facts(self, name: str) -> Facts:
        """What the transforms of a network's weights say."""
        weights = self._weights(name)
        sizes: Any = "built" if name.startswith(_IMAGE_SIZE) else "own" if name in _OWN_SIZE else "any"
        if weights is None:
            return Facts(224, IMAGENET, False, sizes)
        transforms = weights.transforms()
        normalisation = Normalisation(tuple(transforms.mean), tuple(transforms.std))
        if name in _WITH_AUXILIARY:
            normalisation = SYMMETRIC
        return Facts(int(transforms.crop_size[0]), normalisation, True, sizes)

    def build(self, name: str, classes: int, size: int | None) -> nn.Module:
        """The network as `torchvision.models.get_model` makes it."""
        self._check(name)
        how: dict[str, Any] = {}
        if name in _WITH_AUXILIARY:
            how = {"aux_logits": False, "transform_input": False, "init_weights": False}
        if size is not None and name.startswith(_IMAGE_SIZE):
            how["image_size"] = size
        try:
            model = self.imported("models").get_model(name, weights=None, num_classes=classes, **how)
        except Exception as error:  # each network of the library fails in a way of its own
            raise self.cannot_build(name, size, error) from error
        assert isinstance(model, nn.Module)
        return model

    def published(self, name: str, classes: int, size: int | None) -> nn.Module:
        """The network with the first weights of it, as `published.py` says why, from torchvision's own cache."""
        weights = self._weights(name)
        if weights is None:
            raise self.unpublished(name)
        model = self.build(name, classes, size)
        try:
            state = weights.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True)
        except Exception as error:  # of the network, of the disk, or of a damaged file
            raise self.unreachable(name, error) from error
        load_into(model, self.converted(model, dict(state)), f"imagenet of torchvision:{name}", classes)
        return model

    def converted(self, model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without auxiliary classifiers, by today's names, and with position embeddings for the network's size."""
        own = model.state_dict()
        state = {_DENSE_LAYER.sub(r"\1\2", name): value for name, value in state.items()}
        if not any(name.startswith(_AUXILIARY) for name in own):
            state = {name: value for name, value in state.items() if not name.startswith(_AUXILIARY)}
        size, patch = getattr(model, "image_size", None), getattr(model, "patch_size", None)
        if size is None or patch is None or fits(model, state):
            return state
        try:
            resized: dict[str, Tensor] = self.imported("models.vision_transformer").interpolate_embeddings(
                size, patch, dict(state)
            )
        except (KeyError, ValueError, RuntimeError):  # of another network: told by `load_into`
            return state
        return resized

    def _check(self, name: str) -> None:
        models = self.imported("models")
        names = models.list_models(module=models)
        if name not in names:
            other = "it is of another task, or quantised, and no classifier of images that can be trained"
            raise self.unknown(name, names, other if name in models.list_models() else "")

    def _weights(self, name: str) -> Any:
        """The first weights of a network, None if there are none."""
        self._check(name)
        return next(iter(self.imported("models").get_model_weights(name)), None)
