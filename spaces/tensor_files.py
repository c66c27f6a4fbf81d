"""Files of tensors from anyone: bounded before anything is unpacked, and never executed.

What safetensors' header says is checked here, and tensors share the memory that the file was read into. Of what
`torch.save` writes PyTorch's reader takes tensors and plain containers only; what it unpacks to is bounded first.
"""

import io
import re
import warnings
import zipfile
from math import prod
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from ..core.archives import check_zip, read_member
from ..core.errors import InputError
from ..core.files import open_bounded
from ..core.formats import parse_json
from ..core.validation import first_error

#: Most bytes of a safetensors header, and of tensors in a file.
MAX_HEADER, MAX_TENSORS = 4 << 20, 20_000
#: Where a header keeps what is no tensor.
_METADATA = "__metadata__"
#: The types that are read, by their names in the format. What computes in none of PyTorch's kernels is not among them.
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
TYPES = frozenset(_TYPES.values())
_Count = Annotated[int, Field(ge=0, lt=1 << 40)]


class _Entry(BaseModel):
    """What a header says of a tensor."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dtype: Annotated[str, Field(max_length=20)]
    shape: Annotated[list[_Count], Field(max_length=8)]
    data_offsets: Annotated[list[_Count], Field(min_length=2, max_length=2)]


_HEADER = TypeAdapter(dict[str, _Entry])
_WORDS = TypeAdapter(dict[str, str])


def read_safetensors(source: Path | bytes, most: int, origin: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and the texts that it has beside them.

    Args:
        source: The file, or its bytes.
        most: Bytes that it may have.
        origin: What messages call it; by default its path.

    Raises:
        InputError: It is missing, no regular file, too large, no safetensors file, or damaged.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), origin)
    with open_bounded(source, most) as stream:
        return _read(stream, origin or str(source))


def _read(stream: io.BufferedReader | io.BytesIO, origin: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    length = int.from_bytes(stream.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER, size - 8):
        raise InputError(f"{origin}: no safetensors file, or a damaged one (a header of {length:,} bytes)")
    try:
        header = parse_json(stream.read(length).decode(), f"{origin}: header")
        if not isinstance(header, dict):
            raise InputError(f"{origin}: no safetensors file (its header is no object)")
        metadata = _WORDS.validate_python(header.pop(_METADATA, {}), strict=True)
        if len(header) > MAX_TENSORS:
            raise InputError(f"{origin}: holds {len(header):,} tensors; the limit is {MAX_TENSORS:,}")
        entries = _HEADER.validate_python(header)
    except UnicodeDecodeError as error:
        raise InputError(f"{origin}: no safetensors file, or a damaged one (its header is no text)") from error
    except ValidationError as error:
        raise InputError(f"{origin}: no safetensors file, or a damaged one ({first_error(error)})") from error
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if entry.dtype not in _TYPES:
            raise InputError(f"{origin}: {name} is of type {entry.dtype}; {', '.join(_TYPES)} are read")
        begin, end = entry.data_offsets
        if begin != at or end - begin != prod(entry.shape) * _TYPES[entry.dtype].itemsize:
            raise InputError(f"{origin}: no safetensors file, or a damaged one ({name} lies not where its header says)")
        at = end
    if at != size - 8 - length:
        found = f"{size - 8 - length:,} bytes of tensors, where {at:,} should be"
        raise InputError(f"{origin}: no safetensors file, or a damaged one ({found})")
    data = bytearray(at)
    if stream.readinto(data) != at:
        raise InputError(f"{origin}: no safetensors file, or a damaged one (it is cut short)")
    return {name: _tensor(data, entry) for name, entry in entries.items()}, metadata


def _tensor(data: bytearray, entry: _Entry) -> Tensor:
    kind = _TYPES[entry.dtype]
    if not (count := prod(entry.shape)):
        return torch.empty(entry.shape, dtype=kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flat = torch.frombuffer(data, dtype=kind, count=count, offset=entry.data_offsets[0])
    if kind == torch.bool:
        flat = flat.view(torch.uint8) != 0  # another byte than 0 or 1 is no truth value
    return flat.reshape(entry.shape)


def read_torch(path: Path, most: int) -> Any:
    """What `torch.save` has written: tensors, numbers and texts in plain containers.

    Args:
        path: The file.
        most: Bytes that it, and what it unpacks to, may have.

    Raises:
        InputError: It is missing, no regular file, too large, damaged, or holds something else.
    """
    try:
        return _unpickled(path, most)
    except InputError:
        raise
    except Exception as error:  # the reader raises whatever damaged bytes lead it to
        # What it names where a file would have to run something to make an object, such as argparse.Namespace.
        kind = re.search(r"GLOBAL ([\w.]{1,80}) ", str(error))
        holds = f": it holds {kind[1]}, which is no tensor" if kind else ""
        raise InputError(f"{path}: not a checkpoint that can be read safely ({type(error).__name__}){holds}") from error


def _unpickled(path: Path, most: int) -> Any:
    with open_bounded(path, most) as stream:
        if stream.read(4) == b"PK\3\4":
            check_zip(stream, most, str(path))
            with zipfile.ZipFile(stream) as archive:
                pickles = [read_member(archive, info) for info in archive.infolist() if info.filename.endswith(".pkl")]
        else:
            stream.seek(0)
            pickles = [stream.read()]
        # Which PyTorch would make of any size that is asked for.
        if any(b"bytearray" in each for each in pickles):
            raise InputError(f"{path}: not a checkpoint that can be read safely: it holds a bytearray")
        stream.seek(0)
        return torch.load(stream, map_location="cpu", weights_only=True)
