"""Quantities as people write them: "320 KiB", "800ms", "2 J"; read strictly, printed shortly.

The command line, device profiles and reports all use these, so that a value printed by one can be given to another.
"""

import math
import re
from collections.abc import Mapping
from decimal import Decimal, Overflow

from .errors import InputError

_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\d\s].*)?")

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_SMALL = {"n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "": 1.0}

#: Bytes; K, M and G are powers of 1000, Ki, Mi and Gi of 1024.
BYTES: Mapping[str, float] = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
SECONDS: Mapping[str, float] = {f"{p}s": f for p, f in _SMALL.items()} | {"min": 60.0, "h": 3600.0}
JOULES: Mapping[str, float] = {f"{p}J": f for p, f in _SMALL.items()} | {"kJ": 1e3}
WATTS: Mapping[str, float] = {f"{p}W": f for p, f in _SMALL.items()}
HERTZ: Mapping[str, float] = {f"{p}Hz": f for p, f in _DECIMAL.items()}
MACS: Mapping[str, float] = {f"{p}MAC": f for p, f in _DECIMAL.items()}
MACS_PER_SECOND: Mapping[str, float] = {f"{p}MAC/s": f for p, f in _DECIMAL.items()}
ELEMENTS_PER_SECOND: Mapping[str, float] = {f"{p}element/s": f for p, f in _DECIMAL.items()}
BYTES_PER_SECOND: Mapping[str, float] = {f"{unit}/s": factor for unit, factor in BYTES.items()}


def parse_quantity(value: str | int | float, units: Mapping[str, float], *, plain: bool = False) -> float:
    """Read a number with a unit.

    Args:
        value: Such as "1.5 GHz". Case counts: mW is no MW.
        units: Factor to the base unit, by name.
        plain: Whether a number without a unit is taken to be in the base unit.

    Returns:
        The value in the base unit.

    Raises:
        InputError: It is no finite, non-negative number, or its unit is missing or unknown.
    """
    known = ", ".join(units)
    match = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if match:
        number, unit = Decimal(match[1]), (match[2] or "").strip()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number, unit = Decimal(value), ""
    else:
        raise InputError(f"{value!r:.60} is no quantity: write a number and one of {known}")
    if not unit and not plain:
        raise InputError(f"{value!r:.60} has no unit: add one of {known}")
    if unit and unit not in units:
        raise InputError(f"{value!r:.60} has an unknown unit {unit!r:.60}: use one of {known}")
    # In decimals, so that "50 us" is 5e-05 and not its neighbour.
    result = _product(number, units[unit] if unit else 1.0)
    if not math.isfinite(result) or result < 0:
        raise InputError(f"{value!r:.60} is out of range: it must be a finite number and not negative")
    return result


def parse_bytes(value: str | int) -> int:
    """Read a number of bytes: "256KiB", "1.5 MB", "4096" or 4096.

    Raises:
        InputError: It is no whole number of bytes.
    """
    exact = parse_quantity(value, BYTES, plain=True)
    whole = round(exact)
    if abs(exact - whole) > 1e-6 * max(1.0, exact):
        raise InputError(f"{value!r:.60} is no whole number of bytes")
    return whole


def parse_seconds(value: str) -> float:
    """Read a duration in seconds: "800ms", "1.5 s", "2min"."""
    return parse_quantity(value, SECONDS)


def parse_joules(value: str) -> float:
    """Read an energy in joules: "2J", "5mJ"."""
    return parse_quantity(value, JOULES)


def format_bytes(value: float) -> str:
    """Bytes in three significant digits and binary units, as "1.5 MiB"."""
    return _format(value, [("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0)])


def format_seconds(value: float) -> str:
    """Seconds in three significant digits, as "12.5 ms"."""
    return _format(value, [("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)])


def format_joules(value: float) -> str:
    """Joules in three significant digits, as "48 mJ"."""
    return _format(value, [("kJ", 1e3), ("J", 1.0), ("mJ", 1e-3), ("uJ", 1e-6)])


def _product(number: Decimal, factor: float) -> float:
    try:
        return float(number * Decimal(str(factor)))
    except (OverflowError, Overflow):
        return math.inf


def _format(value: float, scale: list[tuple[str, float]]) -> str:
    # The bound leaves room for rounding: 1023.9 KiB is shown as 1 MiB, never as 1.02e+03 KiB.
    unit, factor = next((entry for entry in scale if abs(value) >= 0.9995 * entry[1]), scale[-1])
    number = value / factor
    if abs(number) >= 999.5:
        return f"{number:.0f} {unit}"
    return f"{number:.3g} {unit}"
