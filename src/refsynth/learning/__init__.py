"""Learners: each fits a predictor to examples. They know nothing of where the examples come from."""
