"""Networks of timm, `timm:NAME` or `timm:NAME.TAG`."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor, nn

from ...core.errors import InputError
from .checkpoint import fits
from .heads import head_names, silence_several_heads
from .info import Normalisation
from .library import Facts, Library

#: Modules of timm whose networks take the size of their images by name, but run at their own alone.
_OWN_SIZE = ("crossvit", "efficientformer")
#: Seconds that the hub is waited for before what is not in its cache counts as out of reach.
_PATIENCE = 3.0


class Timm(Library):
    """The registry of timm."""

    package: ClassVar[str] = "timm"

    def facts(self, name: str) -> Facts:
        """What the configuration of a name's weights says; without a tag those of the first."""
        config = self._config(name)
        module = self.imported().models.model_entrypoint(name.partition(".")[0]).__module__.rpartition(".")[2]
        sizes: Any = ("own" if module in _OWN_SIZE else "built") if config.fixed_input_size else "any"
        normalisation = Normalisation(tuple(config.mean), tuple(config.std))
        return Facts(int(config.input_size[-1]), normalisation, bool(config.has_weights), sizes)

    def build(self, name: str, classes: int, size: int | None) -> nn.Module:
        """The network as `timm.create_model` makes it."""
        model = self._create(name, classes, size)
        silence_several_heads(model, head_names(model, classes))
        return model

    def published(self, name: str, classes: int, size: int | None) -> nn.Module:
        """The network as `timm.create_model(pretrained=True)` makes it, which fits position embeddings to the size."""
        config = self._config(name)
        if not config.has_weights:
            raise self.unpublished(name)
        try:
            with _without_waiting():
                model = self._create(name, classes, size, pretrained=True)
        except InputError as error:
            self._create(name, classes, size)  # what cannot be built at all is not for want of weights
            cause = error.__cause__
            if size is not None and isinstance(cause, RuntimeError) and "state_dict" in str(cause):
                option = f"input_size={config.input_size[-1]}"
                raise InputError(
                    f"the weights of timm:{name} fit no images of {size} pixels: {option}", option
                ) from error
            raise self.unreachable(name, cause if isinstance(cause, Exception) else error) from error
        if config.num_classes != classes:
            silence_several_heads(model, head_names(model, classes))
        return model

    def converted(self, model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Older names, and position embeddings of another size, as timm reads its own files."""
        convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        if convert is None or fits(model, state):
            return state
        try:
            found = dict(convert(dict(state), model))
        except Exception:  # made for the files of this network: what is of another one is told by `load_into`
            return state
        return found if all(isinstance(value, Tensor) for value in found.values()) else state

    def _config(self, name: str) -> Any:
        """The configuration of a name, checked: what else timm takes for names are folders and addresses."""
        timm = self.imported()
        bare, _, tag = name.partition(".")
        if not bare.isidentifier() or not timm.is_model(bare):
            raise self.unknown(name, timm.list_models())
        try:
            config = timm.get_pretrained_cfg(name if tag else bare)
        except RuntimeError:
            tags = [entry for entry in timm.list_models(bare, include_tags=True) if "." in entry]
            raise self.unknown(name, tags, f"there are no weights {tag!r:.40} of it") from None
        if config is None:
            current = timm.models.get_deprecated_models().get(bare)
            if current:
                raise InputError(f"backbone timm:{name} is an old name: take timm:{current}")
            config = timm.models.PretrainedCfg()
        if len(config.mean) != 3 or len(config.std) != 3 or config.input_size[0] != 3:
            raise InputError(f"backbone timm:{name} takes images of {config.input_size[0]} channels: three are given")
        return config

    def _create(self, name: str, classes: int, size: int | None, **how: Any) -> nn.Module:
        timm = self.imported()
        if size is not None:
            how["img_size"] = size
        try:
            model = timm.create_model(name, num_classes=classes, **how)
            if getattr(model, "num_classes", classes) != classes:
                if not hasattr(model, "reset_classifier"):
                    raise TypeError("it gives features, and has no classifier")
                model.reset_classifier(classes)
        except Exception as error:  # each network of the library fails in a way of its own
            raise self.cannot_build(name, size, error) from error
        assert isinstance(model, nn.Module)
        return model


@contextmanager
def _without_waiting() -> Iterator[None]:
    """Ask the hub once whether it is there; where it is not, look at its cache instead of trying for a minute."""
    if "huggingface_hub" not in sys.modules:  # timm has imported it if it is there
        yield
        return
    constants: Any = importlib.import_module("huggingface_hub.constants")
    import requests

    before = constants.HF_HUB_OFFLINE
    try:
        if not before:
            try:
                requests.head(constants.ENDPOINT, timeout=_PATIENCE)
            except requests.RequestException:
                constants.HF_HUB_OFFLINE = True
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
