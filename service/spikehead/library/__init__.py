"""What `import spikehead` offers: a network here or a service over HTTP, with the same methods and answers."""
