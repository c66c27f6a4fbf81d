"""Calls of C kernels with NumPy arrays, and the structs of ts_kernels.h."""

import ctypes
import weakref
from ctypes import POINTER, Structure, c_float, c_int, c_int8, c_uint8, c_uint16, c_void_p
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tinysearch.spaces.engine import channels

KERNELS = Path(__file__).resolve().parents[4] / "results" / "export" / "c" / "kernels"
STRICT = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"]
SANITIZERS = ["-g", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
OUT, IN = channels.OUT, channels.IN
_libc = ctypes.CDLL(None)
_libc.malloc.restype, _libc.malloc.argtypes = c_void_p, [ctypes.c_size_t]
_libc.free.argtypes = [c_void_p]


class Weight(Structure):
    _fields_ = (
        ("frozen", c_void_p),
        ("trained", c_void_p),
        ("index", c_void_p),
        ("count", c_uint16),
        ("axis", c_uint8),
    )


class Shape(Structure):
    _fields_ = (
        *((name, c_int) for name in ("in_channels", "out_channels", "groups", "kernel_h", "kernel_w", "stride")),
        *((name, c_int) for name in ("pad_top", "pad_left", "in_height", "in_width", "out_height", "out_width")),
    )


class Range(Structure):
    _fields_ = (("first", c_int), ("count", c_int))


class Stage(Structure):
    _fields_ = (
        ("kind", c_uint8),
        ("act", c_uint8),
        ("input", c_int8),
        ("other", c_int8),
        ("shape", Shape),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("lines", c_int),
        ("offset", c_int),
    )


ROW_SOURCE = ctypes.CFUNCTYPE(None, c_void_p, c_int, POINTER(c_float))


def memory(values, dtype=np.float32):
    """A copy of values in memory of exactly their size, so that a sanitizer sees what leaves it."""
    values = np.ascontiguousarray(values.detach().numpy() if isinstance(values, torch.Tensor) else values, dtype)
    address = _libc.malloc(max(1, values.nbytes))
    copied = np.frombuffer((ctypes.c_char * values.nbytes).from_address(address), dtype).reshape(values.shape)
    weakref.finalize(copied.base, _libc.free, address)
    copied[...] = values
    return copied


def unwritten(*shape):
    """Memory of NaN: what a kernel does not write, or reads before, shows."""
    return memory(np.full(shape, np.nan))


def pointer(array):
    return None if array is None else c_void_p(array.ctypes.data)


def call(kernels, name, *arguments, result=None):
    """Call a kernel: arrays and None as pointers, structs by reference but ranges, numbers by their type."""
    converted = []
    for argument in arguments:
        if argument is None or isinstance(argument, np.ndarray):
            converted.append(pointer(argument))
        elif isinstance(argument, float):
            converted.append(c_float(argument))
        elif isinstance(argument, Weight | Shape):
            converted.append(ctypes.byref(argument))
        else:
            converted.append(argument)
    function = getattr(kernels, f"ts_{name}")
    function.restype = result
    return function(*converted)


def close(actual, expected, tolerance=2e-6):
    """Equal up to a share of the largest value, which cancellation leaves of float32."""
    expected = expected.detach().double().numpy()
    assert actual.size == expected.size
    error = np.abs(actual.reshape(expected.shape) - expected)
    assert error.max(initial=0) <= tolerance * max(1.0, np.abs(expected).max(initial=0))


class Layer:
    """A weight that trains in some way, with everything that a test compares.

    Attributes:
        full: What the layer computes with, a leaf of float64.
        trained: What trains of it, float32, or None.
    """

    def __init__(self, shape, trains, groups=1, seed=0):
        torch.manual_seed(seed)
        frozen = torch.randn(shape)
        self.trains, self.groups, self.index, self.axis = trains, groups, None, IN if trains == "in" else OUT
        total = shape[0] if self.axis == OUT else shape[1] * groups
        self.trained, composed = None, frozen
        if trains == "all":
            composed, frozen = torch.randn(shape), torch.full(shape, torch.nan)
            self.trained = memory(composed)
        elif trains in ("in", "out"):
            # Neighbours, gaps, the last one: about two thirds.
            self.index = torch.tensor(sorted({c for c in range(total) if c % 3 != 1} | {total - 1}))
            chosen = torch.randn_like(channels.select(frozen, self.index, self.axis, groups))
            composed = channels.insert(frozen, chosen, self.index, self.axis, groups)
            self.trained = memory(chosen)
        self.full = composed.double().requires_grad_(True)
        self._frozen = memory(frozen)
        self._index = None if self.index is None else memory(self.index, np.uint16)
        self.struct = Weight(
            pointer(self._frozen),
            pointer(self.trained),
            pointer(self._index),
            0 if self.index is None else len(self.index),
            self.axis,
        )

    def chosen(self, gradient):
        """The part of a gradient of the full weight that trains, as it is laid out in C."""
        return gradient if self.index is None else channels.select(gradient, self.index, self.axis, self.groups)

    def kept(self, x):
        """What the forward pass keeps of an input (C, ...)."""
        read = None if self.index is None else channels.reads(self.full, self.index, self.axis, self.groups)
        return memory(x if read is None else x[read])


class Geometry:
    """A convolution's place: kernel, stride, pads (top, left, below, right), sizes of the input."""

    def __init__(self, kernel, stride, pads, size):
        self.kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        self.stride, self.pads, self.size = stride, pads, size
        self.out = tuple((size[n] + pads[n] + pads[n + 2] - self.kernel[n]) // stride + 1 for n in range(2))

    def __repr__(self):
        return f"{self.kernel}/{self.stride}-{self.pads}-{self.size}"

    def shape(self, ins, outs, groups):
        return Shape(ins, outs, groups, *self.kernel, self.stride, *self.pads[:2], *self.size, *self.out)

    def convolve(self, x, weight, bias, groups):
        """(C, H, W) to (C', H', W')."""
        top, left, below, right = self.pads
        return F.conv2d(F.pad(x[None], (left, right, top, below)), weight, bias, self.stride, groups=groups)[0]


GEOMETRIES = [
    Geometry(3, 1, (1, 1, 1, 1), (7, 5)),
    Geometry(3, 1, (1, 1, 1, 1), (3, 3)),
    Geometry(3, 1, (1, 1, 1, 1), (1, 1)),
    Geometry(3, 1, (1, 1, 1, 1), (2, 19)),
    Geometry(3, 1, (0, 0, 0, 0), (6, 13)),
    Geometry(3, 2, (1, 1, 1, 1), (8, 8)),
    Geometry(3, 2, (1, 1, 1, 1), (7, 9)),
    Geometry(3, 2, (0, 0, 1, 1), (12, 10)),
    Geometry(3, 2, (1, 1, 1, 1), (1, 1)),
    Geometry(3, 2, (0, 0, 0, 0), (9, 4)),
    Geometry(5, 1, (2, 2, 2, 2), (6, 11)),
    Geometry(5, 1, (2, 2, 2, 2), (1, 2)),
    Geometry(5, 2, (2, 2, 2, 2), (12, 7)),
    Geometry(5, 2, (1, 1, 2, 2), (12, 8)),
    Geometry(7, 1, (3, 3, 3, 3), (8, 9)),
    Geometry(7, 2, (3, 3, 3, 3), (14, 13)),
    Geometry(7, 2, (2, 2, 3, 3), (3, 2)),
    Geometry(3, 1, (1, 1, 1, 1), (2, 300)),
    Geometry(5, 2, (2, 2, 2, 2), (3, 291)),
    Geometry(7, 1, (3, 3, 3, 3), (3, 39)),
    Geometry(7, 2, (3, 3, 3, 3), (9, 40)),
    Geometry(3, 3, (1, 1, 1, 1), (10, 11)),
    Geometry((1, 3), 1, (0, 1, 0, 1), (4, 6)),
    Geometry((5, 3), 2, (2, 1, 2, 1), (9, 8)),
    Geometry(9, 1, (4, 4, 4, 4), (6, 12)),
    Geometry(1, 1, (0, 0, 0, 0), (3, 5)),
    Geometry(1, 1, (1, 1, 1, 1), (3, 5)),
    Geometry(1, 1, (0, 0, 1, 0), (3, 5)),
    Geometry(1, 2, (0, 0, 0, 0), (7, 6)),
    Geometry(3, 1, (3, 4, 2, 3), (4, 3)),
    Geometry(3, 2, (4, 3, 3, 4), (3, 4)),
    Geometry(5, 1, (2, 2, 2, 2), (45, 41)),
    Geometry(3, 2, (1, 1, 1, 1), (44, 71)),
    Geometry(2, 2, (0, 0, 0, 0), (7, 6)),
]
