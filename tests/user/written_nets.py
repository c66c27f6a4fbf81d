"""Networks as people write them, each of a body that keeps the width of 8, for images of 8 pixels a side."""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

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


class Doubled(torch.autograd.Function):
    """Its gradient is another than that of what it computes."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.sign())
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 3 * ctx.saved_tensors[0].square()


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
