"""Guards of the service: bounded work (`admission`), keys (`access`), a rate for each client (`rate_limits`)."""
