"""Networks as people write them: exact to the byte and to the last digit of a gradient, or refused in one line."""

import builtins
import gc
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from math import sqrt
from threading import Lock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tinysearch.core.errors import UnsupportedError
from tinysearch.devices.measure import measure
from tinysearch.spaces import methods
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.graph import symbolic_trace
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.trace import trace

SHAPE = (3, 8, 8)


class Headed(nn.Module):
    """A convolution, some body that keeps the width 8, and a classifier."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, 8, 3, padding=1), body, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).flatten(2).mean(2))


class Block(nn.Module):
    """Has a name for each thing that it holds, and a function."""

    def __init__(self, function, **things) -> None:
        super().__init__()
        for name, thing in things.items():
            setattr(self, name, thing)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def as_map(x: Tensor) -> Tensor:
    side = int(sqrt(x.shape[1]))
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], side, side)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) * 0.3)


def written_out(m, x):
    x = tokens(x)
    batch, count, width = x.shape
    q, k, v = m.qkv(m.norm(x)).reshape(batch, count, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
    weights = (q @ k.transpose(-2, -1) * (width // 2) ** -0.5).softmax(-1)
    x = x + m.gamma * m.projection((weights @ v).transpose(1, 2).reshape(batch, count, width))
    return as_map(x + m.second(F.gelu(m.first(m.norm2(x)))))


def fused(m, x):
    x = tokens(x)
    q, k, v = m.qkv(x).chunk(3, -1)
    heads = [part.unflatten(-1, (2, 4)).transpose(1, 2) for part in (q, k, v)]
    return as_map(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


def biased_and_fused(m, x):
    """PyTorch has another kernel for it where the bias needs a gradient."""
    x = tokens(x)
    q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in m.qkv(x).chunk(3, -1))
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=m.table[:, m.places][None])
    return as_map(m.projection(attended.transpose(1, 2).flatten(2)))


def with_class_token(m, x):
    x = tokens(x)
    x = torch.cat([m.token.expand(x.shape[0], -1, -1), x], 1) + m.position
    x = m.mix(m.norm(x))
    return x[:, 1:].transpose(1, 2) + x[:, :1].transpose(1, 2)


def folded(m, x):
    """As in MobileViT: attention among the pixels at one place of each patch."""
    batch, width, height, _ = x.shape
    x = x.reshape(batch * width * height // 2, 2, height // 2, 2).transpose(1, 2)
    x = x.reshape(batch, width, height * height // 4, 4).transpose(1, 3).reshape(batch * 4, height * height // 4, width)
    x = x + m.mix(m.norm(x))
    x = x.contiguous().view(batch, 4, height * height // 4, width).transpose(1, 3)
    return (
        x.reshape(batch * width * height // 2, height // 2, 2, 2).transpose(1, 2).reshape(batch, width, height, height)
    )


def biased(m, x):
    x = tokens(x)
    scores = x @ x.transpose(1, 2) + m.table[:, m.places]
    return as_map(torch.einsum("bij,bjc->bic", scores.softmax(-1), x * F.softplus(m.temperature)))


def asks_for_sizes(m, x):
    if x.shape[2] % 2 == 0 and x.size(3) > 4:
        x = F.interpolate(x, size=(x.shape[2] // 2, x.shape[3] // 2), mode="bilinear")
    height, width = x.shape[-2:]
    assert height == width
    for step in range(height // 2):
        x = x + step
    return F.adaptive_avg_pool2d(m.conv(x), (height, width)).view(x.shape[0], 8, -1)


def splits(m, x):
    left, right = torch.split(x, [3, 5], 1)
    first, *others = x.unbind(2)
    return torch.cat([m.conv(right), left], 1) * torch.stack([first, *others], 2).sigmoid()


def mixes(m, x):
    """As in MixNet: what is split was kept before, by a convolution that reads all of it."""
    x = m.conv(x) + x
    gate = m.gate(x)
    left, right = torch.split(x, [3, 5], 1)
    return torch.cat([m.left(left), m.right(right)], 1) * gate


def norms_a_part(m, x):
    """As in SHViT: a group norm makes a copy of the part of a map that it reads."""
    left, right = torch.split(x, [4, 4], 1)
    return torch.cat([m.conv(m.norm(left)), m.channels(right.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)], 1) + x.sin()


def attends(m, x):
    x = tokens(x)
    return as_map(x + m.attention(x, x, x, need_weights=False)[0])


def attends_across(m, x):
    x = tokens(x).transpose(0, 1)
    return as_map(m.attention(m.query(x), x, m.value(x))[0].transpose(0, 1))


def normalises_responses(m, x):
    spread = x.norm(p=2, dim=(2, 3), keepdim=True)
    return (
        x + (x * spread / (spread.mean(1, keepdim=True) + 1e-6)) * m.weight.view(1, -1, 1, 1) + m.bias.view(1, -1, 1, 1)
    )


def knows_positions(m, x):
    line = torch.arange(x.shape[2], dtype=x.dtype, device=x.device) / x.shape[2]
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]
    return x + m.position(grid)


def knows_positions_of_each(m, x):
    """As in EdgeNeXt: the layer is fed with constants that are made for each image."""
    rows = torch.ones((x.shape[0], 8, 8), dtype=x.dtype).cumsum(1)
    return x + m.mix(m.position(torch.stack([rows.sin(), rows.cos()], 1)).relu_())


def computes_a_table(m, x):
    """As in Swin 2: a table of biases is computed by layers, of no image."""
    table = m.second(m.norm(F.relu(m.first(PLACES[:4, :4, None].to(x.dtype)))))
    return x + m.third(F.silu(table)).flatten(0, 1).mT.reshape(1, 8, 4, 4).repeat(1, 1, 2, 2)


def makes_constants_for_each(m, x):
    """As in ConViT: a tensor that is no buffer is expanded, and others are made, for each image."""
    batch, _, height, width = x.shape
    near = PLACES[None].expand(batch, -1, -1) < 9
    bias = m.biases(PLACES[None, :, :, None].expand(batch, -1, -1, 3).to(x.dtype)).squeeze(3)
    blank = torch.zeros(batch, 1, height, width, dtype=x.dtype) + x.new_ones(batch, 1, 1, 1)
    return m.conv(torch.cat([x, blank], 1)).flatten(2) @ (near.to(x.dtype) + bias.sigmoid())


def statistics_of_tokens(m, x):
    x = tokens(x)
    return as_map(m.norm(m.mix(x).flatten(0, 1)).reshape_as(x))


def written_conv(m, x):
    weight = m.weight - m.weight.mean((1, 2, 3), keepdim=True)
    return F.conv2d(x, weight, m.bias, padding=1)


@torch.fx.wrap
def masked(x, weight, bias):
    mask = x.new_zeros((8, 8))
    mask[:4, 4:] = -9
    mask[4:, :4] = -9
    y = F.linear(x, weight, bias)
    return (y @ y.mT + mask.repeat(8, 8)).softmax(-1) @ x


def marked_as_not_to_be_traced(m, x):
    """As in torchvision's Swin: a function of x and the parameters of a layer, which writes into a mask."""
    return as_map(masked(tokens(x), m.mix.weight, m.mix.bias))


