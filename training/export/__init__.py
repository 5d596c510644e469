"""Export: from a trained network to a model folder."""
