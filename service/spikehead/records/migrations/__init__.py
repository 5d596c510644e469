"""What each version of the schema adds to the one before it."""
