"""Where policies are scored: in this process, or in several."""
