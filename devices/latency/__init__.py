"""How long a training step takes, what it draws, and how far to trust that."""