class Two(nn.Module):
    """Two inputs: no single tensor enters it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.a(x) + y, self.b(y)


class Pairs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Two(), Two()])

    def forward(self, x: Tensor) -> Tensor:
        y = x.relu()
        for block in self.blocks:
            x, y = block(x, y)
        return x + y


class Activates(nn.Conv2d):
    """As a subclass that activates by a module of its own."""

    def __init__(self) -> None:
        super().__init__(8, 8, 1)
        self.act = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(F.conv2d(x, self.weight, self.bias))


class TokenNorm(nn.BatchNorm1d):
    """Calls the function with what is its own."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


for own in (Activates, TokenNorm):
    own.__module__ = "of_a_user"  # torch.fx takes what is in torch.nn, or looks as if, for a layer of its own


def overwrites_what_is_read(m, x):
    y = m.conv(m.act(x))
    F.relu(y, inplace=True)
    return x + y


def names_that_clash(m, x):
    x = F.dropout(m.conv(x), 0.9, m.training)
    return m.dropout(m.conv_act(x)) + m.keeps(x)


def selects(m, x):
    y = m.conv(x)
    best = y.argmax(1, keepdim=True)
    return torch.where(y > 0, y, x).masked_fill(y < -1, 0.0) * (best == 0).float() + y.round()


