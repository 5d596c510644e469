"""Measuring: accuracy, calibration and robustness of an exported model."""
