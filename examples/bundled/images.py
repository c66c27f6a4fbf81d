"""Batches of training images: masks placed, warped, coloured and degraded, a whole batch at a time.

A batch depends on nothing but the bank of masks, the seed, the step and the difficulty.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from .masks import Bank

IMAGE_SIZE = 48


class _Random:
    """Uniform and integer draws of one generator, as broadcastable (N, 1, 1, 1) tensors."""

    def __init__(self, seed: int, step: int, n: int, device: torch.device, difficulty: float) -> None:
        self.generator = torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        self.n, self.device = n, device
        self.hard = self.uniform() < difficulty
        self.strength = self.uniform() * self.hard

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = (1, 1, 1)) -> Tensor:
        size = (self.n, *shape)
        return low + (high - low) * torch.rand(size, generator=self.generator, device=self.device)

    def chance(self, p: float) -> Tensor:
        return self.uniform() < p

    def field(self, cells: int, channels: int) -> Tensor:
        """Smooth noise in [-1, 1], (N, channels, 48, 48), with about `cells` bumps a side."""
        coarse = self.uniform(-1, 1, (channels, cells, cells))
        return F.interpolate(coarse, IMAGE_SIZE, mode="bilinear", align_corners=True)


def draw_batch(
    bank: Bank, seed: int, step: int, n: int = 128, difficulty: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the batch that belongs to a seed and step.

    Difficulty is the share of images that are hard: warped, coloured, textured and degraded, each by a random
    strength. The others are bright ink on a dark flat ground: with hard images alone, learning does not take
    off.

    Returns:
        Images float32 (n, 3, 48, 48) in [-1, 1], classes int64 (n,), textures of the ground int64 (n,).
    """
    device = bank.masks.device
    rnd = _Random(seed, step, n, device, difficulty)
    label = (rnd.uniform(0, len(bank), ()).long()).clamp_max(len(bank) - 1)
    variant = (rnd.uniform(0, 1, ()) * bank.count[label]).long().minimum(bank.count[label] - 1)
    ink = _ink(bank.masks[bank.first[label] + variant, None].float() / 255, rnd)
    texture = (torch.arange(n, device=device) + step) % len(TEXTURES)
    texture = torch.where(rnd.hard.flatten(), texture, 0)  # 0 is "flat"
    ground = _ground(texture, rnd)
    colour = torch.where(rnd.hard, rnd.uniform(0, 1, (3, 1, 1)), rnd.uniform(0.6, 1))
    # Ink must stand out from the ground: push it away where the two means are close.
    apart = colour.mean(1, keepdim=True) - ground.mean((1, 2, 3), keepdim=True)
    colour = (colour + torch.where(apart >= 0, 1.0, -1.0) * (0.4 - apart.abs()).clamp_min(0)).clamp(0, 1)
    image = ground + ink * rnd.uniform(0.7, 1) * (colour - ground)
    return _degrade(image, rnd), label, texture


def _ink(mask: Tensor, rnd: _Random) -> Tensor:
    """Embolden or outline, place by a random affine map and bend; (n, 1, 48, 48) in [0, 1]."""
    thick = F.max_pool2d(mask, 3, 1, 1)
    kind = rnd.uniform()
    mask = torch.where(kind < 0.4, thick, torch.where(kind > 0.92, thick - mask, mask))  # bold, outline, plain
    strength = rnd.strength.flatten()
    angle, shear = strength * rnd.uniform(-0.35, 0.35, ()), strength * rnd.uniform(-0.4, 0.4, ())
    zoom_x, zoom_y = 0.75 / rnd.uniform(0.55, 1, ()), 0.75 / rnd.uniform(0.55, 1, ())
    cos, sin = angle.cos(), angle.sin()
    shift = rnd.uniform(-0.2, 0.2, (2,))
    rows = [
        zoom_x * cos,
        zoom_x * (shear * cos - sin),
        shift[:, 0],
        zoom_y * sin,
        zoom_y * (shear * sin + cos),
        shift[:, 1],
    ]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), [rnd.n, 1, IMAGE_SIZE, IMAGE_SIZE], align_corners=False)
    bend = rnd.field(4, 2) * rnd.strength * 0.22
    return F.grid_sample(mask, grid + bend.permute(0, 2, 3, 1), align_corners=False).clamp(0, 1)


