"""The reference as a classifier, by prompts alone: templates, verbalizers, examples, calibration, search. Nothing is trained."""
