"""Inference: from the body of a request to its answer, by way of pictures, a model and an engine. Knows no HTTP."""
