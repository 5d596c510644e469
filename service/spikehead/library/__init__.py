"""The Python interface behind `import spikehead`: a local network or a service over HTTP, with the same methods."""
