"""Models: the store of fetched weights, the references, the encoders, and inference without torch."""