class _Plane(NamedTuple):
    """What the textures are functions of, for each image: tensors that broadcast to (n, 1, 48, 48)."""

    x: Tensor
    y: Tensor
    u: Tensor  #: x and y, turned
    v: Tensor
    pitch: Tensor
    centres: Tensor  #: (n, 2, 6, 1, 1), of the cells
    grain: Tensor
    clouds: Tensor


def _cells(p: _Plane) -> Tensor:
    squared = (p.x - p.centres[:, 0]) ** 2 + (p.y - p.centres[:, 1]) ** 2
    return (4 * squared.amin(1, keepdim=True)).clamp_max(1)


#: The textures of the ground, whose names the network learns as its second task: levels in about [0, 1].
TEXTURES: dict[str, Callable[[_Plane], Tensor]] = {
    "flat": lambda p: torch.zeros_like(p.u),
    "gradient": lambda p: 0.5 + 0.4 * p.u,
    "stripes": lambda p: 0.5 + 0.5 * (3 * (p.pitch * p.u).sin()).tanh(),
    "checks": lambda p: 0.5 + 0.5 * (6 * (p.pitch * p.u).sin() * (p.pitch * p.v).sin()).tanh(),
    "rings": lambda p: 0.5 + 0.5 * (p.pitch * (p.x**2 + p.y**2).sqrt()).sin(),
    "waves": lambda p: 0.5 + 0.5 * (p.pitch * p.u + 3 * (p.pitch / 3 * p.v).sin()).sin(),
    "dots": lambda p: (8 * ((p.pitch * p.u).sin() * (p.pitch * p.v).sin()).abs() - 5).sigmoid(),
    "grain": lambda p: p.grain,
    "clouds": lambda p: 0.5 + p.clouds,
    "cells": _cells,
    "rays": lambda p: 0.5 + 0.5 * ((p.pitch / 2).round() * torch.atan2(p.y, p.x)).sin(),
    "weave": lambda p: 0.5 + 0.25 * ((4 * (p.pitch * p.u).sin()).tanh() + (4 * (p.pitch * p.v).sin()).tanh()),
}


def _ground(texture: Tensor, rnd: _Random) -> Tensor:
    """Mix two colours by each image's texture; (n, 3, 48, 48) in [0, 1]."""
    axis = torch.linspace(-1, 1, IMAGE_SIZE, device=rnd.device)
    angle = rnd.uniform(0, math.pi)
    x, y = axis.view(1, 1, 1, -1) - rnd.uniform(-0.5, 0.5), axis.view(1, 1, -1, 1) - rnd.uniform(-0.5, 0.5)
    plane = _Plane(
        x=x,
        y=y,
        u=x * angle.cos() + y * angle.sin(),
        v=y * angle.cos() - x * angle.sin(),
        pitch=rnd.uniform(4, 22),
        centres=rnd.uniform(-1, 1, (2, 6, 1, 1)),
        grain=rnd.uniform(0, 1, (1, IMAGE_SIZE, IMAGE_SIZE)),
        clouds=0.35 * rnd.field(4, 1) + 0.2 * rnd.field(9, 1),
    )
    level = torch.empty_like(plane.u)
    for index, paint in enumerate(TEXTURES.values()):
        chosen = (texture == index).nonzero().squeeze(1)
        level[chosen] = paint(_Plane(*(field[chosen] for field in plane)))
    first = torch.where(rnd.hard, rnd.uniform(0, 1, (3, 1, 1)), rnd.uniform(0, 0.3))
    second = (first + rnd.strength * rnd.uniform(-0.7, 0.7, (3, 1, 1))).clamp(0, 1)
    return first + level * (second - first)


def _degrade(image: Tensor, rnd: _Random) -> Tensor:
    """Grey some images, lower the resolution of some (down to 8 px), add noise, and scale to [-1, 1]."""
    image = torch.where(rnd.chance(0.35), image.mean(1, keepdim=True), image)
    sizes = (8, 10, 14, 20, 30, None, None, None)
    parts = zip(image.chunk(len(sizes)), sizes, strict=False)
    image = torch.cat([_resample(part, size) for part, size in parts])
    noise = torch.randn(image.shape, generator=rnd.generator, device=rnd.device)
    image = image + noise * rnd.strength * 0.08 + rnd.strength * rnd.uniform(-0.1, 0.1)
    return image.clamp(0, 1) * 2 - 1


def _resample(image: Tensor, size: int | None) -> Tensor:
    if size is None:
        return image
    small = F.interpolate(image, size, mode="area")
    return F.interpolate(small, IMAGE_SIZE, mode="bilinear", align_corners=False)
