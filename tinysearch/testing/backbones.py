"""What every backbone must do."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from ..devices.measure import measure
from ..spaces import methods
from ..spaces.backbones.custom import DEFAULT_INPUT_SIZE
from ..spaces.engine.apply import apply
from ..spaces.policy import UpdatePolicy
from ..spaces.space import UpdateSpace
from ..spaces.trace import Trace, trace
from .networks import images

#: Samples of the steps that are measured; two, since some operations are alike for one.
BATCH = 2


class BackboneSuite:
    """Tests of a backbone; the fixture `builder` gives the function that makes it of a number of classes."""

    @pytest.fixture
    def builder(self) -> Callable[[int], nn.Module]:
        """The function."""
        raise NotImplementedError("give the backbone's function by a fixture of this name")

    @pytest.fixture
    def size(self, builder: Callable[[int], nn.Module]) -> int:
        """Side of the images that it is tried with, in pixels; a smaller one than its own makes the tests faster."""
        return int(getattr(builder(2), "input_size", DEFAULT_INPUT_SIZE))

    @pytest.fixture
    def model(self, builder: Callable[[int], nn.Module]) -> nn.Module:
        """The network with three classes, in evaluation mode."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return builder(3).eval()

    @pytest.fixture
    def found(self, model: nn.Module, size: int) -> Trace:
        """Its trace."""
        return trace(model, (3, size, size))

    @pytest.mark.parametrize("classes", [2, 7])
    def test_it_maps_images_to_logits(self, builder: Callable[[int], nn.Module], size: int, classes: int) -> None:
        """Of any number of classes, and of one image as of several."""
        model = builder(classes).eval()
        with torch.no_grad():
            logits = model(images(3, size))
            assert logits.shape == (3, classes)
            assert bool(torch.isfinite(logits).all())
            torch.testing.assert_close(model(images(3, size)[:1]), logits[:1], rtol=1e-4, atol=1e-4)

    def test_it_traces_completely(self, model: nn.Module, found: Trace) -> None:
        """Every parameter is in a row of the trace, and the head is one of the classes."""
        assert found.params == sum(parameter.numel() for parameter in model.parameters())
        named = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
        assert named <= {layer.name for layer in found.layers}
        assert found.layers[found.head].out_channels == 3
        assert found.macs_forward > 0

    def test_it_is_the_same_network_at_every_call(self, builder: Callable[[int], nn.Module]) -> None:
        """The same names and shapes; values are its own affair."""
        first, again = ({name: tensor.shape for name, tensor in builder(3).state_dict().items()} for _ in range(2))
        assert first == again

    def test_what_is_kept_is_what_is_predicted(self, model: nn.Module, found: Trace, size: int) -> None:
        """To the byte, in every layer, for published methods and random policies."""
        for policy in policies(found):
            labels = torch.arange(BATCH) % 3
            result = measure(apply(model, policy), images(BATCH, size), labels, repeats=1)
            assert result.as_predicted, (policy.method or policy.hash, result.by_layer())

    def test_applied_policies_answer_as_the_backbone_and_train(self, model: nn.Module, found: Trace, size: int) -> None:
        """Before training the outputs are the backbone's, and what trains gets a finite gradient."""
        batch = images(BATCH, size)
        with torch.no_grad():
            expected = model(batch)
        for policy in policies(found):
            applied = apply(model, policy)
            if not any(norm.statistics for norm in policy.norms):
                torch.testing.assert_close(applied(batch), expected, rtol=1e-3, atol=1e-4)
            nn.functional.cross_entropy(applied(batch), torch.arange(BATCH) % 3).backward()  # type: ignore[no-untyped-call]
            gradients = [p.grad for p in applied.parameters() if p.requires_grad]
            assert all(gradient is not None and bool(torch.isfinite(gradient).all()) for gradient in gradients)
            assert any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def policies(found: Trace) -> Iterator[UpdatePolicy]:
    """Published methods and random policies of a network."""
    yield from methods.named(found).values()
    space = UpdateSpace(found)
    for row in space.sample(3, 0):
        yield space.decode(row)
