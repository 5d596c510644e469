"""What keeps a service standing: bounded work (`admission`), keys (`access`), a rate for each client (`rates`)."""
