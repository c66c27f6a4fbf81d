"""What a training step really keeps and takes on this machine."""

from .step import LayerSaved, Measurement, measure

__all__ = ["LayerSaved", "Measurement", "measure"]
