"""What the service says of itself while it runs: figures (`metrics`), a line a request (`logs`), traces (`traces`)."""
