"""Networks of tokens, as small as they can be: `token_nets:attention` and others, for images of 16 pixels a side."""

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Attention as most networks write it, with a scale for its answer."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.gamma = nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5).softmax(-1)
        return self.gamma * self.proj((weights @ v).transpose(1, 2).reshape(n, t, c))


class PyTorchAttention(nn.Module):
    """Attention by PyTorch's own module."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(x, x, x, need_weights=False)[0]
        return answer


class Block(nn.Module):
    """One block of a transformer."""

    def __init__(self, width: int, attention: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = attention
        self.fc1, self.act, self.fc2 = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


class Transformer(nn.Module):
    """Patches, a class token, position embeddings and blocks."""

    def __init__(self, num_classes: int, attention: type[nn.Module] = Attention, width: int = 8) -> None:
        super().__init__()
        self.input_size = 16
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.1)
        self.positions = nn.Parameter(torch.randn(1, 17, width) * 0.1)
        self.blocks = nn.Sequential(*(Block(width, attention(width)) for _ in range(2)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class Folding(nn.Module):
    """Convolutions around blocks on positions folded into the batch, as in MobileViT; PReLU, a norm of tokens."""

    def __init__(self, num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.input_size = 16
        self.conv1, self.norm1, self.act = nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.PReLU(width)
        self.blocks = nn.Sequential(*(Block(width, Attention(width)) for _ in range(2)))
        self.fusion = nn.Conv2d(2 * width, width, 3, 1, 1)
        self.last = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm1(self.conv1(x)))
        n, c, h, w = x.shape
        y = x.reshape(n * c * h // 2, 2, w // 2, 2).transpose(1, 2)
        y = y.reshape(n, c, h * w // 4, 4).transpose(1, 3).reshape(n * 4, h * w // 4, c)
        y = self.blocks(y)
        y = y.contiguous().view(n, 4, h * w // 4, c).transpose(1, 3).reshape(n * c * h // 2, w // 2, 2, 2)
        y = y.transpose(1, 2).reshape(n, c, h, w)
        x = self.fusion(torch.cat([x, y], 1)).flatten(2)
        return self.head(self.last(x).mean(2))


class TokensFirst(nn.Module):
    """Tokens before images, which no rule for gradients knows."""

    def __init__(self, num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.input_size = 16
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.norm, self.map = nn.LayerNorm(width), nn.Linear(width, width)
        self.last = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).permute(2, 0, 1)
        x = x + torch.relu(self.map(self.norm(x)))
        return self.head(self.last(x.mean(0)))


def attention(num_classes: int) -> nn.Module:
    return Transformer(num_classes)


def pytorch_attention(num_classes: int) -> nn.Module:
    return Transformer(num_classes, PyTorchAttention)


def folding(num_classes: int) -> nn.Module:
    return Folding(num_classes)


def tokens_first(num_classes: int) -> nn.Module:
    return TokensFirst(num_classes)


def convolution(num_classes: int) -> nn.Module:
    """No network of tokens, but one whose classifier is a convolution on a map that is averaged behind it."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, num_classes, 1), nn.ReLU())
    return nn.Sequential(*model, nn.AdaptiveAvgPool2d(1), nn.Flatten())
