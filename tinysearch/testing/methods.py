"""What every method must do."""

import pytest
import torch
from torch import nn

from ..spaces.engine.apply import apply
from ..spaces.methods import Method
from ..spaces.policy import UpdatePolicy
from ..spaces.space import UpdateSpace
from .networks import HeadOnly, OneConv, SmallNet, images, make, traced

#: Images of the task that a method is given.
SAMPLES = 8


class MethodSuite:
    """Tests of a method; the fixture `method` gives it."""

    @pytest.fixture
    def method(self) -> Method:
        """The method."""
        raise NotImplementedError("give the method by a fixture of this name")

    @pytest.fixture(params=[SmallNet, OneConv, HeadOnly], ids=lambda kind: kind.__name__)
    def network(self, request: pytest.FixtureRequest) -> type[nn.Module]:
        """The kinds of networks that it is tried on."""
        kind: type[nn.Module] = request.param
        return kind

    @staticmethod
    def _policies(method: Method, kind: type[nn.Module]) -> list[UpdatePolicy]:
        if method.policies is not None:
            return list(method.policies(traced(kind)))
        assert method.with_data is not None
        labels = torch.arange(SAMPLES) % 4
        return list(method.with_data(traced(kind), make(kind), images(SAMPLES), labels))

    def test_its_policies_are_for_the_trace_and_have_names_of_their_own(
        self, method: Method, network: type[nn.Module]
    ) -> None:
        """It may have none for a network, but those that it has can be told apart."""
        policies, found = self._policies(method, network), traced(network)
        names = [policy.method for policy in policies]
        assert all(names)
        assert len(set(names)) == len(names)
        for policy in policies:
            assert (policy.backbone, policy.input_shape) == (found.name, found.input_shape)
            assert policy.head == found.layers[found.head].name
            assert UpdatePolicy.from_json(policy.to_json()) == policy

    def test_its_policies_are_the_same_at_every_call(self, method: Method, network: type[nn.Module]) -> None:
        """A run that is resumed begins with them again."""
        assert self._policies(method, network) == self._policies(method, network)

    def test_its_policies_train(self, method: Method, network: type[nn.Module]) -> None:
        """They can be applied, encoded, and give every parameter that trains a gradient."""
        space = UpdateSpace(traced(network))
        for policy in self._policies(method, network):
            space.check(space.encode(policy)[None])
            model = apply(make(network), policy)
            nn.functional.cross_entropy(model(images(4)), torch.arange(4)).backward()  # type: ignore[no-untyped-call]
            trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
            assert trained
            assert [name for name, gradient in trained.items() if gradient is None] == []

    def test_it_has_policies_for_an_ordinary_network(self, method: Method) -> None:
        """A method that has none for inverted residuals would seed no search; override this if yours is for others."""
        assert self._policies(method, SmallNet)
        assert method.name
        assert method.summary
