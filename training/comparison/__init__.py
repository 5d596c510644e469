"""Comparison with other networks, on the same pictures."""
