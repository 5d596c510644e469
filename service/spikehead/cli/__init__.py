"""Commands of the terminal: serve, classify, look at past requests, ask a service for its health."""
