"""Commands of the offline package."""
