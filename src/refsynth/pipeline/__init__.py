"""A run from its rows to its bundle and report: `flow` has the stages in the order in which they happen.

Each stage is a function of another package, with values in and out. What is decided of a model is decided there, not here.
"""
