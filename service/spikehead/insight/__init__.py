"""Insight: past runs simulated again, drawn, and summed up over a window of time."""
