"""Tracing a network with values at hand, so that its code may ask for shapes: torch.fx, and what it would not see."""
