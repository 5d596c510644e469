"""Insight: past runs replayed, drawn, and summed up over a window of time."""
