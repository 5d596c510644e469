"""Telemetry: metrics (`metrics`), a line of the log for each request (`logs`), traces (`traces`)."""

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Where worker processes share their figures: to be set before the Prometheus client is imported, or not at all."""
