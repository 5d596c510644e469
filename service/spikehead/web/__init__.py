"""The web application: what answers HTTP, and what it is made of."""
