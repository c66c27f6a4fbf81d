"""From the block that a program writes of what was trained to a delta, and back: see docs/export-c.md."""

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ....core.errors import ConflictError, InputError
from ....spaces.delta import file as delta_file
from ....spaces.policy import UpdatePolicy
from ....spaces.trace import trace
from .network import Network
from .program import DELTA_VERSION
from .trained import Part, trained_parts

if TYPE_CHECKING:
    from torch import nn

#: Magic, version, number of values, digest of the base, hash of the policy.
_HEADER = struct.Struct("<4sII32s16s")
_MAGIC = b"TSDB"


def block_to_delta(block: bytes, policy: UpdatePolicy, backbone: "nn.Module") -> bytes:
    """Turn a block into a delta, which `ts.merge` takes.

    Args:
        block: What `NAME_export_delta` wrote.
        policy: The policy of the program.
        backbone: The network of the program, with the weights that it was exported with.

    Returns:
        The bytes of a safetensors file.

    Raises:
        InputError: The block is none, or damaged.
        ConflictError: It is of another network or policy.

    Example:
        >>> import tinysearch as ts
        >>> from tinysearch.results.export.c.delta import block_to_delta, delta_to_block
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> policy = ts.methods.last(ts.trace(backbone, (3, 32, 32)))
        >>> delta = policy.delta(ts.apply(backbone, policy))
        >>> block_to_delta(delta_to_block(delta, backbone), policy, backbone) == delta
        True
    """
    import torch

    network = _network(policy, backbone)
    parts = list(trained_parts(network))
    values = _read(block, sum(part.values.size for part in parts), policy, network)
    state = network.model.state_dict()  # shares memory with the model
    first = 0
    with torch.no_grad():
        for part in parts:
            found = values[first : first + part.values.size].reshape(part.values.shape)
            first += part.values.size
            if part.constant is not None:
                found = (found.astype(np.float64) - part.constant).astype(np.float32)
            state[part.name].copy_(torch.from_numpy(found.reshape(tuple(state[part.name].shape))))
    return delta_file.delta(network.model, policy)


def delta_to_block(delta: bytes | str | Path, backbone: "nn.Module") -> bytes:
    """Turn a delta into a block that `NAME_import_delta` takes.

    Args:
        delta: The delta's file or bytes.
        backbone: The network that it was trained on, with a head of as many classes.

    Raises:
        InputError: The delta is missing or damaged.
        ConflictError: It was trained on other weights.
    """
    found = delta_file.read_delta(delta)
    network = _network(found.policy, backbone)
    base = _base(network)
    if found.base_sha256 != base:
        raise ConflictError(f"{found.source} was trained on weights {found.base_sha256[:12]}, not on {base[:12]}")
    values = [_packed(part, found) for part in trained_parts(network)]
    content = np.concatenate(values).astype("<f4").tobytes()
    header = _HEADER.pack(
        _MAGIC, DELTA_VERSION, len(content) // 4, bytes.fromhex(base), found.policy.hash.encode("ascii")
    )
    return header + content + struct.pack("<I", zlib.crc32(header + content))


def _packed(part: Part, delta: delta_file.Delta) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    tensor = delta.tensors.get(part.name)
    if tensor is None or tensor.numel() != part.values.size:
        raise InputError(f"{delta.source}: damaged: {part.name} is missing or of another size")
    found = tensor.numpy().ravel().astype(np.float64)
    if part.constant is not None:
        found = found + part.constant.ravel()
    return found.astype(np.float32)


def _read(
    block: bytes, count: int, policy: UpdatePolicy, network: Network
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    if len(block) < _HEADER.size + 4 or block[:4] != _MAGIC:
        raise InputError("no block of a program: NAME_export_delta writes one")
    _, version, values, base, trained = _HEADER.unpack_from(block)
    if version != DELTA_VERSION:
        raise InputError(f"a block of version {version}; this TinySearch knows version {DELTA_VERSION}")
    if base.hex() != _base(network):
        raise ConflictError(f"the block is of weights {base.hex()[:12]}, not of {_base(network)[:12]}")
    if trained != policy.hash.encode("ascii"):
        raise ConflictError(f"the block is of policy {trained.decode('ascii', 'replace')}, not of {policy.hash}")
    size = _HEADER.size + 4 * values
    if values != count or len(block) < size + 4:
        raise InputError(
            f"a block of {len(block)} bytes and {values} values, where {count} values train: it is cut off"
        )
    if zlib.crc32(block[:size]) != struct.unpack_from("<I", block, size)[0]:
        raise InputError("a damaged block: its checksum is wrong")
    return np.frombuffer(block, "<f4", values, _HEADER.size).astype(np.float32)


def _network(policy: UpdatePolicy, backbone: "nn.Module") -> Network:
    return Network(backbone, policy, trace(backbone, policy.input_shape))


def _base(network: Network) -> str:
    from ....spaces.engine.origin import require_origin

    return require_origin(network.model).base_sha256
