"""Evaluates a model: calibration, test file, leakage, mistakes; and writes the report.

Trains nothing. Reads the learners' answers on held-out rows, and the figures of the stages of a run.
"""
