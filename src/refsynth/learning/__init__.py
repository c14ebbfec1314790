"""Learners and their held-out evaluation: candidates, folds, the gate, ensembles, hyper-parameter search, self-training.

A `Job` is what every stage of a run takes. Drafts are arguments: this package does not generate them.
"""
