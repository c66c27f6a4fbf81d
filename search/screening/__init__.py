"""Screening: the front of an additive score under exactly known costs, found without any training."""

from .rounds import Screened, screen
from .spread import spread

__all__ = ["Screened", "screen", "spread"]
