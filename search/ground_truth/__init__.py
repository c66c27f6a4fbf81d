"""Ground truth: what many policies really reach after full fine-tuning, to judge by what is said of them before."""

from .cell import Cell
from .table import GroundTruth, ground_truth

__all__ = ["Cell", "GroundTruth", "ground_truth"]
