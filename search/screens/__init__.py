"""Screens: what ranks every policy of a space at once, without training any."""
