"""Learners, and what is known of them on held-out rows: candidates, folds, the gate, ensembles, search, self-training.

A `Job` is what every stage of a run is given. Drafts come in as values: who wrote them is not known here.
"""
