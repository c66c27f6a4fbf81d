"""What a training step really keeps and takes on this machine."""

from .training_step import LayerSaved, Measurement, measure

__all__ = ["LayerSaved", "Measurement", "measure"]
