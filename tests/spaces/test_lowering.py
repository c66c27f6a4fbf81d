"""Functions on parameters become modules: the same answers, gradients and bytes, under the same names."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinysearch.core.errors import UnsupportedError
from tinysearch.devices.costs import cost_table
from tinysearch.devices.measure import measure
from tinysearch.devices.profile import load_device
from tinysearch.spaces import methods
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.graph import symbolic_trace
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import trace


class NormAct(nn.BatchNorm2d):
    """As a subclass that activates: torch.fx goes into it, since it is none of torch.nn's own."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop = nn.Identity()
        self.act = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        x = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.1, self.eps)
        return self.act(self.drop(x))


class SameConv(nn.Conv2d):
    """Pads so that a stride of 2 halves odd sizes upwards."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride, (0, 0), self.dilation, self.groups)


class ChannelNorm(nn.LayerNorm):
    """Normalises the channels of a map."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class Net(nn.Module):
    """One of each, and a depthwise one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, 8, 3, stride=2, bias=False)
        self.norm = NormAct(8)
        self.deep = SameConv(8, 8, 3, groups=8)
        self.group = nn.GroupNorm(2, 8)
        self.channel = ChannelNorm(8)
        self.mix = nn.Linear(8, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.deep(self.norm(self.stem(x)))
        x = self.channel(F.group_norm(x, 2, self.group.weight, self.group.bias, self.group.eps))
        return self.head(F.relu(F.linear(x.mean((2, 3)), self.mix.weight, self.mix.bias)))


for own in (NormAct, SameConv, ChannelNorm):
    own.__module__ = "of_a_user"  # torch.fx takes what is in torch.nn, or looks as if, for a layer of its own


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    made = Net().eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    made.norm.running_mean.normal_()
    return made


def test_it_answers_as_before_under_the_same_names(net: Net) -> None:
    graph = symbolic_trace(net)
    images = torch.randn(3, 3, 9, 9)
    torch.testing.assert_close(graph(images), net(images))
    names = {name for name, _ in net.named_parameters()}
    assert {name for name, _ in graph.named_parameters()} == names
    kinds = {
        str(node.target): type(graph.get_submodule(node.target))
        for node in graph.graph.nodes
        if node.op == "call_module"
    }
    assert kinds["norm"] is nn.BatchNorm2d
    assert kinds["deep"] is nn.Conv2d
    assert kinds["channel"] is nn.LayerNorm
    assert kinds["group"] is nn.GroupNorm
    assert kinds["mix"] is nn.Linear
    assert kinds["norm_act"] is nn.ReLU6


def test_the_network_itself_is_left_as_it_was(net: Net) -> None:
    before = deepcopy(net.state_dict())
    symbolic_trace(net)
    assert type(net.norm) is NormAct
    assert {name: value.tolist() for name, value in net.state_dict().items()} == {
        n: v.tolist() for n, v in before.items()
    }


@pytest.mark.parametrize("batch", [1, 3])
def test_policies_train_and_keep_what_is_predicted(net: Net, batch: int) -> None:
    table = trace(net, (3, 9, 9))
    space, device = UpdateSpace(table), load_device("rpi4")
    policies = [methods.last(table), methods.bias(table), methods.full(table), *map(space.decode, space.sample(6, 0))]
    predicted = cost_table(UpdateTable.of(table, policies), device, batch=batch).saved_bytes
    images, labels = torch.randn(batch, 3, 9, 9), torch.arange(batch)
    for policy, expected in zip(policies, predicted, strict=True):
        measured = measure(apply(net, policy), images, labels)
        assert measured.saved_bytes == expected
        assert measured.as_predicted


def test_full_has_the_gradients_of_the_network_in_double_precision(net: Net) -> None:
    double = deepcopy(net).double()
    full = methods.full(trace(net, (3, 9, 9)))
    full = full.model_copy(update={"norms": tuple(n.model_copy(update={"statistics": False}) for n in full.norms)})
    model = apply(double, full)
    images, labels = torch.randn(4, 3, 9, 9, dtype=torch.float64), torch.arange(4)
    F.cross_entropy(model(images), labels).backward()
    F.cross_entropy(double(images), labels).backward()
    own = dict(model.named_parameters())
    for name, parameter in double.named_parameters():
        torch.testing.assert_close(own[name].grad, parameter.grad, rtol=1e-12, atol=1e-14)


class Headed(nn.Module):
    """A head on something."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.pool, self.flat, self.head = body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.flat(self.pool(self.body(x))))


class Twice(nn.Module):
    """Calls a layer, and its function besides."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + F.conv2d(x, self.conv.weight)


def test_a_parameter_that_its_layer_uses_and_others_besides_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"body\.conv\.weight is used by its layer and as it stands besides"):
        trace(Headed(Twice()).eval(), (3, 4, 4))


def test_a_network_in_training_mode_is_traced_as_in_evaluation(net: Net) -> None:
    expected = trace(net, (3, 9, 9))
    net.train()
    net.stem.eval()
    assert trace(net, (3, 9, 9)).rows == expected.rows
    assert net.training
    assert not net.stem.training


def test_what_no_forward_pass_uses_is_nobody_s_business() -> None:
    body = nn.Conv2d(3, 8, 1)
    network = Headed(body)
    network.unused = nn.Parameter(torch.ones(3))
    assert [layer.name for layer in trace(network.eval(), (3, 4, 4)).layers if layer.params] == ["body", "head"]


def test_what_does_not_run_is_refused_in_one_line() -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch._assert(x.shape[2] == 5, "five pixels, please")
            return x

    with pytest.raises(
        UnsupportedError, match=r"body.0 of Headed does not run on an input of shape \(3, 4, 4\): .*five"
    ) as caught:
        trace(Headed(nn.Sequential(Picky(), nn.Conv2d(3, 8, 1))).eval(), (3, 4, 4))
    assert "\n" not in str(caught.value)
