"""Guards of the service: bounded work (`admission`), keys (`access`) and rate limits (`rate_limits`)."""
