"""The batches of CIFAR-10's original layouts.

The python layout stores pickles. They are not unpickled: the opcodes of the file are walked as data
(`pickletools.genops` decodes and never runs them), and the few that a dictionary of lists, strings and
NumPy arrays needs are interpreted here. Everything else is refused, whatever it would have called.
"""

import pickletools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError

#: 3 channels of 32 x 32, red first: one image.
IMAGE_BYTES = 3072

#: Opcodes of a batch; the original ones have some 60,000.
MAX_OPCODES = 200_000

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINSTRING", "SHORT_BINSTRING"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "BYTEARRAY8"),
}
_IGNORED = {"PROTO", "FRAME", "STOP"}


def read_binary_batch(content: bytes, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a batch of the binary layout: a label byte, then the pixels, for each image.

    Returns:
        Images uint8 (N, 32, 32, 3) and labels int64 (N,).

    Raises:
        InputError: The length is not that of whole images.
    """
    if not content or len(content) % (IMAGE_BYTES + 1):
        raise InputError(f"{name} has {len(content):,} bytes, no multiple of {IMAGE_BYTES + 1}: fetch it again")
    rows = np.frombuffer(content, np.uint8).reshape(-1, IMAGE_BYTES + 1)
    return _to_images(rows[:, 1:]), rows[:, 0].astype(np.int64)


def read_python_batch(content: bytes, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a batch of the python layout: a pickled dictionary with `data` and `labels`.

    Returns:
        Images uint8 (N, 32, 32, 3) and labels int64 (N,).

    Raises:
        InputError: The file holds anything but lists, strings, numbers and NumPy arrays, or not these two.
    """
    try:
        batch = _interpret(content)
        if not isinstance(batch, dict):
            raise ValueError("no dictionary")
        # Python 2 wrote str keys, Python 3 often bytes.
        fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        data, labels = (_as_array(fields[key]) for key in ("data", "labels"))
        if data.dtype != np.uint8 or data.shape != (len(labels), IMAGE_BYTES) or not len(data):
            raise ValueError(f"data is {data.dtype} {data.shape}")
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise ValueError(f"labels are {labels.dtype} {labels.shape}")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{name} is no CIFAR-10 batch ({error!s:.200}): fetch it again, or use the binary layout"
        ) from error
    return _to_images(data), labels.astype(np.int64)


def _as_array(value: Any) -> NDArray[Any]:
    """An array that the file holds, or a list of numbers; other lists may be within one another without end."""
    if isinstance(value, _Array):
        return value.value
    if not isinstance(value, list) or not all(isinstance(item, int | np.integer) for item in value):
        raise ValueError(f"a {type(value).__name__}, where an array or a list of numbers should be")
    return np.array([int(item) for item in value], np.int64)


def _to_images(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


class _Array:
    """Stands in for an array until its state is known."""

    value: NDArray[Any]

    def set(self, data: str | bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]) -> None:
        raw = data.encode("latin-1") if isinstance(data, str) else data
        self.value = np.frombuffer(raw, dtype).reshape(shape, order=order)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: Literal["C", "F"]) -> _Array:
    array = _Array()
    array.set(data, dtype, shape, order)
    return array


def _scalar(dtype: np.dtype[Any], data: str | bytes) -> Any:
    return _from_buffer(data.encode("latin-1") if isinstance(data, str) else data, dtype, (), "C").value[()]


def _dtype(code: str, *_: Any) -> np.dtype[Any]:
    if code not in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"):
        raise ValueError(f"array of {code!r}")
    return np.dtype(f"<{code}")


def _latin_bytes(text: str, _encoding: str) -> bytes:
    return text.encode("latin-1")


#: What the pickles of NumPy arrays name, and what is done here in its place.
_STAND_INS: dict[str, Callable[..., Any]] = {
    "numpy ndarray": _Array,
    "numpy dtype": _dtype,
    "_codecs encode": _latin_bytes,
    **{
        f"numpy.{core}.{function}": stand_in
        for core in ("core", "_core")
        for function, stand_in in (
            ("multiarray _reconstruct", _reconstruct),
            ("multiarray scalar", _scalar),
            ("numeric _frombuffer", _from_buffer),
        )
    },
}


def _stand_in(name: str) -> Callable[..., Any]:
    if name not in _STAND_INS:
        raise ValueError(f"it names {name.replace(' ', '.')!r}, which is refused")
    return _STAND_INS[name]


def _set_state(target: Any, state: tuple[Any, ...]) -> None:
    if isinstance(target, _Array):
        _, shape, dtype, is_fortran, data = state
        target.set(data, dtype, shape, "F" if is_fortran else "C")
    elif not isinstance(target, np.dtype) or state[1] not in ("<", "|"):
        raise ValueError(f"state of a {type(target).__name__}")


def _interpret(content: bytes) -> Any:
    """The value that a pickle of plain containers and arrays stands for.

    Raises:
        ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError: The pickle is another, or damaged.
    """
    argument: Any
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def pop_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    def set_items(target: Any, items: list[Any]) -> None:
        # Text keys only: hashing a tuple nested deeply enough ends the process.
        if not isinstance(target, dict) or not all(isinstance(key, str | bytes) for key in items[::2]):
            raise ValueError("a dictionary whose keys are no text")
        target.update(zip(items[::2], items[1::2], strict=True))

    for number, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        name = opcode.name
        if number > MAX_OPCODES:
            raise ValueError(f"more than {MAX_OPCODES:,} opcodes")
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name not in _IGNORED:
            match name:
                case "MARK":
                    marks.append(len(stack))
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST":
                    stack.append([])
                case "TUPLE":
                    stack.append(tuple(pop_mark()))
                case "EMPTY_TUPLE":
                    stack.append(())
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    count = int(name[-1])
                    stack[-count:] = [tuple(stack[-count:])]
                case "APPEND":
                    item = stack.pop()
                    stack[-1].append(item)
                case "APPENDS":
                    items = pop_mark()
                    stack[-1].extend(items)
                case "SETITEM":
                    pair = [stack.pop(-2), stack.pop()]
                    set_items(stack[-1], pair)
                case "SETITEMS":
                    items = pop_mark()
                    set_items(stack[-1], items)
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "GLOBAL":
                    stack.append(_stand_in(argument))
                case "STACK_GLOBAL":
                    function, module = stack.pop(), stack.pop()
                    stack.append(_stand_in(f"{module} {function}"))
                case "REDUCE":
                    arguments, constructor = stack.pop(), stack.pop()
                    stack.append(constructor(*arguments))
                case "BUILD":
                    state = stack.pop()
                    _set_state(stack[-1], state)
                case _:
                    raise ValueError(f"opcode {name}")
    (result,) = stack
    return result
