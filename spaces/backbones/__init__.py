"""The built-in backbones: their definitions, and the loading of their weights."""

from .info import BackboneInfo, Normalisation
from .registry import backbone_info, list_backbones, load_backbone

__all__ = ["BackboneInfo", "Normalisation", "backbone_info", "list_backbones", "load_backbone"]
