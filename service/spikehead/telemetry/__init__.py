"""Telemetry: metrics (`metrics`), a line of the log for each request (`logs`), traces (`traces`)."""

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Variable of the folder in which worker processes share metrics. Set it before importing the Prometheus client."""
