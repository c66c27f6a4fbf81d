"""Networks as people write them are exact to the byte and to the last digit of a gradient."""

import builtins
import gc
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from written_nets import BODIES, SHAPE, Block, Headed, as_map, made, parameter, tokens

from tinysearch.core.errors import UnsupportedError
from tinysearch.devices.measure import measure
from tinysearch.spaces import methods
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.graph import symbolic_trace
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.trace import trace


@pytest.mark.parametrize("name", BODIES)
def test_policies_keep_what_is_predicted_to_the_byte(name: str) -> None:
    network = made(name)
    table = trace(network, SHAPE)
    space = UpdateSpace(table)
    policies = [methods.last(table), methods.bias(table), methods.full(table), *map(space.decode, space.sample(4, 1))]
    for batch in (1, 2, 5):
        images, labels = torch.randn(batch, *SHAPE), torch.arange(batch) % 3
        for policy in policies:
            if batch == 1 and any(norm.statistics for norm in policy.norms):
                continue  # there are none of one value
            assert space.contains(policy) or policy.method is not None
            found = measure(apply(network, policy), images, labels, repeats=1)
            wrong = [(x.name, x.predicted_bytes, x.measured_bytes) for x in found.by_layer()]
            assert found.saved_bytes == found.predicted_bytes
            if batch > 1:  # of one image a reshaped tensor may be the tensor itself, and counts at another row
                assert found.as_predicted, [each for each in wrong if each[1] != each[2]]


@pytest.mark.parametrize("name", BODIES)
def test_full_trains_every_parameter_with_the_gradients_of_the_network(name: str) -> None:
    network = made(name).double()
    full = methods.full(trace(network, SHAPE))
    full = full.model_copy(update={"norms": tuple(n.model_copy(update={"statistics": False}) for n in full.norms)})
    model = apply(network, full)
    images, labels = torch.randn(4, *SHAPE, dtype=torch.float64), torch.arange(4) % 3
    torch.testing.assert_close(model.eval()(images), network(images), rtol=1e-12, atol=1e-12)
    F.cross_entropy(model(images), labels).backward()
    F.cross_entropy(network(images), labels).backward()
    own = dict(model.named_parameters())
    assert all(each.requires_grad for each in own.values())
    for key, theirs in network.named_parameters():
        assert theirs.grad is not None
        torch.testing.assert_close(own[key].grad, theirs.grad, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", BODIES)
def test_the_graph_answers_as_the_network_for_any_batch_and_leaves_it_alone(name: str) -> None:
    network = made(name)
    before = deepcopy(network.state_dict())
    graph = symbolic_trace(network, SHAPE).eval()
    for batch in (1, 2, 7):
        images = torch.randn(batch, *SHAPE)
        torch.testing.assert_close(graph(images), network(images))
    assert {name for name, _ in graph.named_parameters()} == {name for name, _ in network.named_parameters()}
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_hooks_and_a_replaced_forward_of_the_network_are_refused() -> None:
    network = made("Conv1d")
    handle = network.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    with pytest.raises(UnsupportedError, match="Headed has hooks"):
        trace(network, SHAPE)
    handle.remove()
    network.forward = lambda x: network.head(network.stem(x).mean((2, 3)))
    with pytest.raises(UnsupportedError, match="Headed had its forward replaced"):
        trace(network, SHAPE)


def test_tracing_leaves_buffers_and_other_threads_alone() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            self.calls.add_(1)
            return x * 2

    network = Headed(Counts()).eval()
    trace(network, SHAPE)
    assert network.body.calls == 0
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda _: trace(made("sizes"), SHAPE).rows, range(4)))
    assert rows == [rows[0]] * 4
    assert isinstance is builtins.isinstance
    assert "seen" not in repr(builtins.isinstance)


def test_an_applied_batch_norm_of_one_s_own_counts_as_before() -> None:
    network = made("a norm of tokens of one's own")
    network.body.norm.momentum = None
    network.body.norm.num_batches_tracked.fill_(500)
    graph = symbolic_trace(network, SHAPE)
    norm = graph.get_submodule("body.norm")
    assert type(norm) is nn.BatchNorm1d
    assert norm.momentum is None
    assert norm.num_batches_tracked == 500


def test_what_is_computed_once_and_kept_is_kept_on_a_copy() -> None:
    class Caches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.cache = parameter(8), {}

        def forward(self, x: Tensor) -> Tensor:
            if "bias" not in self.cache:
                self.cache["bias"] = self.table.view(1, -1, 1, 1)
            return x + self.cache["bias"]

    network = Headed(Caches()).eval()
    trace(network, SHAPE)
    assert network.body.cache == {}


def test_layers_within_functions_that_are_marked_are_found() -> None:
    kinds = {layer.name: layer.kind for layer in trace(made("a function that is marked"), SHAPE).layers}
    assert kinds["body.mix"] == "linear"


def test_tracing_and_measuring_leave_no_tensors_behind() -> None:
    network = made("layer scale in place")
    network.body = nn.Sequential(network.body, nn.Sigmoid(), nn.Softmax(1))

    def tensors() -> int:
        gc.collect()
        return sum(type(each) is Tensor for each in gc.get_objects())

    def use() -> None:
        model = apply(network, methods.full(trace(network, SHAPE)))
        measure(model, torch.randn(2, *SHAPE), torch.arange(2), repeats=1)

    use()
    before = tensors()
    use()
    assert tensors() == before


def test_products_of_activations_are_counted_and_parameters_make_nothing() -> None:
    table = trace(made("attention written out"), SHAPE)
    products = [layer.macs_forward for layer in table.layers if layer.op == "matmul"]
    assert products == [2 * 64 * 64 * 4] * 2
    (gamma,) = (layer for layer in table.layers if layer.kind == "parameter")
    assert (gamma.params, gamma.elements(4), gamma.batched) == (8, 0, False)
    (attention,) = (x for x in trace(made("scaled_dot_product_attention"), SHAPE).layers if "attention" in x.op)
    assert attention.macs_forward == 2 * 2 * 64 * 64 * 4


def test_lite_residual_modules_stand_beside_convolutions_on_maps_alone() -> None:
    class Unit(nn.Module):
        def __init__(self, function) -> None:
            super().__init__()
            self.a, self.b, self.function = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1), function

        def forward(self, x: Tensor) -> Tensor:
            return self.function(self, x)

    class Mixes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).relu())

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stages = nn.Sequential(Unit(lambda m, x: m.b(m.a(x))), Unit(lambda m, x: m.b(m.a(x)) + x))
            self.mixers = nn.Sequential(Mixes(), Mixes())

        def forward(self, x: Tensor) -> Tensor:
            return as_map(self.mixers(tokens(self.stages(x))))

    blocks = {block.name: bool(block.lite) for block in trace(Headed(Net()).eval(), SHAPE).blocks}
    assert blocks == {"body.stages.0": True, "body.stages.1": True, "body.mixers.0": False, "body.mixers.1": False}


def test_stages_are_no_blocks_their_members_are() -> None:
    def unit() -> nn.Module:
        return Block(lambda m, x: m.b(m.a(x)) + x, a=nn.Conv2d(8, 8, 1), b=nn.Conv2d(8, 8, 1))

    def stage() -> nn.Module:
        return Block(lambda m, x: m.blocks(m.down(x)), blocks=nn.Sequential(unit(), unit()), down=nn.Conv2d(8, 8, 1))

    names = [block.name for block in trace(Headed(nn.Sequential(stage(), stage())).eval(), SHAPE).blocks]
    assert names == [f"body.{n}.blocks.{k}" for n in range(2) for k in range(2)]
