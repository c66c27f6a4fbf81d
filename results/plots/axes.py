"""Axes for quantities that people read in units, linear or logarithmic."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from math import ceil, floor, log, log2, log10
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ...core.metrics import Unit

if TYPE_CHECKING:
    from matplotlib.axis import Axis

#: A quantity that spans more than this ratio gets a logarithmic axis.
_LOG_RATIO = 10
#: Most ticks that an axis is given.
_MAX_TICKS = 7


_Drawing = TypeVar("_Drawing", bound=Callable[..., object])


def literal(draw: _Drawing) -> _Drawing:
    """Have texts of a drawing written as they are: names that others have given may hold what matplotlib typesets."""

    @wraps(draw)
    def drawn(*arguments: Any, **named: Any) -> object:
        from matplotlib import rc_context

        with rc_context({"text.parse_math": False}):
            return draw(*arguments, **named)

    return cast(_Drawing, drawn)


@dataclass(frozen=True, slots=True)
class Span:
    """The extent of an axis.

    Attributes:
        low: Lower limit.
        high: Upper limit.
        log: Whether the axis is logarithmic.
    """

    low: float
    high: float
    log: bool


def span(values: Sequence[float], margin: float = 0.06) -> Span:
    """The extent that shows all values with a margin on both sides; never empty, even for a single value.

    Args:
        values: Positive or zero; at least one.
        margin: Share of the extent that is left free on each side.
    """
    low, high = min(values), max(values)
    if low > 0 and high / low > _LOG_RATIO:
        factor = (high / low) ** margin
        return Span(low / factor, high * factor, log=True)
    # Equal values get an axis about them, and nearly equal ones are not blown up to fill it.
    room = max((high - low) * margin, (0.02 if low < high else 0.25) * high, 1e-12)
    return Span(max(low - room, 0.0), high + room, log=False)


def ticks(extent: Span, unit: Unit) -> list[float]:
    """Round values within an extent, about five of them."""
    if not extent.log:
        from matplotlib.ticker import MaxNLocator

        power = float(unit.base) ** floor(log(max(extent.high, 1e-12), unit.base))
        places = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(extent.low / power, extent.high / power)
        return [float(p) * power for p in places if extent.low <= float(p) * power <= extent.high]
    if unit.base == 1024:
        powers = range(ceil(log2(extent.low)), floor(log2(extent.high)) + 1)
        stride = ceil(len(powers) / _MAX_TICKS)
        return [2.0**power for power in powers if power % stride == 0]
    decades = range(floor(log10(extent.low)), ceil(log10(extent.high)) + 1)
    decades = decades[:: ceil(len(decades) / (_MAX_TICKS + 2))]
    choices = [[m * 10.0**decade for decade in decades for m in each] for each in ((1, 2, 5), (1, 3), (1,))]
    inside = [[place for place in places if extent.low <= place <= extent.high] for places in choices]
    return next((places for places in inside if len(places) <= _MAX_TICKS), inside[-1])


def dress(axis: "Axis", extent: Span, unit: Unit) -> None:
    """Give an axis, whose scale and limits are set, ticks with units."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(ticks(extent, unit)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: unit.show(value)))
