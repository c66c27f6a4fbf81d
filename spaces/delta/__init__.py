"""What training changed of a backbone, as a file of its own, and back into a plain network."""

from .file import Delta, delta, read_delta

__all__ = ["Delta", "delta", "read_delta"]
