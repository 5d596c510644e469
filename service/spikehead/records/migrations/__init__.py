"""The versions of the schema: each adds to the one before it."""
