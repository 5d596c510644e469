"""The version of spikehead, as the service tells it."""

VERSION = "0.1.0"
