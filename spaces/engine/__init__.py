"""The training engine: a policy applied, and the layers that keep only what it needs."""
