"""The HTTP service around a bundle, and what protects it. Knows nothing of training."""
