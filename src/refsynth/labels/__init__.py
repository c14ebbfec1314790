"""Cheap labels: which texts to label next, several annotators, rules, and a model's own confident answers. Never trains."""
