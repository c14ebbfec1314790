"""Cheap labels: which texts to label next, taking labels in, several annotators, rules, and what more labels would bring."""
