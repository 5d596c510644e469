"""What the service says of itself while it runs: figures (`metrics`), a line a request (`logs`), traces (`traces`)."""

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Where worker processes share their figures: to be set before the Prometheus client is imported, or not at all."""
