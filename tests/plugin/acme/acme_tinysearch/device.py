"""A device: a profile in a file of the package."""

from importlib import resources

PROFILE = resources.files(__package__) / "board.yaml"
