"""Measuring a device: training steps timed row by row, and a profile made of them."""
