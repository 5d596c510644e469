"""The Python interface behind `import spikehead`: a network here or a service over HTTP, with the same methods."""
