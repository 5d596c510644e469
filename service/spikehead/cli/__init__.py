"""Commands of the terminal: serve, classify, list past requests, check a service's health."""
