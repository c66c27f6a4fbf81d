"""Every C kernel against PyTorch's own operation and its autograd, in float64."""

import itertools
import zlib
from ctypes import c_float, c_size_t, c_uint32

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_calls import GEOMETRIES, Geometry, Layer, Range, call, close, memory, unwritten

from tinysearch.spaces.engine import masks

TRAINS = ["nothing", "all", "out", "in"]
#: Around and at the points where activations change.
TIES = [-3.0, -3.0000002, -2.9999998, 0.0, -0.0, 1e-30, -1e-30, 6.0, 5.9999995, 6.0000005, 3.0, 2.9999998, 3.0000002]


def values(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def accumulated(kernels, name, start, factor, gradient, *arguments):
    """Check `dst += factor * gradient` of a kernel whose first arguments are dst and factor."""
    dst = memory(start)
    call(kernels, name, dst, factor, *arguments)
    close(dst, start.double() + factor * gradient)


# Layers with weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 9, 35, 36])
@pytest.mark.parametrize(("ins", "outs"), [(1, 1), (1, 5), (7, 1), (4, 8), (6, 10), (130, 3), (5, 19), (17, 37)])
def test_pointwise(kernels, ins, outs, pixels, trains):
    layer = Layer((outs, ins), trains)
    x, bias, g = values(ins, pixels), values(outs), values(outs, pixels, seed=2)
    inputs = x.double().requires_grad_(True)
    y = layer.full @ inputs + bias[:, None]
    y.backward(g.double())
    out = unwritten(outs, pixels)
    call(kernels, "pointwise", out, memory(x), layer.struct, memory(bias), ins, outs, pixels)
    close(out, y)
    call(kernels, "pointwise", out, memory(x), layer.struct, None, ins, outs, pixels)
    close(out, layer.full @ x.double())
    gin = unwritten(ins, pixels)
    whole = Range(0, ins), Range(0, outs)
    call(kernels, "pointwise_dx", gin, memory(g), layer.struct, ins, outs, *whole, pixels, 0)
    close(gin, inputs.grad)
    if trains != "nothing":
        gradient = layer.chosen(layer.full.grad)
        start = values(*gradient.shape, seed=3)
        accumulated(
            kernels,
            "pointwise_dw",
            start,
            0.5,
            gradient,
            memory(g),
            layer.kept(x),
            layer.struct,
            ins,
            outs,
            *whole,
            pixels,
        )


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize(
    ("first_in", "count_in", "first_out", "count_out"), [(0, 3, 0, 9), (3, 5, 2, 1), (6, 5, 7, 4), (4, 1, 3, 6)]
)
def test_pointwise_of_some_channels(kernels, first_in, count_in, first_out, count_out, trains):
    ins, outs, pixels = 11, 13, 6
    layer, x, g = Layer((outs, ins), trains), values(ins, pixels), values(count_out, pixels, seed=2)
    rows, columns = slice(first_out, first_out + count_out), slice(first_in, first_in + count_in)
    some = Range(first_in, count_in), Range(first_out, count_out)
    start = values(count_in, pixels, seed=3)
    gin = memory(start)
    call(kernels, "pointwise_dx", gin, memory(g), layer.struct, ins, outs, *some, pixels, 1)
    close(gin, start.double() + layer.full[rows, columns].T @ g.double())
    if trains != "nothing":
        full = torch.zeros(outs, ins, dtype=torch.float64)
        full[rows, columns] = g.double() @ x[columns].double().T
        gradient = layer.chosen(full)
        start = values(*gradient.shape, seed=3)
        accumulated(
            kernels,
            "pointwise_dw",
            start,
            -0.1,
            gradient,
            memory(g),
            layer.kept(x),
            layer.struct,
            ins,
            outs,
            *some,
            pixels,
        )


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize("pixels", [1, 5, 8])
@pytest.mark.parametrize("at_once", [1, 3, 4])
def test_a_block_a_few_channels_at_a_time(kernels, at_once, pixels, trains):
    """Expand some channels, filter them, add their part to the projection; masks and kept channels likewise."""
    ins, middle, outs = 6, 10, 7
    geometry = Geometry(3, 1, (1, 1, 1, 1), (1, pixels))
    expand, project = Layer((middle, ins), trains), Layer((outs, middle), trains, seed=1)
    depthwise = Layer((middle, 1, 3, 3), "out" if trains == "in" else trains, groups=middle, seed=2)
    x, biases = values(ins, pixels), [values(n, seed=n) for n in (middle, middle + 1, outs)]
    before = expand.full @ x.double() + biases[0][:, None]
    after = geometry.convolve(F.relu6(before)[:, None], depthwise.full, biases[1][:middle].double(), middle)[:, 0]
    index = torch.arange(0, middle, 3)
    out, kept = unwritten(outs, pixels), unwritten(len(index), pixels)
    mask = memory(np.full((middle * pixels + 7) // 8, 0xFF), np.uint8)
    for first in range(0, middle, at_once):
        some = Range(first, min(at_once, middle - first))
        part = unwritten(some.count, pixels)
        sizes = ins, middle, Range(0, ins), some, pixels, 0
        call(kernels, "pointwise_part", part, memory(x), expand.struct, memory(biases[0]), *sizes)
        call(kernels, "relu6_mask_part", part, mask, first * pixels, part.size)
        shape, scratch = geometry.shape(middle, middle, middle), unwritten(pixels)
        call(kernels, "depthwise_part", part, part, depthwise.struct, memory(biases[1]), shape, some, scratch)
        call(kernels, "gather_part", kept, part, memory(index, np.uint16), len(index), some, pixels)
        sizes = middle, outs, some, Range(0, outs), pixels, int(first > 0)
        call(kernels, "pointwise_part", out, part, project.struct, memory(biases[2]), *sizes)
    close(out, project.full @ after + biases[2][:, None])
    close(kept, after[index])
    bits = np.unpackbits(mask, bitorder="little")
    assert np.array_equal(bits[: before.numel()], ((before > 0) & (before < 6)).flatten().numpy())
    assert not bits[before.numel() :].any()


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize(("ins", "outs"), [(1, 1), (9, 1), (1, 6), (8, 4), (33, 10), (1030, 5)])
def test_linear(kernels, ins, outs, trains):
    layer, x, bias, g = Layer((outs, ins), trains), values(ins), values(outs), values(outs, seed=2)
    inputs = x.double().requires_grad_(True)
    y = layer.full @ inputs + bias
    y.backward(g.double())
    out = unwritten(outs)
    call(kernels, "linear", out, memory(x), layer.struct, memory(bias), ins, outs)
    close(out, y)
    gin, more = unwritten(ins), memory(x)
    call(kernels, "linear_dx", gin, memory(g), layer.struct, ins, outs, 0)
    close(gin, inputs.grad)
    call(kernels, "linear_dx", more, memory(g), layer.struct, ins, outs, 1)
    close(more, x.double() + inputs.grad)
    if trains != "nothing":
        gradient = layer.chosen(layer.full.grad)
        start = values(*gradient.shape, seed=3)
        accumulated(kernels, "linear_dw", start, 0.5, gradient, memory(g), layer.kept(x), layer.struct, ins, outs)


@pytest.mark.parametrize("trains", ["nothing", "all", "out"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=repr)
def test_depthwise(kernels, geometry, trains):
    n = 5
    layer, shape = Layer((n, 1, *geometry.kernel), trains, groups=n), geometry.shape(n, n, n)
    x, bias, g = values(n, *geometry.size), values(n), values(n, *geometry.out, seed=2)
    inputs = x.double().requires_grad_(True)
    y = geometry.convolve(inputs, layer.full, bias.double(), n)
    y.backward(g.double())
    out = unwritten(*y.shape)
    call(kernels, "depthwise", out, memory(x), layer.struct, None, shape, None)
    close(out, y - bias[:, None, None])
    call(kernels, "depthwise", out, memory(x), layer.struct, memory(bias), shape, None)
    close(out, y)
    if y.numel() <= x.numel():
        place = memory(x)
        call(kernels, "depthwise", place, place, layer.struct, memory(bias), shape, unwritten(*geometry.size))
        close(place.reshape(-1)[: y.numel()], y.flatten())
    gin = unwritten(*x.shape)
    call(kernels, "depthwise_dx", gin, memory(g), layer.struct, shape, Range(0, n), None)
    close(gin, inputs.grad)
    call(kernels, "depthwise_dx", gin[:3], memory(g[2:]), layer.struct, shape, Range(2, 3), None)
    close(gin[:3], inputs.grad[2:])
    if geometry.out == geometry.size:
        place = memory(g)
        call(kernels, "depthwise_dx", place, place, layer.struct, shape, Range(0, n), unwritten(*geometry.out))
        close(place, inputs.grad)
    if trains != "nothing":
        _check_depthwise_dw(kernels, layer, shape, x, g, layer.full.grad)


def _check_depthwise_dw(kernels, layer, shape, x, g, full):
    for first, count in ((0, 5), (1, 3), (4, 1)):
        some = torch.zeros_like(full)
        some[first : first + count] = full[first : first + count]
        gradient = layer.chosen(some)
        start = values(*gradient.shape, seed=3)
        part = memory(g[first : first + count])
        accumulated(
            kernels, "depthwise_dw", start, 0.5, gradient, part, layer.kept(x), layer.struct, shape, Range(first, count)
        )


@pytest.mark.parametrize("trains", TRAINS)
@pytest.mark.parametrize(
    ("ins", "outs", "groups", "geometry"),
    [
        *((3, 6, 1, geometry) for geometry in GEOMETRIES),
        *((1, 1, 1, geometry) for geometry in GEOMETRIES[:6]),
        *(
            (ins, outs, groups, GEOMETRIES[n])
            for n in (0, 6)
            for ins, outs, groups in [(6, 4, 2), (4, 8, 4), (9, 9, 3)]
        ),
        *((37, 5, 1, geometry) for geometry in (GEOMETRIES[n] for n in (1, 5, 12, 14, 15))),
    ],
)
def test_conv(kernels, ins, outs, groups, geometry, trains):
    layer = Layer((outs, ins // groups, *geometry.kernel), trains, groups)
    shape = geometry.shape(ins, outs, groups)
    x, bias, g = values(ins, *geometry.size), values(outs), values(outs, *geometry.out, seed=2)
    inputs = x.double().requires_grad_(True)
    y = geometry.convolve(inputs, layer.full, bias.double(), groups)
    y.backward(g.double())
    out = unwritten(*y.shape)
    call(kernels, "conv", out, memory(x), layer.struct, None, shape)
    close(out, y - bias[:, None, None])
    call(kernels, "conv", out, memory(x), layer.struct, memory(bias), shape)
    close(out, y)
    gin, more = unwritten(*x.shape), memory(x)
    call(kernels, "conv_dx", gin, memory(g), layer.struct, shape, 0)
    close(gin, inputs.grad)
    call(kernels, "conv_dx", more, memory(g), layer.struct, shape, 1)
    close(more, x.double() + inputs.grad)
    if trains != "nothing":
        gradient = layer.chosen(layer.full.grad)
        start = values(*gradient.shape, seed=3)
        accumulated(kernels, "conv_dw", start, 0.5, gradient, memory(g), layer.kept(x), layer.struct, shape)


# Norms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "pixels"), [(1, 1), (3, 1), (5, 9), (4, 50)])
def test_affine_and_batch_norm(kernels, channels, pixels):
    x, scale, shift = values(channels, pixels), values(channels, seed=2), values(channels, seed=3)
    mean, var = values(channels, seed=4), values(channels, seed=5).square() + 0.1
    for a, b in ((scale, shift), (scale, None), (None, shift)):
        out = memory(x)
        call(
            kernels, "affine", out, None if a is None else memory(a), None if b is None else memory(b), channels, pixels
        )
        slope = torch.ones_like(scale) if a is None else a
        close(out, x * slope[:, None] + (0 if b is None else b[:, None]))
    gamma = scale.double().requires_grad_(True)
    y = F.batch_norm(x[None].double(), mean.double(), var.double(), gamma, shift.double(), eps=1e-5)[0]
    g = values(channels, pixels, seed=6)
    y.backward(g.double())
    statistics = memory(mean), memory(1 / torch.sqrt(var + 1e-5))
    out = memory(x)
    call(kernels, "batch_norm", out, memory(scale), memory(shift), *statistics, channels, pixels)
    close(out, y)
    accumulated(kernels, "scale_gradient", shift, 0.5, gamma.grad, memory(g), memory(x), *statistics, channels, pixels)
    accumulated(kernels, "channel_sum", shift, -0.5, g.double().sum(1), memory(g), channels, pixels)


@pytest.mark.parametrize(("groups", "channels", "pixels"), [(1, 1, 7), (1, 6, 1), (2, 8, 9), (3, 3, 20), (2, 16, 49)])
def test_group_norm(kernels, groups, channels, pixels):
    x, g = values(channels, pixels) + 3, values(channels, pixels, seed=2)
    inputs = x.double().requires_grad_(True)
    gamma, beta = values(channels, seed=3).double().requires_grad_(True), values(channels, seed=4)
    y = F.group_norm(inputs[None], groups, gamma, beta.double(), eps=1e-5)[0]
    y.backward(g.double())
    mean, inv_std, scale = unwritten(groups), unwritten(groups), memory(gamma)
    out, place = unwritten(channels, pixels), memory(x)
    sizes = groups, channels, pixels
    call(kernels, "group_norm", out, memory(x), scale, memory(beta), mean, inv_std, *sizes, 1e-5)
    close(out, y, 1e-5)
    call(kernels, "group_norm", place, place, scale, memory(beta), mean, inv_std, *sizes, 1e-5)
    assert np.array_equal(place, out)
    gin, place = unwritten(channels, pixels), memory(g)
    call(kernels, "group_norm_dx", gin, memory(g), memory(x), scale, mean, inv_std, *sizes)
    close(gin, inputs.grad, 1e-5)
    call(kernels, "group_norm_dx", place, place, memory(x), scale, mean, inv_std, *sizes)
    assert np.array_equal(place, gin)
    accumulated(kernels, "group_norm_dscale", beta, 0.5, gamma.grad, memory(g), memory(x), mean, inv_std, *sizes)


# Activations -----------------------------------------------------------------------------------------------------


def around_ties(count):
    return torch.cat([torch.tensor(TIES), 4 * values(count)])[:count]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 77])
@pytest.mark.parametrize("op", ["relu", "relu6", "hardswish", "silu", "hardsigmoid", "sigmoid"])
def test_activations(kernels, op, count):
    x, g = around_ties(count), values(count, seed=2)
    inputs = x.clone().requires_grad_(True)
    expected = getattr(F, op)(inputs)
    expected.backward(g)
    out = memory(x)
    call(kernels, op, out, count)
    close(out, expected)
    if op in ("hardswish", "silu"):
        copied = unwritten(count)
        call(kernels, f"{op}_to", copied, memory(x), count)
        assert np.array_equal(copied, out)
    if op != "hardsigmoid":
        gradient, kept = memory(g), memory(x if op in ("hardswish", "silu") else expected)
        call(kernels, f"{op}_backward", gradient, kept, count)
        close(gradient, inputs.grad)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 77])
@pytest.mark.parametrize("op", ["relu", "relu6", "hardsigmoid", "sign"])
def test_masks(kernels, op, count):
    x = around_ties(count)
    packed, out = memory(np.full((count + 7) // 8, 0xAA), np.uint8), memory(x)
    call(kernels, f"{op}_mask", out, packed, count)
    bits = np.unpackbits(packed, bitorder="little")
    assert np.array_equal(bits[:count], masks.derivative_mask(x, op, sign=op == "sign").numpy())
    assert not bits[count:].any()
    close(out, x if op == "sign" else getattr(F, op)(x))


@pytest.mark.parametrize(("first", "count"), [(0, 3), (3, 2), (3, 5), (3, 30), (5, 11), (8, 8), (9, 40)])
@pytest.mark.parametrize("op", ["relu", "relu6", "hardsigmoid", "sign"])
def test_masks_from_the_middle_of_a_byte(kernels, op, first, count):
    x, earlier = around_ties(count), values(first, seed=3).numpy() > 0
    packed, out = np.packbits(earlier, bitorder="little"), memory(x)
    mask = memory(np.concatenate([packed, np.full((first + count + 7) // 8 - len(packed), 0xAA)]), np.uint8)
    call(kernels, f"{op}_mask_part", out, mask, first, count)
    bits = np.unpackbits(mask, bitorder="little")
    expected = masks.derivative_mask(x, op, sign=op == "sign").numpy()
    assert np.array_equal(bits[: first + count], np.concatenate([earlier, expected]))
    assert not bits[first + count :].any()
    close(out, x if op == "sign" else getattr(F, op)(x))


@pytest.mark.parametrize("count", [3, 8])
@pytest.mark.parametrize("op", ["relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid"])
def test_what_is_no_number_stays_so(kernels, op, count):
    x = np.full(count, -1.0)
    x[[0, -1]] = np.nan, -np.nan
    out = memory(x)
    call(kernels, op, out, count)
    assert np.isnan(out).tolist() == np.isnan(x).tolist()
    if op in ("relu", "relu6", "hardsigmoid"):
        out, mask = memory(x), memory([0xFF], np.uint8)
        call(kernels, f"{op}_mask", out, mask, count)
        expected = masks.derivative_mask(torch.from_numpy(x), op, sign=False).numpy()
        assert np.array_equal(np.unpackbits(mask, bitorder="little")[:count], expected)
        assert np.isnan(out[[0, -1]]).all()


@pytest.mark.parametrize("slope", [1.0, 1 / 6])
@pytest.mark.parametrize(("first", "count"), list(itertools.product([0, 1, 5, 8, 13, 16], [1, 2, 3, 7, 8, 11, 15, 40])))
def test_gradient_by_mask(kernels, first, count, slope):
    bits = values(first + count, seed=3).numpy() > 0
    g = values(count)
    gradient = memory(g)
    call(
        kernels, "mask_backward", gradient, memory(np.packbits(bits, bitorder="little"), np.uint8), first, count, slope
    )
    close(gradient, g * slope * torch.from_numpy(bits[first:]), 1e-7)


def test_a_mask_stops_what_is_no_number(kernels):
    gradient = memory([np.nan, np.inf, np.nan])
    call(kernels, "mask_backward", gradient, memory([2], np.uint8), 0, 3, 1.0)
    assert gradient.tolist() == [0, np.inf, 0]


# The rest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "pixels"), [(1, 1), (3, 1), (1, 9), (5, 7), (4, 16)])
def test_channels_and_sums(kernels, channels, pixels):
    x, y, scale = values(channels, pixels), values(channels, pixels, seed=2), values(channels, seed=3)
    count = channels * pixels
    for name, arguments, expected in (
        ("add", (memory(y), count), x + y),
        ("axpy", (0.3, memory(y), count), x + 0.3 * y),
        ("decay", (0.3, count), x * 0.3),
        ("zero", (count,), x * 0),
        ("scale_channels", (memory(y), memory(scale), channels, pixels), y * scale[:, None]),
        ("mean_dx", (memory(scale), channels, pixels, 0), (scale[:, None] / pixels).expand_as(x)),
        ("mean_dx", (memory(scale), channels, pixels, 1), x + scale[:, None] / pixels),
    ):
        out = memory(x)
        call(kernels, name, out, *arguments)
        close(out, expected)
    place = memory(x)
    call(kernels, "scale_channels", place, place, memory(scale), channels, pixels)
    close(place, x * scale[:, None])
    for name, arguments, expected in (
        ("mean", (memory(x), channels, pixels), x.mean(1)),
        ("dot_channels", (memory(x), memory(y), channels, pixels), (x * y).sum(1)),
    ):
        out = unwritten(channels)
        call(kernels, name, out, *arguments)
        close(out, expected)
    index = torch.arange(0, channels, 2)
    gathered = unwritten(len(index), pixels)
    call(kernels, "gather", gathered, memory(x), memory(index, np.uint16), len(index), pixels)
    close(gathered, x[index])


@pytest.mark.parametrize(("height", "width", "kernel"), [(2, 2, 2), (7, 5, 2), (6, 9, 3), (4, 4, 4), (3, 5, 1)])
def test_avg_pool(kernels, height, width, kernel):
    x = values(3, height, width)
    inputs = x.double().requires_grad_(True)
    y = F.avg_pool2d(inputs, kernel)
    g = values(*y.shape, seed=2)
    y.backward(g.double())
    out = unwritten(*y.shape)
    call(kernels, "avg_pool", out, memory(x), 3, height, width, kernel)
    close(out, y)
    gin, more = unwritten(*x.shape), memory(x)
    call(kernels, "avg_pool_dx", gin, memory(g), 3, height, width, kernel, 0)
    close(gin, inputs.grad)
    call(kernels, "avg_pool_dx", more, memory(g), 3, height, width, kernel, 1)
    close(more, x.double() + inputs.grad)


@pytest.mark.parametrize("size", [(1, 1, 7, 5), (3, 4, 7, 9), (2, 2, 3, 3), (5, 3, 5, 3), (6, 5, 3, 2), (4, 4, 8, 8)])
def test_bilinear(kernels, size):
    height, width, rows, columns = size
    x = values(3, height, width)
    inputs = x.clone().requires_grad_(True)
    y = F.interpolate(inputs[None], size=(rows, columns), mode="bilinear", align_corners=False)[0]
    g = values(*y.shape, seed=2)
    y.backward(g)
    out, more = unwritten(*y.shape), memory(g)
    call(kernels, "bilinear", out, memory(x), 3, *size, 0)
    close(out, y)
    call(kernels, "bilinear", more, memory(x), 3, *size, 1)
    close(more, g + y)
    gin = unwritten(*x.shape)
    call(kernels, "bilinear_dx", gin, memory(g), 3, *size)
    close(gin, inputs.grad)


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("classes", [1, 2, 10])
def test_cross_entropy(kernels, classes, scale):
    logits, label = scale * values(classes), classes // 2
    inputs = logits.double().requires_grad_(True)
    loss = F.cross_entropy(inputs[None], torch.tensor([label]))
    loss.backward()
    gradient, place = unwritten(classes), memory(logits)
    value = call(kernels, "cross_entropy", gradient, memory(logits), label, classes, result=c_float)
    assert value == pytest.approx(loss.item(), rel=1e-6, abs=1e-6)
    close(gradient, inputs.grad)
    call(kernels, "cross_entropy", place, place, label, classes, result=c_float)
    assert np.array_equal(place, gradient)


def test_crc32(kernels):
    data = memory(np.arange(300) % 251, np.uint8)
    first = call(kernels, "crc32", c_uint32(0), data[:100], c_size_t(100), result=c_uint32)
    assert first == zlib.crc32(data[:100])
    assert call(kernels, "crc32", c_uint32(first), data[100:], c_size_t(200), result=c_uint32) == zlib.crc32(data)
