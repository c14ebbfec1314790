"""What is known of a model: calibration, the test file, leaks, wrong answers; and the report that says it.

Trains nothing. Reads what learners said of held-out rows, and the figures that the stages of a run hand over.
"""
