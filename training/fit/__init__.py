"""Fitting: trainings, what guides them, and what they run on."""
