"""Documents: how the interface describes itself, in OpenAPI and in explanations of problems."""
