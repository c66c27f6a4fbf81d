"""Exporting: an applied policy, or what a device needs to train one, written in another program's format."""

from .base import EXPORTERS, Exporter, export
from .manifest import MANIFEST, ExportedFile, Manifest

__all__ = ["EXPORTERS", "MANIFEST", "ExportedFile", "Exporter", "Manifest", "export"]
