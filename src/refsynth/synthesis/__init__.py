"""Writes drafts from seed examples and label descriptions: plans prompts, asks the reference, parses answers, repeats in rounds.

Selection and reinforcement have their own folders. Measuring what drafts bring to a model belongs to `learning`.
"""
