"""Selects drafts: the screen, scorers, the filter, influence, diversity. Each draft is kept or dropped for one named reason."""
