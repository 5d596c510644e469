"""Data: MNIST and UNIPEN, drawn, varied and distorted, as batches for a training."""
