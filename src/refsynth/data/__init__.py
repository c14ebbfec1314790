"""Reads and writes the user's files, and cleans, compares and splits their texts. Knows nothing of models."""
