"""The built-in backbones: their definitions, and the loading of their weights."""

from .catalogue import BACKBONES, backbone_info, list_backbones, load_backbone
from .info import BackboneInfo, Normalisation

__all__ = ["BACKBONES", "BackboneInfo", "Normalisation", "backbone_info", "list_backbones", "load_backbone"]
