"""A run from its rows to its bundle and report: `flow` has the stages in the order in which they happen.

Each stage is a function of another package, with explicit values in and out. Decisions about a model are made there, not here.
"""
