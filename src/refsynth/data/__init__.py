"""The user's files, and what is done to text before any model sees it. Knows nothing of models."""
