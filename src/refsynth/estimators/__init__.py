"""Runs as scikit-learn estimators: texts and labels in memory go in, and a fitted estimator holds the bundle.

`base` is what all share. A module for each kind of task says how its X and y are read and how an answer is given back.
"""