PLACES = (torch.arange(64)[:, None] - torch.arange(64)[None]).abs()

BODIES = {
    "attention written out": lambda: Block(
        written_out,
        qkv=nn.Linear(8, 24),
        norm=nn.LayerNorm(8),
        norm2=nn.LayerNorm(8, bias=False),
        gamma=parameter(8),
        projection=nn.Linear(8, 8),
        first=nn.Linear(8, 16),
        second=nn.Linear(16, 8),
    ),
    "scaled_dot_product_attention": lambda: Block(fused, qkv=nn.Linear(8, 24, bias=False)),
    "scaled_dot_product_attention with a bias": lambda: Block(
        biased_and_fused, qkv=nn.Linear(8, 24), table=parameter(2, 64), places=PLACES, projection=nn.Linear(8, 8)
    ),
    "class token and positions": lambda: Block(
        with_class_token,
        token=parameter(1, 1, 8),
        position=parameter(1, 65, 8),
        mix=nn.Linear(8, 8),
        norm=nn.LayerNorm(8),
    ),
    "folded into the batch": lambda: Block(folded, mix=nn.Linear(8, 8), norm=nn.LayerNorm(8)),
    "table of biases": lambda: Block(biased, table=parameter(1, 64), temperature=parameter(), places=PLACES),
    "sizes": lambda: Block(asks_for_sizes, conv=nn.Conv2d(8, 8, 3, padding=1)),
    "split, unbind, stack": lambda: Block(splits, conv=nn.Conv2d(5, 5, 1)),
    "split after it was read": lambda: Block(
        mixes, conv=nn.Conv2d(8, 8, 1), gate=nn.Conv2d(8, 8, 1), left=nn.Conv2d(3, 4, 1), right=nn.Conv2d(5, 4, 1)
    ),
    "norms of parts": lambda: Block(
        norms_a_part, conv=nn.Conv2d(4, 4, 1), norm=nn.GroupNorm(1, 4), channels=nn.LayerNorm(4)
    ),
    "MultiheadAttention": lambda: Block(attends, attention=nn.MultiheadAttention(8, 2, batch_first=True)),
    "across, batch second": lambda: Block(
        attends_across,
        attention=nn.MultiheadAttention(8, 2, kdim=8, vdim=4),
        query=nn.Linear(8, 8),
        value=nn.Linear(8, 4),
    ),
    "TransformerEncoderLayer": lambda: Block(
        lambda m, x: as_map(m.layer(tokens(x))),
        layer=nn.TransformerEncoderLayer(8, 2, 12, 0.0, "gelu", batch_first=True),
    ),
    "layer scale in place": lambda: Block(
        lambda m, x: m.conv(x).mul_(m.gamma) + x, conv=nn.Conv2d(8, 8, 1), gamma=parameter(8, 1, 1)
    ),
    "global response norm": lambda: Block(normalises_responses, weight=parameter(8), bias=parameter(8)),
    "a layer fed with constants": lambda: Block(knows_positions, position=nn.Conv2d(2, 8, 1)),
    "a layer fed with constants of each image": lambda: Block(
        knows_positions_of_each, position=nn.Conv2d(2, 8, 1), mix=nn.Conv2d(8, 8, 1)
    ),
    "constants for each image": lambda: Block(
        makes_constants_for_each, conv=nn.Conv2d(9, 8, 1), biases=nn.Linear(3, 1)
    ),
    "a function that is marked": lambda: Block(marked_as_not_to_be_traced, mix=nn.Linear(8, 6)),
    "a table that is computed": lambda: Block(
        computes_a_table,
        first=nn.Linear(1, 16),
        norm=nn.LayerNorm(16),
        second=nn.Linear(16, 16),
        third=nn.Linear(16, 8),
    ),
    "batch norm of tokens": lambda: Block(
        statistics_of_tokens, mix=nn.Linear(8, 8, bias=False), norm=nn.BatchNorm1d(8)
    ),
    "RMSNorm": lambda: Block(lambda m, x: as_map(m.norm(tokens(x))), norm=nn.RMSNorm(8)),
    "PReLU": lambda: nn.PReLU(8),
    "transposed": lambda: nn.Sequential(
        nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2), nn.GELU(), nn.Conv2d(6, 8, 2, 2)
    ),
    "InstanceNorm": lambda: nn.Sequential(nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU(0.1)),
    "Conv1d": lambda: Block(lambda m, x: m.conv(x.flatten(2)), conv=nn.Conv1d(8, 8, 3, padding=1)),
    "same padding": lambda: nn.Conv2d(8, 8, (3, 4), padding="same", dilation=(2, 1)),
    "valid padding": lambda: nn.Conv2d(8, 8, 3, padding="valid", groups=4),
    "reflected": lambda: nn.Conv2d(8, 8, 3, padding=(1, 2), padding_mode="reflect"),
    "circular": lambda: nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular", stride=2),
    "a weight that is computed": lambda: Block(written_conv, weight=parameter(8, 8, 3, 3), bias=parameter(8)),
    "dropout as a function": lambda: Block(lambda m, x: F.dropout(m.conv(x), 0.2, m.training), conv=nn.Conv2d(8, 8, 1)),
    "overwritten by what is kept": lambda: nn.Sequential(
        nn.Conv2d(8, 8, 1),
        nn.LeakyReLU(0.1, inplace=True),
        nn.Conv2d(8, 8, 1),
        nn.ELU(inplace=True),
        nn.Conv2d(8, 8, 1),
    ),
    "several inputs and outputs": Pairs,
    "overwritten and read": lambda: Block(
        overwrites_what_is_read, act=nn.ReLU(inplace=True), conv=nn.Conv2d(8, 8, 3, padding=1)
    ),
    "names that clash": lambda: Block(
        names_that_clash, conv=Activates(), conv_act=nn.Sigmoid(), dropout=nn.Dropout(0.1), keeps=nn.Conv2d(8, 8, 1)
    ),
    "selections": lambda: Block(selects, conv=nn.Conv2d(8, 8, 1)),
    "keywords": lambda: Block(
        lambda m, x: m.pool(input=m.act(input=m.conv(input=x))),
        conv=nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
        act=nn.ReLU(),
        pool=nn.AvgPool2d(2, divisor_override=1),
    ),
    "a norm of tokens of one's own": lambda: Block(statistics_of_tokens, mix=nn.Linear(8, 8), norm=TokenNorm(8)),
    "attention that drops": lambda: Block(attends, attention=nn.MultiheadAttention(8, 2, 0.3, batch_first=True)),
    "an autograd function": lambda: Block(lambda m, x: Doubled.apply(m.conv(x)), conv=nn.Conv2d(8, 8, 1)),
    "checkpoints": lambda: Block(
        lambda m, x: checkpoint(m.a, checkpoint(m.b, x, use_reentrant=False), use_reentrant=True),
        a=nn.Conv2d(8, 8, 1),
        b=nn.Sequential(nn.Conv2d(8, 8, 1), nn.SiLU()),
    ),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3)),
    "quiet": lambda: nn.Sequential(nn.Softplus(), nn.Mish(), nn.Hardswish(), nn.ELU(), nn.Tanh(), nn.LogSoftmax(1)),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return Headed(BODIES[name]()).eval()


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


