"""Inference: from the body of a request to its answer, through pictures, a model and an engine, without HTTP."""
