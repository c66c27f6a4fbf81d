"""The built-in backbones: their definitions, and the loading of their weights."""