def branches(m, x):
    return x if x.sum() > 0 else -x


def takes_out(m, x):
    return x * x.mean().item()


def counts_images(m, x):
    return x if x.shape[0] % 2 else -x


def loops_over_images(m, x):
    return torch.stack([image * 2 for image in x])


def several(m, x):
    values, places = x.max(1, keepdim=True)
    return x * values + places


class Doubled(torch.autograd.Function):
    """Its gradient is another than that of what it computes."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.sign())
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 3 * ctx.saved_tensors[0].square()


def gradients_off(m, x):
    with torch.no_grad():
        return x * 2


def autocast(m, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return x @ x.mT


def assigns(m, x):
    x[:, 1:] = 0
    return x


def converts(m, x):
    return torch.tensor(x) * 2


def hooked():
    conv = nn.Conv2d(8, 8, 1)
    conv.register_forward_hook(lambda module, args, output: output * 2)
    return conv


def tells_one_image(m, x):
    return x if x.shape[0] == 1 else -x


def tells_many_images(m, x):
    return x * min(x.shape[0], 4)


def adds_to_an_alias(m, x):
    x = x + 0
    y = x
    y += m.conv(x)
    return x


def attends_masked(m, x):
    x = tokens(x)
    return as_map(m.attention(x, x, x, attn_mask=torch.eye(64).bool())[0])


def raises(m, x):
    raise KeyError("no such\nthing")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (Block(branches), r"body of Headed branches on values of tensors.*use torch\.where"),
        (Block(takes_out), r"body of Headed takes values out of tensors by item\(\).*use tensors"),
        (Block(counts_images), "body of Headed depends on the number of images"),
        (Block(loops_over_images), "body of Headed depends on the number of images"),
        (Block(several), r"max_1 \(max\) gives several tensors at once.*write the operation out"),
        (Block(gradients_off), "body of Headed switches gradients off"),
        (Block(autocast), "body of Headed runs a part in autocast"),
        (Block(assigns), "body of Headed assigns to a part of a tensor"),
        (Block(converts), r"body of Headed cannot be traced by torch\.fx"),
        (Block(lambda m, x: x.detach()), "body of Headed lets no gradient pass by detach"),
        (Block(lambda m, x: x.topk(8, 1).values), r"topk \(topk\) gives several tensors at once"),
        (Block(lambda m, x: x[x > 0].mean() * x), "makes a tensor of shape .* which is not so much for each"),
        (torch.jit.script(nn.Conv2d(8, 8, 1)), "body is TorchScript, whose code cannot be seen"),
        (nn.LazyConv2d(8, 1), "body has no shapes yet, as it is lazy"),
        (nn.Conv2d(8, 8, 1, device="meta"), "body is on the meta device"),
        (nn.utils.weight_norm(nn.Conv2d(8, 8, 1)), "body has hooks, .*remove_weight_norm"),
        (Block(lambda m, x: x, lock=Lock()), r"Headed cannot be copied \(TypeError: cannot pickle"),
        (Block(tells_one_image), "Headed answers otherwise to 1 images"),
        (Block(tells_many_images), "Headed answers otherwise to 7 images"),
        (
            Block(adds_to_an_alias, conv=nn.Conv2d(8, 8, 1)),
            "Headed answers otherwise .* tensors that others read",
        ),
        (Block(attends_masked, attention=nn.MultiheadAttention(8, 2, batch_first=True)), "attends with a mask"),
        (Block(lambda m, x: torch.detach(x)), "body of Headed lets no gradient pass by detach"),
        (Block(lambda m, x: F.dropout2d(x, 0.5, m.training)), "dropout2d drops in a way that no train"),
        (Block(lambda m, x: F.dropout(x, 0.5, True)), "dropout drops in evaluation too"),
        (Block(lambda m, x: torch.fft.fft2(x).abs()), "fft_fft2 makes complex numbers"),
        (hooked(), "body has hooks, which an applied layer would not run"),
        (Block(raises), r"body of Headed does not run on an input of shape \(3, 8, 8\): KeyError"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(9, 8)),
            r"body\.1 of Headed does not run on an input of shape \(3, 8, 8\)",
        ),
        (nn.Sequential(nn.InstanceNorm2d(8, track_running_stats=True)), r"body\.0 is a InstanceNorm2d"),
        (
            Block(lambda m, x: m.cell(tokens(x))[0].mT, cell=nn.LSTM(8, 8, batch_first=True)),
            r"body\.cell \(lstm\) gives several",
        ),
        (nn.Dropout2d(0.5), "body is a Dropout2d: use nn.Dropout"),
        (
            Block(lambda m, x: torch.tensor(m.conv(x).numpy()), conv=nn.Conv2d(8, 8, 1)),
            "takes values out of tensors",
        ),
        (Block(lambda m, x: m.conv(m.conv(x)), conv=nn.Conv2d(8, 8, 1)), "body.conv is called twice"),
    ],
)
def test_what_cannot_be_told_of_is_refused_in_one_line_with_a_way_out(body: nn.Module, said: str) -> None:
    with pytest.raises(UnsupportedError, match=said) as caught:
        trace(Headed(body).eval(), SHAPE)
    assert "\n" not in str(caught.value)
