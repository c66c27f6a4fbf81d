"""Pictures: a front, and a memory plan."""

from .pareto import draw_pareto, plot_pareto

__all__ = ["draw_pareto", "plot_pareto"]
