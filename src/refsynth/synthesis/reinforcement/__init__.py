"""Reinforcement: a generator that learns from what its drafts do to the downstream model."""
