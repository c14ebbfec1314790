"""Weights and what runs them: the store of fetched models, the references that write, the encoders, inference without torch."""
